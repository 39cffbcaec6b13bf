"""The reader on the kinds of text in which people and models state answers: (completion, what is taken for the answer).

None: the text commits to nothing. A text that denies or bounds a value is kept whole, for the verifier to refuse.
"""

from __future__ import annotations

import time

import pytest

from relax_rl.rewards import extract_answer
from relax_rl.rewards.extraction.statements import later_statement
from relax_rl.rewards.extraction.thoughts import thought_marks
from relax_rl.rewards.extraction.values import has_mathematics, predicate, sentence, value_at_head

HEADINGS = [
    ("### Final Answer\n\n34", "34"),
    ("## Answer\n34", "34"),
    ("**Final Answer**\n\n34", "34"),
    ("**Final Answer**\n$34$", "34"),
    ("Final Answer\n34", "34"),
    ("### Final Answer:\n\n$$34$$", "34"),
    ("#### Final Answer\n**34**", "34"),
    ("### Final Answer\n\nThe total is $34$ dollars.", "34"),
    ("### Answer\n\n\\[ x = 34 \\]", "x = 34"),
    ("## Final answer: 34", "34"),
    ("### ✅ Final Answer\n34", "34"),
    ("**Final Answer** 34", "34"),
    ("### The Final Answer is\n34", "34"),
    ("Answer:\n\n34", "34"),
    ("# Answer #\n34", "34"),
    ("### 最终答案\n\n34", "34"),
    ("### Respuesta final\n\n34", "34"),
    ("**Réponse finale**\n34", "34"),
    ("### Antwort\n34", "34"),
]

SENTENCES = [
    ("Final Answer: The largest $n$ is 34.", "34"),
    ("Final Answer: The largest $n$ is $34$. I hope it is correct.", "34"),
    ("Final Answer: There are 34 ways.", "34"),
    ("Final answer: n equals 34", "34"),
    ("Answer: The probability is 5/9.", "5/9"),
    ("The final answer is that there are 34 of them.", "34"),
    ("**Final Answer:** The value of x is **34**.", "34"),
    ("Final Answer: The function is even.", "even"),
    ("Answer: x = 5", "x = 5"),
    ("Final Answer: x is 5 and y is 7", "x is 5 and y is 7"),
    ("Final Answer: The sum is not 7.", "The sum is not 7"),
    ("Final Answer: The area is 120 square units. I hope it is correct.", "120"),
    ("The answer is 5. So the answer is red green blue.", "red green blue"),
    ("The answer is 5. So the answer is red green blue white.", "5"),
    ("The answer is 5. The answer is clear.", "5"),
    ("The answer is one two three four. The answer is five six seven eight.", "five six seven eight"),
    ("The answer is clear from what was done.", None),
    ("It should be 7.", None),
    ("If the answer is 8, then x.", None),
    ("If the answer is 8, then we need to do all of this once more with what stands above it, and so on.", None),
]

ENDINGS = [
    ("So the number is **34**", "34"),
    ("**34**", "34"),
    ("So it is **34**.", "34"),
    ("So we get **34 apples**.", "34"),
    ("The values are **3** and **5**.", "3, 5"),
    ("**x = 34**", "x = 34"),
    ("**Step 2**: add.\nSo 34", None),
    ("Thus\n\\[ x = 34 \\]", "x = 34"),
    ("Thus\n$$34$$", "34"),
    ("Thus\n\\[ 34 \\].", "34"),
    ("Suppose that \\[ x = 34 \\]", None),
    ("Thus\n\\begin{align*}x &= 30+4\\\\ &= 34\\end{align*}", "x  = 30+4   = 34"),
    ("It is not the case that\n\\[ x = 34 \\]", None),
]

