r"""What a grading process compares: here without the process, and beyond our own grammar of expressions."""

from __future__ import annotations

import pytest

from relax_rl.rewards.mathematics.equivalence import compare

SUM = "\\sum_{n=1}^{3} "


@pytest.mark.parametrize(
    ("gold", "answer", "verdict"),
    [
        ("\\int_0^1 2x dx", "1", True),
        ("\\int_0^1 2x dx", "2", False),
        (f"{SUM}n", "6", True),
        (f"{SUM}n", "5", False),
        (f"{SUM}n M", "6M", True),
        # The parser lowers letters: each has one of its own, whatever else the two texts use.
        (f"{SUM}(M + m Q)", f"{SUM}(m Q + M)", True),
        (f"{SUM}(M + m Q)", f"{SUM}(Q + m M)", False),
        (f"{SUM}n M m", "6Mm", True),
        (f"{SUM}n M m", "6mm", False),
        (f"{SUM}(M + m q)", f"{SUM}(q + m M)", False),
        # Equations that differ by a factor, and not by a sum that adds solutions.
        ("y' = 2y", "2y' = 4y", False),
        ("y' = 2y", "y' = 3y", False),
        ("\\sqrt{18}", "3\\sqrt{2}", True),
        ("\\sqrt{18}", "4.242640687", False),
        ("x = y + 1", "2x = 2y + 2", True),
        ("x = y + 1", "x^2 = xy + x", False),
        ("x", "%", False),
    ],
)
def test_what_algebra_says(gold: str, answer: str, verdict: bool) -> None:
    assert compare(gold, answer) == {"verdict": verdict}


def test_whether_a_gold_answer_can_be_compared_at_all() -> None:
    assert compare("\\sqrt{18}", None) == compare("(1, \\sqrt{2})", None) == {"verdict": True}
    assert compare("t(0,4]", "5") == compare("t(0,4]", None) == {"verdict": None, "reason": "gold unreadable"}
