"""Verifiers that need no worker: their limits, and what they do with what a user's code returns."""

from __future__ import annotations

import functools
import logging
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from relax_rl.config import TrainConfig
from relax_rl.errors import ConfigError, DataError
from relax_rl.rewards import CallableVerifier, FormatVerifier, MathVerifier, Verdict, WeightedVerifiers, grade
from relax_rl.rewards import own_code as own_code_module
from relax_rl.rewards.base import BaseVerifier, as_verifier
from relax_rl.rewards.batch import GradingBatch
from relax_rl.rewards.countdown import CountdownAnswer, CountdownVerifier, committed_expression
from relax_rl.rewards.overlong import SoftOverlongPenalty
from relax_rl.rewards.own_code import as_scores, called, is_own, place_of
from relax_rl.rewards.registry import configured_verifier
from relax_rl.rewards.reward_function import VerifierReward
from relax_rl.rewards.trial import try_verifier
from relax_rl.rewards.turns import conversation_text


class Fixed(BaseVerifier):
    """Gives the verdicts that it is made of, one a completion, and keeps what it was asked."""

    def __init__(self, name: str, *verdicts: Verdict) -> None:
        self.name = name
        self.given = verdicts
        self.asked: list[Any] = []

    def verdicts(self, batch: GradingBatch) -> list[Verdict]:
        self.asked.append((batch.texts, batch.answers, batch.num_tokens, batch.truncated))
        return list(self.given)[: len(batch)]


# Format and length ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("require", "completion", "missing"),
    [
        ("think", "<think> \n</think>5", "think"),
        ("think", "<think>a</think>b</think>", "think"),
        ("answer", "<answer>5</answer>", ""),
        ("answer", "<answer> </answer>", "answer"),
        ("answer", "so</think> it is <answer>5</answer>", ""),
        ("answer", "<answer>4</answer> no </answer>", "answer"),
        (("think", "answer"), "<think>so</think><answer>4<answer>5</answer>", "answer"),
        (("think", "answer"), "<think>so</think><answer>4</answer>5</answer>", "answer"),
        (("think", "answer"), "<think><answer>4</answer></think>\n<answer>5</answer>\n", ""),
    ],
)
def test_a_format_to_the_letter(require: Any, completion: str, missing: str) -> None:
    (verdict,) = FormatVerifier(require=require).grade([completion], [""])
    assert (verdict.score, verdict.detail) == (float(not missing), f"without {missing}" if missing else "")


def test_format_asks_for_a_thought_and_a_box_unless_told_otherwise() -> None:
    assert FormatVerifier().require == ("think", "boxed")
    with pytest.raises(DataError, match="2 completions were given with 1 gold"):
        FormatVerifier().score(["", ""], [""])


def test_the_overlong_penalty_has_no_negative_zero_and_refuses_what_means_nothing() -> None:
    penalty = SoftOverlongPenalty(max_length=10, cache=4)
    for length in (0, 6):
        assert math.copysign(1, penalty.penalty(length)) == 1
        assert penalty.penalty(length) == 0
    assert [penalty.penalty(length) for length in (7, 10, 11)] == [-0.25, -1.0, -1.0]
    assert SoftOverlongPenalty(max_length=10, cache=4, factor=0.0).penalty(9) == 0.0
    for cache, factor in ((0, 1.0), (-1, 1.0), (11, 1.0), (4, math.inf), (4, math.nan)):
        with pytest.raises(ConfigError, match="soft_overlong"):
            SoftOverlongPenalty(max_length=10, cache=cache, factor=factor)
    with pytest.raises(DataError, match="number of tokens"):
        penalty.score(["a", "b"], ["", ""])
    with pytest.raises(DataError, match="2 completions were given with 1 lengths in num_tokens"):
        penalty.score(["a", "b"], ["", ""], [1])
    assert penalty.grade(["a"], [""], [10]) == [Verdict(-1.0)]


