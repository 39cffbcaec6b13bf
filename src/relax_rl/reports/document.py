"""The parts of every page: one HTML file that loads nothing from elsewhere, written whole or not at all."""

from __future__ import annotations

import base64
import contextlib
import importlib.metadata
import os
import platform
import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from relax_rl.comparison.tables import csv_text
from relax_rl.errors import RunError
from relax_rl.reports.markup import Html, element
from relax_rl.reports.payload import data_element, script_element, script_hash, style_text

__all__ = [
    "cells_table",
    "command_line",
    "document",
    "download",
    "figure",
    "footer",
    "listed",
    "part",
    "still",
    "unique",
    "wide",
    "wide_table",
    "write_document",
]

_PACKAGES = ("relax-rl", "torch", "transformers", "trl", "numpy", "matplotlib")


def document(title: str, sections: Sequence[Html], data: Mapping[str, Any], *, is_served: bool = False) -> str:
    """A page with the package's style and scripts, in which no other markup can load or run anything.

    Args:
        data: for the scripts (`relax_rl.reports.interactive`).
        is_served: the page may ask its own server whether its runs have changed.
    """
    # Belt and braces: even markup that got past the escaping could load and run nothing.
    policy = f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src '{script_hash()}'"
    if is_served:
        policy += "; connect-src 'self'"
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=policy),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("title", title),
        element("meta", name="color-scheme", content="light dark"),
        element("style", Html(style_text())),
    )
    body = element("body", *sections, data_element(data), script_element())
    return "<!doctype html>\n" + element("html", head, body, lang="en") + "\n"


def write_document(page: str, output: Path) -> Path:
    """Write a page and return its path; its folder is made, an existing file is replaced.

    Raises:
        RunError: it cannot be written.
    """
    temporary = output.with_name(f".{output.name}.{os.getpid()}")
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(page, encoding="utf-8")
        os.replace(temporary, output)
    except OSError as error:
        with contextlib.suppress(OSError):  # it may never have been made
            temporary.unlink()
        raise RunError(f"cannot write the report {output}: {error}; choose another file with --output.") from error
    return output


def footer() -> Html:
    """With what the page was made."""
    versions = []
    for package in _PACKAGES:
        try:
            versions.append(f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            versions.append(f"{package} not installed")
    return element("footer", f"Page written with Python {platform.python_version()}, {', '.join(versions)}.")


def figure(source: str, alt: str, caption: str, *, is_wide: bool = False) -> Html:
    """An image with its caption; on a phone, a wide one keeps a legible size and scrolls sideways.

    Args:
        source: data URI.
        is_wide: several panels stand side by side.
    """
    image = element("img", src=source, alt=alt)
    if is_wide:
        image = element("div", image, class_="wide-figure", tabindex=0, role="region", aria_label=alt)
    return element("figure", image, element("figcaption", caption))


def still(source: str, alt: str) -> Html:
    """An image that stands where scripts do not run and on paper; on a screen, the scripts draw in its place."""
    return element("img", src=source, alt=alt, class_="static")


def part(name: str) -> Html:
    """A place that the scripts draw in."""
    return element("div", data_part=name)


def wide_table(*children: Html, class_: str, label: str, is_tall: bool = False) -> Html:
    """A table that scrolls sideways where the page is narrower, and down if it is tall; also by keys."""
    table = element("table", *children, class_=class_)
    return element("div", table, class_="wide tall" if is_tall else "wide", tabindex=0, role="region", aria_label=label)


def cells_table(names: Sequence[str], rows: Iterable[Sequence[str]], label: str, class_: str = "") -> Html:
    """A wide table of short cells, whose lines do not break; `names` head the columns."""
    head = element("tr", *(element("th", name) for name in names))
    body = [element("tr", *(element("td", cell.replace(" ", "\N{NO-BREAK SPACE}")) for cell in row)) for row in rows]
    return wide_table(element("thead", head), element("tbody", *body), class_=class_, label=label)


def command_line(words: Sequence[str]) -> Html:
    """A command to copy, whose lines break between its words; a browser would also break behind a hyphen."""
    shown = [element("span", shlex.quote(word), class_="word") for word in words]
    return element("pre", *(part for word in shown for part in (word, " "))) if words else Html("")


def wide(tag: str, *children: Html) -> Html:
    """An element that scrolls sideways where the page is narrower."""
    return element("div", element(tag, *children), class_="wide")


def download(name: str, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> Html:
    """A link that saves the rows as CSV; the data are in the page itself."""
    encoded = base64.b64encode(csv_text(header, rows).encode("utf-8", "replace")).decode("ascii")
    link = element("a", name, href=f"data:text/csv;charset=utf-8;base64,{encoded}", download=name)
    return element("p", "Data: ", link, class_="note data")


def listed(words: Sequence[str]) -> str:
    """a, b and c."""
    return " and ".join(part for part in (", ".join(words[:-1]), *words[-1:]) if part)


def unique(texts: Iterable[str]) -> list[str]:
    """Each once, in order."""
    return list(dict.fromkeys(texts))
