"""Points in a plane: the spectra of a run's evaluations one after another, and reward against entropy with its law."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from relax_rl.analysis.entropy_law import fit_entropy_law
from relax_rl.comparison.records import RunRecord
from relax_rl.errors import DataError
from relax_rl.evaluation.result import PooledSpectrum
from relax_rl.reports.entropy import covariance_changes, entropy_and_reward, forecast_of
from relax_rl.reports.interactive.modes import chosen_snapshots, snapshot_key
from relax_rl.reports.payload import rounded
from relax_rl.reports.spectra.points import eigenvalue_point, mode_numbers

__all__ = ["law_planes", "spectrum_planes"]

_MOST_POINTS = 400

Series = dict[str, Any]


def spectrum_planes(runs: Sequence[RunRecord]) -> dict[str, Any] | None:
    """A plane a run, a step a measurement: before training, at checkpoints, after it; None where there is none."""
    measured = [(run, list(_measured(run))) for run in runs]
    ordered = sorted({(order, name) for _, found in measured for order, name, _ in found})
    if not ordered:
        return None
    values = [
        part for _, found in measured for _, _, spectrum in found for value in spectrum.eigenvalues for part in value
    ]
    extent = 1.1 * min(2.0, max([1.0, *map(abs, values)]))
    views = [
        [
            _view(run, name, spectrum, extent)
            for run, found in measured
            for order, name, spectrum in found
            if (order, name) == stage
        ]
        for stage in ordered
    ]
    return {"name": "measured", "steps": [name for _, name in ordered], "views": views}


def _measured(run: RunRecord) -> Iterable[tuple[int, str, PooledSpectrum]]:
    found = {"before": (0, "before"), "after": (10**9, "after")}
    for stage, (order, name) in found.items():
        spectrum = run.evaluations[stage].spectrum if stage in run.evaluations else None
        if spectrum is not None:
            yield order, name, spectrum
    for snapshot in run.snapshots:
        if snapshot.spectrum is not None:
            yield snapshot.update, f"update {snapshot.update}", snapshot.spectrum


def _view(run: RunRecord, name: str, spectrum: PooledSpectrum, extent: float) -> dict[str, Any]:
    pairs = zip(spectrum.eigenvalues, spectrum.residuals, strict=True)
    points = [eigenvalue_point(*value, residual) for value, residual in pairs]
    title = f"{run.label}, {name}"
    look: dict[str, Any] = {"x": "Re λ", "y": "Im λ", "circle": True, "equal": True, "range": extent}
    for snapshot in chosen_snapshots(run):
        if snapshot_key(run, snapshot) == title:
            look["modes"] = title
            numbers = mode_numbers(spectrum.eigenvalues, snapshot.modes)
            points = [[*point, number] for point, number in zip(points, numbers, strict=True)]
    return {"title": title, **look, "series": [{"label": title, "color": 0, "points": points}]}


def law_planes(runs: Sequence[RunRecord]) -> dict[str, Any] | None:
    """Reward against entropy with the fitted law, its forecast, and the covariance; None without two steps."""
    drawn = [(place, run, *entropy_and_reward(run)) for place, run in enumerate(runs)]
    drawn = [each for each in drawn if len(each[2]) > 1]
    if not drawn:
        return None
    laws = [series for each in drawn for series in _law(*each)]
    forecasts = [series for each in drawn for series in _forecast(*each)]
    changes = [series for place, run, *_ in drawn for series in _changes(place, run)]
    views = [{"title": "Reward against entropy", "x": "token entropy (nats)", "y": "reward", "series": laws}]
    if forecasts:
        title = "Forecast from the first 15 % of the steps"
        views.append({"title": title, "x": "step", "y": "reward", "series": forecasts})
    if changes:
        x, y = "covariance of log-probability and advantage", "change of the entropy (nats)"
        views.append({"title": "What moves the entropy", "x": x, "y": y, "series": changes})
    return {"name": "", "steps": [""], "views": [views]}


def _law(place: int, run: RunRecord, steps: np.ndarray, entropy: np.ndarray, reward: np.ndarray) -> list[Series]:
    points = [
        [rounded(x), rounded(y), False, 0.55, f"step {int(step)}, entropy {x:.3f} nats, reward {y:.3f}"]
        for step, x, y in _thinned(steps, entropy, reward)
    ]
    found: list[Series] = [{"label": run.label, "color": place, "size": 3, "points": points}]
    try:
        law = fit_entropy_law(entropy, reward)
    except DataError:
        return found
    line = np.linspace(entropy.min(), entropy.max(), 40)
    return [*found, _line(f"{run.label}, law", place, line, law.predict(line))]


def _forecast(place: int, run: RunRecord, steps: np.ndarray, entropy: np.ndarray, reward: np.ndarray) -> list[Series]:
    found = forecast_of(entropy, reward)
    if found is None:
        return []
    start = found.law.num_points
    points = [
        [rounded(step), rounded(y), False, 0.4, f"step {int(step)}, reward {y:.3f}"]
        for step, y in _thinned(steps, reward)
    ]
    predicted = found.law.predict(entropy[start:])
    stride = -(-len(predicted) // _MOST_POINTS)
    line = _line(f"{run.label}, forecast", place, steps[start:][::stride], predicted[::stride])
    return [{"label": run.label, "color": place, "size": 2, "points": points}, line]


def _changes(place: int, run: RunRecord) -> list[Series]:
    steps, covariance, change = covariance_changes(run)
    if not len(steps):
        return []
    points = [
        [rounded(x), rounded(y), False, 0.55, f"update {int(step)}, covariance {x:.3g}, entropy then {y:+.3g} nats"]
        for step, x, y in _thinned(steps, covariance, change)
    ]
    return [{"label": run.label, "color": place, "size": 3, "points": points}]


def _line(label: str, place: int, x: np.ndarray, y: np.ndarray) -> Series:
    points = [[rounded(a), rounded(b), False, 1, ""] for a, b in zip(x, y, strict=True)]
    return {"label": label, "color": place, "line": True, "dots": False, "points": points}


def _thinned(*columns: np.ndarray) -> list[tuple[Any, ...]]:
    return list(zip(*columns, strict=True))[:: -(-len(columns[0]) // _MOST_POINTS)]