# Countdown --------------------------------------------------------------------------------------------------------


def test_countdown_takes_white_space_and_the_longest_box() -> None:
    verifier = CountdownVerifier()
    assert verifier.score(["<answer>\n 11*1+3 \n</answer>"], ["11 1 3>14"]) == [1.0]
    assert committed_expression("\\boxed{" + "1" * 256 + "}") == "1" * 256
    assert committed_expression("\\boxed{" + "1" * 257 + "}") is None
    assert committed_expression("<answer>1</answer>\\boxed{2}") == "1"
    assert committed_expression("<answer>1 \\boxed{2}") == "2"
    (verdict,) = verifier.grade(["<answer>1</answer>"], ["1>"])
    assert (verdict.score, verdict.extracted, verdict.how, verdict.reason) == (None, "1", "tagged", "gold unreadable")


def test_a_gold_answer_has_at_most_32_numbers_of_nine_digits() -> None:
    most = CountdownAnswer((999_999_999,) * 32, 999_999_999)
    assert CountdownAnswer.parse(str(most)) == most
    assert CountdownAnswer.parse(str(CountdownAnswer((1,) * 33, 1))) is None
    assert CountdownAnswer.parse("1000000000>1") is None
    assert CountdownAnswer.parse("1>1000000000") is None


# Weighted sets ----------------------------------------------------------------------------------------------------


def test_a_weighted_sum_tells_who_read_the_answer_and_who_is_at_fault() -> None:
    silent = Fixed("silent", Verdict(1.0), Verdict(0.5), Verdict.unscored("gold unreadable", "words"))
    reader = Fixed("reader", Verdict(1.0, "5", "boxed"), Verdict.ungradable("too long", "2001"), Verdict(1.0, "6", "x"))
    several = WeightedVerifiers([(silent, 1.0), (reader, 2.0)])
    assert several.name == "weighted"
    assert several.grade([""] * 3, [""] * 3) == [
        Verdict(3.0, "5", "boxed", parts=(("silent", 1.0), ("reader", 1.0))),
        Verdict(0.5, None, "", "reader: too long", "2001", (("silent", 0.5), ("reader", 0.0))),
        Verdict(None, "6", "x", "silent: gold unreadable", "words", (("silent", None), ("reader", 1.0))),
    ]
    nothing = WeightedVerifiers({Fixed("none", Verdict(None)): 1.0}, name="own")
    assert nothing.name == "own"
    assert nothing.grade([""], [""])[0].reason == "none: no reason given"


def test_a_weighted_set_passes_on_lengths_and_truncation() -> None:
    member = Fixed("member", Verdict(1.0))
    several = WeightedVerifiers({member: 1.0})
    several.grade(["a"], ["b"], [7], truncated=[True])
    several.score(["a"], ["b"], [8])
    several.parts(["a"], ["b"], [9])
    assert member.asked == [
        (["a"], ["b"], [7], [True]),
        (["a"], ["b"], [8], None),
        (["a"], ["b"], [9], None),
    ]


@pytest.mark.parametrize("weight", [math.inf, -math.inf, math.nan, "1", None])
def test_a_weight_is_a_finite_number(weight: Any) -> None:
    with pytest.raises(ConfigError, match="weight of the verifier 'a'"):
        WeightedVerifiers([(Fixed("a"), weight)])
    assert WeightedVerifiers([(Fixed("a"), -2), (Fixed("b"), 0.5)]).members[0][1] == -2.0


def test_a_weighted_set_is_own_code_if_a_member_is() -> None:
    own, ours = Fixed("own"), FormatVerifier(prompt_opens_think=True)
    several = WeightedVerifiers([(ours, 1.0), (own, 1.0), (as_verifier(CountdownVerifier()), 1.0)])
    assert several.is_own_code
    assert several.described == own.described
    assert "own" in several.described
    assert not WeightedVerifiers([(CountdownVerifier(), 1.0)]).is_own_code


