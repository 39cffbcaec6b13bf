"""Every solution of a countdown problem and of a subset sum, by enumeration."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator, Sequence

from relax_rl.rewards.solutions import Expression, canonical, value_of

__all__ = ["MAX_NUMBERS", "countdown_solutions", "subset_sums"]

MAX_NUMBERS = 5
"""Six numbers have 793,002 inequivalent expressions."""

_NEAR = 1e-6


def countdown_solutions(numbers: Sequence[int], max_target: int) -> dict[int, list[str]]:
    """The canonical forms (`relax_rl.rewards.solutions`) of the solutions for each target from 1 on, sorted.

    A solution uses each number exactly once and may have negative and fractional values on its way, as the verifier
    accepts it. A target without any is left out.

    Args:
        numbers: 2 to `MAX_NUMBERS` of them.
    """
    found: dict[int, set[str]] = {}
    for left, right in _halves(len(numbers)):
        first, second = (_valued(tuple(numbers[place] for place in half)) for half in (left, right))
        for (one, a), (other, b) in itertools.product(first, second):
            for tree, value in _joined(one, a, other, b):
                # Floats find what is near; the exact value decides.
                target = round(value) if 0.5 < value < max_target + 0.5 else 0
                if target and abs(value - target) < _NEAR and _is(tree, target):
                    found.setdefault(target, set()).add(canonical(tree))
    return {target: sorted(texts) for target, texts in sorted(found.items())}


def subset_sums(numbers: Sequence[int]) -> dict[int, list[str]]:
    """The canonical forms of the subsets for each sum, sorted; equal numbers make equal subsets."""
    found: dict[int, set[tuple[int, ...]]] = {}
    for size in range(1, len(numbers) + 1):
        for subset in itertools.combinations(sorted(numbers), size):
            found.setdefault(sum(subset), set()).add(subset)
    return {target: sorted(map(_as_sum, subsets)) for target, subsets in sorted(found.items())}


def _as_sum(numbers: tuple[int, ...]) -> str:
    # The canonical form of a sum of numbers in ascending order; that of a tree takes ten times as long.
    return "+".join(map(str, numbers))


def _halves(count: int) -> Iterator[tuple[tuple[int, ...], tuple[int, ...]]]:
    """The places of the numbers in two parts, each cut once."""
    for size in range(1, count):
        for left in itertools.combinations(range(count), size):
            if 0 in left:
                yield left, tuple(place for place in range(count) if place not in left)


def _joined(one: Expression, a: float, other: Expression, b: float) -> Iterator[tuple[Expression, float]]:
    yield ("+", one, other), a + b
    yield ("-", one, other), a - b
    yield ("-", other, one), b - a
    yield ("*", one, other), a * b
    if b:
        yield ("/", one, other), a / b
    if a:
        yield ("/", other, one), b / a


def _is(tree: Expression, target: int) -> bool:
    try:
        return value_of(tree) == target
    except ZeroDivisionError:
        return False


@functools.lru_cache(maxsize=4096)
def _valued(numbers: tuple[int, ...]) -> list[tuple[Expression, float]]:
    """The inequivalent expressions that use each number once, with their values; those that divide by 0 left out."""
    if len(numbers) == 1:
        return [(numbers[0], float(numbers[0]))]
    found: dict[str, tuple[Expression, float]] = {}
    for left, right in _halves(len(numbers)):
        first, second = (_valued(tuple(numbers[place] for place in half)) for half in (left, right))
        for (one, a), (other, b) in itertools.product(first, second):
            for tree, value in _joined(one, a, other, b):
                found.setdefault(canonical(tree), (tree, value))
    return list(found.values())
