"""May two evaluations be compared, what differs, and by how much the second is better: the one place that decides.

`relax eval --against`, `relax report` and `relax compare` all ask `comparability`. A difference is about the two
policies alone only if everything else is the same: the problems, the prompts, the sampling, the grader and the
backend; for DSD also the dictionary and the estimator.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from relax_rl.comparison.records import RunRecord
from relax_rl.errors import ConfigError, DataError
from relax_rl.evaluation.breakdown import by_unit, difference_by_unit, units_of_results
from relax_rl.evaluation.coverage import COVERAGE, coverage_value
from relax_rl.evaluation.metrics import pass_at_k
from relax_rl.evaluation.result import EvaluationResult, ProblemResult
from relax_rl.statistics.intervals import Estimate
from relax_rl.statistics.sign_flip import sign_flip_test

__all__ = [
    "MAY_DIFFER",
    "Comparability",
    "Mismatch",
    "PairedDifference",
    "comparability",
    "compare_results",
    "evaluated_stages",
    "metric_names",
    "paired_difference",
    "per_problem_value",
    "require_comparable",
]

_SAMPLING = ("num_samples", "temperature", "top_p", "max_completion_length")
_LATER = ("grader", "backend")
"""Settings that files of earlier versions lack."""
MAY_DIFFER = (*_SAMPLING, "prompts", "grader", "policy", "grading", "backend")
"""Settings that `compare_results` can be told to disregard: what is then compared are policies under two settings."""

_BY_PROBLEM = ("length", "truncated", "no_answer", "distinct_correct", "distinct_paths")
"""Metrics that are kept problem by problem under their own name."""
_FIELDS = {"entropy": "entropy", "dsd": "dsd"} | {name: name for name in _BY_PROBLEM}
"""Metrics that are kept problem by problem; mean@k, maj@k and pass@k apart."""


@dataclass(frozen=True)
class Mismatch:
    """One setting in which two evaluations differ.

    Attributes:
        name: name of the setting: ``grader``, ``temperature``, ``dictionary``, ...
        before, after: its value in the first and in the second evaluation; None where the result does not tell it.
    """

    name: str
    before: object
    after: object

    @property
    def is_known(self) -> bool:
        """Whether both results tell the value."""
        return self.before is not None and self.after is not None

    def words(self, first: str = "there", second: str = "here") -> str:
        """``grader is X there and Y here``."""
        before, after = ("unknown" if value is None else value for value in (self.before, self.after))
        return f"{self.name} is {before} {first} and {after} {second}"


@dataclass(frozen=True)
class Comparability:
    """Differences of two evaluations beside their policies.

    Attributes:
        differing: settings that differ. With any of them, no difference of the two policies can be computed.
        unknown: settings that one or both do not tell, as files of earlier versions do. They do not refuse a
            comparison, but a reader must know of them.
        dispersion: differences and unknowns in the measurement of DSD. They concern that metric alone.
        num_problems: number of problems of the first evaluation, of the second, and of both.
    """

    differing: tuple[Mismatch, ...]
    unknown: tuple[Mismatch, ...]
    dispersion: tuple[Mismatch, ...]
    num_problems: tuple[int, int, int]

    @property
    def is_comparable(self) -> bool:
        """Whether a difference in scores, length or entropy is one between the policies."""
        return not self.differing

    def is_comparable_for(self, metric: str) -> bool:
        """The same for one metric: DSD also needs one dictionary and one estimator."""
        return self.is_comparable and not (metric.startswith("dsd") and self.dispersion)

    def despite(self, names: Collection[str]) -> Comparability:
        """The same if the settings of these names may differ.

        Raises:
            ConfigError: a name that is not in `MAY_DIFFER`.
        """
        for name in names:
            if name not in MAY_DIFFER:
                raise ConfigError(f"'{name}' cannot differ in a comparison; only {', '.join(MAY_DIFFER)} can.")
        return replace(self, differing=tuple(mismatch for mismatch in self.differing if mismatch.name not in names))

    def reasons(self, first: str = "there", second: str = "here") -> str:
        """The differences in words: ``temperature is 1.0 there and 0.6 here, grader is ...``."""
        return ", ".join(mismatch.words(first, second) for mismatch in self.differing)

    def notes(self, first: str = "there", second: str = "here") -> list[str]:
        """Sentences that a reader must know although a difference can be computed."""
        notes = [f"{mismatch.words(first, second)}, so it may differ" for mismatch in self.unknown]
        before, after, both = self.num_problems
        if not before == after == both:
            notes.append(f"{both} problems are in both evaluations, of {before} {first} and {after} {second}")
        return notes


@dataclass(frozen=True)
class PairedDifference:
    """One metric of two evaluations.

    Attributes:
        metric: its name.
        first, second: its value in each, over the problems that both have.
        difference: ``second - first`` with its 95 % interval, by bootstrap over problems, paired.
        p_value: two-sided, of the sign-flip test over problems.
    """

    metric: str
    first: float
    second: float
    difference: Estimate
    p_value: float


def comparability(first: EvaluationResult, second: EvaluationResult) -> Comparability:
    """Whether two evaluations may be compared, and what differs.

    Problems are matched by id. With none in common the comparison is refused; with some, they are what is compared.
    """
    ids = [[problem.id for problem in result.per_problem] for result in (first, second)]
    num_shared = len(set(ids[0]) & set(ids[1]))
    settings = [Mismatch(name, getattr(first, name), getattr(second, name)) for name in ("task", "split", *_SAMPLING)]
    if not num_shared:
        settings.append(Mismatch("problems", *(f"{len(own)}, none of them shared," for own in ids)))
    elif ids[0] == ids[1]:
        settings.append(Mismatch("prompts", first.prompt_digest or None, second.prompt_digest or None))
    else:
        # The digest is over all prompts in their order: it says nothing of those that are shared.
        settings.append(Mismatch("prompts", *_shared_prompts(first, second)))
    settings += [Mismatch(name, getattr(first, name) or None, getattr(second, name) or None) for name in _LATER]
    settings += _grading(first.grading, second.grading)
    unknown = [m for m in settings if not m.is_known]
    differing = [m for m in settings if m.is_known and (m.before != m.after or m.name == "problems")]
    counts = (len(ids[0]), len(ids[1]), num_shared)
    return Comparability(tuple(differing), tuple(unknown), _dispersion(first, second), counts)


def _shared_prompts(first: EvaluationResult, second: EvaluationResult) -> tuple[str | None, str | None]:
    """A prompt of a shared problem under both, one that differs if any does; None where no sample was kept to read."""
    others = {sample.problem_id: sample.prompt for sample in second.samples}
    pairs = [(s.prompt, others[s.problem_id]) for s in first.samples if s.problem_id in others]
    unlike = [(repr(before), repr(after)) for before, after in pairs if before != after]
    return next(iter([*unlike, *pairs]), (None, None))


def _dispersion(first: EvaluationResult, second: EvaluationResult) -> tuple[Mismatch, ...]:
    digests = [result.spectrum.dictionary_digest if result.spectrum else None for result in (first, second)]
    found = []
    if digests[0] != digests[1] or None in digests:
        found.append(Mismatch("dictionary", *digests))
    if first.dsd_estimator != second.dsd_estimator:
        found.append(Mismatch("estimator", first.dsd_estimator, second.dsd_estimator))
    return tuple(found)


def _grading(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[Mismatch]:
    """The policy of finding the answer, and what else of the verifier's options is not the default."""
    rest = [{name: value for name, value in options.items() if name != "policy"} for options in (first, second)]
    return [
        Mismatch("policy", first.get("policy", "default"), second.get("policy", "default")),
        Mismatch("grading", *(options or "default" for options in rest)),
    ]


