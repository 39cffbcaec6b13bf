"""Which part of a completion is its answer: the last box or tag, the stated answer, and nothing where it was cut."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relax_rl.rewards.extraction import Extraction, extract_answer

EXTRACTED = [
    # Boxes: the last one that holds something.
    ("first \\boxed{1}, then \\boxed{2}", "2", "boxed"),
    ("\\boxed{\\frac{1}{\\sqrt{2}}} is all", "\\frac{1}{\\sqrt{2}}", "boxed"),
    ("\\boxed{\\left\\{1, 2\\right\\}}", "\\left\\{1, 2\\right\\}", "boxed"),
    ("\\boxed {7}", "7", "boxed"),
    ("$\\boxed 7$.", "7", "boxed"),
    ("\\fbox{7}", "7", "boxed"),
    ("\\boxed{\\boxed{7}}", "7", "boxed"),
    ("```\n\\boxed{7}\n```", "7", "boxed"),
    ("```python\nprint('\\boxed{7}')\n```", "7", "boxed"),
    ("\\boxed{7}. The answer is 8.", "8", "stated"),
    ("\\boxed{7} as asked, in \\boxed{}", "7", "boxed"),
    ("\\boxed{7} as asked, in \\boxed{...}", "7", "boxed"),
    ("\\boxed{7} and then \\boxed{8", None, "unclosed box"),
    ("\\boxed{7} and then \\boxed", "7", "boxed"),
    ("\\boxed{\\frac{1}{2}", None, "unclosed box"),
    ("\\boxedtext{7}", None, "no answer"),
    # Tags, and what follows the thinking.
    ("<answer>7</answer>", "7", "tagged"),
    ("<answer> $\\frac12$ </answer>", "\\frac12", "tagged"),
    ("<answer>7</answer> no, <answer>8</answer>", "8", "tagged"),
    ("in <answer> </answer> tags: <answer>7</answer>", "7", "tagged"),
    ("<answer>7</answer> as asked, in <answer>...</answer>", "7", "tagged"),
    ("<answer>The answer is 7.</answer>", "7", "tagged"),
    ("<answer>\\boxed{7}</answer>", "7", "boxed"),
    ("\\boxed{6} <answer>7</answer>", "7", "tagged"),
    ("<answer>6</answer> \\boxed{7}", "7", "boxed"),
    ("<answer>7", None, "unclosed tag"),
    ("<answer>6</answer> <answer>7", None, "unclosed tag"),
    ("<answer>\\boxed{7}", "7", "boxed"),
    ("7</answer>", None, "no answer"),
    ("<think>\\boxed{1}</think> \\boxed{7}", "7", "boxed"),
    ("<think>\\boxed{1}</think> <answer>7</answer>", "7", "tagged"),
    ("\\boxed{1}</think> So 7.", None, "no answer"),
    ("<think>the answer is 1</think>The answer is 7.", "7", "stated"),
    ("<think>Let me see. \\boxed{1}", None, "unclosed thought"),
    ("<think>1</think>\\boxed{7} <think>or not", None, "unclosed thought"),
    ("<thinking>1</thinking>\\boxed{7}", "7", "boxed"),
    # Stated answers.
    ("The answer is 42 apples.", "42", "stated"),
    ("The answer to this problem is $x = 5$, so", "x = 5", "stated"),
    ("The answer is 3. No, the answer is 4.", "4", "stated"),
    ("**Answer:** 17", "17", "stated"),
    ("Final Answer: $18", "$18", "stated"),
    ("the answers are 3 and 4.", "3 and 4", "stated"),
    ("The final answer is: \\[ \\frac{1}{2} \\]", "\\frac{1}{2}", "stated"),
    ("the answer is 3.5.", "3.5", "stated"),
    ("the answer is 1/2 of it", "1/2", "stated"),
    ("She has 48+24 = 72 clips.\n#### 72", "72", "stated"),
    ("#### Step 1\nAdd. #### 9", "9", "stated"),
    ("so we get 72", None, "no answer"),
    ("", None, "no answer"),
    ("#### Conclusion", None, "no answer"),
]


@pytest.mark.parametrize(("completion", "text", "how"), EXTRACTED)
def test_extraction(completion: str, text: str | None, how: str) -> None:
    found = extract_answer(completion)
    assert (found.text, found.how) == (text, how)


@pytest.mark.parametrize(
    ("completion", "text", "last"),
    [
        ("$\\boxed{2}, \\boxed{3}$", "2, 3", "3"),
        ("$\\boxed{2}$ and $\\boxed{3}$.", "2, 3", "3"),
        ("\\boxed{2} \\text{ or } \\boxed{3}", "2, 3", "3"),
        ("$x = \\boxed{1}$, $x = \\boxed{2}$, and $x = \\boxed{3}$", "1, 2, 3", "3"),
        ("\\boxed{1}, so \\boxed{2}", "2", None),
        ("\\boxed{1}. \\boxed{2}", "2", None),
        ("\\boxed{1}\\boxed{2}", "2", None),
        ("\\boxed{9} is wrong. $\\boxed{2}$ and $\\boxed{3}$", "2, 3", "3"),
    ],
)
def test_boxes_joined_by_a_comma_or_a_word_are_one_list(completion: str, text: str, last: str | None) -> None:
    assert extract_answer(completion) == Extraction(text, "boxed", last)


@pytest.mark.parametrize("completion", ["so 12", "The answer is 12", "#### 12"])
def test_a_completion_cut_at_its_end_has_no_answer_there(completion: str) -> None:
    assert extract_answer(completion, policy="lenient").text == "12"
    cut = extract_answer(completion, policy="lenient", is_truncated=True)
    assert cut == Extraction(None, "truncated")
    ended = extract_answer(f"{completion}.\nAs I", policy="lenient", is_truncated=True)
    assert ended.text == "12"


@pytest.mark.parametrize("end", [" ", "\n", " \n\t "])
def test_white_space_after_the_last_number_does_not_show_that_it_was_written_out(end: str) -> None:
    """A tokenizer may put the space before the next digits, which the limit cut away."""
    for completion in ("so 12", "The answer is 12"):
        cut = extract_answer(completion + end, policy="lenient", is_truncated=True)
        assert cut == Extraction(None, "truncated")


def test_a_box_that_was_closed_before_the_cut_stays() -> None:
    assert extract_answer("\\boxed{12}", is_truncated=True) == Extraction("12", "boxed")


PIECES = [*"{}<>/\\$ .=17,", "\\boxed{", "<answer>", "</answer>", "<think>", "</think>", "answer is ", "and"]


@given(st.lists(st.sampled_from(PIECES)).map("".join))
def test_any_text_has_an_extraction_and_nothing_is_made_up(text: str) -> None:
    found = extract_answer(text, policy="lenient")
    assert (found.text is None) == (found.how in {
        "no answer", "unclosed box", "unclosed tag", "unclosed thought", "truncated"
    })  # fmt: skip
    if found.text is not None and found.last is None:
        assert found.text in text


@pytest.mark.parametrize(
    "text",
    [
        "\\boxed{" * 10**6,
        "\\boxed" + "{" * 10**6 + "}" * 10**6,
        "\\boxed{}" * 10**5,
        "\\boxed{1}," * 10**5,
        "\\boxed{1}" + " " * 10**6 + "\\boxed{1}",
        "<answer>" * 10**5,
        "<answer></answer>" * 10**5,
        "</answer>" * 10**5,
        "<think>" * 10**5,
        "<" * 10**6,
        "the answer is " * 10**5,
        "the answer " * 10**5,
        "answer" + " " * 10**6,
        "#### " * 2 * 10**5,
        "1" * 10**6,
        "1,111" * 2 * 10**5,
        "\\" * 10**6,
        "\x00" * 10**6,
        "the answer is $" + "$ " * 5 * 10**5,
        "<answer>$" + "1" * 10**6 + "$</answer>",
    ],
    ids=range(20),
)
@pytest.mark.slow
def test_megabytes_cost_little(text: str) -> None:
    """Seconds of this process, far above the tenths that linear time takes and far below what a square would."""
    started = time.process_time()
    extract_answer(text, policy="lenient")
    assert time.process_time() - started < 8.0