LANGUAGES = [
    ("所以答案是 7", "7"),
    ("答案是7。", "7"),
    ("答案：7", "7"),
    ("最终答案为 $7$。", "7"),
    ("因此，答案等于 7 元", "7"),
    ("答案是：\\(7\\)", "7"),
    ("故答案为：7.", "7"),
    ("答：一共有 7 个", "7"),
    ("答案不是 7", "答案不是 7"),
    ("La respuesta es 7", "7"),
    ("La respuesta final es $7$.", "7"),
    ("Por lo tanto, la respuesta es 7 metros.", "7"),
    ("Respuesta: 7", "7"),
    ("La solución es x = 7.", "x = 7"),
    ("la respuesta no es 7", "respuesta no es 7"),
    ("La réponse est 7", "7"),
    ("La réponse finale est donc $7$.", "7"),
    ("Réponse : 7", "7"),
    ("La réponse n'est pas 7", "réponse n'est pas 7"),
    ("Die Antwort ist 7", "7"),
    ("Die Antwort lautet 7.", "7"),
    ("Antwort: 7", "7"),
    ("Die endgültige Antwort ist $7$.", "7"),
    ("Die Antwort ist nicht 7", "nicht 7"),
    ("Die Lösung ist 7 Meter.", "7"),
    ("Ответ: 7", "7"),
    ("答えは 7 です。", "7"),
    ("答え：7", "7"),
    ("答えは7個です。", "7"),
    ("정답은 7입니다.", "7"),
    ("답: 7", "7"),
    ("A resposta é 7.", "7"),
    ("La risposta è 7", "7"),
    ("Het antwoord is 7", "7"),
    ("Odpowiedź: 7", "7"),
    ("Cevap: 7", "7"),
    ("Đáp án là 7", "7"),
    ("Jawabannya adalah 7", "7"),
    ("الجواب هو 7", "7"),
    ("उत्तर: 7", "7"),
]

TOKENS = [
    ("The answer is 7<|endoftext|>", "7"),
    ("The answer is 7<|im_end|>", "7"),
    ("The answer is 7</s>", "7"),
    ("The answer is 7<|eot_id|>", "7"),
    ("The answer is 7<eos>", "7"),
    ("The answer is 7.<end_of_turn>", "7"),
    ("The answer is 7<|end_of_text|>", "7"),
    ("The answer is 7<｜end▁of▁sentence｜>", "7"),
    ("### Final Answer\n\n7<|im_end|>", "7"),
    ("**7**<|endoftext|>", "7"),
    ("<|im_start|>assistant\nThe answer is 7<|im_end|>\n<|im_start|>user\nThe answer is 8", "7"),
    ("<s>The answer is 7</s></s>", "7"),
    ("The answer is 7[/INST]", "7"),
    ("The answer is 7<|endoftext|><|endoftext|>The answer is 8", "7"),
    ("The answer is 7<pad><pad>", "7"),
    ("\\boxed{7}<|end|>\\boxed{8}", "7"),
    ("<|channel|>final<|message|>\\boxed{7}<|im_end|>\\boxed{8}", "7"),
]

ORDER = [
    ("First \\boxed{255} of them. With the rest, the final answer is $10,455$.", "10,455"),
    ("\\boxed{5}. That is wrong; correcting, the answer is 7.", "7"),
    ("\\boxed{5}. No, that is wrong. It should be 7.", "7"),
    ("\\boxed{5}. Wait, that's not right.", None),
    ("\\boxed{5} is wrong.", None),
    ("\\boxed{5}\n\nWait, let me double check: 2+3=5. Yes.", "5"),
    ("\\boxed{5}. The answer is in simplest form.", "5"),
    ("\\boxed{5}. The answer is not 6.", "5"),
    ("\\boxed{5}. The answer is approximately 5.0.", "5"),
    ("\\boxed{5}. So the answer is greater than 4.", "5"),
    ("\\boxed{5}. If the answer is 6, we get a contradiction.", "5"),
    ("\\boxed{5}. Is the answer 6? The answer is 6?", "5"),
    ("\\boxed{8} was wrong.\n\n**Final Answer:** 12", "12"),
    ("<answer>8</answer> Sorry, the answer is 9.", "9"),
    ("\\boxed{5}\n\n#### 6", "6"),
    ("The answer is 5. That is wrong. The answer is 6.", "6"),
    ("The answer is 5. No, that is incorrect.", None),
    ("The answer is 5.\n\n**7**", "7"),
    ("\\boxed{7}. No, the answer is not 7.", "not 7"),
    ("\\boxed{5}. Correction: 7.", "7"),
    ("\\boxed{Paris}. The answer is Rome.", "Rome"),
    ("\\boxed{Paris}. The answer is clear.", "Paris"),
    ("\\boxed{5}. The answer is red.", "5"),
    ("\\boxed{5}... scratch that, \\boxed{7}", "7"),
]

