"""A run as a report knows it: everything is read from the run directory, nothing from a trainer."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np

from relax_rl.errors import DataError, RelaxError, RunError
from relax_rl.evaluation.result import EvaluationResult
from relax_rl.evaluation.snapshot import Snapshot
from relax_rl.redaction import without_secrets
from relax_rl.runs import RunDirectory

T = TypeVar("T")

__all__ = ["PLACES", "Rollout", "RunRecord", "by_method", "flatten", "read_runs"]


PLACES = ("output", "run")
"""The setting that names the run directory, and its name in runs of earlier versions: no property of a method."""

_SPELLINGS = {
    "grpo": "GRPO",
    "relax": "ReLaX",
    "relax_as_run": "ReLaX (as run)",
    "dr_grpo": "Dr. GRPO",
    "dapo": "DAPO",
    "gspo": "GSPO",
    "cispo": "CISPO",
    "clip_cov": "Clip-Cov",
    "kl_cov": "KL-Cov",
    "dcpo": "DCPO",
    "hicra": "HICRA",
    "ce_gppo": "CE-GPPO",
    "aspo": "ASPO",
}
"""The papers' capitals; any other method goes by its own name."""


@dataclass(frozen=True)
class Rollout:
    """Completions of one training step, as the run kept them."""

    step: int
    rows: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True)
class RunRecord:
    """One run.

    Attributes:
        path: as it was named by the person who asked for the report.
        label: the method, with what else is needed to tell it from the other runs.
        config: resolved settings, nested.
        metrics: one row a logged step, in order of the steps.
        evaluations: by name; ``before`` and ``after`` training are those that the page shows.
        rollouts: the first and the last that were kept.
        starts: versions and hardware of each start of the training; empty for runs of earlier versions.
        during: evaluations during training, by the update after which they were made.
        snapshots: latent dynamics at the checkpoints, ascending.
        missing: unreadable parts of the run, in sentences; only of a report, which shows the rest.
        method: shared by runs that differ in nothing but the seed; the label of a run that is the only one of its kind.
    """

    path: Path
    label: str
    config: Mapping[str, Any]
    metrics: tuple[Mapping[str, Any], ...]
    evaluations: Mapping[str, EvaluationResult]
    rollouts: tuple[Rollout, ...]
    method: str
    starts: tuple[Mapping[str, Any], ...] = ()
    during: Mapping[int, EvaluationResult] = field(default_factory=dict)
    snapshots: tuple[Snapshot, ...] = ()
    missing: tuple[str, ...] = ()

    @property
    def seed(self) -> int:
        return int(self.config.get("seed") or 0)

    @property
    def seconds(self) -> float:
        """Spent on the updates with their rollouts, as far as they were logged."""
        return float(self.curve("step_time")[1].sum())

    @property
    def tokens(self) -> int:
        """Prompts and completions of the rollouts, as far as they were logged."""
        return int(self.curve("num_tokens")[1].max(initial=0))

    def curve(self, key: str) -> tuple[np.ndarray, np.ndarray]:
        """Steps and values (two arrays of one length) at which the metric was logged as a number."""
        points = [(row["step"], row[key]) for row in self.metrics if _is_number(row.get(key))]
        steps, values = zip(*points, strict=True) if points else ((), ())
        return np.array(steps, dtype=np.float64), np.array(values, dtype=np.float64)


def read_runs(
    paths: Sequence[Path], methods: Sequence[str] | None = None, *, despite_damage: bool = False
) -> list[RunRecord]:
    """Read runs and label each so that no two labels are alike.

    Args:
        paths: run directories.
        methods: name of each run's method; read off the settings when None.
        despite_damage: read what can be read of a damaged run, and say in ``missing`` what cannot.

    Raises:
        RunError: no path, a path without a run, the same run twice, or a broken metrics file.
        DataError: an evaluation file that is not one.
    """
    if not paths:
        raise RunError("a report needs at least one run directory; name the runs that 'relax train' wrote.")
    repeated = [path for path, count in Counter(Path(path).resolve() for path in paths).items() if count > 1]
    if repeated:
        raise RunError(f"the run {repeated[0].name} is named twice; name each run once.")
    runs = [RunDirectory.open(path) for path in paths]
    configs = [_read_config(run) for run in runs]
    if methods is None:
        labels = _labels([Path(path) for path in paths], configs)
        methods = _methods(configs, labels)
    else:
        labels = [f"{method}, seed {config.get('seed')}" for method, config in zip(methods, configs, strict=True)]
        labels = list(methods) if len(set(methods)) == len(methods) else labels
    return [_read(*each, forgives=despite_damage) for each in zip(runs, labels, methods, configs, strict=True)]