def test_one_verifier_with_a_weight_is_a_weighted_set() -> None:
    setting = TrainConfig(verifier={"name": "countdown", "weight": 2.0}).verifier  # pyright: ignore[reportArgumentType]
    verifier = configured_verifier(setting, Fixed("own"))
    assert verifier.score(["<answer>11*1+3</answer>"], ["11 1 3>14"]) == [2.0]


# A user's code ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "values", [[1.0, None, 0.5], (1, math.nan, 0.5), np.array([1.0, math.nan, 0.5]), torch.tensor([1.0, math.nan, 0.5])]
)
def test_scores_come_in_any_row_of_numbers(values: Any) -> None:
    scores = as_scores(values, 3, "It")
    assert scores == [1.0, None, 0.5]
    assert [type(score) for score in scores] == [float, type(None), float]
    assert as_scores([np.float32(0.5), torch.tensor(0.25), True], 3, "It") == [0.5, 0.25, 1.0]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ("1", "returned a str for 1"),
        (b"1", "returned a bytes"),
        ({"a": 1}, "returned a dict"),
        (1.0, "returned a float"),
        (np.array(1.0), "returned a float"),
        ((value for value in [1.0]), "returned a generator"),
        ([1.0, 2.0], "returned 2 values for 1"),
        ([], "returned 0 values for 1"),
        (["1"], "'1', which is neither"),
        ([b"1"], "neither a number nor None"),
        ([[1.0]], "neither a number nor None"),
        ([10**400], "no float can hold"),
    ],
)
def test_what_is_no_row_of_numbers_is_refused(values: Any, words: str) -> None:
    with pytest.raises(DataError, match=words):
        as_scores(values, 1, "It")


def test_an_error_in_own_code_is_one_sentence_and_ours_passes() -> None:
    def fails(words: str) -> None:
        raise ValueError(words)

    with pytest.raises(DataError, match=r"^It raised ValueError: a b in line \d+ of .*test_small_verifiers\.py; fix"):
        called("It", fails, "a\n  b")
    with pytest.raises(DataError, match=r"^It raised ValueError in line"):
        called("It", fails, "")
    with pytest.raises(DataError) as told:
        called("It", fails, "w" * 1000)
    assert "w" * 300 in str(told.value)
    assert "w" * 301 not in str(told.value)
    with pytest.raises(ConfigError, match=r"^ours$"):
        called("It", functools.partial(_raise, ConfigError("ours")))
    assert called("It", lambda a, *, b: a + b, 1, b=2) == 3


def _raise(error: Exception) -> None:
    raise error