BOXES = [
    ("(a) \\boxed{3}, (b) \\boxed{5}", "3, 5"),
    ("1) \\boxed{4}  2) \\boxed{9}", "4, 9"),
    ("(a) We get \\boxed{3}.\n\n(b) Then 2+3 gives \\boxed{5}.", "3, 5"),
    ("Part (a): $\\boxed{3}$\nPart (b): $\\boxed{5}$", "3, 5"),
    ("\\boxed{1} cats and \\boxed{2} dogs", "1, 2"),
    ("\\boxed{(3, 3)} \\text{ for part (a) and } \\boxed{(1, 1)}", "(3, 3), (1, 1)"),
    ("\\boxed{5}\n\\boxed{6}\n\\boxed{7}", "7"),
    ("\\boxed{5} or maybe \\boxed{6}", "6"),
    ("i) \\boxed{3}; ii) \\boxed{5}", "3, 5"),
    ("\\boxed{3} $x$ \\boxed{5}", "5"),
    ("\\boxed{3} no, \\boxed{5}", "5"),
    ("a. \\boxed{3}\nb. \\boxed{5}", "3, 5"),
    ("$\\boxed{2}$ und $\\boxed{3}$", "2, 3"),
    ("- x = \\boxed{2}\n- y = \\boxed{3}", "3"),
    ("\\boxed{\\text{The answer is } 42}", "42"),
    ("\\boxed{\\text{The answer is not } 42}", "not  42"),
    ("(a) \\boxed{5}; (c) \\boxed{}, (b) \\boxed{7}", "7"),
    ("".join(f"\\boxed{{{i}}}, " for i in range(1, 41)), ", ".join(map(str, range(9, 41)))),
    ("put it in a box 7", None),
    ("a xboxed{7}", None),
    ("\\boxed{1}," + " " * 59 + "\\boxed{2}", "1, 2"),
    ("\\boxed{1}," + " " * 60 + "\\boxed{2}", "2"),
    ("a. We get \\boxed{3}\nb. So \\boxed{5}", "3, 5"),
    ("(A) We get \\boxed{3}\n(B) So \\boxed{5}", "3, 5"),
    ("iv. We get \\boxed{3}\nv. So \\boxed{5}", "3, 5"),
    ("9. We get \\boxed{3}\n10. So \\boxed{5}", "3, 5"),
    ("b. We get \\boxed{3}\na. So \\boxed{5}", "5"),
    ("a. We get \\boxed{3}\nc. So \\boxed{5}", "5"),
    ("1. We get \\boxed{3}\nii. So \\boxed{5}", "5"),
    (f"a. {'x ' * 200}\\boxed{{3}}\nb. So \\boxed{{5}}", "5"),
    ("\\boxed 7, as asked", "7"),
    ("\x0cbox{7}", "7"),
    ("\\beginboxed{7}", "7"),
    ("\x08oxed{7}", "7"),
    ("<boxed{70}\\).</answer>", "70"),
    ("so boxed{7}", "7"),
    ("<|begin_of_box|>7<|end_of_box|>", "7"),
]

TAGS = [
    ("<answer>12 faux</answer>", "12 faux"),
    ("<answer>The largest n is 34</answer>", "34"),
    ("<answer>34 apples</answer>", "34 apples"),
    ("<answer>\n34\n</answer>", "34"),
    ("<answer>The big one of them</answer>", "The big one of them"),
    ("<final_answer>34</final_answer>", "34"),
    ("<answer>12. No, 13.</answer>", "12. No, 13."),
    ("<answer>7</answer>\nHuman: next", "7"),
]

