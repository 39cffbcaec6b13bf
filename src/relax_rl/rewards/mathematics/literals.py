"""Written forms of a mathematical answer: one spelling for many, and exact rational numbers read without algebra.

Pure text work, no computer algebra: what most answers need, and what the rest is cleaned with before sympy sees it.
"""

from __future__ import annotations

import re
from fractions import Fraction
from functools import lru_cache

from relax_rl.rewards.mathematics.arithmetic import TooLargeError, arithmetic

__all__ = [
    "TIME",
    "canonical",
    "exact",
    "is_too_large",
    "is_word",
    "rational",
    "same_literal",
    "same_rational",
    "tidy",
    "with_decimal_points",
    "without_e_notation",
]

_GREEK = (
    "alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa", "lambda", "mu", "nu", "xi",
    "rho", "sigma", "tau", "upsilon", "phi", "chi", "psi", "omega",
)  # fmt: skip
_UNICODE = str.maketrans(
    {
        **{chr(0xFF10 + digit): str(digit) for digit in range(10)},  # full-width digits
        **dict.fromkeys("\u2212\u2013\u2012\ufe63\uff0d", "-"),
        **dict.fromkeys("\u00a0\u2009\u202f\u200b\ufeff\x00", " "),
        "×": "\\times ", "·": "\\cdot ", "÷": "/", "π": "\\pi ", "∞": "\\infty ", "°": "^\\circ ", "≤": "\\le ",
        "≥": "\\ge ", "∪": "\\cup ", "±": "\\pm ", "√": "\\sqrt ", "，": ",", "（": "(", "）": ")", "％": "%",
        "²": "^2", "³": "^3", "⁴": "^4", "∅": "\\emptyset ",
        "≠": "\\ne ", "∈": "\\in ", "ℝ": "\\mathbb{R}", "ℤ": "\\mathbb{Z}", "⟨": "\\langle ", "⟩": "\\rangle ",
        **{letter: f"\\{name} " for letter, name in zip("αβγδεζηθικλμνξρστυφχψω", _GREEK, strict=True)},
    }
)  # fmt: skip
_PERCENT = r"percentage|percent|per\s+cent|pct"
_REWRITES = tuple(
    (re.compile(pattern, re.ASCII), replacement)
    for pattern, replacement in (
        (r"\\\$", ""),  # a currency sign is a unit
        (r"\$", ""),
        (r"\\(?:left|right|[bB]igg?[lr]?)(?![A-Za-z])", ""),
        (r"(?<=\d),\s*\\!\s*(?=\d{3})", ""),  # written only between thousands
        (r"\\phantom(?:\s*\{[^{}]*\})?", ""),
        (r"^\s*\\approx(?![A-Za-z])", ""),
        (r"\{,\}", ","),
        (r"(?<!\\)\\!", ""),
        (r"(?<!\\)\\(?:[,;: ]|q?quad(?![A-Za-z])|displaystyle(?![A-Za-z]))|~", " "),
        (r"\\varnothing(?![A-Za-z])", r"\\emptyset"),
        (r"\\(?:checkmark|blacksquare)(?![A-Za-z])", ""),
        (r"(?<![\\A-Za-z])sqrt\s*\(([^()]*)\)", r"\\sqrt{\1}"),  # plain text
        (r"(?<![\\A-Za-z])pi(?![A-Za-z])", r"\\pi "),
        (r"\\[dtc]frac(?![A-Za-z])", r"\\frac"),
        (r"\\frac\s*(\d)\s*(\d)", r"\\frac{\1}{\2}"),
        (r"\\frac\s*(\d)\s*\{", r"\\frac{\1}{"),
        (r"\\frac\s*(\{[^{}]*\})\s*(\d)", r"\\frac\1{\2}"),
        (r"\\frac\s*(\\pi(?![A-Za-z]))\s*(\d)", r"\\frac{\1}{\2}"),
        (r"\\sqrt\s*(\d)", r"\\sqrt{\1}"),
        (r"\\degrees?(?![A-Za-z])", r"^\\circ"),
        (r"\^\s*(?:\{\s*\\circ\s*\}|\\circ(?![A-Za-z]))", r"^\\circ"),
        (r"\\%", "%"),
        (r"\\l(?:eq|eqslant|eqq)(?![A-Za-z])|<=", r"\\le "),
        (r"\\g(?:eq|eqslant|eqq)(?![A-Za-z])|>=", r"\\ge "),
        (r"\\neq(?![A-Za-z])|\\not\s*=|!=", r"\\ne "),
        # a unit as a fraction, and percent in words
        (
            r"\\frac\s*\{\s*(\\(?:text|mathrm)\s*\{[^{}]*\})\s*\}\s*\{\s*(\\(?:text|mathrm)\s*\{[^{}]*\}(?:\^\{?\d\}?)?)\s*\}",
            r"\1/\2",
        ),
        (rf"(?<=[\d}})])\s*(?:\\(?:text|mathrm|mbox)\s*\{{\s*(?:{_PERCENT})\.?\s*\}}|(?:{_PERCENT})(?![A-Za-z]))", "%"),
        (r"(\d)\.(?=[/*+\-)\s}]|$)", r"\1"),  # a decimal point without decimals, as in `3./2`
    )
)
# Not after a backslash: `\\\\[` begins a row of a matrix.
_DELIMITERS = re.compile(r"(?<!\\)\\[()\[\]]")
_TEXT = re.compile(r"\\(?:text|mbox|textbf|textit|textrm|mathrm|mathbf|operatorname)\s*\{([^{}]*)\}")
_ONLY_TEXT = re.compile(r"\\(?:text|mbox|textbf|textit|textrm)\s*\{[^{}]*[A-Za-z]{2,}[^{}]*\}")
# `100, 200` is a list and `100,200` a number: the space must survive.
_LISTED = re.compile(r",\s+(?=\d{3}(?!\d))", re.ASCII)
_IN_PARENTHESES = re.compile(r"\(([A-Z]|[-+]?[\d.]+)\)", re.ASCII)
_OPTION = re.compile(r"^\s*(?i:option|choice)\s*(?=\(?[A-Z]\)?\s*$)")
_BASED = re.compile(r"(-?[0-9A-Za-z]+(?:\.[0-9A-Za-z]+)?)_(?:\{(\d{1,2})\}|(\d))", re.ASCII)
TIME = re.compile(r"(\d{1,2}):(\d{2})(?:([ap])\.?m\.?)?", re.ASCII | re.IGNORECASE)
_E_NOTATION = re.compile(r"(?<![A-Za-z\\\d.])((?:\d+\.?\d*|\.\d+))[eE]([-+]?\d+)(?![A-Za-z\d.])", re.ASCII)

