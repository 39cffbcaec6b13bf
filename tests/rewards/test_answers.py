"""Verifiers without algebra: exact text, numbers within a tolerance, letters, form, length; by name, and as rewards."""

from __future__ import annotations

import json
import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relax_rl.config import TrainConfig
from relax_rl.errors import ConfigError, DataError
from relax_rl.rewards import (
    ChoiceVerifier,
    ExactVerifier,
    ExplainingVerifier,
    FormatVerifier,
    MathVerifier,
    NumericVerifier,
    SoftOverlongPenalty,
    Verifier,
    VerifierReward,
    WeightedVerifiers,
    build_verifier,
    verifier_names,
)
from relax_rl.rewards.registry import configured_verifier


def boxed(text: str) -> str:
    return f"So it is \\boxed{{{text}}}."


@pytest.mark.parametrize(
    ("gold", "answer", "score"),
    [
        ("Paris", "Paris", 1.0),
        ("Paris", " paris\n", 1.0),
        ("Paris", "\\text{Paris}", 1.0),
        ("New York", "New  York", 1.0),
        ("Paris", "Paris, France", 0.0),
        ("0.5", "1/2", 0.0),
        (" ", "Paris", None),
    ],
)
def test_exact(gold: str, answer: str, score: float | None) -> None:
    assert ExactVerifier().score([boxed(answer)], [gold]) == [score]


def test_a_bare_number_is_an_answer_where_that_is_asked_for() -> None:
    for kind in (ExactVerifier, NumericVerifier):
        assert kind(allow_bare_number=True).score(["so 48 and 24 make 72"], ["72"]) == [1.0]
        assert kind().score(["so 48 and 24 make 72"], ["72"]) == [0.0]
        assert kind(policy="strict").score(["The answer is 72."], ["72"]) == [0.0]
        assert kind().score(["The answer is 72."], ["72"]) == [1.0]


def test_exact_case() -> None:
    assert ExactVerifier(case_sensitive=True).score([boxed("paris"), boxed("Paris")], ["Paris"] * 2) == [0.0, 1.0]


@pytest.mark.parametrize(
    ("gold", "answer", "score"),
    [
        ("100", "101", 1.0),
        ("100", "99", 1.0),
        ("100", "101.0001", 0.0),
        ("-100", "100", 0.0),
        ("1/3", "0.333", 1.0),
        ("4.5e33", "4.5 \\times 10^{33}", 1.0),
        ("2", "x = 2.01", 1.0),
        ("9.8", "9.8 \\text{ m/s}^2", 1.0),
        ("50\\%", "0.5", 1.0),
        ("50\\%", "0.4", 0.0),
        ("3 \\text{ million}", "2990000", 1.0),
        ("0", "0.001", 0.0),
        ("2", "\\sqrt{4}", 0.0),
        ("2", "two", 0.0),
        ("2", "1e999999", 0.0),
        ("\\sqrt 2", "1.414", None),
    ],
)
def test_numeric_within_one_percent(gold: str, answer: str, score: float | None) -> None:
    assert NumericVerifier(relative_tolerance=0.01).score([boxed(answer)], [gold]) == [score]


@given(st.fractions(-1000, 1000, max_denominator=50), st.fractions(-1000, 1000, max_denominator=50))
def test_the_absolute_tolerance_is_a_distance(gold: Fraction, number: Fraction) -> None:
    (score,) = NumericVerifier(relative_tolerance=0, absolute_tolerance=0.5).score([boxed(str(number))], [str(gold)])
    assert score == float(abs(number - gold) <= Fraction(1, 2))


@pytest.mark.parametrize(
    ("completion", "score"),
    [
        ("\\boxed{B}", 1.0),
        ("\\boxed{(b)}", 1.0),
        ("\\boxed{\\text{(B)}}", 1.0),
        ("\\boxed{\\textbf{(B) } 12}", 1.0),
        ("\\boxed{B. Paris}", 1.0),
        ("The answer is (B).", 1.0),
        ("The correct answer is option B.", 1.0),
        ("<answer>B</answer>", 1.0),
        ("Answer: **B**", 1.0),
        ("\\boxed{A}", 0.0),
        ("\\boxed{A and B}", 0.0),
        ("\\boxed{Bath}", 0.0),
        ("\\boxed{A big city}", 0.0),
        ("\\boxed{Z}", 0.0),
        ("B", 0.0),
    ],
)
def test_choice(completion: str, score: float) -> None:
    assert ChoiceVerifier().score([completion], ["(B)"]) == [score]


