"""Evaluate a policy on a task: sample, grade, replay once, and put an interval on every number."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from relax_rl.errors import DataError
from relax_rl.evaluation.intervals import Estimate, bootstrap_mean
from relax_rl.evaluation.metrics import count_verdicts, majority_scores, pass_at_k
from relax_rl.evaluation.replay import replay
from relax_rl.evaluation.result import EvaluationResult, PooledSpectrum, ProblemResult, SampleRecord
from relax_rl.evaluation.sampling import Completion, encode_prompt, render_prompt, sample_completions
from relax_rl.koopman import (
    Estimator,
    GramStatistics,
    KoopmanDictionary,
    dispersion_from_lifted,
    gram_statistics,
    snapshot_pairs,
)
from relax_rl.koopman.operators import least_squares_operator
from relax_rl.koopman.snapshots import exclude_nonfinite
from relax_rl.koopman.spectrum import eigenpairs, squared_residuals
from relax_rl.tasks.base import Problem, Task

__all__ = ["evaluate"]

_NUM_SAMPLES_TO_READ = 20


def evaluate(
    model: Any,
    tokenizer: Any,
    task: Task,
    *,
    split: str = "test",
    num_problems: int | None = None,
    num_samples: int = 16,
    max_new_tokens: int = 256,
    temperature: float = 1.0,
    top_p: float = 1.0,
    batch_size: int = 128,
    dictionary: KoopmanDictionary | None = None,
    estimator: Estimator = "paper",
    seed: int = 0,
    problem_seed: int = 0,
) -> EvaluationResult:
    """Sample ``num_samples`` completions of each problem and measure the policy.

    Args:
        model, tokenizer: a Hugging Face causal language model and its tokenizer.
        num_problems: the first so many of the split; all of it when None.
        dictionary: observables for DSD and the spectrum; both are left out without one.
        estimator: of the DSD.
        seed: of sampling and of the bootstrap. The same seed draws the same numbers for the same problem.
        problem_seed: which problems a procedural task makes.

    Returns:
        Every metric with a 95 % interval by bootstrap over problems; a metric of which no value exists is left out.

    Raises:
        DataError: the task has no problem, or its verifier returns another number of scores than it was asked for.
    """
    problems = task.problems(split, num_problems, problem_seed)
    if not problems:
        raise DataError(f"task {task.name!r} has no problem in split {split!r}; name another split.")
    prompts = [encode_prompt(tokenizer, problem) for problem in problems]
    completions = sample_completions(
        model,
        tokenizer,
        prompts,
        num_samples,
        max_new_tokens=max_new_tokens,
        temperature=temperature,
        top_p=top_p,
        batch_size=batch_size,
        seed=seed,
        keys=[problem.id for problem in problems],
    )
    scores = _grade(task, problems, completions)
    dynamics = _replay_all(model, prompts, completions, temperature, dictionary, estimator)
    per_problem = _per_problem(problems, completions, scores, dynamics)
    return EvaluationResult(
        task=task.name,
        split=split,
        num_problems=len(problems),
        num_samples=num_samples,
        temperature=temperature,
        top_p=top_p,
        max_new_tokens=max_new_tokens,
        seed=seed,
        metrics=_metrics(task, completions, scores, dynamics, seed),
        spectrum=None if dictionary is None else _spectrum(dynamics.statistics, dictionary),
        per_problem=per_problem,
        samples=_samples(tokenizer, problems, completions, scores, dynamics),
        dsd_estimator=None if dictionary is None else estimator,
    )


@dataclass
class _Dynamics:
    """What the replay measured: arrays (problems, samples), NaN where a value is not defined."""

    entropy: np.ndarray
    """Summed over the tokens of the completion."""
    dsd: np.ndarray
    statistics: GramStatistics | None = None


def _grade(task: Task, problems: Sequence[Problem], completions: list[list[Completion]]) -> list[list[float | None]]:
    texts = [completion.text for row in completions for completion in row]
    answers = [problem.answer for problem, row in zip(problems, completions, strict=True) for _ in row]
    scores = task.verifier.score(texts, answers)
    if len(scores) != len(texts):
        raise DataError(f"verifier {task.verifier.name!r} returned {len(scores)} scores for {len(texts)} completions.")
    verdicts = iter(scores)
    return [[next(verdicts) for _ in row] for row in completions]


def _replay_all(
    model: Any,
    prompts: Sequence[Sequence[int]],
    completions: list[list[Completion]],
    temperature: float,
    dictionary: KoopmanDictionary | None,
    estimator: Estimator,
) -> _Dynamics:
    shape = (len(completions), len(completions[0]))
    dynamics = _Dynamics(entropy=np.full(shape, np.nan), dsd=np.full(shape, np.nan))
    entropy, dsd = dynamics.entropy.reshape(-1), dynamics.dsd.reshape(-1)  # views
    rows = [(prompt, sample.token_ids) for prompt, row in zip(prompts, completions, strict=True) for sample in row]
    for batch in replay(model, [prompt for prompt, _ in rows], [ids for _, ids in rows], temperature=temperature):
        entropy[batch.rows] = batch.entropy.double().sum(dim=1).cpu().numpy()
        if dictionary is None:
            continue
        with torch.no_grad():
            # Lifted once for both; a trajectory with a NaN loses its mask, and with it its DSD.
            states, mask, _ = exclude_nonfinite(batch.hidden_states, batch.mask)
            lifted = dictionary(states)
            dispersion = dispersion_from_lifted(lifted, mask, estimator)
            statistics = _pooled_statistics(lifted, mask)
        dsd[batch.rows] = torch.where(dispersion.is_defined, dispersion.values.double(), torch.nan).cpu().numpy()
        dynamics.statistics = statistics if dynamics.statistics is None else dynamics.statistics + statistics
    return dynamics


def _pooled_statistics(lifted: torch.Tensor, mask: torch.Tensor) -> GramStatistics:
    """Gram statistics summed over the trajectories of a batch; no pair crosses two completions."""
    each = gram_statistics(lifted, snapshot_pairs(mask))
    return GramStatistics(each.gram.sum(0), each.cross.sum(0), each.future.sum(0), each.num_pairs.sum(0))


def _spectrum(statistics: GramStatistics | None, dictionary: KoopmanDictionary) -> PooledSpectrum | None:
    if statistics is None or int(statistics.num_pairs) <= statistics.num_observables:
        return None  # as many observables as pairs: the fit would interpolate and its spectrum say nothing
    eigenvalues, eigenvectors = eigenpairs(least_squares_operator(statistics).matrix)
    residuals = squared_residuals(statistics, eigenvalues, eigenvectors).clamp_min(0.0).sqrt()
    order = eigenvalues.abs().argsort(descending=True)
    return PooledSpectrum(
        eigenvalues=tuple((value.real, value.imag) for value in eigenvalues[order].tolist()),
        residuals=tuple(residuals[order].tolist()),
        num_observables=statistics.num_observables,
        dictionary_digest=dictionary.digest,
    )


def _per_problem(
    problems: Sequence[Problem],
    completions: list[list[Completion]],
    scores: list[list[float | None]],
    dynamics: _Dynamics,
) -> tuple[ProblemResult, ...]:
    results = []
    for index, (problem, row, counts) in enumerate(zip(problems, completions, count_verdicts(scores), strict=True)):
        lengths = [completion.num_tokens for completion in row]
        scored = [score for score in scores[index] if score is not None]
        dsd = dynamics.dsd[index]
        defined = dsd[~np.isnan(dsd)]
        results.append(
            ProblemResult(
                id=problem.id,
                num_correct=counts.num_correct,
                num_scored=counts.num_scored,
                mean_score=float(np.mean(scored)) if scored else None,
                entropy=_finite(dynamics.entropy[index].sum() / sum(lengths)),
                length=float(np.mean(lengths)),
                dsd=float(defined.mean()) if defined.size else None,
                truncated=float(np.mean([completion.is_truncated for completion in row])),
            )
        )
    return tuple(results)


def _metrics(
    task: Task,
    completions: list[list[Completion]],
    scores: list[list[float | None]],
    dynamics: _Dynamics,
    seed: int,
) -> dict[str, Estimate]:
    values, weights = _problem_values(task, completions, scores, dynamics)
    estimates = {name: bootstrap_mean(rows, weights.get(name), seed=seed) for name, rows in values.items()}
    return {name: estimate for name, estimate in estimates.items() if estimate is not None}


def _problem_values(
    task: Task, completions: list[list[Completion]], scores: list[list[float | None]], dynamics: _Dynamics
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """One value a problem for every metric (NaN: none), and the weights of those that are not plain means."""
    counts = count_verdicts(scores)
    num_samples = len(completions[0])
    numeric = np.array([[np.nan if score is None else score for score in row] for row in scores], dtype=np.float64)
    lengths = np.array([[completion.num_tokens for completion in row] for row in completions], dtype=np.float64)
    values = {"mean@1": _row_means(numeric)}
    k = 2
    while k <= num_samples:
        values[f"pass@{k}"] = np.array(
            [pass_at_k(c.num_scored, c.num_correct, k) if c.num_scored >= k else np.nan for c in counts]
        )
        k *= 2
    extract = getattr(task.verifier, "extract", None)
    if extract is not None:
        answers = [[extract(completion.text) for completion in row] for row in completions]
        judged = majority_scores(answers, scores)
        values[f"maj@{num_samples}"] = np.array([np.nan if score is None else score for score in judged])
    values["entropy"] = dynamics.entropy.sum(axis=1) / lengths.sum(axis=1)
    if dynamics.statistics is not None:
        values["dsd"] = _row_means(dynamics.dsd)
        values["dsd_defined"] = (~np.isnan(dynamics.dsd)).mean(axis=1)
    values["length"] = lengths.mean(axis=1)
    values["truncated"] = np.array([np.mean([completion.is_truncated for completion in row]) for row in completions])
    values["not_scored"] = np.isnan(numeric).mean(axis=1)
    return values, {"entropy": lengths.sum(axis=1)}  # a mean over tokens, not over problems


def _row_means(values: np.ndarray) -> np.ndarray:
    """Mean of each row over what is not NaN; NaN for a row without anything."""
    counts = (~np.isnan(values)).sum(axis=1)
    return np.where(counts > 0, np.nansum(values, axis=1) / np.maximum(counts, 1), np.nan)


def _samples(
    tokenizer: Any,
    problems: Sequence[Problem],
    completions: list[list[Completion]],
    scores: list[list[float | None]],
    dynamics: _Dynamics,
) -> tuple[SampleRecord, ...]:
    """The first samples of the first problems, round-robin, so that several problems are seen."""
    num_shown = min(_NUM_SAMPLES_TO_READ, len(problems) * len(completions[0]))
    records = []
    for position in range(num_shown):
        draw, index = divmod(position, len(problems))
        completion = completions[index][draw]
        records.append(
            SampleRecord(
                problem_id=problems[index].id,
                prompt=render_prompt(tokenizer, problems[index]),
                completion=completion.text,
                answer=problems[index].answer,
                score=scores[index][draw],
                num_tokens=completion.num_tokens,
                dsd=_finite(dynamics.dsd[index, draw]),
            )
        )
    return tuple(records)


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
