"""Where other harnesses look for the answer, so that a number of theirs can be compared with one of ours.

Each follows the text of the source that it names, quirks included: the whole completion is read, thoughts and further
turns too. What they do to the text of the answer afterwards is not followed: it is compared as any answer is.
"""

from __future__ import annotations

import re

from relax_rl.rewards.extraction.finding import Extraction, last_match

__all__ = [
    "read_gsm8k_flexibly",
    "read_gsm8k_strictly",
    "read_minerva",
    "read_qwen_math",
    "read_verl_dapo",
    "read_verl_math",
]

_NOTHING = Extraction(None, "no answer")
_MINERVA = re.compile(r"Final Answer: The final answer is(.*?). I hope it is correct\.")
_GSM8K = re.compile(r"#### (-?[0-9.,]+)")
_GSM8K_STOPS = re.compile(r"Question:|</s>|<\|im_end\|>")
_FLEXIBLE = re.compile(r"-?[$0-9.,]{2,}|-?[0-9]+")
_QWEN_NUMBER = re.compile(r"-?\d*\.?\d+")
_DAPO = re.compile(r"Answer\s*:\s*([^\n]+)", re.IGNORECASE)
_DAPO_CHARS = 300
_DOLLARS = re.compile(r"\$([^$\n]*)\$")
_WHOLE_BOX = re.compile(r"\\boxed\{(.*)\}")
_BRACE = re.compile(r"[{}]")


def read_minerva(completion: str, is_truncated: bool) -> Extraction:
    """``lm_eval/tasks/minerva_math/utils.py``: the first "Final Answer: The final answer is X. I hope it is correct."

    The closing words may be missing at the end of the text. Generation stops at "Problem:".
    """
    text = completion.partition("Problem:")[0] + "I hope it is correct."
    found = _MINERVA.search(text)
    return _NOTHING if found is None else _stated(_between_dollars(found[1].strip()))


def read_gsm8k_strictly(completion: str, is_truncated: bool) -> Extraction:
    """``lm_eval/tasks/gsm8k/gsm8k.yaml``, ``strict-match``: the first "#### X" with X a number."""
    found = _GSM8K.search(_before_stop(completion))
    return _NOTHING if found is None else _stated(_without_signs(found[1]))


def read_gsm8k_flexibly(completion: str, is_truncated: bool) -> Extraction:
    """``lm_eval/tasks/gsm8k/gsm8k.yaml``, ``flexible-extract``: the last run of digits, points, commas, dollars."""
    found = last_match(_FLEXIBLE, _before_stop(completion))
    return _NOTHING if found is None else Extraction(_without_signs(found[0]), "bare number")


def read_qwen_math(completion: str, is_truncated: bool) -> Extraction:
    """``evaluation/parser.py`` of Qwen2.5-Math, ``extract_answer`` for the data set ``math``.

    Minerva's sentence, else what follows the last "boxed", else the last "he answer is", else the last "final answer
    is", else the first "\u7b54\u6848\u662f", else the last number.
    """
    if "final answer is $" in completion and "$. I hope" in completion:
        after = completion.split("final answer is $", 1)[1]
        return _stated(_cleaned(after.split("$. I hope", 1)[0].strip()))
    if "boxed" in completion:
        after = completion.rpartition("boxed")[2]
        inside = _balanced(after) if after.startswith("{") else after.partition("$")[0].strip()
        return Extraction(_cleaned(inside), "boxed") if after else _NOTHING
    for words in ("he answer is", "final answer is"):
        if words in completion:
            return _stated(_cleaned(completion.rpartition(words)[2].strip()))
    if "\u7b54\u6848\u662f" in completion:
        return _stated(_cleaned(completion.split("\u7b54\u6848\u662f")[1].strip().partition("\n\n")[0].strip()))
    last = last_match(_QWEN_NUMBER, completion.replace(",", ""))
    return _NOTHING if last is None else Extraction(last[0], "bare number")


def read_verl_dapo(completion: str, is_truncated: bool) -> Extraction:
    """``verl/utils/reward_score/math_dapo.py``: the last "Answer: X" up to the end of its line, in the last 300
    characters; of an equation its last side."""
    found = last_match(_DAPO, completion[-_DAPO_CHARS:])
    if found is None:
        return _NOTHING
    side = _between_dollars(found[1].rpartition("=")[2])
    return _stated(_WHOLE_BOX.sub(r"\1", side).replace("$", "").strip())


def read_verl_math(completion: str, is_truncated: bool) -> Extraction:
    r"""``verl/utils/reward_score/math_reward.py``: the last ``\boxed{X}``, or the last ``\boxed X`` up to a dollar."""
    if "\\boxed " in completion:
        return Extraction(completion.rpartition("\\boxed ")[2].partition("$")[0], "boxed")
    start = completion.rfind("\\boxed")
    after = completion[start + len("\\boxed") :]
    if start < 0 or not after.startswith("{"):
        return _NOTHING
    depth = 0
    for brace in _BRACE.finditer(after):
        depth += 1 if brace[0] == "{" else -1
        if depth == 0:
            return Extraction(after[1 : brace.start()], "boxed")
    return Extraction(None, "unclosed box")


def _stated(text: str) -> Extraction:
    return Extraction(text, "stated") if text else _NOTHING


def _before_stop(completion: str) -> str:
    stop = _GSM8K_STOPS.search(completion)
    return completion[: stop.start()] if stop else completion


def _without_signs(number: str) -> str:
    """What their comparison ignores: commas, dollars and a point at the end."""
    return number.replace(",", "").replace("$", "").removesuffix(".")


def _between_dollars(text: str) -> str:
    found = _DOLLARS.search(text)
    return found[1].strip() if found else text


def _balanced(text: str) -> str:
    """The inside of the brace group at the head of a text; all of it if the group never closes."""
    depth = 0
    for brace in _BRACE.finditer(text):
        depth += 1 if brace[0] == "{" else -1
        if depth == 0:
            return text[1 : brace.start()]
    return text[1:]


def _cleaned(text: str) -> str:
    """One line, without a colon before it and a point or slash behind it."""
    return re.sub(r"\n\s*", "", text).removeprefix(":").removesuffix(".").removesuffix("/")
