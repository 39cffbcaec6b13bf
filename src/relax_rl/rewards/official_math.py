"""The text comparison of MATH, as Hendrycks et al. (2021, arXiv:2103.03874) published it and others took it over.

It follows the behaviour of EleutherAI/lm-evaluation-harness, lm_eval/tasks/hendrycks_math/utils.py.
"""

from __future__ import annotations

import re

__all__ = ["boxed_or_mathematics", "same_as_hendrycks"]

_DISPLAY = re.compile(r"\\\[(.+?)\\\]", re.DOTALL)
_DROPPED = ("\\left", "\\right", "^{\\circ}", "^\\circ", "\\$")
_UNIT = "\\text{ "
# `\frac12`, `\frac1{72}`: an argument without braces is one character.
_LOOSE_FRACTION = re.compile(r"\\frac(?!\{)(.)(?:(\{)|(.))")
_LOOSE_ROOT = re.compile(r"\\sqrt(?!\{)(.)")
_QUOTIENT = re.compile(r"(-?\d+)/(-?\d+)", re.ASCII)


def boxed_or_mathematics(text: str) -> str:
    """What the last box holds; without one the first display, else all between the first and the last dollar sign."""
    start = max(text.rfind("\\boxed"), -1)
    if start < 0:
        start = text.rfind("\\fbox")
    if start >= 0:
        box = _box(text, start)
        if box is not None:
            return box
    display = _DISPLAY.search(text)
    if display:
        return display[1].strip()
    first, last = text.find("$"), text.rfind("$")
    return text[first + 1 : last] if last > first else text


def same_as_hendrycks(answer: str, gold: str) -> bool:
    """Whether both are one text after normalisation; as they are, where that fails."""
    try:
        return _normal(answer) == _normal(gold)
    except ValueError:
        return answer == gold


def _box(text: str, start: int) -> str | None:
    after = re.compile(r"\\(?:boxed|fbox)").match(text, start)
    assert after is not None
    if text[after.end() : after.end() + 1] == " ":
        return text[after.end() + 1 :].partition("$")[0]
    depth = 0
    for place in range(after.end(), len(text)):
        depth += {"{": 1, "}": -1}.get(text[place], 0)
        if depth == 0:
            return text[after.end() + 1 : place] if place > after.end() else None
    return None


def _normal(text: str) -> str:
    """Raises ValueError where the published code fails: two units, a root or a fraction at the very end."""
    text = text.replace("\n", "").replace("\\!", "").replace("\\\\", "\\")
    text = text.replace("tfrac", "frac").replace("dfrac", "frac")
    for part in _DROPPED:
        text = text.replace(part, "")
    if text.count(_UNIT) > 1:
        raise ValueError("two units")
    text = text.partition(_UNIT)[0].replace("\\%", "")
    text = text.replace(" .", " 0.").replace("{.", "{0.")
    if text.startswith("."):
        text = f"0{text}"
    name, equals, value = text.partition("=")
    if equals and "=" not in value and len(name) <= 2:
        text = value
    if text.endswith(("\\sqrt", "\\frac")):
        raise ValueError("an unfinished command")
    text = _LOOSE_ROOT.sub(r"\\sqrt{\1}", text).replace(" ", "")
    text = _LOOSE_FRACTION.sub(_with_braces, text)
    if text == "0.5":
        text = "\\frac{1}{2}"
    quotient = _QUOTIENT.fullmatch(text)
    if quotient is None or [str(int(part)) for part in quotient.groups()] != list(quotient.groups()):
        return text
    return f"\\frac{{{quotient[1]}}}{{{quotient[2]}}}"


def _with_braces(fraction: re.Match[str]) -> str:
    bottom = "{" if fraction[2] else f"{{{fraction[3]}}}"
    return f"\\frac{{{fraction[1]}}}{bottom}"
