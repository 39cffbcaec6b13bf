"""What every page is made of: one HTML file that loads nothing, written whole or not at all."""

from __future__ import annotations

import base64
import contextlib
import importlib.metadata
import os
import platform
from collections.abc import Iterable, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from relax_rl.comparison.tables import csv_text
from relax_rl.errors import RunError
from relax_rl.reports.markup import Html, element

__all__ = ["document", "download", "figure", "footer", "listed", "unique", "wide", "write_document"]

_PACKAGES = ("relax-rl", "torch", "transformers", "trl", "numpy", "matplotlib")


def document(title: str, sections: Sequence[Html]) -> str:
    """A page with the package's style, which no markup in it can make load or run anything."""
    style = resources.files("relax_rl.reports").joinpath("style.css").read_text(encoding="utf-8")
    # Belt and braces: even markup that got past the escaping could load and run nothing.
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=policy),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("title", title),
        element("style", Html(style)),
    )
    return "<!doctype html>\n" + element("html", head, element("body", *sections), lang="en") + "\n"


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


def figure(source: str, alt: str, caption: str) -> Html:
    """An image with its caption; `source` is a data URI."""
    return element("figure", element("img", src=source, alt=alt), element("figcaption", caption))


def wide(tag: str, *children: Html) -> Html:
    """An element that scrolls sideways where the page is narrower."""
    return element("div", element(tag, *children), class_="wide")


def download(name: str, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> Html:
    """A link that saves the rows as CSV; the data are in the page itself."""
    encoded = base64.b64encode(csv_text(header, rows).encode("utf-8", "replace")).decode("ascii")
    link = element("a", name, href=f"data:text/csv;charset=utf-8;base64,{encoded}", download=name)
    return element("p", "Data: ", link, class_="note")


def listed(words: Sequence[str]) -> str:
    """a, b and c."""
    return " and ".join(part for part in (", ".join(words[:-1]), *words[-1:]) if part)


def unique(texts: Iterable[str]) -> list[str]:
    """Each once, in order."""
    return list(dict.fromkeys(texts))