_DECIMAL_COMMA = re.compile(r"(?<![\d.,])(\d{1,3}(?:\.\d{3})+|\d+)(?:,|\{,\})(\d+)(?![\d.]|,\d)", re.ASCII)

_REPEATING = re.compile(
    r"(?<![\d.])(?P<whole>\d{0,30})\.(?P<start>\d{0,30})(?:"
    r"\\(?:overline|bar|dot|overset\{\.\})\s*+\{?+(?P<period>\d{1,30}+)\}?+|\((?P<dotted>\d{1,30})\)"
    r"|\\dot\s*\{?(?P<first>\d)\}?(?P<inner>\d{0,30})\\dot\s*\{?(?P<last>\d)\}?+)(?![\d.\\])",
    re.ASCII,
)

_MIXED = re.compile(r"(?<![\d.,/^])(\d+)\s+(\d+)/(\d+)(?![\d/.])", re.ASCII)
_SPACED_THOUSANDS = re.compile(r"(?<![\d.,])(?<!\d\s)\d{1,3}(?:\s\d{3})+(?!\s?[\d/])", re.ASCII)
# All white space but that between two numbers, which are not one.
_SPACE = re.compile(r"(?<![0-9.]) | (?![0-9.])")

_DECIMAL = r"(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d*)?|\.\d+"
_RATIONAL = re.compile(
    rf"(?P<sign>[-+]?)(?:"
    rf"(?P<number>{_DECIMAL})(?:(?:[eE](?P<exponent>[-+]?\d{{1,3}}))|(?:\\times|\\cdot|\*)10\^(?P<power>\d|\{{[-+]?\d{{1,3}}\}}))?"
    rf"|(?P<whole>\d*)\\frac\{{(?P<top>-?\d+)\}}\{{(?P<bottom>\d+)\}}"
    rf"|(?P<over>\d+)/(?P<under>\d+)"
    rf")(?P<percent>%?)",
    re.ASCII,
)
# What needs no tidying: most answers, and their speed is the verifier's.
_PLAIN = re.compile(r"-?(?:\d+(?:\.\d+)?|\\frac\{\d+\}\{\d+\})", re.ASCII)
# Longer literals are read by the worker, under its limits.
_MAX_LITERAL_CHARS = 300


