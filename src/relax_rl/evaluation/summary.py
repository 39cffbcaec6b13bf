"""From graded samples to metrics: one value a problem for each, and an interval over problems."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from relax_rl.evaluation.breakdown import by_unit, question_of
from relax_rl.evaluation.coverage import COVERAGE, coverage_value
from relax_rl.evaluation.metrics import CORRECT_MIN, VerdictCounts, count_verdicts, majority_scores, pass_at_k
from relax_rl.evaluation.records import Sample
from relax_rl.evaluation.result import ProblemResult
from relax_rl.statistics.intervals import Estimate, bootstrap_mean

__all__ = ["Summary", "summarize"]


@dataclass(frozen=True)
class Summary:
    """Summary of the samples.

    Attributes:
        metrics: as `.result.EvaluationResult.metrics`.
        pass_at_k: for every k from 1 on.
        per_problem: in the order of the problems.
        reasons: number of samples of each reason, the most common first.
    """

    metrics: dict[str, Estimate]
    pass_at_k: tuple[Estimate, ...]
    per_problem: tuple[ProblemResult, ...]
    reasons: dict[str, int] = field(default_factory=dict)


def summarize(
    samples: Sequence[Sequence[Sample]],
    *,
    seed: int = 0,
    with_dsd: bool = False,
    units: Sequence[str] | None = None,
    counts_solutions: bool = True,
) -> Summary:
    """Metrics of graded samples.

    Args:
        samples: one list a problem, all of the same length.
        seed: seed of the bootstrap.
        with_dsd: DSD was measured, though it may be defined for none.
        units: the independent unit of each problem, which the bootstrap resamples; None: the problem itself.
        counts_solutions: right samples of a problem may have different modes (`BaseVerifier.tells_solutions`).

    Raises:
        DataError: a score outside [0, 1].
    """
    counts = count_verdicts([[sample.score for sample in row] for row in samples])
    num_samples = len(samples[0])
    # Of the evaluation and not of a problem: where no sample of a problem found a solution, it has none of them.
    has_modes = counts_solutions and any(sample.mode is not None for row in samples for sample in row)
    questions = [""] * len(samples) if units is None else [question_of(unit) for unit in units]
    results = tuple(
        replace(_problem_result(row, of, has_modes), unit=question)
        for row, of, question in zip(samples, counts, questions, strict=True)
    )
    passes = [_pass_values(counts, k) for k in range(1, num_samples + 1)]
    values = {"mean@1": _column(results, "mean_score")}
    values |= {f"pass@{k}": passes[k - 1] for k in _powers_of_two(num_samples)}
    values[f"maj@{num_samples}"] = _column(results, "majority")
    for name in samples[0][0].official:
        values[f"official/{name}"] = np.array([np.mean([sample.official[name] for sample in row]) for row in samples])
    values["entropy"] = _column(results, "entropy")
    if with_dsd:
        defined = [[sample.dsd is not None for sample in row] for row in samples]
        values |= {"dsd": _column(results, "dsd"), "dsd_defined": np.mean(defined, axis=1)}
    for name in ("length", "truncated", "no_answer", "distinct_correct", "distinct_paths"):
        values[name] = _column(results, name)
    values |= _coverage(results, num_samples)
    values["not_scored"] = np.array([of.num_unscored / num_samples for of in counts])
    ungradable = np.array([np.mean([sample.is_ungradable for sample in row]) for row in samples])
    if ungradable.any():
        values["ungradable"] = ungradable
    tokens = np.array([sum(sample.num_tokens for sample in row) for row in samples], dtype=np.float64)
    weights = {"entropy": tokens}  # a mean over tokens, not over problems
    metrics = {
        name: bootstrap_mean(*by_unit(rows, weights.get(name), units), seed=seed) for name, rows in values.items()
    }
    curve = [bootstrap_mean(*by_unit(rows, None, units), seed=seed) for rows in passes]
    return Summary(
        {name: estimate for name, estimate in metrics.items() if estimate is not None},
        tuple(estimate for estimate in curve if estimate is not None),
        results,
        dict(Counter(sample.reason for row in samples for sample in row if sample.reason is not None).most_common()),
    )


def _coverage(results: Sequence[ProblemResult], num_samples: int) -> dict[str, np.ndarray]:
    """How many solutions are found, problem by problem, and which problems agree throughout."""
    names = (*(f"modes@{k}" for k in _powers_of_two(num_samples)), *COVERAGE)
    return {name: np.array([coverage_value(name, of) for of in results]) for name in names}


def _powers_of_two(num_samples: int) -> list[int]:
    return [2**power for power in range(1, num_samples.bit_length())]


def _pass_values(counts: Sequence[VerdictCounts], k: int) -> np.ndarray:
    return np.array([pass_at_k(of.num_scored, of.num_correct, k) if of.num_scored >= k else np.nan for of in counts])


def _column(results: Sequence[ProblemResult], name: str) -> np.ndarray:
    found = [getattr(result, name) for result in results]
    return np.array([np.nan if value is None else value for value in found], dtype=np.float64)


def _problem_result(samples: Sequence[Sample], counts: VerdictCounts, has_modes: bool) -> ProblemResult:
    scored = [sample.score for sample in samples if sample.score is not None]
    lengths = [sample.num_tokens for sample in samples]
    entropies = [sample.entropy for sample in samples if sample.entropy is not None]
    dsd = [sample.dsd for sample in samples if sample.dsd is not None]
    correct = [sample for sample in samples if sample.score is not None and sample.score >= CORRECT_MIN]
    explained = [sample for sample in samples if sample.how]
    # What has no mode although the verifier has some is distinguished by its answer, as where it has none.
    found = Counter(sample.answer_class if sample.mode is None else sample.mode for sample in correct)
    return ProblemResult(
        id=samples[0].problem_id,
        num_correct=counts.num_correct,
        num_scored=counts.num_scored,
        mean_score=float(np.mean(scored)) if scored else None,
        entropy=sum(entropies) / sum(lengths) if len(entropies) == len(samples) else None,
        length=float(np.mean(lengths)),
        dsd=float(np.mean(dsd)) if dsd else None,
        truncated=float(np.mean([sample.truncated for sample in samples])),
        majority=_majority(samples) if explained else None,
        no_answer=float(np.mean([sample.extracted is None for sample in explained])) if explained else None,
        distinct_correct=len(found) if explained else None,
        distinct_paths=len({sample.path for sample in correct}),
        modes=tuple(count for _, count in found.most_common()) if has_modes else None,
        mode_keys=tuple(str(key) for key, _ in found.most_common()) if has_modes else None,
    )


def _majority(samples: Sequence[Sample]) -> float | None:
    return majority_scores([[sample.answer_class for sample in samples]], [[sample.score for sample in samples]])[0]
