"""The grammar of answers: what a text is taken for, what it says, and which two are equal without algebra."""

from __future__ import annotations

import pytest

from relax_rl.rewards.mathematics.grammar.joints import joined_by_marks, listed, signs
from relax_rl.rewards.mathematics.grammar.matching import is_collection, same_in_place, single_values, type_of
from relax_rl.rewards.mathematics.grammar.names import in_their_order, is_name, letters_of, same_name
from relax_rl.rewards.mathematics.grammar.reader import read


def matrix(rows: str) -> str:
    return f"\\begin{{pmatrix}}{rows}\\end{{pmatrix}}"


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("12", "number"),
        ("50%", "percent"),
        ("1,234", "number"),
        ("x+1", "expression"),
        ("x = 5", "number"),
        ("x + y = 5", "equation"),
        ("5 + 7 = 12", "number"),
        ("1, 2", "list"),
        ("\\{1, 2\\}", "set"),
        ("p = 5, q = 2", "named values"),
        ("1 : 2 : 3", "ratio"),
        ("(1, 2)", "tuple"),
        ("(1, \\infty)", "interval"),
        ("[1, 2)", "interval"),
        ("[1, 2) \\cup (3, 4]", "union"),
        ("x < 3", "inequality"),
        ("2x + y < 3", "inequality"),
        ("\\langle 1, 2 \\rangle", "vector"),
        (matrix("1&2\\\\3&4"), "matrix"),
        (matrix("1\\\\3"), "vector"),
        (matrix("1&2"), "vector"),
        (matrix("1"), "matrix"),
        ("3\\mathbf{i} + \\mathbf{j}", "vector"),
        ("\\text{no solution}", "empty set"),
        ("(B) 12", "choice"),
        ("B", "choice"),
        ("5 \\text{ cm}", "quantity"),
        ("5 \\text{ dollars}", "money"),
        ("\\$5", "money"),
        ("3 \\text{ million}", "expression"),
        ("8:30", "time"),
        ("\\text{even}", "text"),
        ("\\infty", "number"),
        ("x\\%", "percent"),
        ("[[1, 2], [3, 4]]", "matrix"),
        ("\\mathbf{i} + \\mathbf{i}", "expression"),
        ("3i", "expression"),
        ("x = 2\\pi k, k \\in \\mathbb{Z}", "solution family"),
    ],
)
def test_what_a_text_is_taken_for(text: str, kind: str) -> None:
    assert type_of(text) == kind


