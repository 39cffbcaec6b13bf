"""Thumbnails of the images that completions are about, for the browser of the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from relax_rl.reports.thumbnails import Thumbnails
from relax_rl.runs import RunDirectory

__all__ = ["image_names", "with_images"]


def image_names(row: Mapping[str, Any]) -> list[str]:
    """The names of a completion's images, as records have them; empty for anything else."""
    found = row.get("images")
    return [name for name in found if isinstance(name, str)] if isinstance(found, list | tuple) else []


def with_images(rows: Sequence[dict[str, Any]], folders: Sequence[str | Path]) -> dict[str, str]:
    """Data URIs by name. Each row keeps ``images`` only if it has some.

    Args:
        rows: with ``images``, and ``source``, a position in `folders`.
        folders: folders of the run that each source is from.
    """
    thumbnails = Thumbnails()
    for row in rows:
        names = row.pop("images")
        if not names:
            continue
        row["images"] = names
        kept = RunDirectory(folders[row["source"]]).thumbnails
        for name in names:
            thumbnails.add(name, kept.read(name))
    return thumbnails.sources
