"""Modes at the checkpoints of runs, and the tokens where each is active."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from relax_rl.comparison.records import RunRecord
from relax_rl.evaluation.snapshot import Snapshot
from relax_rl.reports.spectra.modes import mode_view

__all__ = ["chosen_snapshots", "run_modes", "snapshot_key"]

_MOST_SNAPSHOTS = 5
"""Snapshots of a run on a page."""
_MOST_RUNS = 3


def chosen_snapshots(run: RunRecord) -> list[Snapshot]:
    """Those that a page shows: evenly spread, the first and the last among them."""
    found = list(run.snapshots)
    if len(found) <= _MOST_SNAPSHOTS:
        return found
    last = len(found) - 1
    return [found[round(place * last / (_MOST_SNAPSHOTS - 1))] for place in range(_MOST_SNAPSHOTS)]


def snapshot_key(run: RunRecord, snapshot: Snapshot) -> str:
    """By which a plane finds the modes of its spectrum."""
    return f"{run.label}, update {snapshot.update}"


def run_modes(runs: Sequence[RunRecord]) -> dict[str, Any]:
    """Modes of the snapshots of the first runs, by `snapshot_key`; empty where none has a spectrum."""
    return {
        snapshot_key(run, snapshot): _of_snapshot(run, snapshot)
        for run in runs[:_MOST_RUNS]
        for snapshot in chosen_snapshots(run)
        if snapshot.spectrum is not None and snapshot.modes and snapshot.completions
    }


def _of_snapshot(run: RunRecord, snapshot: Snapshot) -> dict[str, Any]:
    assert snapshot.spectrum is not None
    texts = [
        (_name(snapshot.prompt, place, row.reward), row.tokens, row.strengths)
        for place, row in enumerate(snapshot.completions)
    ]
    spectrum = snapshot.spectrum
    return mode_view(
        snapshot_key(run, snapshot), spectrum.eigenvalues, spectrum.residuals, _sound_places(snapshot), texts
    )


def _sound_places(snapshot: Snapshot) -> list[int]:
    count = 0 if snapshot.spectrum is None else len(snapshot.spectrum.eigenvalues)
    return [place for place in snapshot.modes if 0 <= place < count]


def _name(prompt: str, place: int, reward: float | None) -> str:
    return f"{prompt} · completion {place + 1}, " + ("no reward" if reward is None else f"reward {reward:.3g}")
