"""The rule parts of the scoring of visual benchmarks, as published; no model extracts or judges anything.

Each rule does what its source does without its language model, exploits included: see the page of the benchmarks in the
docs. Three differences are deliberate. An answer that a source passes to Python's ``eval`` or to a parser of LaTeX is
read as a number or not at all, a number in words is not read, and an option that a source draws at random is wrong.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from relax_rl.rewards.mathematics.literals import canonical, rational
from relax_rl.rewards.official import Graded, OfficialRule
from relax_rl.rewards.visual.gold import read_typed

__all__ = ["VISUAL_RULES", "edit_distance"]

_PHRASE = re.compile(r'The answer is "(.*)"\.')
_IN_PARENTHESES = re.compile(r"\(([a-zA-Z])\)")
_DROPPED = re.compile(r"\\text|\^\{?\\circ\}?|\\circ|\^\{\\circ\}|\$|\\?%|°|\\!|\{degrees\}|km|m\^3|units?|\s")
_ANSWER_IS = re.compile(r"the (?:final |correct )?answer is", re.IGNORECASE)
_BOX = "\\boxed{"
_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?", re.IGNORECASE | re.ASCII)
_EMMA_FLAGS = ("final answer is", "correct answer is", "answer should be", "answer is", "answer:")
_FRACTION = re.compile(r"\\[dt]?frac\{([^{}]+)\}\{([^{}]+)\}")
_MMMU_NUMBER = re.compile(r"-?\d+(?:,\d{3})*(?:\.\d+)?|-?\.\d+", re.ASCII)
_MMMU_TAIL = re.compile(r"\b(?:could be|so|is|thus|therefore|final|answer|result)\b|=", re.IGNORECASE)


def mathvista(graded: Graded) -> bool:
    """The choice at the smallest edit distance, ``int(float(x))``, or a rounded float, compared as text."""
    answer, gold = _read_mathvista(graded.text.strip(), _choices(graded)), str(graded.columns.get("published", ""))
    choices = _choices(graded)
    kind = graded.columns.get("answer_type")
    if choices:
        found = _IN_PARENTHESES.search(answer)
        letter = found[1].upper() if found else answer
        place = ord(letter) - ord("A") if len(letter) == 1 else -1
        if 0 <= place < len(choices):
            return choices[place] == gold
        # An empty answer is nearest to the shortest choice: nothing said may be right.
        return min(choices, key=lambda choice: edit_distance(answer, choice)) == gold
    try:
        if kind == "integer":
            return str(int(float(answer))) == gold
        if kind == "float":
            return str(round(float(answer), int(float(graded.columns.get("precision") or 0)))) == gold
    except (ValueError, OverflowError):
        return False
    return answer == gold


def mathverse(graded: Graded) -> bool:
    """``quick_match``: the extracted text is the published answer, apart from white space around it."""
    return (_last_box(graded.text) or graded.text).strip() == str(graded.columns.get("published", "")).strip()


def mathvision(graded: Graded) -> bool:
    """The gold letter or the text of its option, as text, or both as numbers rounded to two places."""
    text, gold = graded.text, str(graded.columns.get("published", ""))
    letter = re.search(r" \(([A-E])\)\.?$", text) or re.match(r"([A-E])\n", text)
    answer = letter[1] if letter else _after_phrase(text) or _last_box(text) or text
    choices = _choices(graded)
    golds = [gold.lower()]
    if choices and len(gold) == 1 and 0 <= ord(gold) - ord("A") < len(choices):
        golds.append(_plain(choices[ord(gold) - ord("A")]))
    plain = _plain(answer)
    return any(plain == one or _near(plain, one) for one in golds)


def dynamath(graded: Graded) -> bool:
    """A float within 0.001, the only capital letter, or a text that the gold one contains: "" is in every text."""
    answer, gold = (_last_box(graded.text) or graded.text).strip(), str(graded.columns.get("published", ""))
    kind = graded.columns.get("answer_type")
    if kind in ("float", "int"):
        plain = answer.replace("\\pi", "pi").replace("π", "pi")
        factor = 3.141592653589793 if plain.endswith("pi") else 1.0
        value, expected = _float(plain.removesuffix("pi").split(" ")[0] or "1"), _float(gold)
        return value is not None and expected is not None and abs(value * factor - expected) <= 0.001
    if kind == "multiple choice":
        found = [answer] if re.fullmatch("[A-Z]", answer) else sorted(set(re.findall("[A-E]", answer)))
        return found == [gold.strip()]
    return answer.lower() in gold.lower()


def mmmu(graded: Graded) -> bool:
    """The last option that the text names; for an open question, the gold text in a sentence that concludes."""
    choices, gold = _choices(graded), graded.columns.get("published", "")
    if choices:
        return _mmmu_choice(graded.text, choices) == gold
    one = read_typed(graded.gold)
    golds = one.members if one is not None and one.kind == "any" else [str(gold)]
    pieces = _mmmu_pieces(graded.text)
    numbers = {round(float(found.replace(",", "")), 2) for piece in pieces for found in _MMMU_NUMBER.findall(piece)}
    for text in golds:
        value = _float(text)
        if value is not None and round(value, 2) in numbers:
            return True
        if value is None and any(text.lower() in piece.lower() for piece in pieces):
            return True
    return False


def mmstar(graded: Graded) -> bool:
    """The first character, the second behind a parenthesis, or what follows "option " or "the answer is "."""
    text, gold = graded.text.strip().lower(), str(graded.columns.get("published", "")).strip().lower()
    if not text or not gold:
        return False
    if text[0] == gold or (text[0] == "(" and text[1:2] == gold):
        return True
    return any(text.startswith(f"{words}{gold}") for words in ("option ", "the answer is "))


def emma(graded: Graded) -> bool:
    """The letter or the text of the option, lower-cased, or numbers equal after rounding to two places."""
    answer, gold = _read_emma(graded.text.strip()).lower().strip(), str(graded.columns.get("published", "")).strip()
    choices, golds = _choices(graded), [gold.lower()]
    if choices and len(gold) == 1 and 0 <= ord(gold) - ord("A") < len(choices):
        golds.append(choices[ord(gold) - ord("A")].strip().lower())
    return bool(answer) and any(answer == one or _near(answer, one) for one in golds)


def virl39k(graded: Graded) -> bool:
    """The reward of VL-Rethinker: a gold letter A to K is right where the box starts with it; else our own verdict."""
    one = read_typed(graded.gold)
    gold, box = graded.gold if one is None else one.value, _last_box(graded.text)
    if re.fullmatch("[A-K]", gold.strip()):
        return box.strip().startswith(gold.strip())
    return graded.score == 1.0


def edit_distance(first: str, second: str) -> int:
    """Insertions, deletions and substitutions from one text to another (Levenshtein)."""
    row = list(range(len(second) + 1))
    for place, character in enumerate(first, 1):
        before, row[0] = row[0], place
        for other, expected in enumerate(second, 1):
            before, row[other] = row[other], min(row[other] + 1, row[other - 1] + 1, before + (character != expected))
    return row[-1]


_EMMA = (OfficialRule("emma", "EMMA-Bench/EMMA evaluation/evaluate.py, its rule", emma),)

VISUAL_RULES: Mapping[str, tuple[OfficialRule, ...]] = {
    "mathvista": (OfficialRule("mathvista", "lupantech/MathVista evaluation/calculate_score.py", mathvista),),
    "mathverse": (OfficialRule("mathverse", "ZrrSkywalker/MathVerse evaluation/score_answer_s2.py", mathverse),),
    "mathvision": (OfficialRule("mathvision", "mathllm/MATH-V evaluation/utils.py", mathvision),),
    "dynamath": (OfficialRule("dynamath", "open-compass/VLMEvalKit vlmeval/dataset/dynamath.py", dynamath),),
    "mmmu": (OfficialRule("mmmu", "MMMU-Benchmark/MMMU mmmu/utils/eval_utils.py", mmmu),),
    "mmstar": (OfficialRule("mmstar", "MMStar-Benchmark/MMStar eval/vlmeval/MMStar_eval.py", mmstar),),
    "emma": _EMMA,
    "emma_mini": _EMMA,
    "virl39k": (OfficialRule("virl39k", "TIGER-AI-Lab/VL-Rethinker (reward)", virl39k),),
}
"""Rules by the name of the task."""


def _choices(graded: Graded) -> Sequence[str]:
    found: Any = graded.columns.get("choices")
    return [str(one) for one in found] if found else []


def _read_mathvista(text: str, choices: Sequence[str]) -> str:
    """The text if it is an answer by itself, the phrase of the prompt, or "" where the source asks a model."""
    if text in choices or _float(text) is not None:
        return text
    found = _PHRASE.search(text)
    return found[1] if found else ""


def _read_emma(text: str) -> str:
    """A letter that the text begins with, the text if it is a number, the last box, what follows a flag, or ""."""
    if (letter := re.match(r"([A-H])(?:[:.]|\Z)|[a-h]\Z", text)) is not None:
        return letter[1] or text
    if _NUMBER.fullmatch(text) is not None:
        return text
    if boxes := _whole_boxes(text):
        inner = re.findall(r"\\text\{(.*?)\}", boxes[-1])
        return inner[-1] if inner else boxes[-1]
    lower = text.lower()
    flag = next((flag for flag in _EMMA_FLAGS if flag in lower), None)
    if flag is None:
        return ""
    # The first full stop ends the answer: 3.5 becomes 3.
    return lower.rpartition(flag)[2].strip().split("\n")[0].split(".")[0]


def _whole_boxes(text: str) -> list[str]:
    """The contents of the boxes that are closed, in order; one that is not closed hides those behind it."""
    found: list[str] = []
    start = text.find(_BOX)
    while start >= 0 and (content := _box_at(text, start)) is not None:
        found.append(content)
        start = text.find(_BOX, start + len(_BOX) + len(content))
    return found


def _last_box(text: str) -> str:
    start = text.rfind(_BOX)
    return "" if start < 0 else _box_at(text, start) or ""


def _box_at(text: str, start: int) -> str | None:
    """The content of the box that opens at a place; None: it is not closed."""
    depth, begin = 1, start + len(_BOX)
    for place in range(begin, len(text)):
        depth += {"{": 1, "}": -1}.get(text[place], 0)
        if depth == 0:
            return text[begin:place]
    return None


def _after_phrase(text: str) -> str:
    found = list(_ANSWER_IS.finditer(text))
    return text[found[-1].end() :].strip(" :.\n") if found else ""


def _plain(text: str) -> str:
    for mark in ("=", "\\approx"):
        text = text.rpartition(mark)[2]
    return _DROPPED.sub("", text.lower()).strip("{}.")


def _near(first: str, second: str) -> bool:
    values = [_float(text) for text in (first, second)]
    return values[0] is not None and values[1] is not None and round(values[0], 2) == round(values[1], 2)


def _float(text: str) -> float | None:
    read = rational(canonical(_FRACTION.sub(r"\1/\2", text.strip())))
    return None if read is None else float(read[0])


def _mmmu_choice(text: str, choices: Sequence[str]) -> str | None:
    padded = f" {text.strip(',.!?;: ' + chr(39))} "
    letters = [chr(ord("A") + place) for place in range(len(choices))]
    for form in ("({})", " {} "):
        places = {letter: padded.rfind(form.format(letter)) for letter in letters}
        if max(places.values()) >= 0:
            return max(letters, key=lambda letter: places[letter])
    if len(text.split()) > 5:
        places = {letter: padded.lower().rfind(choice.lower()) for letter, choice in zip(letters, choices, strict=True)}
        if max(places.values()) >= 0:
            return max(letters, key=lambda letter: places[letter])
    return None


def _mmmu_pieces(text: str) -> list[str]:
    """What follows the last word of conclusion in each sentence that has one; else the whole text."""
    sentences = re.split(r"\.\s|\n", text.strip().strip("."))
    tails = [found[-1] for sentence in sentences if len(found := _MMMU_TAIL.split(sentence)) > 1]
    return [tail.strip() for tail in tails if tail.strip()] or [text.strip()]
