"""Multiple choice: what an answer chooses, and which two texts are compared."""

from __future__ import annotations

import pytest

from relax_rl.rewards.extraction import Extraction
from relax_rl.rewards.extraction.options import Choice, chosen_pair, read_choice


@pytest.mark.parametrize(
    ("text", "letter", "value"),
    [
        ("(B)", "B", ""),
        ("B", "B", ""),
        (" B. ", "B", ""),
        ("$B$", "B", ""),
        (" $ (B) $ ", "B", ""),
        ("**(B)**", "B", ""),
        ("\\textbf{(B)}\\ 12", "B", "12"),
        (" $(B) 12 $ ", "B", "12"),
        ("B. Paris", "B", "Paris"),
        ("C: 12", "C", "12"),
        ("D) 12", "D", "12"),
        ("12", "", "12"),
        ("(A) or (B)", "", "(A) or (B)"),
        ("(A) 5 (B)", "", "(A) 5 (B)"),
        ("(A) is wrong", "", "(A) is wrong"),
        ("(A) = 5", "", "(A) = 5"),
    ],
)
def test_what_is_chosen(text: str, letter: str, value: str) -> None:
    assert read_choice(text) == Choice(letter, value)


KNOWN = ("7", "12")


@pytest.mark.parametrize(
    ("gold", "text", "stated", "options", "pair"),
    [
        ("5", "6", None, KNOWN, ("5", "6")),
        ("B", "12", None, KNOWN, ("12", "12")),
        ("B", "12", None, ("(A) 7", "(B) 12"), ("12", "12")),
        ("B", "12", None, (), ("B", "12")),
        ("C", "12", None, KNOWN, ("C", "12")),
        ("B", "12", None, ("", ""), ("B", "12")),
        ("12", "B", None, KNOWN, ("12", "12")),
        ("12", "B", None, (), ("12", "B")),
        ("12", "C", None, KNOWN, ("12", "C")),
        ("12", "(B) 12", None, (), ("12", "12")),
        ("(B) 12", "12", None, (), ("12", "12")),
        ("(B) 12", "(B) 13", None, (), ("12", "13")),
        ("(B) 12", "(B) 13", None, KNOWN, None),
        ("(B) 12", "(B)", None, (), ("B", "B")),
        ("(B)", "(B) 12", None, (), ("B", "B")),
        ("(B)", "(B) 12", None, KNOWN, ("B", "B")),
        ("(B)", "(A)", None, (), None),
        # The letter that is stated behind a value.
        ("B", "12", "B", (), ("B", "B")),
        ("B", "12", "A", (), None),
        ("B", "12", "A", KNOWN, None),
        ("12", "12", "B", KNOWN, ("12", "12")),
        ("A", "(A)", "B", (), ("A", "A")),
    ],
)
def test_what_is_compared(
    gold: str, text: str, stated: str | None, options: tuple[str, ...], pair: tuple[str, str] | None
) -> None:
    found = Extraction(text, "boxed", letter=stated)
    assert chosen_pair(gold, found, text, options, lambda one, other: one == other) == pair


def test_a_value_that_takes_algebra_contradicts_no_letter() -> None:
    found = Extraction("(B) 13", "boxed")
    assert chosen_pair("B", found, "(B) 13", KNOWN, lambda one, other: None) == ("B", "B")
