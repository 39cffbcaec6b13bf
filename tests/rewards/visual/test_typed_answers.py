"""Answers with a type, each by a case worked by hand."""

import pytest

from relax_rl.rewards.visual.gold import TypedGold, read_typed
from relax_rl.rewards.visual.verifier import TypedVerifier

o = ("3/11", "8/11", "6/11", "3/5")
CASES = [
    ("\\boxed{B}", "[choice] B", o, 1),
    ("\\boxed{B. 8/11}", "[choice] B", o, 1),
    ("The correct answer is (B) 8/11.", "[choice] B", o, 1),
    ("\\boxed{8/11}", "[choice] B", o, 1),
    ("\\boxed{A. 8/11}", "[choice] B", o, 0),
    ("", "[choice] B", o, 0),
    ("\\boxed{14}", "[integer] 14", (), 1),
    ("\\boxed{14.7}", "[integer] 14", (), 0),
    ("\\boxed{14 years}", "[integer] 14", (), 1),
    ("\\boxed{1,000}", "[integer] 1000", (), 1),
    ("\\boxed{13.84}", "[float 1] 13.8", (), 1),
    ("\\boxed{13.75}", "[float 1] 13.8", (), 1),
    ("\\boxed{13.85}", "[float 1] 13.8", (), 0),
    ("\\boxed{13.74}", "[float 1] 13.8", (), 0),
    ("\\boxed{-0.05}", "[float 1] -0.1", (), 1),
    ("\\boxed{[2014,2016]}", "[list] [2014, 2016]", (), 1),
    ("\\boxed{2016, 2014}", "[list] [2014, 2016]", (), 0),
    ("\\boxed{2014, 2016}", "[list] [2014, 2016]", (), 1),
    ("\\boxed{C, A}", "[set] A, C", (), 1),
    ("\\boxed{AC}", "[set] A, C", (), 1),
    ("\\boxed{A}", "[set] A, C", (), 0),
    ("\\boxed{A and C}", "[set] A\nC", (), 1),
    ("\\boxed{\\frac{2\\pi}{3}}", "[within 0.001] 2.0944", (), 1),
    ("\\boxed{2.094}", "[within 0.001] 2.0944", (), 1),
    ("\\boxed{2.09}", "[within 0.001] 2.0944", (), 0),
    ("\\boxed{\\pi}", "[within 0.001] 3.1416", (), 1),
    ("\\boxed{5:0}", "[text] 5:0", (), 1),
    ("\\boxed{5}", "[text] 5:0", (), 0),
    ("", "[text] 5:0", (), 0),
    ("\\boxed{Tampa}", '[any] ["Tampa", "Florida"]', (), 1),
    ("\\boxed{}", '[any] ["Tampa", "Florida"]', (), 0),
    ("\\boxed{\\frac{36}{13}}", "[math] 36/13", (), 1),
    ("\\boxed{A}", "[choice] B", ("B", "A", "C"), 0),
    ("\\boxed{B}", "[choice] B", ("B", "A", "C"), 0),
    ("\\boxed{C}", "[choice] C", ("B", "A", "C"), 1),
    ("\\boxed{A}", "[choice] B", ("5", "5", "6"), 1),
    ("\\boxed{5}", "[choice] B", ("5", "5", "6"), 1),
    ("\\boxed{C}", "[choice] B", ("5", "5", "6"), 0),
]


@pytest.mark.parametrize(("completion", "gold", "options", "score"), CASES)
def test_by_hand(completion: str, gold: str, options: tuple[str, ...], score: int) -> None:
    [verdict] = TypedVerifier().grade([completion], [gold], options=[options])
    assert verdict.score == score


@pytest.mark.parametrize("gold", ["[choice] Z", "[integer] five", "[float 1] x", "[within 0.001] y", "[choice] AB"])
def test_a_gold_answer_that_is_not_of_its_type_gives_no_score(gold: str) -> None:
    [verdict] = TypedVerifier().grade(["\\boxed{1}"], [gold], options=[("1", "2") if "choice" in gold else ()])
    assert (verdict.score, verdict.reason) == (None, "gold unreadable")


def test_the_text_of_a_typed_gold_answer_and_back() -> None:
    gold = TypedGold("float", "13.8", "1")
    assert (str(gold), read_typed(str(gold))) == ("[float 1] 13.8", gold)
    for broken in ("[float] 1", "[float 1.5] 1", "[choice 2] A", "[any] 5", "[kind] x", "[2014, 2016]", "[text] "):
        assert read_typed(broken) is None
