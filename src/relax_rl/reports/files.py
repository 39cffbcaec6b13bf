"""The figures of a report as files, each with its data."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from relax_rl.comparison.records import RunRecord
from relax_rl.reports.breadth import BREADTH_COLUMNS, breadth_rows, draw_breadth
from relax_rl.reports.cost import COST_COLUMNS, cost_rows, draw_cost
from relax_rl.reports.curves import PANELS, curve_of, draw_curves
from relax_rl.reports.entropy import ENTROPY_COLUMNS, draw_entropy, entropy_rows
from relax_rl.reports.figure_files import Drawing, save_figures
from relax_rl.reports.passes import difference_rows, draw_pass_curves, pass_rows
from relax_rl.reports.spectra.planes import draw_spectra
from relax_rl.reports.trajectories import TRAJECTORY_COLUMNS, draw_trajectories, trajectory_rows

__all__ = ["curve_rows", "eigenvalue_rows", "write_figures"]

PASS_COLUMNS = ("run", "evaluation", "k", "value", "low", "high")
SPECTRUM_COLUMNS = ("run", "evaluation", "real", "imaginary", "residual", "dictionary")


def write_figures(runs: Sequence[RunRecord], folder: Path) -> list[Path]:
    """Write the figures of a page as far as there is something to draw, and return the paths.

    Raises:
        RunError: the folder cannot be written.
    """
    curves = draw_curves(runs) if any(run.metrics for run in runs) else None
    drawn: list[Drawing] = [
        ("curves", curves, ("run", "metric", "step", "value"), curve_rows(runs)),
        (
            "pass_at_k",
            draw_pass_curves(runs),
            PASS_COLUMNS,
            [*pass_rows(runs), *((name, "difference", *rest) for name, *rest in difference_rows(runs))],
        ),
        ("entropy", draw_entropy(runs), ENTROPY_COLUMNS, entropy_rows(runs)),
        ("problems", draw_breadth(runs), BREADTH_COLUMNS, breadth_rows(runs)),
        ("spectra", draw_spectra(runs), SPECTRUM_COLUMNS, eigenvalue_rows(runs)),
        ("trajectories", draw_trajectories(runs), TRAJECTORY_COLUMNS, trajectory_rows(runs)),
        ("cost", draw_cost(runs), COST_COLUMNS, cost_rows(runs)),
    ]
    return save_figures(drawn, folder)


def curve_rows(runs: Sequence[RunRecord]) -> list[tuple[str, str, int, float]]:
    """Run, metric, step, value of the panels that the figure has."""
    return [
        (run.label, panel.title, int(step), value)
        for run in runs
        for panel in PANELS
        for step, value in zip(*curve_of(run, panel), strict=True)
    ]


def eigenvalue_rows(runs: Sequence[RunRecord]) -> list[tuple[Any, ...]]:
    """Rows of `SPECTRUM_COLUMNS`: those of the evaluations, then those of the checkpoints."""
    found = [
        (run, name, spectrum)
        for run in runs
        for name, spectrum in (
            *((stage, evaluation.spectrum) for stage, evaluation in run.evaluations.items()),
            *((f"update {snapshot.update}", snapshot.spectrum) for snapshot in run.snapshots),
        )
    ]
    return [
        (run.label, name, real, imaginary, residual, spectrum.dictionary_digest)
        for run, name, spectrum in found
        if spectrum is not None
        for (real, imaginary), residual in zip(spectrum.eigenvalues, spectrum.residuals, strict=True)
    ]
