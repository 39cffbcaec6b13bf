"""The published rules of benchmarks, on their authors' examples and on the differences from our own verdict."""

from __future__ import annotations

import pytest

from relax_rl.rewards.official import OFFICIAL_RULES, Graded, _plain, gpqa, mmlu_pro, official_scores
from relax_rl.rewards.official_math import boxed_or_mathematics, same_as_hendrycks


def scores(benchmark: str, text: str, gold: str, own: float | None = None, **columns: object) -> list[float]:
    return list(official_scores(benchmark, Graded(text, gold, own, columns)).values())


@pytest.mark.parametrize(
    ("text", "gold", "strict", "flexible"),
    [
        # The answer of the data set's first row, as its authors score it.
        ("Natalia sold 48/2 = <<48/2=24>>24 clips in May.\n48+24 = 72 clips altogether.\n#### 72", "72", 1, 1),
        ("#### 1,000", "1000", 1, 1),
        ("#### -5", "-5", 1, 1),
        ("So \\boxed{72}.", "72", 0, 1),
        ("She pays $1,234.", "1234", 0, 1),
        ("#### 72.", "72", 0, 1),
        ("#### 72\n#### 73", "72", 1, 0),
        ("It is 72 of 100", "72", 0, 0),
        ("no number", "72", 0, 0),
    ],
)
def test_gsm8k(text: str, gold: str, strict: int, flexible: int) -> None:
    assert scores("gsm8k", text, gold) == [strict, flexible]


@pytest.mark.parametrize(
    ("answer", "gold", "same"),
    [
        ("\\dfrac{1}{2}", "\\frac12", True),
        ("0.5", "\\frac{1}{2}", True),
        ("1/2", "\\frac{1}{2}", True),
        ("\\frac1{72}", "\\frac{1}{72}", True),
        ("x = 5", "5", True),
        ("\\left( 3, \\frac{\\pi}{2} \\right)", "(3,\\frac{\\pi}{2})", True),
        ("90^\\circ", "90", True),
        ("5\\text{ cm}", "5", True),
        (".5", "\\frac{1}{2}", True),
        ("50\\%", "50", True),
        ("\\sqrt3", "\\sqrt{3}", True),
        ("10,\\!000", "10,000", True),
        ("2,1", "1,2", False),  # right, and refused
        ("0.25", "\\frac{1}{4}", False),
        ("(x+1)^2", "x^2+2x+1", False),
        ("1,000", "1000", False),
        ("\\frac", "1", False),
    ],
)
def test_the_normalisation_of_math(answer: str, gold: str, same: bool) -> None:
    assert same_as_hendrycks(answer, gold) is same
    assert scores("math500", f"So $\\boxed{{{answer}}}$.", gold) == [float(same)]


def test_where_math_looks_for_the_answer() -> None:
    assert boxed_or_mathematics("\\boxed{1} then \\boxed{\\frac{1}{2}}") == "\\frac{1}{2}"
    assert boxed_or_mathematics("$\\boxed 7$") == "7"
    assert boxed_or_mathematics("so \\[ x = 2 \\] it is") == "x = 2"
    assert boxed_or_mathematics("a $1$ b $2$ c") == "1$ b $2"
    assert boxed_or_mathematics("just 7") == "just 7"


def test_integers_of_aime_have_leading_zeros() -> None:
    assert scores("aime24", "\\boxed{025}", "25") == [1.0]
    assert scores("aime24", "\\boxed{25}", "25") == [1.0]
    assert scores("aime24", "\\boxed{26}", "25") == [0.0]
    assert scores("amc23", "The answer is $142$.", "142") == [1.0]


@pytest.mark.parametrize(
    ("text", "gold", "error", "own", "score"),
    [
        ("\\boxed{33.33}", "$33.3$", "1e-1", 0.0, 1),
        ("\\boxed{33.5}", "$33.3$", "1e-1", 0.0, 0),
        ("\\boxed{33.33}", "$33.3$", None, 0.0, 0),
        ("\\boxed{84}, \\boxed{69}", "$69$,$84$", None, 1.0, 1),
        ("\\boxed{69}", "$69$,$84$", None, 0.0, 0),
        ("$\\pm 3$", "3,-3", None, 1.0, 1),
        ("\\boxed{0.5}", "50\\%", None, 1.0, 1),  # a hundred times either way
        ("\\boxed{2^{k-1}}", "$\\frac{2^k}{2}$", None, 1.0, 1),  # algebra: our verdict
        ("\\boxed{1.01, 2.2}", "1, 2", "1e-2,1e-1", 0.0, 0),
        ("\\boxed{1.01, 2.1}", "1, 2", "1e-2,1e-1", 0.0, 1),
    ],
)
def test_olympiadbench(text: str, gold: str, error: str | None, own: float, score: int) -> None:
    assert scores("olympiadbench", text, gold, own, **({} if error is None else {"error": error})) == [score]


def test_letters() -> None:
    assert scores("mmlu_pro", "Thus the answer is (C).", "C") == [1.0]
    assert scores("mmlu_pro", "The answer is (C), no: the answer is (D).", "D") == [0.0]
    assert scores("gpqa", "Work.\nAnswer: $B$", "B") == [1.0]
    assert scores("gpqa", "So \\boxed{B}", "B") == [0.0]


def test_a_completion_without_an_end_to_its_thought_is_refused_by_every_rule() -> None:
    for benchmark, rules in OFFICIAL_RULES.items():
        assert official_scores(benchmark, None) == {rule.name: 0.0 for rule in rules}
    assert official_scores("countdown", Graded("1", "1")) == {}


@pytest.mark.parametrize("gold", ["B", " B ", "(B)", " (B)\n"])
def test_a_gold_letter_may_stand_in_parentheses(gold: str) -> None:
    for rule, text in ((mmlu_pro, "so the answer is ({})."), (gpqa, "Answer: {}")):
        assert rule(Graded(text.format("B"), gold, None, {}))
        assert not rule(Graded(text.format("A"), gold, None, {}))
    assert gpqa(Graded("answer: b", gold.lower(), None, {}))


def test_what_stands_around_an_answer_is_dropped() -> None:
    for text in ("5", " $5$. ", "\\left 5 \\right", "x \\in 5,", "\\mathrm{~5}", "5^\\circ", "5\\%"):
        assert _plain(text) == "5", text