def by_method(runs: Sequence[RunRecord]) -> dict[str, list[RunRecord]]:
    """The runs of each method, in order of appearance."""
    found: dict[str, list[RunRecord]] = {}
    for run in runs:
        found.setdefault(run.method, []).append(run)
    return found


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings as dotted keys."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {prefix + key: value}
    return flat


def _read(run: RunDirectory, label: str, method: str, config: Mapping[str, Any], *, forgives: bool) -> RunRecord:
    missing: list[str] = []

    def attempt(read: Callable[[], T], empty: T) -> T:
        try:
            return read()
        except (RelaxError, OSError) as error:
            if not forgives:
                raise
            missing.append(str(error))
            return empty

    # JSON by type alone: who edits a metrics file can leave a row there that is no table.
    found = cast("list[object]", attempt(run.read_metrics, []))
    rows = [row for row in found if isinstance(row, dict) and _is_number(row.get("step"))]
    steps = run.completion_steps()
    kept = [steps[0], steps[-1]] if len(steps) > 1 else steps
    evaluations = {
        path.stem: attempt(lambda path=path: EvaluationResult.load(path), None)
        for path in sorted(run.evaluations.glob("*.json"))
    }
    during = {
        int(path.stem.removeprefix("update_")): attempt(lambda path=path: EvaluationResult.load(path), None)
        for path in sorted(run.evaluations.glob("during/update_*.json"))
    }
    snapshots = [attempt(lambda path=path: _read_snapshot(path), None) for path in run.snapshots().values()]
    return RunRecord(
        path=run.path,
        label=label,
        config=config,
        metrics=tuple(sorted(rows, key=lambda row: row["step"])),
        evaluations={name: found for name, found in evaluations.items() if found is not None},
        rollouts=tuple(
            Rollout(step, tuple(attempt(lambda step=step: run.read_completions(step), []))) for step in kept
        ),
        method=method,
        starts=tuple(attempt(run.read_starts, [])),
        during={update: found for update, found in during.items() if found is not None},
        snapshots=tuple(found for found in snapshots if found is not None),
        missing=tuple(missing),
    )


def _read_snapshot(path: Path) -> Snapshot:
    try:
        return Snapshot.from_dict(json.loads(path.read_text("utf-8")))
    except (ValueError, DataError) as error:
        raise DataError(f"{path}: {error}") from error


def _read_config(run: RunDirectory) -> Mapping[str, Any]:
    # Not through the schema: a page about a run of another version of the package is still worth reading.
    try:
        config = json.loads(run.config_path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{run.config_path} is not JSON ({error}); restore the file that the run wrote.") from error
    return without_secrets(config)


def _labels(paths: Sequence[Path], configs: Sequence[Mapping[str, Any]]) -> list[str]:
    """The method alone if that tells the runs apart, else with the seed, else the folder's name, else its number."""
    names = [_method(config) for config in configs]
    with_seed = [f"{name}, seed {config.get('seed')}" for name, config in zip(names, configs, strict=True)]
    folders = [path.name for path in paths]
    for labels in (names, with_seed, folders):
        if len(set(labels)) == len(labels):
            return labels
    return [f"{name} ({number})" for number, name in enumerate(folders, start=1)]


def _methods(configs: Sequence[Mapping[str, Any]], labels: Sequence[str]) -> list[str]:
    """One name for runs alike in all but seed and place, if no others have it; otherwise each run's own label."""
    kinds = [{k: v for k, v in flatten(config).items() if k not in ("seed", *PLACES)} for config in configs]
    names = [_method(config) for config in configs]
    methods = []
    for name, kind, label in zip(names, kinds, labels, strict=True):
        namesakes = [place for place, other in enumerate(names) if other == name]
        seeds = {str(configs[place].get("seed")) for place in namesakes}
        is_one = len(seeds) == len(namesakes) and all(kinds[place] == kind for place in namesakes)
        methods.append(name if is_one else label)
    return methods


def _method(config: Mapping[str, Any]) -> str:
    objective = config.get("objective")
    name = objective.get("name") if isinstance(objective, Mapping) else objective
    name = str(name or "run")
    label = str(config.get("method_label") or _SPELLINGS.get(name, name))
    # A legend cannot draw control characters or lone surrogates, whatever a hand-written config holds.
    return "".join(character if character.isprintable() else "\ufffd" for character in label)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and bool(np.isfinite(value))