def test_a_long_call_says_so_less_and_less_often(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(own_code_module, "FIRST_SIGN_S", 0.01)
    waits: list[float] = []
    now = [100.0]

    class Clock:
        """An event that is set the fourth time that somebody waits for it."""

        def wait(self, seconds: float) -> bool:
            waits.append(seconds)
            now[0] += seconds
            return len(waits) == 4

    monkeypatch.setattr(own_code_module.time, "monotonic", lambda: now[0])
    signs = own_code_module._SignsOfLife("It")
    signs._done = Clock()  # pyright: ignore[reportAttributeAccessIssue]
    with caplog.at_level(logging.WARNING, "relax_rl.own_code"):
        signs._watch()
    assert waits == pytest.approx([0.01, 0.01, 0.02, 0.04])
    assert len(caplog.records) == 3


def test_who_wrote_a_class_and_where() -> None:
    assert is_own(Fixed)
    assert not is_own(MathVerifier)
    here = Path(__file__).name
    for thing in (_raise, functools.partial(_raise, ValueError()), Fixed, Fixed("a")):
        assert here in place_of(thing)
    assert place_of(_raise) != place_of(Fixed)
    assert place_of(Fixed) == place_of(Fixed("a"))
    assert place_of(len) == "len"


def test_a_class_and_a_builtin_are_no_function_of_completions() -> None:
    for path in ("collections:Counter", "math:pow", "collections:namedtuple_", "json:dumps"):
        with pytest.raises(ConfigError, match=f"The verifier '{path}' cannot be loaded"):
            CallableVerifier(path)
    assert CallableVerifier(_raise).name == "_raise"
    assert CallableVerifier(_raise, name="other").name == "other"
    assert CallableVerifier("support.trust:right").name == "right"
    assert CallableVerifier("support.trust:right").is_own_code


# Calls and trials -------------------------------------------------------------------------------------------------


def test_an_opened_thought_stands_in_front_of_each_completion() -> None:
    member = Fixed("member", Verdict(1.0), Verdict(1.0))
    grade(member, ["a"], ["b"], opened="<think>")
    grade(member, ["a", "b"], ["b", "b"], opened=["", "[THINK]"])
    assert [asked[0] for asked in member.asked] == [["<think>a"], ["a", "[THINK]b"]]
    with pytest.raises(DataError, match="'member' returned 2 scores for 3"):
        grade(member, ["a", "b", "c"], ["", "", ""])


def test_verdicts_say_whose_fault_it_is() -> None:
    gold, answer = Verdict.unscored("gold unreadable", "why"), Verdict.ungradable("too long", "why", extracted="5")
    assert (gold.score, gold.is_ungradable, gold.detail) == (None, False, "why")
    assert (answer.score, answer.is_ungradable, answer.extracted) == (0.0, True, "5")
    assert not Verdict(0.0).is_ungradable


def test_what_a_reward_logs() -> None:
    logged: dict[str, float] = {}
    verdicts = (
        Verdict(1.0, parts=(("a", 1.0), ("b", None))),
        Verdict(None, None, "", None, "", (("a", None), ("b", None))),
        Verdict.ungradable("Too long!"),
        Verdict(0.0),
    )
    reward = VerifierReward(Fixed("own", *verdicts))
    assert reward([""] * 4, answer=[""] * 4, log_metric=logged.__setitem__) == [1.0, None, 0.0, 0.0]
    assert math.isnan(logged.pop("verifiers/b"))
    assert logged == {
        "verifiers/a": 1.0,
        "grading/ungradable": 0.25,
        "grading/reasons/none_given": 1.0,
        "grading/reasons/too_long": 1.0,
    }


def test_the_text_of_a_conversation_skips_what_is_empty() -> None:
    assert conversation_text([{"content": "a"}, {"content": None}, {}, {"content": "b"}]) == "ab"
    assert conversation_text("a") == "a"


def test_a_trial_grades_a_known_solution_and_a_wrong_answer() -> None:
    member = Fixed("own", Verdict(1.0), Verdict(0.0))
    try_verifier(member, ["5", "6", "7"], ["\\boxed{5}", None, None])
    assert member.asked == [(["\\boxed{5}", "I do not know."], ["5", "7"], [9, 9], [False, False])]
    member.asked.clear()
    try_verifier(member, [], [])
    assert member.asked == []
    try_verifier(CountdownVerifier(), ["?"], [None])


def test_a_trial_goes_on_to_sixteen_rows_where_two_have_no_score() -> None:
    golds = [str(place) for place in range(20)]
    late = Fixed("late", *[Verdict(None)] * 15, Verdict(1.0))
    try_verifier(late, golds, [None] * 20)
    assert [len(asked[0]) for asked in late.asked] == [2, 16]
    assert late.asked[1][1] == golds[:16]
    assert late.asked[1][0][3] == "The answer is \\boxed{3}.\n<answer>3</answer>"
    with pytest.raises(DataError, match="scored none of 18 completions"):
        try_verifier(Fixed("never", *[Verdict(None)] * 16), golds, [None] * 20)
    with pytest.raises(DataError, match="infinite score"):
        try_verifier(Fixed("endless", Verdict(0.0), Verdict(-math.inf)), golds, [None] * 20)
