"""Points in a plane: the spectra of a run's evaluations one after another, and reward against entropy with its law."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from relax_rl.analysis.entropy_law import fit_entropy_law
from relax_rl.comparison.records import RunRecord
from relax_rl.errors import DataError
from relax_rl.evaluation.result import EvaluationResult
from relax_rl.reports.payload import rounded
from relax_rl.reports.spectra.points import eigenvalue_point

__all__ = ["law_planes", "spectrum_planes"]

_MOST_POINTS = 400


def spectrum_planes(runs: Sequence[RunRecord]) -> dict[str, Any] | None:
    """A plane a run, a step an evaluation with a spectrum: before, on the way, after; None where there is none."""
    stages: dict[tuple[int, str], None] = {}
    for run in runs:
        for order, name, evaluation in _measured(run):
            if evaluation.spectrum is not None:
                stages[order, name] = None
    if not stages:
        return None
    ordered = sorted(stages)
    values = [
        part
        for run in runs
        for _, _, evaluation in _measured(run)
        if evaluation.spectrum
        for value in evaluation.spectrum.eigenvalues
        for part in value
    ]
    extent = 1.1 * min(2.0, max([1.0, *map(abs, values)]))
    views = [[view for run in runs if (view := _view(run, stage, extent)) is not None] for stage in ordered]
    return {"name": "measured", "steps": [name for _, name in ordered], "views": views}


def _measured(run: RunRecord) -> Iterable[tuple[int, str, EvaluationResult]]:
    if "before" in run.evaluations:
        yield 0, "before", run.evaluations["before"]
    for update, evaluation in sorted(run.during.items()):
        yield update, f"update {update}", evaluation
    if "after" in run.evaluations:
        yield 10**9, "after", run.evaluations["after"]


def _view(run: RunRecord, stage: tuple[int, str], extent: float) -> dict[str, Any] | None:
    for order, name, evaluation in _measured(run):
        if (order, name) == stage and evaluation.spectrum is not None:
            spectrum = evaluation.spectrum
            pairs = zip(spectrum.eigenvalues, spectrum.residuals, strict=True)
            points = [eigenvalue_point(*value, residual) for value, residual in pairs]
            series = [{"label": f"{run.label}, {name}", "color": 0, "points": points}]
            look = {"x": "Re λ", "y": "Im λ", "circle": True, "equal": True, "range": extent}
            return {"title": f"{run.label}, {name}", **look, "series": series}
    return None


def law_planes(runs: Sequence[RunRecord]) -> dict[str, Any] | None:
    """Reward against entropy, a point a step, with the fitted law of each run for which it holds."""
    series: list[dict[str, Any]] = []
    for place, run in enumerate(runs):
        (steps, entropy), (others, reward) = run.curve("entropy"), run.curve("reward")
        shared, at, other = np.intersect1d(steps, others, return_indices=True)
        if len(shared) < 2:
            continue
        stride = -(-len(shared) // _MOST_POINTS)
        points = [
            [rounded(x), rounded(y), False, 0.55, f"step {int(step)}, entropy {x:.3f} nats, reward {y:.3f}"]
            for step, x, y in list(zip(shared, entropy[at], reward[other], strict=True))[::stride]
        ]
        series.append({"label": run.label, "color": place, "size": 3, "points": points})
        try:
            law = fit_entropy_law(entropy[at], reward[other])
        except DataError:
            continue
        line = np.linspace(entropy[at].min(), entropy[at].max(), 40)
        drawn = [[rounded(x), rounded(y), False, 1, ""] for x, y in zip(line, law.predict(line), strict=True)]
        series.append({"label": f"{run.label}, law", "color": place, "line": True, "dots": False, "points": drawn})
    if not series:
        return None
    view = {"title": "", "x": "token entropy (nats)", "y": "reward", "series": series}
    return {"name": "", "steps": [""], "views": [[view]]}