LISTS = [
    ("The answer is $7$ or $8$.", "$7$ or $8$"),
    ("The answer is 7 or 8.", "7 or 8"),
    ("The answer is 7, not 8.", "7, not 8"),
    ("The answer is $7$, not $8$.", "7"),
    ("The answer is $7$ is wrong", "$7$ is wrong"),
    ("The answer is 12 faux", "12 faux"),
    ("The answer is 12 ist nicht richtig", "12 ist nicht richtig"),
    ("The answer is 42 apples.", "42"),
    ("The answer is 1 gallon of water per day.", "1"),
    ("The answer is $5$ dollars.", "5"),
    ("The answer is (B).", "(B)"),
    ("the answer is 3.5.", "3.5"),
    ("The answer is 12 är fel", "12 är fel"),
    ("The answer is therefore 12.", "12"),
    ("The answer is \\(12\\), as shown.", "12"),
]

TURNS = [
    ("\\boxed{18}\n\nHuman: another one: 3+4?\n\nAssistant: \\boxed{7}", "18"),
    ("The answer is 18.\n\nQ: How many 7s?\nA: The answer is 7.", "18"),
    ("#### 72\n\nQuestion: Tom has 3 cats.\nAnswer: He has 3.\n#### 3", "72"),
    ("Question: What is 3+4?\nAnswer: 7", "7"),
    ("Problem: find x.\nSolution: we get \\boxed{7}", "7"),
    ("\\boxed{18}\nUser: x\nAssistant: \\boxed{7}", "18"),
    ("I don't know.\n\nHuman: 3+4?\n\nAssistant: \\boxed{7}", None),
    ("Let me restate.\n\nProblem: 3+4?\n\nSolution: \\boxed{7}", "7"),
    ("\\boxed{18}\n\nHuman: x\n\nAssistant: <think>y</think>\\boxed{7}", "18"),
    ("\\boxed{18}\n\n### Problem 2:\n\\boxed{7}", "18"),
    ("**7**\n\nQuestion: 5+5?\nAnswer: 10", "7"),
    ("<think>\nUser: x\n</think>\\boxed{7}", "7"),
    (" User: 3+4?\n\\boxed{7}", "7"),
    ("ok\nUser: says 5\n</think>\\boxed{7}", "7"),
]

THOUGHTS = [
    ("<think>\\boxed{7}", None),
    ("◁think▷ \\boxed{7}", None),
    ("◁think▷ \\boxed{6}◁/think▷\\boxed{7}", "7"),
    ("[THINK]\\boxed{7}", None),
    ("[THINK]x[/THINK]\\boxed{7}", "7"),
    ("<reasoning>\\boxed{7}", None),
    ("<thought>\\boxed{7}", None),
    ("<seed:think>\\boxed{7}", None),
    ("<seed:think>a</seed:think>\\boxed{7}", "7"),
    ("<|begin_of_thought|>\\boxed{7}", None),
    ("<|begin_of_thought|>a<|end_of_thought|>\n<|begin_of_solution|>\\boxed{7}<|end_of_solution|>", "7"),
    ("<|channel|>analysis<|message|>Maybe \\boxed{5}", None),
    (
        "<|channel|>analysis<|message|>Maybe \\boxed{5}<|end|><|start|>assistant<|channel|>final<|message|>"
        "\\boxed{7}<|return|>",
        "7",
    ),
    ("analysisMaybe \\boxed{5}assistantfinal\\boxed{7}", "7"),
    ("analysisMaybe \\boxed{5}", None),
    ("<|START_THINKING|>\\boxed{5}", None),
    ("<|START_THINKING|>a<|END_THINKING|><|START_RESPONSE|>\\boxed{7}<|END_RESPONSE|>", "7"),
    ("<think><think>a</think>\\boxed{7}", "7"),
    ("<think>a<reflection>b</think>\\boxed{7}", "7"),
    ("<think>a</reflection>\\boxed{7}", None),
    ("<reasoning>a</think>\\boxed{7}", "7"),
    ("<x:reasoning>a</reasoning>\\boxed{7}", "7"),
    ("<THINK>\\boxed{7}", None),
    ("<|think|>\\boxed{7}", None),
    ("<thinking>\\boxed{7}", None),
    ("<mm:think>\\boxed{7}", None),
    ("&lt;think&gt;\\boxed{7}", None),
    ("<think>a</think>\\boxed{7}<think>b", None),
    ("<scratchpad>\\boxed{7}", None),
    ("a</think>\\boxed{7}", "7"),
    ("a</seed:think>\\boxed{7}", "7"),
    ("<|channel|>final<|message|>\\boxed{7}<|return|>", "7"),
    ("<think>a</think>\n\n<|channel|>", None),
]

