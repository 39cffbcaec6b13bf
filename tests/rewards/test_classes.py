r"""The class of an answer: equal forms are one, different values are not, whatever a policy writes."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relax_rl.rewards import MathVerifier, grade
from relax_rl.rewards.callables import WeightedVerifiers
from relax_rl.rewards.countdown import CountdownVerifier
from relax_rl.rewards.mathematics.classes import class_in_place, number_class
from relax_rl.rewards.mathematics.equivalence import answer_class, ask
from relax_rl.rewards.workers.pool import Outcome

IN_PLACE = [
    (r"1/2", "0.5", r"\frac12", r"\frac{1}{2}", r"\dfrac 12", ".50", r"x = \frac{2}{4}", "50%", r"\(\frac{1}{2}\)"),
    ("3", "3.0", "6/2", "1+2", "x=3", "3 apples", r"3\text{ cm}", "\\$3"),
    (r"\{1, 2\}", "1, 2", "2, 1", r"\{2, 1\}", r"\{\frac{2}{1}, 1.0\}", r"x = 1 \text{ or } x = 2"),
    ("(1, 2)", r"\left(1, 2\right)", r"(1.0, \frac42)", r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}", "x = 1, y = 2"),
    ("(2, 1)",),
    ("[1, 2]", r"1 \le x \le 2", r"x \in [1, 2]"),
    ("[1, 2)", r"1 \le x < 2"),
    (r"(-\infty, 3)", "x < 3", "3 > x"),
    (r"\text{Paris}", r"\text{paris}"),
    ("A", "(A)", r"\text{(A)}"),
    (r"\infty", r"+\infty"),
    (r"-\infty",),
    ("1234567", "1,234,567", r"1{,}234{,}567"),
    (r"\text{no solution}", r"\emptyset", r"\varnothing"),
]
WITH_ALGEBRA = [
    (r"2\sqrt{3}", r"\sqrt{12}", r"\sqrt{3}\cdot 2", r"x = 2\sqrt3", r"\frac{6}{\sqrt{3}}"),
    ("3", r"\sqrt{9}", r"\log_2 8", r"\sqrt[3]{27}"),
    ("0", r"\sin(\pi)", r"\sqrt{2}-\sqrt{2}"),
    (r"(x+1)^2", "x^2+2x+1", "1 + x(x+2)"),
    ("x^2+2x",),
    (r"\{1, \sqrt{2}\}", r"\sqrt2, 1", r"\{\frac{2}{\sqrt{2}}, 1\}"),
    (r"(\sqrt{2}, 1)",),
    ("x + y = 5", "2x + 2y = 10", r"\frac{x+y}{5} = 1"),
    ("x + y = 6",),
    ("2 + 3i", "3i + 2"),
    ("2 - 3i",),
    (r"\frac{\pi}{4}", r"0.25\pi"),
    (r"10^{-40}", r"\frac{1}{10^{40}}"),
]


def _classes(text: str) -> str:
    found = answer_class(text)["class"]
    in_place = class_in_place(text)
    assert in_place in (None, found)  # the training process and a grading process agree
    return found


@pytest.mark.parametrize("groups", [IN_PLACE, WITH_ALGEBRA], ids=["in place", "with algebra"])
def test_forms_of_one_value_are_one_class_and_others_are_not(groups: list[tuple[str, ...]]) -> None:
    found = [{_classes(form) for form in forms} for forms in groups]
    assert [len(classes) for classes in found] == [1] * len(groups), found
    assert len(set().union(*found)) == len(groups)


@pytest.mark.parametrize("forms", IN_PLACE)
def test_what_needs_no_algebra_asks_for_none(forms: tuple[str, ...]) -> None:
    assert None not in [class_in_place(form) for form in forms]


@given(st.fractions(max_denominator=10**6), st.integers(1, 50))
def test_a_fraction_is_its_value_however_it_is_expanded(number: Fraction, factor: int) -> None:
    over, under = number.numerator * factor, number.denominator * factor
    assert class_in_place(f"\\frac{{{over}}}{{{under}}}") == class_in_place(str(number)) == number_class(number)


@given(st.lists(st.integers(-99, 99), min_size=2, max_size=6, unique=True), st.randoms())
def test_a_set_is_its_members_in_any_order(members: list[int], rng: object) -> None:
    other = list(members)
    rng.shuffle(other)  # type: ignore[attr-defined]
    one, two = (f"\\{{{', '.join(map(str, of))}\\}}" for of in (members, other))
    assert class_in_place(one) == class_in_place(two)


def test_what_nothing_can_read_is_a_class_of_its_own_spelling() -> None:
    assert _classes(r"\heartsuit_{17} \to") != _classes(r"\heartsuit_{18} \to")
    assert _classes(r"\heartsuit_{17}  \to") == _classes(r"\heartsuit_{17} \to")
    long = [_classes("q" * 500 + end) for end in "ab"]
    assert long[0] != long[1]
    assert max(map(len, long)) < 100
    assert ask("class", "0.5") == {"class": "0.5"}


@pytest.fixture(scope="module")
def verifier() -> Iterator[MathVerifier]:
    made = MathVerifier(num_workers=1, timeout_s=2.0)
    yield made
    made.close()


def _modes(verifier: MathVerifier, gold: str, *answers: str) -> list[str | None]:
    return [of.mode for of in grade(verifier, [f"\\boxed{{{answer}}}" for answer in answers], [gold] * len(answers))]


def test_right_answers_are_one_mode_and_wrong_ones_their_classes(verifier: MathVerifier) -> None:
    assert _modes(verifier, r"\frac{1}{2}", "0.5", r"\frac12", "2/4") == ["right"] * 3
    assert _modes(verifier, r"\frac{1}{2}", "3", "3.0", "\\{3, 4\\}") == ["wrong: 3", "wrong: 3", "wrong: {3; 4}"]
    assert verifier._pool.worker_pids() == []  # ordinary answers start no process
    assert _modes(verifier, r"\frac{1}{2}", r"\text{right}") == ["wrong: right"]
    found = _modes(verifier, "7", r"2\sqrt{3}", r"\sqrt{12}", r"\{1, 2\}", "2, 1")
    assert found[0] == found[1] != found[2] == found[3]
    assert verifier.has_modes
    assert not verifier.tells_solutions


def test_without_a_comparison_there_is_no_mode(verifier: MathVerifier) -> None:
    tower = "9^{9^{9^{9}}}"
    slow = r"\int_0^1 \frac{\sin^{40}(x^{50})}{1+x^{99}} dx + " + tower
    assert _modes(verifier, "5", tower, "4" * 3000, slow) == [None, None, None]
    assert [of.mode for of in grade(verifier, ["no answer here", "\\boxed{3}"], ["5", ""])] == [None, None]


def test_a_slow_class_is_that_of_the_spelling(verifier: MathVerifier, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = verifier._pool.map

    def late(items: list[tuple[str, ...]], **limits: float) -> list[Outcome]:
        is_class = items and items[0][0] == "class"
        return [Outcome(reason="timeout")] * len(items) if is_class else asked(items, **limits)

    monkeypatch.setattr(verifier._pool, "map", late)
    assert _modes(verifier, "7", r"\sqrt{12}", r"\sqrt {12}") == [r"wrong: \sqrt{12}"] * 2


def test_a_weighted_set_tells_solutions_if_a_member_does(verifier: MathVerifier) -> None:
    assert not WeightedVerifiers([(verifier, 1.0)]).tells_solutions
    assert WeightedVerifiers([(verifier, 1.0), (CountdownVerifier(), 1.0)]).tells_solutions