@pytest.mark.parametrize(
    ("gold", "answer", "same"),
    [
        # Lists, sets and names.
        ("1, 2", "2, 1", True),
        ("1, 2", "1, 2, 2", False),
        ("1, 2", "1", False),
        ("1, 2, 2", "1, 1, 2", False),
        ("3", "S = \\{1, 2\\}", False),
        ("\\{1, 2\\}", "S = \\{2, 1\\}", True),
        ("(1, 2)", "P = (1, 2)", True),
        ("(1, 2)", "(2, 1)", False),
        ("(1, 2)", "1, 2", True),
        ("p = 5, q = 2", "q = 2, p = 5", True),
        ("p = 5, q = 2", "p = 2, q = 5", False),
        ("p = 5, q = 2", "5, 2", True),
        ("p = 5, q = 2", "2, 5", False),
        ("q = 2, p = 5", "(5, 2)", True),
        ("p = 5, q = 2", "p = 5, r = 2", False),
        ("p = 5, q = 2", "p = 5, q = 2, r = 1", False),
        ("x = 5", "5", True),
        ("5", "x = 5", True),
        ("x = 5", "y = 5", None),
        ("5", "x = 2 + 3 = 5", True),
        ("5", "x = 2 + 4 = 5", False),
        ("5", "2 + 3 = 5", True),
        ("5", "2 + 4 = 5", False),
        ("1 or 2", "2 or 1", True),
        ("1", "1 or 1", True),
        ("1", "1 or 2", False),
        ("x = \\pm 3", "x = 3, x = -3", True),
        ("\\pm 3", "3, -3", True),
        ("\\pm 3", "3", False),
        ("1 : 2 : 3", "2 : 4 : 6", True),
        ("1 : 2 : 3", "2 : 4 : 5", False),
        ("1 : 2 : 3", "1 : 2", False),
        # An argument has any letter, as long as the function is the same one.
        ("f(x) = x + 1", "f(t) = t + 1", True),
        ("f(x) = x + 1", "f(t) = t + 2", None),
        ("f(x) = x + 1", "f(t) = x + 1", False),
        ("f(x) = x + 1", "g(x) = x + 1", None),
        ("f(x) = 1/2", "f(t) = 0.5", True),
        ("f(x) = 1/2", "f(t) = 0.6", False),
        # A name on either side, and claims between.
        ("x = 5", "5 = x", True),
        ("x = 5", "6 = x", False),
        ("x = 2y", "2y = x", None),
        ("7 = 12", "12", True),
        ("x = 7 = 12", "y = 7 = 12", False),
        ("2 : 4 : 6", "x = 2 : 4 : 6", True),
        ("1, 2", "p = (1, 2)", True),
        ("1, 2", "p = 3 = (1, 2)", False),
        (matrix("1&2\\\\3&4"), "A = " + matrix("1&2\\\\3&4"), True),
        ("(1, 2]", "I = (1, 2]", True),
        (matrix("1&2\\\\3&4"), "A = 3 = " + matrix("1&2\\\\3&4"), False),
        ("\\mathbf{i} + 2\\mathbf{j}", "v = (1, 2)", True),
        ("\\langle 1, 2 \\rangle", "v = \\mathbf{i} + 2\\mathbf{j}", True),
        ("\\langle 1, 2 \\rangle", "v = 3 = \\mathbf{i} + 2\\mathbf{j}", False),
        ("(1, 2)", "x \\in (1, 2)", True),
        ("x > 3", "x = 4 = (3, \\infty)", False),
        ("\\{1, 2\\}", "S = 3 = \\{1, 2\\}", False),
        ("\\langle 1, 2 \\rangle", "\\mathbf{v} = \\mathbf{i} + 3\\mathbf{j}", False),
        ("B", "x = B", True),
        ("B", "x = 3 = B", False),
        ("\\text{no solution}", "x = 3 = \\text{no solution}", False),
        ("(B) 12", "x = B", True),
        ("(B) 12", "x = 3 = B", False),
        ("5", "x + y = 5", True),
        ("x + y = 5", "x + y = 2 + 3 = 5", False),
        ("p = 5, q = 2", "p = (5, 2)", True),
        ("\\{(0, 1)\\}", "(0, 1)", True),
        ("19", "\\{19\\}", True),
        # What stands around an answer.
        ("42", "The answer is 42", True),
        ("42", "answer: 42", True),
        ("\\text{even}", "\\text{The answer is even}", True),
        ("\\text{even}", "\\text{The answer is odd}", False),
        ("42", "\\text{The answer is } 42", True),
        ("\\frac{1}{2}", "The final answer is: 0.5", True),
        # Sets of real numbers.
        ("[1, 2)", "1 \\le x < 2", True),
        ("[1, 2)", "1 < x < 2", False),
        ("x > 3", "3 < x", True),
        ("x > 3", "(3, \\infty)", True),
        ("x > 3", "y > 3", False),
        ("[2, 3)", "\\{2\\} \\cup (2, 3)", True),
        ("(1, 2]", "(1, 2) \\cup \\{2\\}", True),
        ("(1, 2)", "(1, 2) \\cup \\{2\\}", False),
        ("(1, 3) \\cup (5, 7)", "(1, 2) \\cup [2, 3) \\cup (5, 6) \\cup [6, 7)", True),
        ("(1, 3)", "(1, 2) \\cup (2, 3)", False),
        ("(1, 3)", "(1, 2] \\cup (2, 3)", True),
        ("(1, 5)", "(1, 5) \\cup (2, 3)", True),
        ("x < -4 \\text{ or } x > 3", "(-\\infty, -4) \\cup (3, \\infty)", True),
        ("\\mathbb{R} \\setminus \\{3\\}", "(-\\infty, 3) \\cup (3, \\infty)", True),
        ("\\mathbb{R} \\setminus \\{3\\}", "x \\ne 3", True),
        ("1 < x < 2", "x > 1 \\text{ and } x < 2", True),
        ("\\{x \\mid x > 3\\}", "x > 3", True),
        ("x \\in (1, 2)", "(1, 2)", True),
        ("3 > x", "x < 3", True),
        ("x \\le 3", "(-\\infty, 3]", True),
        ("x \\ge 3", "[3, \\infty)", True),
        ("x \\ge 3", "(3, \\infty)", False),
        ("x \\lt 3", "x < 3", True),
        ("2 > x > 1", "1 < x < 2", True),
        ("2 \\ge x > 1", "(1, 2]", True),
        ("1 < x < 2", "1 < y < 2", False),
        ("3 \\ne x", "x \\ne 3", True),
        ("x \\ne 1, 2", "\\mathbb{R} \\setminus \\{2, 1\\}", True),
        ("\\mathbb{R} \\setminus \\{2, 1\\}", "(-\\infty, 1) \\cup (1, 2) \\cup (2, \\infty)", True),
        ("x > 1 \\text{ and } x \\le 2", "(1, 2]", True),
        ("x \\ge 1 \\text{ and } x > 1", "x > 1", True),
        ("x \\ge 1 \\text{ and } x > 1", "x \\ge 1", False),
        ("x \\ge 1 \\text{ and } x \\le 1", "[1, 1]", True),
        ("x < 3 \\text{ and } x < 2", "x < 2", True),
        ("x > 3 \\text{ and } x < 1", "x > 3", False),
        ("[1, 2] \\cup [2, 3]", "[1, 3]", True),
        ("[1, 4] \\cup [2, 3]", "[1, 4]", True),
        ("(2, 3) \\cup (0, 1)", "(0, 1) \\cup (2, 3)", True),
        ("(1, \\infty)", "(1, +\\infty)", True),
        ("(1, \\infty)", "(1, 5)", False),
        ("(-\\infty, 1)", "(\\infty, 1)", False),
        ("[1, \\sqrt{2}]", "[1, \\sqrt{3}]", None),
        ("[1, \\sqrt{2}]", "[2, \\sqrt{2}]", False),
        ("2x + y < 3", "x < 3", None),
        ("2x + y < 3", "5", False),
        ("x < y", "x < 3", None),
        ("x < 2y", "x < 3", None),
        ("x + y = 5", "5", False),
        ("x = \\{1, 2\\}", "x + y = 5", False),
        ("x < 3", "5", False),
        # Quantities, percent, infinity.
        ("5 \\text{ m}", "500 \\text{ cm}", True),
        ("5 \\text{ m}", "5 \\text{ cm}", False),
        ("5 \\text{ m}", "5 \\text{ kg}", False),
        ("5 \\text{ m}", "5", True),
        ("5", "5 \\text{ m}", True),
        ("5", "5 m", True),
        ("5", "6 m", False),
        ("3000000", "3 \\text{ million}", True),
        ("3", "3 \\text{ million}", True),
        ("3 \\text{ million}", "3", False),
        ("90^\\circ", "90", True),
        ("\\sqrt{2}\\%", "\\sqrt{3}\\%", None),
        ("\\infty", "+\\infty", True),
        ("\\infty", "-\\infty", False),
        ("\\infty", "5", False),
        ("5", "\\infty", False),
        ("\\sqrt{2} \\approx 1.414", "\\sqrt{2}", True),
        ("x \\approx 1.414", "1.414", True),
        # Vectors and matrices.
        (matrix("1&2\\\\3&4"), "[[1, 2], [3, 4]]", True),
        (matrix("1&2\\\\3&4"), "[[1, 3], [2, 4]]", False),
        (matrix("1&2"), "(1, 2)", True),
        (matrix("1&2"), matrix("1\\\\2"), False),
        ("3\\mathbf{i} - 2\\mathbf{j} + \\mathbf{k}", "(3, -2, 1)", True),
        ("3\\mathbf{i} - 2\\mathbf{j} + \\mathbf{k}", "(3, -2)", False),
        ("-\\mathbf{j}", "(0, -1, 0)", True),
        ("(0, -1, 0)", "-\\mathbf{j}", True),
        ("3i + 2j", "(3, 2)", True),
        ("(1, 3)", matrix("1\\\\3"), True),
        (matrix("1\\\\3"), "\\langle 1, 3 \\rangle", True),
        (matrix("1\\\\3"), matrix("3\\\\1"), False),
        (matrix("1&2\\\\3&4"), matrix("1&2\\\\3&4"), True),
        (matrix("1&2\\\\3&4"), matrix("1&2\\\\3&5"), False),
        (matrix("1&2\\\\3&4"), matrix("1\\\\3"), False),
        (matrix("1&2\\\\3&4"), "(1, 3)", False),
        ("3\\mathbf{i} + \\mathbf{j}", "(3, 1)", True),
        ("3\\mathbf{i} + \\mathbf{j}", "(3, 1, 0)", True),
        ("3\\mathbf{i} + \\mathbf{j}", "(3, 1, 1)", False),
        # Phrases, choices, conditions.
        ("\\text{no solution}", "\\emptyset", True),
        ("\\text{no solution}", "0", False),
        ("(B) 12", "B", True),
        ("(B) 12", "(B) 13", False),
        ("(B) 12", "12", True),
        ("B", "(B) 12", True),
        ("A", "(B) 12", False),
        ("A", "(a)", True),
        ("2n-1 \\text{ for } n \\ge 1", "2n-1", True),
        ("2n-1 \\text{ for } n \\ge 1", "2n-1 \\text{ for } n \\ge 2", False),
        ("f(x) = x + 1", "x + 1", True),
        ("5", "\\text{not } 5", False),
    ],
)
def test_which_two_are_equal(gold: str, answer: str, same: bool | None) -> None:
    assert same_in_place(gold, answer) is same