def test_a_gold_choice_that_does_not_exist_is_no_verdict() -> None:
    (verdict,) = ChoiceVerifier(choices="ABCD").grade([boxed("A")], ["E"])
    assert (verdict.score, verdict.reason, verdict.extracted) == (None, "gold unreadable", "A")


@pytest.mark.parametrize(
    ("require", "completion", "missing"),
    [
        (("think", "boxed"), "<think>so</think> \\boxed{5}", ""),
        (("think", "boxed"), "\n<think>\nso\n</think>\n\\boxed{5}", ""),
        (("think", "boxed"), "<think>so \\boxed{5}</think>", "boxed"),
        (("think", "boxed"), "<think></think>\\boxed{5}", "think"),
        (("think", "boxed"), "Well. <think>so</think>\\boxed{5}", "think"),
        (("think", "boxed"), "<think>so</think>\\boxed{5}<think>or</think>", "think, boxed"),
        (("think", "boxed"), "<think>a<think>b</think>\\boxed{5}", "think"),
        (("think", "boxed"), "<think>so \\boxed{5}", "think, boxed"),
        (("think", "boxed"), "so</think>\\boxed{5}", "think"),
        (("think", "boxed"), "<think>so</think>\\boxed{}", "boxed"),
        (("think", "boxed"), "<think>so</think>\\boxed{5", "boxed"),
        (("think", "answer"), "<think>so</think> <answer>5</answer> ", ""),
        (("think", "answer"), "<think>so</think> <answer>5</answer> Bye", "answer"),
        (("think", "answer"), "<think>so</think> <answer></answer>", "answer"),
        (("think", "answer"), "<think>so</think> So <answer>5</answer>", "answer"),
        (("answer",), "So it is <answer>5</answer>", ""),
        (("answer",), "So it is <answer>5</answer> I think.", "answer"),
        (("answer",), "<answer>4</answer><answer>5</answer>", "answer"),
        (("think", "answer", "boxed"), "<think>so</think><answer>\\boxed{5}</answer>", ""),
        ("boxed", "", "boxed"),
    ],
)
def test_format(require: tuple[str, ...] | str, completion: str, missing: str) -> None:
    (verdict,) = FormatVerifier(require=require).grade([completion], ["whatever"])
    assert verdict.score == float(not missing)
    assert verdict.detail == (f"without {missing}" if missing else "")


def test_a_thought_that_the_prompt_opened() -> None:
    verifier = FormatVerifier(require=("think",), prompt_opens_think=True)
    assert verifier.score(["so</think>5", "<think>so</think>5"], ["", ""]) == [1.0, 0.0]


def test_the_soft_overlong_penalty_is_the_papers() -> None:
    """DAPO: 20480 tokens with a cache of 4096; by hand at the knee, a quarter, half, the end and beyond."""
    penalty = SoftOverlongPenalty(max_length=20480, cache=4096)
    lengths = [0, 16384, 17408, 18432, 20480, 30000]
    scores = penalty.score([""] * 6, [""] * 6, lengths)
    assert scores == [0.0, 0.0, -0.25, -0.5, -1.0, -1.0]
    assert math.copysign(1, scores[0] or 0.0) == 1
    assert SoftOverlongPenalty(max_length=10, cache=10, factor=0.5).penalty(4) == -0.2
    with pytest.raises(DataError, match="number of tokens"):
        penalty.score(["a"], [""])