def require_comparable(first: EvaluationResult, second: EvaluationResult, despite: Collection[str] = ()) -> None:
    """Refuse two evaluations whose difference would not be one of their policies.

    Args:
        despite: settings (of `MAY_DIFFER`) that may differ, because the comparison is about them too.

    Raises:
        DataError: settings differ; each is named.
        ConfigError: a name in `despite` that is not in `MAY_DIFFER`.
    """
    found = comparability(first, second).despite(despite)
    if found.is_comparable:
        return
    names = [mismatch.name for mismatch in found.differing]
    fix = "evaluate both alike"
    if set(names) <= set(MAY_DIFFER):
        fix += f", or compare them with the difference included (--despite {','.join([*despite, *names])})"
    if names == ["grader"]:
        fix = f"grade the older one again (relax eval --rescore DIR), {fix}"
    reasons = found.reasons("in the first", "in the second")
    raise DataError(f"The two evaluations cannot be compared: {reasons}; {fix}.")


def paired_difference(
    first: EvaluationResult, second: EvaluationResult, metric: str, *, seed: int = 0
) -> Estimate | None:
    """``second - first`` in a metric over the problems that both were evaluated on.

    Args:
        seed: seed of the resamples.

    Returns:
        The difference with its 95 % interval by bootstrap over problems, paired; over questions, where problems are
        variants of them. None where it would not mean anything: `comparability` refuses it, or the metric is not kept
        problem by problem.
    """
    if not comparability(first, second).is_comparable_for(metric) or per_problem_value(metric) is None:
        return None
    return _difference(_shared_problems(first, second), metric, seed)


