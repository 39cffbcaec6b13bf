"""mean@k, pass@k and maj@k from verdicts: pure numbers, no model and no torch.

The input is one list of scores a problem, one score a sample. A score is a verifier's verdict: 1.0 is correct, 0.0 is
wrong, anything between is partial credit, and ``None`` says that the sample could not be scored. A sample that was not
scored is left out and counted, never taken for wrong: a broken grader must show up as missing data, not as a bad model.
`.bounds` says how far the missing samples could move a metric.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from relax_rl.errors import DataError

__all__ = ["Scores", "VerdictCounts", "count_verdicts", "maj_at_k", "majority_scores", "mean_at_k", "pass_at_k"]

Scores = Sequence[Sequence[float | None]]
"""One inner list a problem, one verdict a sample; ``None`` is not scored."""

CORRECT_MIN = 1.0 - 1e-9
"""A score from here on is correct; partial credit is not."""


@dataclass(frozen=True)
class VerdictCounts:
    """Verdicts of one problem: samples that were scored, those of them that are correct, samples not scored."""

    num_scored: int
    num_correct: int
    num_unscored: int


def count_verdicts(scores: Scores) -> list[VerdictCounts]:
    """Count, for each problem, the scored, the correct and the unscored samples.

    Raises:
        DataError: a score outside [0, 1] or not finite.
    """
    counts = []
    for index, verdicts in enumerate(scores):
        scored = [verdict for verdict in verdicts if verdict is not None]
        for verdict in scored:
            if not 0.0 <= verdict <= 1.0:
                raise DataError(f"problem {index} has the score {verdict!r}; a verdict lies in [0, 1] or is None.")
        num_correct = sum(verdict >= CORRECT_MIN for verdict in scored)
        counts.append(VerdictCounts(len(scored), num_correct, len(verdicts) - len(scored)))
    return counts


def pass_at_k(num_samples: int, num_correct: int, k: int) -> float:
    """Chance that at least one of k samples is correct, unbiased, from n samples of one problem of which c are correct.

    ``1 - C(n - c, k) / C(n, k)`` (Chen et al. 2021, arXiv 2107.03374), evaluated as the product
    ``1 - prod_{j = n-c+1..n} (1 - k / j)``, which neither overflows nor cancels. Drawing k samples with replacement,
    as some frameworks do, is biased low.

    Args:
        num_samples: n, the samples that were scored.
        num_correct: c, of which correct.
        k: number of samples that a user would draw, 1 <= k <= n.

    Raises:
        DataError: k > n (the estimator does not exist), or counts that cannot be.
    """
    if not 0 <= num_correct <= num_samples:
        raise DataError(f"{num_correct} correct of {num_samples} samples cannot be; need 0 <= correct <= samples.")
    if not 1 <= k <= num_samples:
        raise DataError(
            f"pass@{k} needs 1 <= k <= the number of scored samples, which is {num_samples}; "
            "sample more completions a problem or ask for a smaller k."
        )
    if num_samples - num_correct < k:
        return 1.0
    terms = 1.0 - k / np.arange(num_samples - num_correct + 1, num_samples + 1)
    return float(1.0 - np.prod(terms))


def mean_at_k(scores: Scores, k: int | None = None) -> float:
    """Mean score over problems of the mean over their first k samples (all samples when k is None); also called avg@k.

    Its expectation does not depend on k, only its noise does. A problem without any scored sample is left out.

    Raises:
        DataError: no problem has a scored sample, or k exceeds the samples of a problem.
    """
    means = []
    for verdicts in _first_k(scores, k):
        scored = [verdict for verdict in verdicts if verdict is not None]
        if scored:
            means.append(sum(scored) / len(scored))
    return _mean(means, "mean@k")


def maj_at_k(answers: Sequence[Sequence[Hashable | None]], scores: Scores, k: int | None = None) -> float:
    """Share of problems whose most common answer among the first k samples is correct (self-consistency).

    Two samples vote for the same answer when their answers are equal, so pass answers in canonical form (a number, a
    normalised string, the label of an equivalence class). See `majority_scores` for ties and missing answers.

    Args:
        answers: one list a problem, one extracted answer a sample; None where none was found.
        scores: verdicts of the same samples.
        k: number of samples that vote; all when None.

    Raises:
        DataError: lists of different lengths, k too large, or no problem could be judged.
    """
    judged = [score for score in majority_scores(answers, scores, k) if score is not None]
    return _mean(judged, "maj@k")


def majority_scores(
    answers: Sequence[Sequence[Hashable | None]], scores: Scores, k: int | None = None
) -> list[float | None]:
    """Score of the majority answer for each problem: the terms that `maj_at_k` averages.

    A sample without an answer does not vote; a problem in which nobody votes scores 0, since a user would be handed
    nothing. Tied answers share the verdict, which is the expectation of a random tie-break and does not depend on
    sample order. The verdict of an answer is the mean over its scored samples; None when the winner was never scored.
    """
    if len(answers) != len(scores):
        raise DataError(f"answers of {len(answers)} problems but scores of {len(scores)}; pass both for each problem.")
    results: list[float | None] = []
    for index, (row, verdicts) in enumerate(zip(_first_k(answers, k), _first_k(scores, k), strict=True)):
        if len(row) != len(verdicts):
            raise DataError(f"problem {index} has {len(row)} answers but {len(verdicts)} scores.")
        results.append(_majority_score(row, verdicts))
    return results


def _majority_score(answers: Sequence[Hashable | None], verdicts: Sequence[float | None]) -> float | None:
    votes = Counter(answer for answer in answers if answer is not None)
    if not votes:
        return 0.0 if any(verdict is not None for verdict in verdicts) else None
    most = max(votes.values())
    winners = []
    for winner in (answer for answer, count in votes.items() if count == most):
        scored = [v for answer, v in zip(answers, verdicts, strict=True) if answer == winner and v is not None]
        if scored:
            winners.append(sum(scored) / len(scored))
    return sum(winners) / len(winners) if winners else None


def _first_k(rows: Sequence[Sequence], k: int | None) -> list[Sequence]:
    if k is None:
        return list(rows)
    shortest = min((len(row) for row in rows), default=0)
    if not 1 <= k <= shortest:
        raise DataError(f"k = {k}, but the problem with the fewest samples has {shortest}; need 1 <= k <= samples.")
    return [row[:k] for row in rows]


def _mean(values: Sequence[float], name: str) -> float:
    if not values:
        raise DataError(f"{name} needs at least one problem with a scored sample, and there is none.")
    return float(np.mean(values))
