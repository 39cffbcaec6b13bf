"""The frame of the pages about spectra: title and source, sections with a note each, and the command."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from relax_rl.reports.document import command_line, document, footer, write_document
from relax_rl.reports.markup import Html, element

__all__ = ["noted_section", "write_page"]


def write_page(title: str, source: str, sections: Sequence[Html], command: Sequence[str], output: Path) -> Path:
    """Write one self-contained HTML file.

    Args:
        source: the texts or states that were read, in words.
        command: words that do the same again. Empty: the page has no section about them.

    Raises:
        RunError: it cannot be written.
    """
    header = element("header", element("h1", title), element("p", source, class_="lead"))
    repeat = [element("section", element("h2", "To repeat"), command_line(command))] if command else []
    return write_document(document(title, [header, *sections, *repeat, footer()], {}), output)


def noted_section(heading: str, *shown: Html, note: str, below: Sequence[Html] = ()) -> Html:
    """A section: tables and sentences, a note that says how to read them, and the figures below."""
    return element("section", element("h2", heading), *shown, element("p", note, class_="note"), *below)
