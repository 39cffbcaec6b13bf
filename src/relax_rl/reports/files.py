"""The figures of a report as files: SVG and PNG, each with its data as CSV."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from relax_rl.comparison.records import RunRecord
from relax_rl.comparison.tables import csv_text
from relax_rl.errors import RunError
from relax_rl.reports.curves import PANELS, curve_of, draw_curves
from relax_rl.reports.passes import draw_pass_curves, pass_rows
from relax_rl.reports.spectra.planes import draw_spectra

__all__ = ["curve_rows", "eigenvalue_rows", "write_figures"]

_DOTS = 160


def write_figures(runs: Sequence[RunRecord], folder: Path) -> list[Path]:
    """Write ``curves``, ``pass_at_k`` and ``spectra`` as far as there is something to draw, and return the paths.

    Raises:
        RunError: the folder cannot be written.
    """
    curves = draw_curves(runs) if any(run.metrics for run in runs) else None
    drawn: list[tuple[str, Figure | None, list[str], list[Any]]] = [
        ("curves", curves, ["run", "metric", "step", "value"], curve_rows(runs)),
        ("pass_at_k", draw_pass_curves(runs), ["run", "evaluation", "k", "value", "low", "high"], pass_rows(runs)),
        (
            "spectra",
            draw_spectra(runs),
            ["run", "evaluation", "real", "imaginary", "residual", "dictionary"],
            eigenvalue_rows(runs),
        ),
    ]
    paths = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, figure, header, rows in drawn:
            if figure is None:
                continue
            paths += [folder / f"{name}.{ending}" for ending in ("svg", "png", "csv")]
            figure.savefig(paths[-3], metadata={"Date": None})
            figure.savefig(paths[-2], dpi=_DOTS)
            paths[-1].write_text(csv_text(header, rows), encoding="utf-8", errors="replace")
    except OSError as error:
        raise RunError(f"cannot write the figures to {folder}: {error}; name another folder with --figures.") from error
    return paths


def curve_rows(runs: Sequence[RunRecord]) -> list[tuple[str, str, int, float]]:
    """Run, metric, step, value of the panels that the figure has."""
    return [
        (run.label, panel.title, int(step), value)
        for run in runs
        for panel in PANELS
        for step, value in zip(*curve_of(run, panel), strict=True)
    ]


def eigenvalue_rows(runs: Sequence[RunRecord]) -> list[tuple[Any, ...]]:
    """Run, evaluation, eigenvalue and residual, and the digest of the dictionary."""
    return [
        (run.label, stage, real, imaginary, residual, evaluation.spectrum.dictionary_digest)
        for run in runs
        for stage, evaluation in run.evaluations.items()
        if evaluation.spectrum
        for (real, imaginary), residual in zip(
            evaluation.spectrum.eigenvalues, evaluation.spectrum.residuals, strict=True
        )
    ]
