"""Equal answers that sympy made are accepted, and no unequal ones, kind by kind."""

from __future__ import annotations

from collections import defaultdict

import pytest

from relax_rl.rewards import MathVerifier
from support.generated_pairs import KINDS, pairs

LEAST_ACCEPTED = 0.98


@pytest.mark.parametrize(
    ("draws", "seed"), [(1, 0), pytest.param(6, 1, marks=[pytest.mark.slow, pytest.mark.timeout(900)])]
)
def test_equal_pairs_are_accepted_and_unequal_ones_are_not(draws: int, seed: int) -> None:
    drawn = list(pairs(draws, seed))
    verifier = MathVerifier(num_workers=2)
    verdicts = verifier.grade([f"So it is \\boxed{{{pair.answer}}}." for pair in drawn], [pair.gold for pair in drawn])
    verifier.close()
    refused: dict[str, list[tuple[str, str]]] = defaultdict(list)
    num_equal = 0
    for pair, verdict in zip(drawn, verdicts, strict=True):
        assert verdict.score is not None, (pair, verdict)
        assert pair.is_equal or verdict.score == 0.0, (pair, verdict)
        num_equal += pair.is_equal
        if pair.is_equal and verdict.score != 1.0:
            refused[pair.kind].append((pair.gold, pair.answer))
    assert sum(map(len, refused.values())) <= (1 - LEAST_ACCEPTED) * num_equal, dict(refused)


def test_there_are_at_least_36_kinds() -> None:
    assert len(KINDS) >= 36
