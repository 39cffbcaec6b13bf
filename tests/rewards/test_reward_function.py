"""`VerifierReward`: what it grades of a conversation, its gold answers, and thoughts that a prompt opened."""

from __future__ import annotations

import pytest

from relax_rl.errors import DataError
from relax_rl.rewards import (
    ExactVerifier,
    FormatVerifier,
    MathVerifier,
    NumericVerifier,
    VerifierReward,
    WeightedVerifiers,
    grade,
)

CALL = {"role": "assistant", "content": "Let me look.", "tool_calls": [{"function": {"name": "look"}}]}
TOOL = {"role": "tool", "name": "look", "content": "The answer is 7"}
CUT = "Okay, 3+4. Maybe \\boxed{7}. But wait, let me double check whether"


def said(content: object, **fields: object) -> dict[str, object]:
    return {"role": "assistant", "content": content} | fields


@pytest.mark.parametrize(
    ("completion", "score"),
    [
        ([CALL, TOOL], 0.0),
        ([said("The answer is 7."), {"role": "user", "content": "Sure?"}], 0.0),
        ([{"role": "user", "content": "The answer is 7."}], 0.0),
        ([CALL, TOOL, said("I do not know.")], 0.0),
        ([CALL, TOOL, said("So \\boxed{8}")], 0.0),
        ([said("\\boxed{7}"), TOOL, said("I am done.")], 0.0),
        ([said(None), TOOL, said(None)], 0.0),
        ([], 0.0),
        ([CALL, TOOL, said("So \\boxed{7}")], 1.0),
        ([said([{"type": "text", "text": "So \\boxed{7}"}])], 1.0),
        ([said("The answer is 7.")], 1.0),
    ],
)
def test_only_the_last_words_of_the_assistant_are_graded(completion: list[dict[str, object]], score: float) -> None:
    for verifier in (MathVerifier(), ExactVerifier(), NumericVerifier()):
        assert VerifierReward(verifier)([completion], answer=["7"]) == [score]


@pytest.mark.parametrize("gold", [7, 7.0, "7", [7], (7,)])
def test_gold_answers_need_not_be_text(gold: object) -> None:
    for verifier in (MathVerifier(), NumericVerifier(), ExactVerifier()):
        assert VerifierReward(verifier)(["\\boxed{7}", "\\boxed{8}"], answer=[gold] * 2) == [1.0, 0.0]


def test_a_row_without_a_gold_answer_has_no_score() -> None:
    logged: dict[str, float] = {}
    reward = VerifierReward(MathVerifier())
    golds = [None, 7, {"value": 7}, [1, 2]]
    scores = reward(["\\boxed{7}"] * 3 + ["\\boxed{1, 2}"], answer=golds, log_metric=logged.__setitem__)
    assert scores == [None, 1.0, None, 1.0]
    assert logged == {"grading/reasons/gold_unreadable": 2.0}


def test_the_column_of_gold_answers_is_an_option() -> None:
    columns = {"solution": ["7"], "level": [3], "trainer_state": object()}
    assert VerifierReward(MathVerifier(), answer_column="solution")(["\\boxed{7}"], **columns) == [1.0]
    with pytest.raises(DataError, match=r"column 'answer', which the data do not have; their columns are level, sol"):
        VerifierReward(MathVerifier())(["\\boxed{7}"], **columns)


@pytest.mark.parametrize("verifier", [MathVerifier(), ExactVerifier(), NumericVerifier()])
def test_an_answer_inside_a_thought_that_the_prompt_opened_pays_nothing(verifier: MathVerifier) -> None:
    texts = [CUT, "Okay so the answer is 7. But wait, let me double", "<answer>7</answer>? But", "so</think>\\boxed{7}"]
    told = VerifierReward(verifier, opened="<think>\n")(texts, answer=["7"] * 4)
    seen = VerifierReward(verifier)(texts, prompts=["Q?<think>\n"] * 4, answer=["7"] * 4)
    from_training = VerifierReward(verifier)(texts, opened_thought=["<think>"] * 4, answer=["7"] * 4)
    assert told == seen == from_training == [0.0, 0.0, 0.0, 1.0]
    assert VerifierReward(verifier)(texts[:1], prompts=["What is <think>?\n"], answer=["7"]) == [1.0]


def test_a_thought_in_a_field_of_its_own_is_over() -> None:
    reward = VerifierReward(MathVerifier(), opened="<think>\n")
    apart = [said("\\boxed{7}", reasoning_content="3 + 4")]
    assert reward([apart, [said("\\boxed{7}")]], answer=["7", "7"]) == [1.0, 0.0]


def test_one_prompt_of_several_opens_a_thought() -> None:
    verdicts = grade(MathVerifier(), [CUT, CUT], ["7", "7"], opened=["<think>", ""])
    assert [verdict.score for verdict in verdicts] == [0.0, 1.0]


def test_a_member_that_takes_the_thought_for_granted_does_not_hide_it_from_the_others() -> None:
    """Both were shown no tag, and the mathematical one paid for the answer in the thought."""
    told = FormatVerifier(require=("think",), prompt_opens_think=True)
    both = WeightedVerifiers([(MathVerifier(), 1.0), (told, 0.5)])
    verdicts = grade(both, [CUT, "hm</think>\\boxed{7}"], ["7", "7"], opened="<think>\n")
    assert [verdict.score for verdict in verdicts] == [0.0, 1.5]