def tidy(text: str) -> str:
    """The same answer in fewer spellings: delimiters, spacing commands, currency signs and sized brackets go."""
    if _PLAIN.fullmatch(text):
        return text
    text = _DELIMITERS.sub(" ", text.translate(_UNICODE))
    for pattern, replacement in _REWRITES:
        text = pattern.sub(replacement, text)
    text = _REPEATING.sub(_repeating, text)
    return text.strip().rstrip(".,;:").strip()


def _repeating(found: re.Match[str]) -> str:
    r"""``0.1\overline{6}`` as ``\frac{1}{6}``."""
    whole, start = found["whole"] or "0", found["start"]
    period = found["period"] or found["dotted"] or found["first"] + found["inner"] + found["last"]
    scale = 10 ** len(start)
    value = Fraction(int(whole + start), scale) + Fraction(int(period), scale * (10 ** len(period) - 1))
    return f"\\frac{{{value.numerator}}}{{{value.denominator}}}"


@lru_cache(maxsize=4096)
def canonical(text: str) -> str:
    """``tidy`` without white space and text wrappers: equal strings are equal answers."""
    if _PLAIN.fullmatch(text):
        return text
    text = _OPTION.sub("", _TEXT.sub(r"\1", tidy(text)))
    text = " ".join(_LISTED.sub(";", text).split())
    text = _MIXED.sub(r"\1\\frac{\2}{\3}", text)
    text = _SPACED_THOUSANDS.sub(lambda match: "".join(match[0].split()), text)
    text = _SPACE.sub("", text).rstrip(".")
    inside = _IN_PARENTHESES.fullmatch(text)
    return inside.group(1) if inside else text


def with_decimal_points(text: str) -> str:
    """A text with decimal commas, ``3,5`` or ``1.234,5``, with decimal points; its lists have spaces or semicolons."""
    return _DECIMAL_COMMA.sub(lambda number: number[1].replace(".", "") + "." + number[2], text)


def without_e_notation(text: str) -> str:
    """``4.5e33`` as ``4.5 \\times 10^{33}``; a computer algebra system reads the former as a product with Euler's e."""
    return _E_NOTATION.sub(r"\1 \\times 10^{\2}", text)


def rational(text: str) -> tuple[Fraction, bool] | None:
    """(exact value, whether in percent) of a canonical number, or None if it is not one.

    Integers, decimals, thousands separators, ``a/b``, ``\\frac{a}{b}``, mixed numbers, e-notation and
    ``a \\times 10^{b}``.
    """
    match = _RATIONAL.fullmatch(text) if len(text) <= _MAX_LITERAL_CHARS else None
    if match is None:
        return None
    sign = -1 if match["sign"] == "-" else 1
    if match["number"] is not None:
        exponent = (match["exponent"] or match["power"] or "0").strip("{}")
        value = Fraction(match["number"].replace(",", "").rstrip(".")) * Fraction(10) ** int(exponent)
    elif match["top"] is not None:
        if int(match["bottom"]) == 0 or (match["whole"] and match["top"].startswith("-")):
            return None
        value = int(match["whole"] or 0) + Fraction(int(match["top"]), int(match["bottom"]))
    elif int(match["under"]) == 0:
        return None
    else:
        value = Fraction(int(match["over"]), int(match["under"]))
    return sign * value, bool(match["percent"])


