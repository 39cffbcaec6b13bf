"""Exact grading of subset sums: does the committed sum of some of the given numbers reach the target?"""

from __future__ import annotations

from collections import Counter

from relax_rl.rewards.countdown import Computed, CountdownAnswer, ExpressionVerifier
from relax_rl.rewards.solutions import Expression

__all__ = ["SubsetSumVerifier"]


class SubsetSumVerifier(ExpressionVerifier):
    """Scores 1.0 if the committed expression is a sum of given numbers, each used at most as often as it is given, and
    equals the target, else 0.0.

    See `ExpressionVerifier` for all else. The mode of a completion is its expression up to the order of the sum.
    """

    name = "subset_sum"

    def is_right(self, found: Computed, gold: CountdownAnswer) -> bool:
        """See `ExpressionVerifier.is_right`."""
        is_sum = _is_sum(found.tree)
        return is_sum and found.value == gold.target and Counter(found.numbers) <= Counter(gold.numbers)


def _is_sum(expression: Expression) -> bool:
    """Whether nothing but numbers is added."""
    if isinstance(expression, int):
        return True
    sign, left, right = expression
    return sign == "+" and _is_sum(left) and _is_sum(right)
