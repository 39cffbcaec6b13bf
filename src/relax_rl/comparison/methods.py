"""Methods compared over seeds: their means, paired differences to a baseline, and a sentence for each.

The statistics are those of `relax_rl.statistics.seeded_means`: the seed is the unit of replication. Differences are
paired by seed and by problem, and their p-values corrected by Holm for the number of methods, for each metric by
itself.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from relax_rl.comparison.frontier import ACCURACY, AboveFrontier, above_frontier
from relax_rl.comparison.measures import better, is_share, measured
from relax_rl.comparison.pairs import Comparability, comparability, metric_names
from relax_rl.comparison.records import RunRecord, by_method
from relax_rl.errors import DataError
from relax_rl.evaluation.bounds import Bounds, metric_bounds
from relax_rl.evaluation.breakdown import by_unit
from relax_rl.statistics.seeded_means import SeededMean, detectable_difference, holm, seeded_mean, seeds_needed

__all__ = ["Comparison", "Difference", "MethodSummary", "compare_methods", "compared_metrics", "unlike_evaluation"]

ALPHA = 0.05


@dataclass(frozen=True)
class Difference:
    """A method minus the baseline, over the seeds that both have.

    Attributes:
        mean: paired by seed and problem.
        corrected_p: by Holm over the methods.
        seeds_needed: to see a true difference of this size with power 0.8; None when 1000 would not do, or cannot be
            said.
        detectable: the smallest true difference that so many seeds show with power 0.8; NaN with a single seed.
    """

    mean: SeededMean
    corrected_p: float
    seeds_needed: int | None
    detectable: float

    @property
    def shown_p(self) -> str:
        """The corrected p-value to three places; a dash with a single seed."""
        if math.isnan(self.corrected_p):
            return "–"
        return "< 0.001" if self.corrected_p < 0.001 else f"{self.corrected_p:.3f}"

    @property
    def is_seen(self) -> bool:
        return self.corrected_p < ALPHA


@dataclass(frozen=True)
class MethodSummary:
    """One method.

    Attributes:
        values: by metric, after training. Those kept problem by problem (mean@1, pass@k) over seeds and problems, the
            others, such as the update of the first reward, over seeds alone.
        differences: by metric; empty for the baseline.
        bounds: by metric, where completions have no score: mean over the runs of the value if all of them are wrong,
            and if all are right.
        seconds, tokens: seconds and tokens of a run's updates, mean over its runs; NaN where no update was logged.
        sentence: the verdict on it.
    """

    method: str
    seeds: tuple[int, ...]
    values: dict[str, SeededMean]
    differences: dict[str, Difference]
    seconds: float
    tokens: float
    sentence: str = ""
    bounds: dict[str, Bounds] = field(default_factory=dict)


@dataclass(frozen=True)
class Comparison:
    """All methods, the baseline among them, and what a reader must know about the runs.

    Attributes:
        is_matched: every run had its advantages scaled to the size of GRPO's (``objective.match_rms``).
        frontier: methods that trace a frontier; empty where none was named.
        above: the other methods against it.
    """

    baseline: str
    metrics: tuple[str, ...]
    methods: tuple[MethodSummary, ...]
    remarks: tuple[str, ...]
    is_matched: bool = False
    frontier: tuple[str, ...] = ()
    above: tuple[AboveFrontier, ...] = ()


def compare_methods(
    runs: Sequence[RunRecord],
    baseline: str | None = None,
    metrics: Sequence[str] | None = None,
    frontier: Sequence[str] = (),
) -> Comparison:
    """Compare the methods of runs that have been evaluated after training; those that have not are left out.

    Args:
        baseline: a method; that of the first run when None.
        metrics: metrics whose differences are tested, each corrected for the number of methods by itself, of
            `measures.sampled_measures`; ``mean@1`` and the largest ``pass@k`` when None.
        frontier: methods that trace the frontier of the other metrics against mean@1, such as GRPO with a KL of several
            strengths (`above_frontier`).

    Raises:
        DataError: no run of the baseline has been evaluated, two evaluations have other settings or problems, or a
            metric is no measure of these runs.
    """
    finished = [run for run in runs if "after" in run.evaluations]
    methods = by_method(finished)
    baseline = next(iter(methods), None) if baseline is None else baseline
    if baseline is None or baseline not in methods:
        raise DataError(f"no run of {baseline or 'any method'} was evaluated after training; finish one first.")
    unlike = unlike_evaluation(finished, methods[baseline][0])
    if unlike is not None:
        raise DataError(unlike)
    metrics = compared_metrics(finished) if metrics is None else metrics
    differences = _differences(methods, baseline, metrics)
    summaries = [_summary(name, members, metrics, differences.get(name, {})) for name, members in methods.items()]
    described = tuple(_with_sentence(summary, baseline, len(methods) - 1) for summary in summaries)
    matched = {name: all(_is_matched(run) for run in members) for name, members in methods.items()}
    remarks = _remarks(finished, methods[baseline][0])
    if any(matched.values()):
        names = "every method" if all(matched.values()) else ", ".join(name for name, is_so in matched.items() if is_so)
        remarks.append(f"the advantages of {names} were scaled to the size of GRPO's (objective.match_rms)")
    above = above_frontier(finished, frontier, [name for name in metrics if name != ACCURACY]) if frontier else ()
    return Comparison(
        baseline, tuple(metrics), described, tuple(remarks), all(matched.values()), tuple(frontier), above
    )


def _is_matched(run: RunRecord) -> bool:
    objective = run.config.get("objective")
    return isinstance(objective, Mapping) and bool(objective.get("match_rms"))


def unlike_evaluation(runs: Sequence[RunRecord], reference: RunRecord | None = None) -> str | None:
    """A sentence about the first run whose evaluation after training cannot be compared; None if all can.

    Args:
        runs: those not evaluated after training are skipped.
        reference: the run that the others are compared with; the first of `runs` when None.
    """
    finished = [run for run in runs if "after" in run.evaluations]
    reference = reference or (finished[0] if finished else None)
    for run in finished:
        found = _comparability(reference or run, run)
        if not found.is_comparable:
            assert reference is not None
            return (
                f"{run.path} was evaluated with other settings than {reference.path}: "
                f"{found.reasons('in the latter', 'in the former')}; evaluate them alike, or leave one out."
            )
    return None


def _comparability(first: RunRecord, second: RunRecord) -> Comparability:
    return comparability(first.evaluations["after"], second.evaluations["after"])


def compared_metrics(runs: Sequence[RunRecord]) -> list[str]:
    """The metrics whose differences are tested: mean@1 and the largest pass@k."""
    return [name for name in metric_names(runs) if name == "mean@1" or name.startswith("pass@")]


def _summary(
    method: str, runs: Sequence[RunRecord], metrics: Sequence[str], differences: dict[str, Difference]
) -> MethodSummary:
    values = {name: _mean_over_seeds(runs, name) for name in metrics}
    values = {name: _share(mean) if is_share(name) else mean for name, mean in values.items()}
    for name in ("entropy", "dsd", "length"):
        estimates = [run.evaluations["after"].metrics.get(name) for run in runs]
        if all(estimate is not None for estimate in estimates):
            values[name] = seeded_mean([[estimate.value] for estimate in estimates if estimate is not None])
    return MethodSummary(
        method,
        tuple(run.seed for run in runs),
        {name: value for name, value in values.items() if value is not None},
        differences,
        _mean([run.seconds for run in runs if run.metrics]),
        _mean([float(run.tokens) for run in runs if run.metrics]),
        bounds={name: found for name in metrics if (found := _bounds(runs, name)) is not None},
    )


def _mean_over_seeds(runs: Sequence[RunRecord], metric: str) -> SeededMean | None:
    values = [measured(run, metric) for run in runs]
    keys = _shared(values)
    return seeded_mean(_by_question(_table(values, keys), keys, runs[0]))


def _bounds(runs: Sequence[RunRecord], metric: str) -> Bounds | None:
    """Over all completions of all runs; None where each has a score."""
    results = [run.evaluations["after"] for run in runs]
    ends = [metric_bounds(result, metric) for result in results]
    if not any(ends):
        return None
    whole = [result.metrics[metric].value if metric in result.metrics else math.nan for result in results]
    return Bounds(
        _mean([end.worst if end else value for end, value in zip(ends, whole, strict=True)]),
        _mean([end.best if end else value for end, value in zip(ends, whole, strict=True)]),
    )


def _share(mean: SeededMean | None) -> SeededMean | None:
    """With its interval cut to what a share can be."""
    return mean and replace(mean, low=max(mean.low, 0.0), high=min(mean.high, 1.0))


def _mean(values: list[float]) -> float:
    return float(np.mean(values)) if values else math.nan


def _table(runs: Sequence[Mapping[str, float]], keys: Sequence[str]) -> np.ndarray:
    """(S, P) values of a measure by run and key; NaN where a problem has no value."""
    return np.array([[run[key] for key in keys] for run in runs], dtype=np.float64)


def _by_question(table: np.ndarray, keys: Sequence[str], run: RunRecord) -> np.ndarray:
    """(S, Q) means over the variants of each question; unchanged where problems stand alone.

    As without variants, a problem with a NaN in any row is left out.
    """
    questions = {problem.id: problem.unit for problem in run.evaluations["after"].per_problem if problem.unit}
    if not questions:
        return table
    whole = np.where(np.isnan(table).any(axis=0), np.nan, table)
    units = [questions.get(key, key) for key in keys]
    return np.array([by_unit(row, None, units)[0] for row in whole])


def _shared(runs: Sequence[Mapping[str, float]]) -> list[str]:
    return [key for key in runs[0] if all(key in run for run in runs)]


def _differences(
    methods: dict[str, list[RunRecord]], baseline: str, metrics: Sequence[str]
) -> dict[str, dict[str, Difference]]:
    others = [name for name in methods if name != baseline]
    found: dict[str, dict[str, Difference]] = {name: {} for name in others}
    for metric in metrics:
        means = {name: _paired(methods[baseline], methods[name], metric) for name in others}
        known = {name: mean for name, mean in means.items() if mean is not None}
        corrected = holm([mean.p_value for mean in known.values()])
        for (name, mean), p_value in zip(known.items(), corrected, strict=True):
            found[name][metric] = _difference(mean, p_value, len(known))
    return found


def _paired(first: Sequence[RunRecord], second: Sequence[RunRecord], metric: str) -> SeededMean | None:
    """``second - first`` over the seeds and problems of both; None when they share no seed or no problem."""
    others = {run.seed: run for run in second}
    pairs = [(run, others[run.seed]) for run in first if run.seed in others]
    if not pairs:
        return None
    before, after = ([measured(run, metric) for run in side] for side in zip(*pairs, strict=True))
    keys = _shared([*before, *after])
    return seeded_mean(_by_question(_table(after, keys) - _table(before, keys), keys, pairs[0][0]))


def _difference(mean: SeededMean, corrected_p: float, num_comparisons: int) -> Difference:
    if mean.num_seeds < 2:
        return Difference(mean, corrected_p, None, math.nan)
    # Holm's first step, the hardest to pass.
    spread, alpha = (mean.seed_deviation, mean.problem_variance), ALPHA / num_comparisons
    needed = seeds_needed(mean.value, *spread, alpha=alpha)
    if needed is not None and corrected_p >= ALPHA:
        needed = max(needed, mean.num_seeds + 1)  # so many were not enough
    return Difference(mean, corrected_p, needed, detectable_difference(mean.num_seeds, *spread, alpha=alpha))


def _with_sentence(summary: MethodSummary, baseline: str, num_comparisons: int) -> MethodSummary:
    if summary.method == baseline:
        parts = [f"the baseline of {num_comparisons} comparison{'s' * (num_comparisons != 1)}"]
    else:
        parts = [_clause(name, difference, baseline) for name, difference in summary.differences.items()]
    sentence = f"{summary.method}: {'; '.join(parts) or 'shares no seed or problem with the baseline'}."
    return replace(summary, sentence=sentence)


def _clause(metric: str, difference: Difference, baseline: str) -> str:
    mean = difference.mean
    size = f"{mean.value:+.3f} [{mean.low:+.3f}, {mean.high:+.3f}]"
    if mean.value == mean.low == mean.high:
        return f"{metric} is that of {baseline} in every run" if mean.value == 0 else f"{metric} {size} throughout"
    if mean.num_seeds < 2:
        return f"{metric} {size} for these two runs, and one seed says nothing about the methods"
    p_value = f"p {difference.shown_p}" if difference.shown_p[0] == "<" else f"p = {difference.shown_p}"
    if difference.is_seen:
        return f"{better(metric, mean.value)} than {baseline} in {metric}, {size}, {p_value}"
    needed = difference.seeds_needed
    would = "not even 1000 seeds would show one of that size" if needed is None else f"would need about {needed} seeds"
    shown = f"{mean.num_seeds} seeds show {difference.detectable:.2g} or more"
    return f"no significant difference in {metric}, {size}, {p_value}: {would} ({shown})"


def _remarks(runs: Sequence[RunRecord], reference: RunRecord) -> list[str]:
    """Whether the runs are alike in what a comparison needs alike, as far as their directories tell."""
    pairs = [(run, _comparability(reference, run)) for run in runs if run is not reference]
    remarks = _unknown_settings([found for _, found in pairs])
    for run, found in pairs:
        remarks += replace(found, unknown=()).notes(f"in {reference.path}", f"in {run.path}")
    starts = [run.evaluations["before"].per_problem for run in runs if "before" in run.evaluations]
    if any(start != starts[0] for start in starts):
        remarks.append("the runs did not start from policies that measure alike: see their evaluations before training")
    for seed in sorted({run.seed for run in runs}):
        seen = [_prompts_seen(run) for run in runs if run.seed == seed and run.rollouts]
        if any(prompts != seen[0] for prompts in seen):
            remarks.append(f"the runs of seed {seed} did not see the same prompts in the same order")
    return remarks + [f"{' and '.join(names)} measure alike in every run" for names in _alike(runs)]


def _unknown_settings(found: Sequence[Comparability]) -> list[str]:
    names = dict.fromkeys(mismatch.name for each in found for mismatch in each.unknown)
    return [f"{name} is unknown for some evaluations, which an earlier version wrote: it may differ" for name in names]


def _alike(runs: Sequence[RunRecord]) -> list[list[str]]:
    """Methods that came to the very same policies: they have the same gradient under these settings."""
    found: dict[object, list[str]] = {}
    for method, members in by_method(runs).items():
        results = tuple((run.seed, run.evaluations["after"].per_problem) for run in members)
        found.setdefault(results, []).append(method)
    return [names for names in found.values() if len(names) > 1]


def _prompts_seen(run: RunRecord) -> list[tuple[int, list[object]]]:
    """Problems of the rollout batches that were read: the first and the last."""
    return [(rollout.step, [row.get("problem_id") for row in rollout.rows]) for rollout in run.rollouts]
