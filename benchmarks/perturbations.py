"""Wrong answers and other spellings made from right ones, to see a verifier refuse these and accept those.

A verifier that accepts everything passes any test of gold against gold, and so does one that compares texts. Each kind
of mistake here is one that a policy makes, and small: the text stays close to the gold answer's.
"""

from __future__ import annotations

import re
from fractions import Fraction

__all__ = ["other_spellings", "wrong_answers"]

_NUMBER = re.compile(r"\d+", re.ASCII)
# The sign of the first number that has one of its own: not of an exponent, an index or the rest of a decimal, not of
# zero, nor of what follows a plus-minus or an even function.
_SIGN = re.compile(
    r"(?<![\d.^_])(?<![\^_]\{)(?<!\\pm)(?<!\\pm )(?<!\\cos)(?<!\\cos[ (])(?<!\\cos \()"
    r"(?P<sign>[-+]?)\s*(?=\d)(?!0+(?![.\d]))",
    re.ASCII,
)
_INTERVAL = re.compile(r"[(\[][^()\[\]]*\\infty[^()\[\]]*[)\]]|\[[^()\[\]]*,[^()\[\]]*\)|\([^()\[\]]*,[^()\[\]]*\]")
_PAIR = re.compile(r"\((?P<one>[^(),\[\]]+),(?P<other>[^(),\[\]]+)\)")
_LIST = re.compile(r"(?P<first>[^,()\[\]{}\\]+),(?P<rest>[^()\[\]{}\\]+)")
_FACTOR = re.compile(r"(?<=[\d} ])(?:\\sqrt\s*\{[^{}]*\}|\\pi(?![A-Za-z])|i$)")
_SCALE = re.compile(r"\\(?:text|mbox)\s*\{\s*(?:hundred|thousand|million|billion)\s*\}")
_UNIT = re.compile(
    r"(?<=[\d}])(?P<wrap>\s*\\(?:text|mbox)\s*\{\s*)"
    r"(?:cm|m|km|feet|ft|inches|miles|hours|minutes|min|days|dollars|cents|USD|mph)\b"
)
_FRACTION = re.compile(r"(?P<sign>-?)\\[dt]?frac\{(?P<top>\d+)\}\{(?P<bottom>\d+)\}", re.ASCII)
_INTEGER = re.compile(r"-?[1-9]\d*", re.ASCII)
_DECIMAL = re.compile(r"-?\d+\.\d+", re.ASCII)
_E_NOTATION = re.compile(r"(-?\d+(?:\.\d+)?)e([-+]?\d+)", re.ASCII)
_BRACKETED = re.compile(r"(?<!\\left)(?<![A-Za-z\d)}])([(\[])([^()\[\]]*,[^()\[\]]*)([)\]])")
_FLIPPED = str.maketrans("([)]", "[(])")


def wrong_answers(answer: str) -> dict[str, str]:
    """Kind of mistake -> a wrong answer, for those kinds that the form of the answer allows.

    ``another number``, ``wrong sign``, ``swapped end`` (of an interval), ``swapped order`` (of a pair),
    ``dropped part`` (of a list), ``dropped factor`` (a root, pi, i), ``another unit``, ``dropped scale`` (million).
    """
    text = re.sub(r"\\(?:left|right)(?![A-Za-z])\s*", "", answer)
    candidates = {
        "another number": _another_number(answer),
        "wrong sign": _SIGN.sub(lambda sign: {"-": "+", "+": "-"}.get(sign["sign"], "-"), answer, count=1),
        "swapped end": _INTERVAL.sub(lambda found: _flip_end(found.group()), text, count=1),
        "swapped order": _PAIR.sub(_swap, text, count=1),
        "dropped part": _LIST.sub(lambda found: found["rest"], answer) if _LIST.fullmatch(answer) else "",
        "dropped factor": _FACTOR.sub("", answer, count=1),
        "another unit": _UNIT.sub(r"\g<wrap>kg", answer, count=1),
        "dropped scale": _SCALE.sub("", answer, count=1),
    }
    return {kind: wrong.strip() for kind, wrong in candidates.items() if wrong.strip() and wrong not in (answer, text)}


def other_spellings(answer: str) -> dict[str, str]:
    """Kind of spelling -> the same answer, for those kinds that its form allows.

    ``dfrac``, ``slash`` (1/2), ``decimal`` (of a fraction that has one), ``decimals`` (6.0, 1.250), ``thousands``
    (1,234), ``power of ten`` (of 4.5e33), ``sized brackets`` (of a pair or an interval).
    """
    candidates = {"dfrac": re.sub(r"\\frac(?=\s*\{)", r"\\dfrac", answer)}
    candidates["sized brackets"] = _BRACKETED.sub(r"\\left\1 \2 \\right\3", answer)
    if fraction := _FRACTION.fullmatch(answer):
        value = Fraction(int(fraction["top"]), int(fraction["bottom"]))
        candidates["slash"] = f"{fraction['sign']}{fraction['top']}/{fraction['bottom']}"
        if 10**6 % value.denominator == 0:
            candidates["decimal"] = f"{fraction['sign']}{float(value)}"
    if _INTEGER.fullmatch(answer):
        candidates |= {"decimals": f"{answer}.0", "thousands": f"{int(answer):,}"}
    if notation := _E_NOTATION.fullmatch(answer):
        candidates["power of ten"] = f"{notation[1]} \\times 10^{{{int(notation[2])}}}"
    if _DECIMAL.fullmatch(answer):
        candidates["decimals"] = f"{answer}0"
    return {kind: text for kind, text in candidates.items() if text != answer}


def _another_number(answer: str) -> str:
    last = next(iter(reversed(list(_NUMBER.finditer(answer)))), None)
    if last is None:
        return ""
    return f"{answer[: last.start()]}{int(last.group()) + 1:0{len(last.group())}d}{answer[last.end() :]}"


def _flip_end(interval: str) -> str:
    """The other kind of bracket at the end that is not infinite."""
    first, inside, last = interval[0], interval[1:-1], interval[-1]
    if "\\infty" in inside.partition(",")[2]:
        return first.translate(_FLIPPED) + inside + last
    return first + inside + last.translate(_FLIPPED)


def _swap(pair: re.Match[str]) -> str:
    return pair.group() if pair["one"].strip() == pair["other"].strip() else f"({pair['other']},{pair['one']})"