def compare_results(
    first: EvaluationResult, second: EvaluationResult, *, despite: Collection[str] = (), seed: int = 0
) -> list[PairedDifference]:
    """The scores and lengths that both have, over the problems that both have, each with a p-value.

    Args:
        despite: settings (of `MAY_DIFFER`) that may differ, because the comparison is about them too.
        seed: seed of the resamples and, with many problems, of the sign patterns.

    Raises:
        DataError: the two may not be compared; each setting that differs is named.
        ConfigError: a name in `despite` that is not in `MAY_DIFFER`.
    """
    require_comparable(first, second, despite)
    pairs = _shared_problems(first, second)
    rows = []
    for metric in _shared_metrics(first, second):
        difference = _difference(pairs, metric, seed)
        if difference is not None:
            before, after = _values(pairs, metric)
            kept = ~np.isnan(before) & ~np.isnan(after)
            test = sign_flip_test(_of_questions(after - before, kept, _units(pairs)), seed=seed)
            assert test is not None  # where there is a difference there is a pair
            means = float(before[kept].mean()), float(after[kept].mean())
            rows.append(PairedDifference(metric, *means, difference, test.p_value))
    return rows


_Pairs = Sequence[tuple[ProblemResult, ProblemResult]]


def _shared_problems(first: EvaluationResult, second: EvaluationResult) -> _Pairs:
    others = {problem.id: problem for problem in second.per_problem}
    return [(problem, others[problem.id]) for problem in first.per_problem if problem.id in others]


def _values(pairs: _Pairs, metric: str) -> tuple[np.ndarray, np.ndarray]:
    """(P,) of each side, NaN where a problem has no value."""
    value_of = per_problem_value(metric)
    assert value_of is not None
    before, after = (np.array([value_of(problem) for problem in side]) for side in zip(*pairs, strict=True))
    return before, after


def _difference(pairs: _Pairs, metric: str, seed: int) -> Estimate | None:
    before, after = _values(pairs, metric)
    if metric != "entropy":
        return difference_by_unit(before, after, None, None, _units(pairs), seed=seed)
    # Entropy is a mean over tokens; as many samples a problem on both sides, so mean lengths weigh like token counts.
    first, second = (np.array([problem.length or 0.0 for problem in side]) for side in zip(*pairs, strict=True))
    return difference_by_unit(before, after, first, second, _units(pairs), seed=seed)


def _units(pairs: _Pairs) -> list[str] | None:
    """The independent unit of each problem: variants of a question are one."""
    return units_of_results([problem for problem, _ in pairs])


def _of_questions(differences: np.ndarray, kept: np.ndarray, units: Sequence[str] | None) -> np.ndarray:
    """Differences of the problems that have one, or of their questions; both have the same mean."""
    if units is None:
        return differences[kept]
    means, sizes = by_unit(np.where(kept, differences, np.nan), None, units)
    assert sizes is not None
    known = sizes > 0
    return means[known] * sizes[known] / sizes[known].mean()


def _shared_metrics(first: EvaluationResult, second: EvaluationResult) -> list[str]:
    shared = [name for name in first.metrics if name in second.metrics]
    kinds = ("mean@", "pass@", "maj@", "modes@")
    return [name for name in shared if name in (*_BY_PROBLEM, *COVERAGE) or name.startswith(kinds)]


def per_problem_value(metric: str) -> Callable[[ProblemResult], float] | None:
    """How to read a metric off one problem, NaN where the problem has none; None if it is not kept by problem."""
    kind, _, k = metric.partition("@")
    if kind == "pass":
        return lambda problem: (
            pass_at_k(problem.num_scored, problem.num_correct, int(k)) if problem.num_scored >= int(k) else np.nan
        )
    if metric in COVERAGE or (kind == "modes" and k.isdigit()):
        return lambda problem: coverage_value(metric, problem)
    field = {"mean": "mean_score", "maj": "majority"}.get(kind) if k else _FIELDS.get(metric)
    if field is None:
        return None

    def value_of(problem: ProblemResult) -> float:
        value: Any = getattr(problem, field)
        return np.nan if value is None else float(value)

    return value_of


def metric_names(runs: Sequence[RunRecord]) -> list[str]:
    """Columns: mean@1, the largest pass@k that every evaluation has, entropy, DSD, length, truncated; as measured."""
    results = [result for run in runs for result in evaluated_stages(run).values()]
    if not results:
        return []
    shared = set.intersection(*(set(result.metrics) for result in results))
    passes = sorted((int(name[5:]) for name in shared if name.startswith("pass@")), reverse=True)
    wanted = ["mean@1", *(f"pass@{k}" for k in passes[:1]), "entropy", "dsd", "length", "truncated"]
    seen = {name for result in results for name in result.metrics}
    # A share that is zero throughout says nothing; samples that were not scored say a lot.
    unscored = any(e.value > 0 for result in results if (e := result.metrics.get("not_scored")))
    return [name for name in wanted if name in seen] + (["not_scored"] if unscored else [])


def evaluated_stages(run: RunRecord) -> dict[str, EvaluationResult]:
    """The run's evaluations ``before`` and ``after`` training, as far as they exist."""
    return {stage: run.evaluations[stage] for stage in ("before", "after") if stage in run.evaluations}
