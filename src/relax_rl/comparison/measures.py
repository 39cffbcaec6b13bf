"""Measures that methods are compared by: a value of each problem after training, of its change, or of a whole run.

Each measure is read off one run as values by key. The key is a problem's id, so that runs are paired by problem; a
measure of the whole run has one key.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from relax_rl.comparison.discovery import discovered
from relax_rl.comparison.pairs import comparability, per_problem_value
from relax_rl.comparison.records import RunRecord
from relax_rl.comparison.solutions import modes_of, recovered
from relax_rl.errors import DataError
from relax_rl.evaluation.coverage import COVERAGE
from relax_rl.evaluation.result import ProblemResult
from relax_rl.runs import RunDirectory

__all__ = ["CHANGES", "DISCOVERIES", "OF_SOLUTIONS", "better", "is_share", "measured", "sampled_measures"]

CHANGES = ("lost", "gained", "solutions_lost", "solutions_gained")
"""Changes of each problem, from the evaluation before training to that after it; beside ``recovered@k``."""
DISCOVERIES = ("first_reward", "problems_rewarded", "solutions_ever", "solutions_now")
"""Values of a whole run, read off its rollouts: see `discovery.Discovery`."""
OF_SOLUTIONS = ("effective_modes", "top_mode", *CHANGES[2:], *DISCOVERIES[2:])
"""Measures that need a task of several solutions; beside ``modes@k`` and ``recovered@k``."""


def sampled_measures(num_samples: int) -> tuple[str, ...]:
    """Names of all measures of runs that were evaluated with so many samples of a problem."""
    of_k = (f"{kind}@{k}" for kind in ("pass", "modes", "recovered") for k in range(1, num_samples + 1))
    return ("mean@1", *COVERAGE, *CHANGES, *DISCOVERIES, *of_k)


def is_share(metric: str) -> bool:
    """Whether a value lies between 0 and 1."""
    return metric in ("mean@1", "lost", "gained", "top_mode", "all_wrong", "all_right") or metric.startswith(
        ("pass@", "recovered@", "maj@")
    )


def better(metric: str, difference: float) -> str:
    """``better`` or ``worse`` where more is better, else ``higher`` or ``lower``."""
    words = ("better", "worse") if metric.startswith(("mean@", "pass@", "maj@", "modes@")) else ("higher", "lower")
    return words[difference < 0]


def measured(run: RunRecord, metric: str) -> dict[str, float]:
    """Values of a measure by key, NaN where a problem has none.

    ``lost`` is 1 for a problem that was solved before training and is not after it, ``gained`` the other way round,
    else 0. ``solutions_lost`` and ``solutions_gained`` count modes in the same way. ``recovered@k`` is the expected
    share of the modes before training that k samples after it find, and has no value for a problem without any. A run
    without a first reward has the update after its last one.

    Raises:
        DataError: the metric is no measure, or the run has no evaluation before training to compare with.
    """
    after = {problem.id: problem for problem in run.evaluations["after"].per_problem}
    if metric in DISCOVERIES:
        return {"run": _discovery(run, metric)}
    kind, _, k = metric.partition("@")
    if metric in CHANGES or (kind == "recovered" and k.isdecimal()):
        before = _before(run, metric)
        return {id_: _change(metric, before[id_], problem) for id_, problem in after.items() if id_ in before}
    value_of = per_problem_value(metric)
    if value_of is None:
        raise DataError(f"{metric} is not kept problem by problem.")
    return {id_: value_of(problem) for id_, problem in after.items()}


def _discovery(run: RunRecord, metric: str) -> float:
    found = discovered(RunDirectory.open(run.path))
    if metric == "first_reward":
        last = max((int(row["step"]) for row in run.metrics), default=0)
        return float(last + 1 if found.first_reward is None else found.first_reward)
    values = {"problems_rewarded": found.problems, "solutions_ever": found.ever, "solutions_now": found.now}
    return np.nan if values[metric] is None else float(values[metric] or 0)


def _before(run: RunRecord, metric: str) -> Mapping[str, ProblemResult]:
    before = run.evaluations.get("before")
    if before is None or not comparability(before, run.evaluations["after"]).is_comparable:
        raise DataError(
            f"{metric} is a change from before training, and {run.path} has no evaluation there that may be compared; "
            "train with evaluation.before = true, or leave the metric out."
        )
    return {problem.id: problem for problem in before.per_problem}


def _change(metric: str, before: ProblemResult, after: ProblemResult) -> float:
    if not before.num_scored or not after.num_scored:
        return np.nan
    if metric in ("lost", "gained"):
        solved, solves = before.num_correct > 0, after.num_correct > 0
        return float(solved and not solves if metric == "lost" else solves and not solved)
    if before.mode_keys is None or after.mode_keys is None:
        return np.nan
    known, found = modes_of(before), modes_of(after)
    if metric == "solutions_lost":
        return float(len(known.keys() - found.keys()))
    if metric == "solutions_gained":
        return float(len(found.keys() - known.keys()))
    k = int(metric.partition("@")[2])
    return recovered(before, after, k) / len(known) if known and after.num_scored >= k else np.nan