TABLE = (
    *HEADINGS, *SENTENCES, *ENDINGS, *LANGUAGES, *TOKENS, *ORDER, *BOXES, *TAGS, *LISTS, *TURNS, *THOUGHTS,
)  # fmt: skip


@pytest.mark.parametrize(("completion", "text"), TABLE)
def test_what_is_taken_for_the_answer(completion: str, text: str | None) -> None:
    assert extract_answer(completion).text == text


@pytest.mark.parametrize(("completion", "text"), [row for row in TABLE if row[1] is not None])
def test_a_special_token_or_a_further_turn_behind_a_text_changes_nothing(completion: str, text: str) -> None:
    for end in ("<|im_end|>", "</s>", "<|endoftext|>", "\n\nHuman: and 5+5?\n\nAssistant: \\boxed{10}"):
        assert extract_answer(completion + end).text == text


@pytest.mark.parametrize(("completion", "text"), [row for row in TABLE if row[1] and not thought_marks(row[0])])
def test_a_text_inside_a_thought_pays_nothing(completion: str, text: str) -> None:
    if "<|channel|>" in completion or "assistantfinal" in completion or "|>assistant" in completion:
        return
    for opening in ("<think>", "[THINK]", "<seed:think>", "<reasoning>", "\u25c1think\u25b7", "<|begin_of_thought|>"):
        assert extract_answer(f"{opening}{completion}").text is None


def test_a_completion_that_stopped_by_itself_is_not_cut() -> None:
    assert extract_answer("The answer is 12<|im_end|>", is_truncated=True).text == "12"
    assert extract_answer("The answer is 12", is_truncated=True).how == "truncated"
    assert extract_answer("So **12**", is_truncated=True).how == "truncated"


@pytest.mark.parametrize(
    ("completion", "text"),
    [
        ("so we get \\(9\\)", "9"),
        ("so it is \\(420\\).", "420"),
        ("which is 1,000.99m", "1,000.99"),
        ("so $x = 7$ it is", "x = 7"),
        ("we get \\(\\frac{1}{2}\\)", "\\frac{1}{2}"),
        ("it costs $29.00 in all", "29.00"),
        ("48 and 24 make 72 clips", "72"),
        ("50\\% of them", "50\\%"),
        ("The answer is 12 ist nicht richtig", "12 ist nicht richtig"),
        ("\\boxed{7}, from 3 and 4", "7"),
        ("<think>it is 12", None),
        ("none", None),
        ("2 x 7 = 14\n\nYour answer is correct.", "14"),
    ],
)
def test_the_lenient_policy_takes_the_last_number_with_its_formula(completion: str, text: str | None) -> None:
    assert extract_answer(completion, policy="lenient").text == text


@pytest.mark.parametrize(
    ("completion", "text"),
    [
        ("\\boxed{7}", "7"),
        ("\\boxed{7}. The answer is 8.", "7"),
        ("\\boxed{7} is wrong.", None),
        ("<answer>7</answer>", None),
        ("The answer is 7.", None),
        ("<think>\\boxed{7}", None),
        ("\\boxed{7}<|im_end|>\\boxed{8}", "7"),
    ],
)
def test_the_strict_policy_takes_a_box_and_nothing_else(completion: str, text: str | None) -> None:
    assert extract_answer(completion, policy="strict").text == text