@pytest.mark.parametrize(
    ("text", "value", "condition"),
    [
        ("2k (k \\in \\mathbb{Z})", "2k", "(k \\in \\mathbb{Z})"),
        ("2n-1, \\text{ for } n \\ge 1", "2n-1", ", \\text{ for } n \\ge 1"),
        ("2n-1 (n \\ge 1)", "2n-1", "(n \\ge 1)"),
        ("2n-1, n > 1", "2n-1", ", n > 1"),
        ("5, n > 1", "5, n > 1", ""),  # another answer beside it
        ("2n-1 \\text{ for } n = 3", "2n-1 \\text{ for } n = 3", ""),  # of one case only
        ("2n-1 \\text{ for } n \\ge 1, 7", "2n-1 \\text{ for } n \\ge 1, 7", ""),
        ("x^2 \\text{ where } x \\text{ is real}", "x^2", "\\text{ where } x \\text{ is real}"),
    ],
)
def test_a_condition_stands_apart_from_the_value(text: str, value: str, condition: str) -> None:
    found = read(text)
    assert (found.value.text, found.condition) == (value, condition)


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("5", ["5"]),
        ("2 + 2 = 4", ["4"]),
        ("x + y = 5", []),
        ("x = 2 + 2 = 4", ["2 + 2", "4"]),
        ("p = 5, q = 2", ["5", "2"]),
        ("\\{1, 2\\}", ["1", "2"]),
        ("(1, 2)", ["1", "2"]),
        ("1 : 2 : 3", ["1", "2", "3"]),
        ("(B) 12", ["12"]),
        (matrix("1&2\\\\3&4"), ["1", "2", "3", "4"]),
        ("3\\mathbf{i} - \\mathbf{k}", ["3", "0", "-1"]),
        ("x < 3", []),
        ("\\text{no solution}", []),
    ],
)
def test_the_values_that_an_answer_is_made_of(text: str, values: list[str]) -> None:
    assert single_values(text) == values