def test_every_name_builds_a_verifier_that_explains_itself() -> None:
    for name in verifier_names():
        verifier = build_verifier(name, **({"max_length": 10, "cache": 2} if name == "soft_overlong" else {}))
        assert isinstance(verifier, Verifier)
        assert isinstance(verifier, ExplainingVerifier)
        assert verifier.name == name
    assert build_verifier("support.trust:right").name == "right"


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("maths", {}, "did you mean 'math'"),
        ("numeric", {"tolerance": 1}, "no option 'tolerance'"),
        ("numeric", {"relative_tolerance": -1}, "relative_tolerance = -1"),
        ("numeric", {"relative_tolerance": "x"}, "cannot be built"),
        ("choice", {"choices": "AA"}, "choices = 'AA'"),
        ("choice", {"choices": "12"}, "choices = '12'"),
        ("format", {"require": ["box"]}, "boxed"),
        ("format", {"require": []}, "one or more"),
        ("soft_overlong", {"max_length": 5}, "needs the option 'cache'"),
        ("soft_overlong", {"max_length": 5, "cache": 6}, "cache = 6"),
        ("soft_overlong", {"max_length": 5, "cache": 1, "factor": -1}, "factor = -1"),
        ("support.trust:right", {"a": 1}, "no option 'a'"),
        ("os.path:join", {}, "not a function of completions and answers"),
        ("nowhere:join", {}, "cannot be loaded"),
    ],
)
def test_a_verifier_that_cannot_be_built_is_named(name: str, options: dict, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        build_verifier(name, **options)


def test_a_weighted_set_is_a_reward_function_with_its_parts_logged() -> None:
    """As TRL calls it: keyword arguments, completions as conversations, token ids beside them."""
    weighted = WeightedVerifiers(
        [(MathVerifier(), 1.0), (FormatVerifier(), 0.5), (SoftOverlongPenalty(max_length=8, cache=4), 2.0)]
    )
    reward = VerifierReward(weighted)
    completions = [[{"role": "assistant", "content": text}] for text in ("<think>x</think>\\boxed{5}", "\\boxed{6}")]
    logged: dict[str, float] = {}
    rewards = reward(
        prompts=["", ""],
        completions=completions,
        completion_ids=[[0] * 4, [0] * 6],
        answer=["5", "5"],
        problem_id=["a", "b"],
        log_metric=logged.__setitem__,
    )
    assert rewards == [1.5, 2 * -0.5]
    assert logged == {"verifiers/math": 0.5, "verifiers/format": 0.5, "verifiers/soft_overlong": -0.25}
    assert weighted.parts(["\\boxed{5}"], ["5"], [8]) == {"math": [1.0], "format": [0.0], "soft_overlong": [-1.0]}
    assert reward(completions=["\\boxed{5}"], answer=[""], completion_ids=[[0]]) == [None]
    with pytest.raises(DataError, match="number of tokens"):
        reward(completions=["\\boxed{5}"], answer=["5"])


def test_an_answer_that_the_limit_cut_is_none_for_a_reward_too() -> None:
    """The evaluation has always said so; a reward that paid for it would teach to run into the limit."""
    texts, answers = ["So the answer is 12", "So the answer is 12"], ["12", "12"]
    for verifier in (MathVerifier(), WeightedVerifiers({MathVerifier(): 1.0})):
        reward = VerifierReward(verifier)
        assert reward(completions=texts, answer=answers, truncated=[True, False]) == [0.0, 1.0]
        assert reward(completions=texts, answer=answers) == [1.0, 1.0]


def test_a_plain_verifier_is_a_reward_function() -> None:
    reward = VerifierReward(NumericVerifier())
    assert reward.__name__ == "numeric"
    assert reward(completions=[boxed("5"), boxed("6"), boxed("7")], answer=["5", "5", "?"], log_metric=print) == [
        1,
        0,
        None,
    ]


def test_a_run_names_its_verifier_with_options_and_weights() -> None:
    own = ChoiceVerifier()

    def built(verifier: object) -> Verifier:
        return configured_verifier(TrainConfig(verifier=verifier).verifier, own)  # pyright: ignore[reportArgumentType]

    assert built(None) is own
    assert built("task") is own
    assert isinstance(built("math"), MathVerifier)
    numeric = built({"name": "numeric", "relative_tolerance": 0.5})
    assert numeric.score([boxed("5")], ["4"]) == [1.0]
    several = built([{"name": "task"}, {"name": "soft_overlong", "max_length": 4, "cache": 2, "weight": 0.5}])
    assert isinstance(several, WeightedVerifiers)
    assert [(verifier.name, weight) for verifier, weight in several.members] == [
        ("choice", 1.0),
        ("soft_overlong", 0.5),
    ]
    for wrong, words in (
        ("maths", "did you mean 'math'"),
        ({"name": "task", "choices": "AB"}, "no option 'choices'"),
        ([{"name": "math", "weight": "heavy"}], "'heavy'"),
    ):
        with pytest.raises(ConfigError, match=words):
            built(wrong)
    with pytest.raises(ConfigError, match="verifier"):
        TrainConfig(verifier=3)  # pyright: ignore[reportArgumentType]
    as_written = TrainConfig(verifier=[{"name": "exact", "weight": 2.0}, {"name": "task"}])  # pyright: ignore[reportArgumentType]
    assert TrainConfig(**json.loads(as_written.to_json())) == as_written


def test_the_last_of_several_boxes_chooses_by_the_text_of_its_option() -> None:
    verifier = ChoiceVerifier()
    for gold, score in (("B", 1.0), ("A", 0.0)):
        (verdict,) = verifier.grade(["\\boxed{x}, \\boxed{y}"], [gold], options=[("x", "y")])
        assert (verdict.score, verdict.extracted) == (score, "y")