LONG = {
    "speakers": "\nHuman: " * 10**4,
    "questions": "\nQ: x" * 10**4,
    "bold": "**1** " * 10**4,
    "stars": "*" * 10**5,
    "labels": "(a) \\boxed{1} " * 10**4,
    "headings": "### Answer\n" * 10**4,
    "tokens": "<|im_end" * 10**4,
    "thoughts": "<think></think>" * 10**4,
    "thoughts and questions": "<think>a</think>\nQ: \\boxed{1}" * 3 * 10**3,
    "lines behind a box": "\\boxed{1}" + "\n" * 10**5,
    "copulas": "Final Answer: " + "is " * 10**4 * 3,
    "dollars": "$1 " * 10**4 * 3,
    "Chinese": "\u7b54\u6848" * 10**4 * 3,
}


@pytest.mark.parametrize("name", LONG)
def test_long_texts_of_marks_cost_little(name: str) -> None:
    """Seconds of this process, far above the hundredths that linear time takes and far below what a square would."""
    for policy in ("lenient", "strict", "qwen2.5-math"):
        started = time.process_time()
        extract_answer(LONG[name], policy=policy)
        assert time.process_time() - started < 2.0


@pytest.mark.parametrize(
    ("completion", "text"),
    [
        ("The answer is:\n\n- 12", "12"),
        ("The answer is: -12", "-12"),
        ("__Answer__: 12", "12"),
        ("Final result: 12", "12"),
        ("The answer equals 12", "12"),
        ("The answer is !=12.", "!=12"),
        ("The answer is between 11 and 13", "between 11 and 13"),
    ],
)
def test_the_sign_before_a_value_is_a_part_of_it_and_a_bullet_is_none(completion: str, text: str) -> None:
    assert extract_answer(completion).text == text


def test_where_a_later_statement_stands() -> None:
    text = "The answer is 5. No, that is wrong. It should be 6. So"
    found = later_statement(text, 15, "5", is_corrected=True)
    assert found is not None
    assert text[found.start : found.end] == "should be 6"
    assert extract_answer(text).text == "6"
    assert extract_answer("The answer is 5. No, that is wrong. It should be 6", is_truncated=True).how == "truncated"
    assert extract_answer("<answer> Yes. </answer>").verbatim == "Yes."


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("The largest n is 34", "34"),
        ("The area of what is shown is 12", "12"),
        ("the total = 7", "7"),
        ("the total = 3 = 7", "3 = 7"),
        ("the total is 12,", "12"),
        ("$x$ is 5", "5"),
        ("\\(x\\) is 5", "5"),
        ("for $x = y$ the sum = 5", "5"),
        ("the sum is 5 for $x is y$", "5"),
        ("the sum is 5 for \\(x is y\\)", "5"),
        ("that a > b is 7", "7"),
        ("a > b = 7", None),
        ("it is the big one", None),
        ("it is", None),
        ("no verb", None),
        ("it is not 7", None),
        ("it is at least 7", None),
        ("x is 3 and y is 7", None),
        ("it is 3 or 7", None),
        ("it is red", "red"),
        ("it is $5$ metres", "5"),
    ],
)
def test_the_value_in_a_sentence(text: str, value: str | None) -> None:
    assert predicate(text) == value


def test_the_value_at_the_head_of_what_follows() -> None:
    for text, value in (
        ("12,", "12"),
        ("even**", "even"),
        ("\u201ceven\u201d.", "even"),
        ("$\\$36$ in all", "\\$36"),
        ("$36 in all", "$36"),
        ("\\(12\\) apples", "12"),
        ("$12$ or $13$", "$12$ or $13$"),
        ("$12$ is not it", "$12$ is not it"),
        ("exactly 12 apples", "12"),
        ("12 of them. 13", "12"),
        ("12; 13", "12"),
        ("12 or 13 apples", "12 or 13 apples"),
        ("12 apples are not it", "12 apples are not it"),
        ("12 and more", "12 and more"),
    ):
        assert value_at_head(text) == value, text
    assert value_at_head("12 apples") == "12"
    assert value_at_head("12 apples", is_prose=False) == "12 apples"
    assert sentence("a? b") == ("a", True)
    assert sentence("a\uff1f") == ("a", True)
    assert sentence("a. b?") == ("a", False)
    assert sentence("a") == ("a", False)
    assert [has_mathematics(text) for text in ("12", "x", "$", "A cat", "A", "words", "a cat")] == [
        *(True, True, True, False, True, False, False),
    ]
