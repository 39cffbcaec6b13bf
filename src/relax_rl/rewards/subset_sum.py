"""Exact grading of subset sums: does the committed sum of some of the given numbers reach the target?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from relax_rl.rewards.base import BaseVerifier, Verdict, check_lengths
from relax_rl.rewards.countdown import CountdownAnswer, commitment, parsed_expression
from relax_rl.rewards.solutions import Expression, canonical

__all__ = ["SubsetSumVerifier"]


class SubsetSumVerifier(BaseVerifier):
    """Scores 1.0 if the committed expression is a sum of given numbers, each used at most as often as it is given, and
    equals the target, else 0.0.

    The committed expression and the gold answer are those of `CountdownVerifier`. The score is ``None`` only if the
    gold answer cannot be read. The mode of a completion is its expression up to the order of the sum.
    """

    name = "subset_sum"
    has_modes = True

    def score(self, completions: Sequence[str], answers: Sequence[str]) -> list[float | None]:
        """Score each completion against its gold answer, a text such as ``"11 1 3>14"``.

        Raises:
            DataError: The two sequences differ in length.
        """
        return [verdict.score for verdict in self.grade(completions, answers)]

    def grade(
        self,
        completions: Sequence[str],
        answers: Sequence[str],
        num_tokens: Sequence[int] | None = None,
        *,
        truncated: Sequence[bool] | None = None,
    ) -> list[Verdict]:
        """As ``score``, with the committed expression and its canonical form."""
        check_lengths(completions, answers)
        return [_verdict(*pair) for pair in zip(completions, answers, strict=True)]


def _verdict(completion: str, answer: str) -> Verdict:
    expression, how = commitment(completion)
    gold = CountdownAnswer.parse(answer)
    if gold is None:
        return Verdict(None, expression, how, "gold unreadable", "it must be like 11 1 3>14")
    tree = None if expression is None else parsed_expression(expression)
    if tree is None:
        return Verdict(0.0, expression, how)
    terms = _terms(tree)
    is_right = terms is not None and sum(terms) == gold.target and Counter(terms) <= Counter(gold.numbers)
    return Verdict(float(is_right), expression, how, mode=canonical(tree))


def _terms(expression: Expression) -> list[int] | None:
    """The numbers of a sum; None if it is anything but a sum of numbers."""
    if isinstance(expression, int):
        return [expression]
    sign, left, right = expression
    first, second = _terms(left), _terms(right)
    return None if sign != "+" or first is None or second is None else first + second
