"""Figures as files: SVG and PNG, each with its data as CSV."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from relax_rl.comparison.tables import csv_text
from relax_rl.errors import RunError

__all__ = ["Drawing", "save_figures"]

_DOTS = 160

Drawing = tuple[str, Figure | None, Sequence[str], Sequence[Any]]
"""Name of the files, figure (None where there is nothing to draw), header and rows of its data."""


def save_figures(drawings: Iterable[Drawing], folder: Path) -> list[Path]:
    """Write three files for each figure that there is, and return the paths.

    Raises:
        RunError: the folder cannot be written.
    """
    paths = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, figure, header, rows in drawings:
            if figure is None:
                continue
            paths += [folder / f"{name}.{ending}" for ending in ("svg", "png", "csv")]
            figure.savefig(paths[-3], metadata={"Date": None})
            figure.savefig(paths[-2], dpi=_DOTS)
            paths[-1].write_text(csv_text(header, rows), encoding="utf-8", errors="replace")
    except OSError as error:
        raise RunError(f"cannot write the figures to {folder}: {error}; name another folder with --figures.") from error
    return paths
