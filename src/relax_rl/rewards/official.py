"""The published scoring rules of benchmarks, beside our own verdict, so that numbers can be compared with papers.

Each rule does what its source does, mistakes included: it refuses right answers in another form, and some accept wrong
ones. No rule is a reward. Written from the behaviour of the sources that each docstring names.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from relax_rl.rewards.official_math import boxed_or_mathematics, same_as_hendrycks

__all__ = ["OFFICIAL_RULES", "Graded", "OfficialRule", "official_rules", "official_scores"]

_HASHES = re.compile(r"#### (-?[0-9.,]+)", re.ASCII)
_FLEXIBLE = re.compile(r"-?[$0-9.,]{2,}|-?[0-9]+", re.ASCII)
_LETTER = re.compile(r"answer is \(?([A-J])\)?")
_ANSWER_LINE = re.compile(r"answer[ \t]*:[ \t]*\$?([A-D])\$?", re.IGNORECASE)
_BOX = re.compile(r"\\boxed\{")
_DOLLARS = re.compile(r"\$(.*?)\$")
_DROPPED = re.compile(r"\\left|\\right|\$|\^\\circ|\^\{\\circ\}|\\?%")
_FONT = re.compile(r"\\(?:mathrm|mathbf)\{~?([^}]*)\}")
_EDGES = "\n$,.:;^_=+`!@#%&*~，。 "
_PRECISION = 1e-8


@dataclass(frozen=True)
class Graded:
    """A completion as an official rule sees it.

    Attributes:
        text: what follows the thought.
        gold: the gold answer.
        score: our own verdict, for the part of a rule that is algebra.
        columns: further columns of the problem, such as the tolerance of OlympiadBench.
    """

    text: str
    gold: str
    score: float | None = None
    columns: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class OfficialRule:
    """A published rule.

    Attributes:
        name: in metrics, as ``official/NAME``.
        source: the repository and file that it follows.
        is_right: the rule.
    """

    name: str
    source: str
    is_right: Callable[[Graded], bool]


def gsm8k(graded: Graded) -> bool:
    """The number behind the first ``####``, without commas, is the gold text (Cobbe et al. 2021; lm-eval strict)."""
    found = _HASHES.search(graded.text)
    return found is not None and found[1].strip().replace(",", "") == _without_marks(graded.gold)


def gsm8k_flexible(graded: Graded) -> bool:
    """The last number of the text, whatever stands around it (lm-eval's flexible-extract)."""
    found = _FLEXIBLE.findall(graded.text)
    return bool(found) and _without_marks(found[-1]) == _without_marks(graded.gold)


def hendrycks_math(graded: Graded) -> bool:
    """The last box, else the mathematics, is the gold text after normalisation (Hendrycks et al. 2021)."""
    return same_as_hendrycks(boxed_or_mathematics(graded.text), graded.gold)


def integer(graded: Graded) -> bool:
    """The same, where gold answers are integers: leading zeros do not count, as on the answer sheet of AIME."""
    found = boxed_or_mathematics(graded.text).strip().strip("$").strip()
    if found.isascii() and found.isdigit() and graded.gold.isascii() and graded.gold.isdigit():
        return int(found) == int(graded.gold)
    return same_as_hendrycks(found, graded.gold)


def olympiadbench(graded: Graded) -> bool:
    """Every box, paired with the gold answers in any order: the same text, or a number within the problem's precision.

    The column ``error`` of the data holds the precision, one for all answers or one each; 1e-8 without it. A number may
    be a hundred times larger or smaller, as a percentage. Where the source uses computer algebra, our verdict decides.
    """
    golds, answers = (_split(_plain(_contents(text))) for text in (graded.gold, graded.text))
    precisions = _precisions(graded.columns.get("error"), len(golds))
    if len(golds) != len(answers):
        return graded.score == 1.0
    left = list(answers)
    for gold, precision in zip(golds, precisions, strict=True):
        match = next((one for one in left if one == gold or _is_close(gold, one, precision)), None)
        if match is None:
            return graded.score == 1.0
        left.remove(match)
    return True


def mmlu_pro(graded: Graded) -> bool:
    """The first "answer is (X)" names the gold letter (lm-eval's custom-extract)."""
    found = _LETTER.search(graded.text)
    return found is not None and found[1] == graded.gold.strip().strip("()")


