"""How a text ends that announces nothing: what is taken, where it stands, and what commits to nothing."""

from __future__ import annotations

import pytest

from relax_rl.rewards import extract_answer
from relax_rl.rewards.extraction.endings import bold_at_end, display_at_end, last_number

LONG = "Words of a step. " * 200

BOLD = [
    ("**34**\n", "34"),
    ("Sum:\n**34**", "34"),
    ("__34__", "34"),
    ("It is not **34**", None),
    ("It would be **34**", None),
    ("Is it so? **34**", None),
    ("The values are **3** and **5**", "3, 5"),
    ("**3** of them, **or so**", None),
    ("**3** and more", None),
]

DISPLAYS = [
    ("\\[ x = 34 \\]", "x = 34"),
    ("$$34$$", "34"),
    ("\\begin{align*}x &= 34\\end{align*}", "x  = 34"),
    ("\\begin{gather}x = 34\\end{gather}", "x = 34"),
    ("\\begin{equation}x = 34 \\nonumber\\end{equation}", "x = 34"),
    ("Thus\n\\[ x = 34. \\]", "x = 34"),
    ("Let \\[ x = 34 \\]", None),
    ("Suppose that it is even.\n\\[ x = 34 \\]", None),
    ("Suppose that it is even. So\n\\[ x = 34 \\]", "x = 34"),
    ("Suppose " + "word " * 60 + "\n\\[ x = 34 \\]", "x = 34"),
    ("Thus \\[ \\]", None),
    ("Thus \\[ abc \\]", None),
    ("Thus \\[ x = ? \\]", None),
    ("x = 34 \\]", None),
    ("Not that.\n\nThus\n\\[ x = 34 \\]", "x = 34"),
]

NUMBERS = [
    ("\\( 9 \\)", "9"),
    ("$x = 7$", "x = 7"),
    ("cost $\n7 b$", "7"),
    ("cost $7\nand x$", "7"),
    ("$a$ 7 $b$", "7"),
    ("\\(a\\) 7 \\(b\\)", "7"),
    ("7 \\) x", "7"),
    ("so \\(7", "7"),
    ("so \\[7\nx\\]", "7\nx"),
    (f"{LONG}$x = 7$", "x = 7"),
    ("$" + "x" * 1998 + " 7$", "x" * 1998 + " 7"),
    ("$" + "x" * 1999 + " 7$", "7"),
    ("\\(7" + "x" * 1997 + "\\)", "7" + "x" * 1997),
    ("none", None),
]


@pytest.mark.parametrize(("text", "value"), BOLD + DISPLAYS)
@pytest.mark.parametrize("before", ["", LONG + "\n\n"], ids=["alone", "long"])
def test_what_ends_a_text(text: str, value: str | None, before: str) -> None:
    found = extract_answer(before + text)
    assert (found.text, found.how in {"bold", "display"}) == (value, value is not None)


@pytest.mark.parametrize(("text", "value"), NUMBERS)
def test_the_last_number_or_its_formula(text: str, value: str | None) -> None:
    assert extract_answer(text, policy="lenient").text == value


@pytest.mark.parametrize("before", ["", "> ", LONG + "\n"], ids=["alone", "quoted", "long"])
def test_where_it_stands(before: str) -> None:
    for find, text, place in (
        (bold_at_end, "it is **3** or **5**.\n", "**3** or **5**"),
        (display_at_end, "it is \\[ 5 \\].", "\\[ 5 \\]"),
        (display_at_end, "it is $$5$$", "$$5$$"),
        (last_number, "it is \\( 5 \\).", " 5 "),
        (last_number, "it is 5.", "5"),
    ):
        found = find(before + text)
        assert found is not None
        assert (before + text)[found.start : found.end] == place


def test_two_bold_values_that_the_limit_may_have_cut_are_no_answer() -> None:
    assert extract_answer("So **3** and **5**", is_truncated=True).how == "truncated"


@pytest.mark.parametrize(("line", "text"), [("**7**", "7"), ("> **7**", "7"), ("- **7**", "7"), ("or **7**", "5")])
def test_a_bold_value_with_its_line_for_itself_replaces_a_statement(line: str, text: str) -> None:
    assert extract_answer(f"The answer is 5.\n{line}").text == text