def test_what_a_collection_is() -> None:
    assert [is_collection(text) for text in ("1, 2", "\\{1, 2\\}", "1,234", "(1, 2)", "5", "1 or 2")] == [
        True,
        True,
        False,
        False,
        False,
        False,
    ]


@pytest.mark.parametrize(
    "text",
    ["\\text{no solution}", "(1, 2)", matrix("1&2\\\\3&4"), "3\\mathbf{i} + \\mathbf{j}", "[1, 2)", "5", "x = 5"],
)
def test_what_is_one_answer_is_one_member_of_a_set(text: str) -> None:
    assert len(read(text).value.members() or ()) == 1


def test_signs_and_joints() -> None:
    assert signs("x = \\pm 3") == ["x = 3", "x = - 3"]
    assert signs("\\pm 3") == ["3", "- 3"]
    assert signs("2 \\pm 3 \\mp y") == ["2 + 3 - y", "2 - 3 + y"]
    for text in ("5", "(1 \\pm 2)", "\\pm 1 \\pm 2"):
        assert signs(text) == [text]
    assert listed("1, 2; (3, 4)") == (["1", "2", "(3, 4)"], {",", ";"})
    assert listed(joined_by_marks("1 and 2 or 3")) == (["1", "2", "3"], {"\\land", "\\lor"})
    assert listed(joined_by_marks("\\text{red, green and blue}"))[0] == ["\\text{red}", "\\text{green}", "\\text{blue}"]
    assert listed(joined_by_marks("1 \\text{, and } 2"))[0] == ["1", "2"]


def test_names() -> None:
    for name in ("x", "f(2)", "\\angle ABC", "S_{MBCN}", "AB", "\\alpha", "V_1 : V_2", "\\max x"):
        assert is_name(name), name
    for text in ("e", "i", "\\pi", "2x", "x+1", "ab", "3"):
        assert not is_name(text), text
    assert [same_name("X", "x"), same_name("f(x)", "F(t)"), same_name("f(x)", "f"), same_name("f(x)", "g")] == [
        True,
        True,
        True,
        False,
    ]
    assert in_their_order(["q", "p"]) == ["p", "q"]
    assert in_their_order(["z", "a"]) == ["z", "a"]
    assert in_their_order(["ab", "aa"]) == ["ab", "aa"]
    assert letters_of("x + e^{i \\theta} + \\pi \\sin y + \\text{cm}") == {"x", "\\theta", "y"}
