r"""Sets of real numbers: intervals, unions, inequalities, and what bounds two names is no set of numbers.

Where ends take algebra, the answer without it is None.
"""

from __future__ import annotations

import itertools
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relax_rl.rewards.mathematics.grammar.matching import same_in_place, type_of


@pytest.mark.parametrize(
    ("gold", "answer", "same"),
    [
        # Two names are two statements, never one set of numbers.
        ("x < 3, y > 2", "x < 5, y > 1", False),
        ("x < 3, y > 2", "\\mathbb{R}", False),
        ("x < 3, y > 2", "y > 2, x < 3", True),
        ("x < 3 \\text{ or } y > 2", "x < 5 \\text{ or } y > 1", False),
        ("x < 3 \\text{ and } y > 2", "x < 2 \\text{ and } y > 3", False),
        ("a > 0, b > 0", "a > 0", False),
        ("a > 0, b > 0", "b > 0, a > 0", True),
        ("x < -4, x > 3", "y < -4, x > 3", False),
        ("x < -4, x > 3", "y < -4, y > 3", False),
        ("x \\in (-\\infty, 2) \\text{ or } y \\in (3, 4)", "x \\in (3, 4) \\text{ or } y \\in (-\\infty, 2)", False),
        ("x < -4, x > 3", "(-\\infty, -4) \\cup (3, \\infty)", True),
        ("X < -4, x > 3", "x < -4, x > 3", True),
        # An end with a letter stays where it is written.
        ("(1; a) \\cup (a; 3)", "(1, a) \\cup (a, 3)", True),
        ("(1, a) \\cup (a, 3)", "(1, a] \\cup (a, 3)", None),
        ("\\mathbb{R} \\setminus \\{a\\}", "(-\\infty, a) \\cup (a, \\infty)", True),
        ("\\mathbb{R} \\setminus \\{a\\}", "(-\\infty, a] \\cup (a, \\infty)", False),
        ("\\mathbb{R} \\setminus \\{\\}", "(-\\infty, \\infty)", True),
        ("x > 1 \\text{ or } x < 2", "\\mathbb{R}", True),
        ("(1, 2) \\cup \\{2\\}", "(2, 2) \\cup \\{2\\}", False),
        ("x \\ge a \\text{ and } x < 1", "x < 1", False),
        ("x \\ge a \\text{ and } x < 1", "x < 1 \\text{ and } x \\ge a", True),
        # A set that is written as the member of another.
        ("\\{[1, 2]\\}", "[1, 2]", True),
        ("\\{2x < 6\\}", "2x < 6", True),
        # Names and bounds on either side.
        ("\\text{speed} > 3", "3 < \\text{speed}", True),
        ("\\text{speed} > 3", "3 > \\text{speed}", False),
        ("x > 3", "1 < x \\ge 2", None),
        ("+1 < x \\ge 2", "1 < x \\ge 2", None),
        ("1 < x \\ge 2", "12", False),
        ("x = 1", "x \\ge 1 \\text{ and } x \\le 1", None),
        ("3", "x < 3 \\text{ and } x > 1", False),
    ],
)
def test_which_two_sets_are_equal(gold: str, answer: str, same: bool | None) -> None:
    assert same_in_place(gold, answer) is same


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("1 < x < 2", "inequality"),
        ("1 < x \\ge 2", "inequality"),
        ("x \\ne 3", "inequality"),
        ("x < -4, x > 3", "union"),
        ("x < 3, y > 2", "list"),
        ("x \\ge 1 \\text{ and } x < 1", "list"),
        ("x > 1 \\text{ and } x < 2", "inequality"),
        ("\\mathbb{R} \\setminus \\{a\\}", "union"),
        ("\\{[1, 2]\\}", "set"),
    ],
)
def test_what_a_set_is_taken_for(text: str, kind: str) -> None:
    assert type_of(text) == kind


ENDS = st.integers(0, 5)
PIECES = st.lists(st.tuples(ENDS, ENDS, st.sampled_from(["()", "[)", "(]", "[]"])), min_size=1, max_size=4)
# Between and on all ends that occur.
GRID = [Fraction(half, 2) for half in range(-1, 13)]

BELOW = {"(": "<", ")": "<", "[": "\\le", "]": "\\le"}


def holds(piece: tuple[int, int, str], number: Fraction) -> bool:
    left, right, brackets = piece
    if number in (left, right):
        return (number > left or brackets[0] == "[") and (number < right or brackets[1] == "]")
    return left < number < right


def written(piece: tuple[int, int, str]) -> str:
    return f"{piece[2][0]}{piece[0]}, {piece[1]}{piece[2][1]}"


def sound(pieces: list[tuple[int, int, str]]) -> list[tuple[int, int, str]]:
    """Those that hold a number: `(2, 2]` is no interval."""
    return [piece for piece in pieces if piece[0] < piece[1] or (piece[0] == piece[1] and piece[2] == "[]")]


@settings(deadline=None)
@given(PIECES, PIECES)
def test_two_unions_are_equal_exactly_if_they_hold_the_same_numbers(
    one: list[tuple[int, int, str]], other: list[tuple[int, int, str]]
) -> None:
    one, other = sound(one), sound(other)
    if not one or not other:
        return
    are_same = all(
        any(holds(piece, number) for piece in one) == any(holds(piece, number) for piece in other) for number in GRID
    )
    gold, answer = (" \\cup ".join(map(written, pieces)) for pieces in (one, other))
    # A single pair in parentheses may be a point.
    if len(one) > 1 and len(other) > 1:
        assert same_in_place(gold, answer) is are_same


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["<", "\\le", ">", "\\ge"]), ENDS), min_size=2, max_size=4))
def test_bounds_joined_by_and_hold_what_all_of_them_hold(bounds: list[tuple[str, int]]) -> None:
    compare = {"<": Fraction.__lt__, "\\le": Fraction.__le__, ">": Fraction.__gt__, "\\ge": Fraction.__ge__}
    inside = [number for number in GRID if all(compare[sign](number, Fraction(end)) for sign, end in bounds)]
    text = " \\text{ and } ".join(f"x {sign} {end}" for sign, end in bounds)
    for left, right in itertools.combinations_with_replacement(range(6), 2):
        for brackets in ("()", "[)", "(]", "[]"):
            piece = (left, right, brackets)
            if sound([piece]):
                answer = " ".join([str(left), BELOW[brackets[0]], "x", BELOW[brackets[1]], str(right)])
                is_same = inside == [number for number in GRID if holds(piece, number)]
                assert (same_in_place(text, answer) is True) is is_same, (text, answer)
