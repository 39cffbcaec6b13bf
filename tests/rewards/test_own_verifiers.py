"""Verifiers that users write: any object with a name and a score is one, with what else it may have."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import pytest

from relax_rl.errors import ConfigError, DataError
from relax_rl.rewards import MathVerifier, Verdict, WeightedVerifiers, as_verifier, grade
from relax_rl.rewards.own_code import called_within


class Bare:
    """The least there is."""

    name = "bare"

    def score(self, completions: Sequence[str], answers: Sequence[str]) -> list[float | None]:
        return [float(text == gold) for text, gold in zip(completions, answers, strict=True)]


class Explaining(Bare):
    """Says what it read, whether it knew of truncation, and which answers are equal."""

    def grade(
        self, completions: Sequence[str], answers: Sequence[str], truncated: Sequence[bool] | None = None
    ) -> list[Verdict]:
        return [
            Verdict(float(text == gold), text, f"{truncated}") for text, gold in zip(completions, answers, strict=True)
        ]

    def classes(self, answers: Sequence[str | None]) -> list[int | None]:
        return [7 for _ in answers]


class Counting(Bare):
    """Is told lengths."""

    needs_num_tokens = True

    def score(
        self, completions: Sequence[str], answers: Sequence[str], num_tokens: Sequence[int] = ()
    ) -> list[float | None]:
        return [float(count) for count in num_tokens]


def test_what_an_own_verifier_lacks_has_a_default() -> None:
    verifier = as_verifier(Bare())
    assert (verifier.name, verifier.graded_by) == ("bare", Bare)
    assert verifier.grade(["a", "b"], ["a", "a"], [1, 1], truncated=[True, False]) == [Verdict(1.0), Verdict(0.0)]
    assert verifier.classes(["1 2", "12", None, "3"]) == [0, 0, None, 1]
    assert as_verifier(verifier) is verifier
    assert as_verifier(math := MathVerifier()) is math


def test_what_it_has_is_used() -> None:
    assert grade(Explaining(), ["a"], ["a"], [1], [True]) == [Verdict(1.0, "a", "[True]")]
    assert grade(Explaining(), ["a"], ["a"]) == [Verdict(1.0, "a", "None")]
    assert as_verifier(Explaining()).classes(["a", "b"]) == [7, 7]
    assert grade(Counting(), ["a", "b"], ["", ""], [3, 4]) == [Verdict(3.0), Verdict(4.0)]


def test_members_of_a_weighted_set_may_be_own() -> None:
    other = Counting()
    other.name = "counting"
    several = WeightedVerifiers({Bare(): 1.0, other: 0.5})
    assert several.score(["a", "b"], ["a", "a"], [2, 4]) == [2.0, 2.0]


def test_what_is_no_verifier_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"is no verifier: it needs name and score\(completions, answers\)"):
        as_verifier(object())  # pyright: ignore[reportArgumentType]


def test_a_call_with_a_limit_is_left_behind_in_a_thread_of_its_own() -> None:
    here, goes_on = threading.get_ident(), threading.Event()
    assert called_within("It", None, threading.get_ident) == here
    assert called_within("It", 600.0, threading.get_ident) != here
    with pytest.raises(DataError, match="It"):
        called_within("It", 0.05, goes_on.wait)
    goes_on.set()
    for limit in (None, 600.0):
        with pytest.raises(DataError, match=r"It .*ZeroDivisionError"):
            called_within("It", limit, lambda: 1 / 0)