def gpqa(graded: Graded) -> bool:
    """The first "Answer: X" names the gold letter (simple-evals)."""
    found = _ANSWER_LINE.search(graded.text)
    return found is not None and found[1].upper() == graded.gold.strip().strip("()").upper()


_HARNESS = "EleutherAI/lm-evaluation-harness lm_eval/tasks"
_HENDRYCKS = OfficialRule("hendrycks_math", f"{_HARNESS}/hendrycks_math/utils.py", hendrycks_math)
_INTEGER = OfficialRule("integer", f"{_HARNESS}/aime/utils.py", integer)
OFFICIAL_RULES: Mapping[str, tuple[OfficialRule, ...]] = {
    "gsm8k": (
        OfficialRule("gsm8k", "openai/grade-school-math grade_school_math/dataset.py", gsm8k),
        OfficialRule("gsm8k_flexible", f"{_HARNESS}/gsm8k/gsm8k.yaml", gsm8k_flexible),
    ),
    **dict.fromkeys(("math", "math500", "minerva"), (_HENDRYCKS,)),
    **dict.fromkeys(("aime24", "aime25", "amc22", "amc23"), (_INTEGER,)),
    "olympiadbench": (
        OfficialRule("olympiadbench", "OpenBMB/OlympiadBench inference/code/math_judger.py", olympiadbench),
    ),
    "mmlu_pro": (OfficialRule("mmlu_pro", f"{_HARNESS}/mmlu_pro", mmlu_pro),),
    "gpqa": (OfficialRule("gpqa", "openai/simple-evals gpqa_eval.py", gpqa),),
}
"""Rules by the name of the benchmark; one without its own rule is not here."""


def official_rules(benchmark: str) -> tuple[OfficialRule, ...]:
    """The published rules of a benchmark; none if it has no rule of its own."""
    return OFFICIAL_RULES.get(benchmark, ())


def official_scores(benchmark: str, graded: Graded | None) -> dict[str, float]:
    """1.0 or 0.0 by the name of each rule of the benchmark.

    Args:
        graded: None for a completion that ends inside its thought, which every rule refuses.
    """
    rules = official_rules(benchmark)
    return {rule.name: float(graded is not None and rule.is_right(graded)) for rule in rules}


def _without_marks(number: str) -> str:
    return number.replace(",", "").replace("$", "").removesuffix(".").strip()


def _contents(text: str) -> str:
    """All boxes with commas between them; without a box the mathematics of the last line, else the text."""
    boxes = [text[match.end() : _closing(text, match.end())] for match in _BOX.finditer(text)]
    if boxes:
        return ",".join(boxes)
    last_line = text.strip().rpartition("\n")[2]
    return ",".join(_DOLLARS.findall(last_line)) or text


def _closing(text: str, start: int) -> int:
    depth = 1
    for place in range(start, len(text)):
        depth += {"{": 1, "}": -1}.get(text[place], 0)
        if depth == 0:
            return place
    return len(text)


def _plain(text: str) -> str:
    text = text.partition("\\in ")[2] or text
    return _FONT.sub(r"\1", _DROPPED.sub("", text).strip(_EDGES))


def _split(text: str) -> list[str]:
    """Parts between commas outside of brackets; a plus-minus is two parts."""
    parts, depth = [""], 0
    for character in text:
        depth += {"(": 1, "[": 1, ")": -1, "]": -1}.get(character, 0)
        if character == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    signed = [part.replace("\\pm", sign) for part in parts for sign in ("+-" if "\\pm" in part else "+")]
    return [part.strip() for part in signed]


def _precisions(error: Any, count: int) -> list[float]:
    given = [part for part in str(error or "").split(",") if part.strip()]
    read = [_number(part) or _PRECISION for part in given] or [_PRECISION]
    return (read * count)[:count] if len(read) < count else read[:count]


def _is_close(gold: str, answer: str, precision: float) -> bool:
    expected, found = _number(gold), _number(answer)
    if expected is None or found is None:
        return False
    return any(abs(scale * expected - found) <= 1.01 * precision for scale in (0.01, 1.0, 100.0))


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