def same_rational(gold: str, answer: str) -> bool | None:
    """Whether two numbers are equal; None if one of the texts is none."""
    first, second = rational(canonical(gold)), rational(canonical(answer))
    return _same_rational(*first, *second) if first and second else None


def same_literal(gold: str, answer: str) -> bool | None:
    """Whether two answers are equal, as far as text and exact rational arithmetic can tell; None: ask algebra.

    A rational gold answer is matched by exactly equal rationals only: 0.333 is not 1/3.
    """
    left, right = canonical(gold), canonical(answer)
    if left == right:
        return True
    first, second = exact(left), exact(right)
    if first and second:
        return _same_rational(*first, *second)
    if time := TIME.fullmatch(left):  # to a parser, a division
        other = TIME.fullmatch(right)
        return _same_time(time, other) if other else _is_ratio(time, right)
    if other := TIME.fullmatch(right):
        return _is_ratio(other, left)
    if is_word(tidy(gold)):
        return left.casefold() == right.casefold()
    if based := _BASED.fullmatch(left):
        return _same_in_base(based, right)
    if re.fullmatch(r"[A-Z]", left) and re.fullmatch(r"[A-Z]", right):
        return False
    return None


def is_word(text: str) -> bool:
    """Whether a tidied answer is a name or a word, which has no other form."""
    return _ONLY_TEXT.fullmatch(text) is not None and "," not in text


def is_too_large(text: str) -> bool:
    """Whether a number in an answer is too large to be written down, such as ``9^{9^{9^{9}}}``."""
    try:
        arithmetic(canonical(text))
    except TooLargeError:
        return True
    return False


def exact(text: str) -> tuple[Fraction, bool] | None:
    """As `rational`, of arithmetic such as ``5+7`` and ``2^{10}``, too."""
    found = rational(text)
    if found is not None:
        return found
    try:
        value = arithmetic(text)
    except TooLargeError:
        return None
    return None if value is None else (value, False)


def _same_rational(gold: Fraction, gold_in_percent: bool, answer: Fraction, answer_in_percent: bool) -> bool:
    """Exact equality; where only one side has a percent sign, 50% is both 50 (the question says percent) and 1/2."""
    if gold_in_percent == answer_in_percent:
        return gold == answer
    percent, number = (gold, answer) if gold_in_percent else (answer, gold)
    return number in (percent, percent / 100)


def _same_time(gold: re.Match[str], answer: re.Match[str]) -> bool:
    """`8:34 p.m.` is 20:34, and 8:34 if the answer leaves the half of the day out; it is not 8:34 a.m."""
    hours = []
    for time in (gold, answer):
        hour, half = int(time[1]), (time[3] or "").lower()
        hours.append((hour % 12, half or ("p" if hour > 12 else "")))
    (one, half), (other, other_half) = hours
    return gold[2] == answer[2] and one == other and (half == other_half or not (half and other_half))


def _is_ratio(time: re.Match[str], answer: str) -> bool:
    """`3:10` may be a ratio."""
    found = rational(answer)
    return found is not None and int(time[2]) > 0 and found == (Fraction(int(time[1]), int(time[2])), False)


def _same_in_base(gold: re.Match[str], answer: str) -> bool | None:
    """`52_8` is the number 52 in base 8; an answer may leave the base out. None if it is no such number."""
    expected = _in_base(gold[1], gold[2] or gold[3])
    if expected is None:
        return None
    if other := _BASED.fullmatch(answer):
        return _in_base(other[1], other[2] or other[3]) == expected
    found = _in_base(answer, gold[2] or gold[3])
    if found is None:  # no numeral of that base: `271828` beside `0.0011_2`
        return None if rational(answer) is None else False
    return found == expected


def _in_base(digits: str, base: str) -> Fraction | None:
    whole, _, decimals = digits.partition(".")
    try:
        return Fraction(int(whole + decimals, int(base)), int(base) ** len(decimals)) if int(base) > 1 else None
    except ValueError:  # a digit or a base out of range: `a_2` is a name
        return None
