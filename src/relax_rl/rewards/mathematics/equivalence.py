"""Whether two answers mean the same, and the class of one.

Runs inside a grading process: sympy may hang, or eat all memory, on any of this.

Answers are taken apart by :mod:`relax_rl.rewards.mathematics.grammar`; its single values are compared here: at points
where our own grammar of expressions reads them, else by ``math-verify``.
"""

from __future__ import annotations

import logging
import re
from dataclasses import replace
from typing import Any, Literal

from latex2sympy2_extended import NormalizationConfig, latex2sympy, normalize_latex
from math_verify import verify
from math_verify.grader import should_treat_as_complex
from math_verify.parser import LatexExtractionConfig
from sympy import Add, Basic, Derivative, Eq, Expr, MatrixBase, Symbol, simplify

from relax_rl.rewards.mathematics.classes import class_by, spelling_class
from relax_rl.rewards.mathematics.expressions import UnreadableError, parse
from relax_rl.rewards.mathematics.grammar.brackets import pieces, split
from relax_rl.rewards.mathematics.grammar.families import Family
from relax_rl.rewards.mathematics.grammar.matching import same_answer, single_values
from relax_rl.rewards.mathematics.literals import canonical, exact, without_e_notation
from relax_rl.rewards.mathematics.points import (
    equation_class,
    expression_class,
    renamed,
    same_equation,
    same_progressions,
    same_value,
)

__all__ = ["answer_class", "ask", "compare"]

# It warns, once a process, that its own timeout is off. It is: the pool has the limit.
logging.getLogger("math_verify").setLevel(logging.ERROR)

_WITH_UNITS = replace(LatexExtractionConfig().normalization_config, boxed="none")
_WITHOUT_UNITS = replace(_WITH_UNITS, units=False)
# Read as Euler's number, whatever its subscript; under another letter the two sides still agree with each other.
_SUBSCRIPTED_E = re.compile(r"(?<![\\A-Za-z])[Ee]_")
# `M_{\odot}`, `m_{\max}`: its grammar has names in an index, but no commands.
_COMMAND_INDEX = re.compile(r"_\s*\{\s*\\([A-Za-z]+)\s*\}")
# As exact fractions, since floats would be compared after rounding: 1.414214 is not the root of 2.
_DECIMAL = re.compile(r"(?<![\d.,^])(\d*)\.(\d+)(?![\d.])", re.ASCII)
_TRIGONOMETRIC = re.compile(r"\\(?:sin|cos|tan|cot|sec|csc)(?![a-z])")
_DEGREES = re.compile(r"(\d+(?:\.\d+)?)\s*\^\\circ", re.ASCII)
_TEXT_WITH_DIGITS = re.compile(r"\\(?:text|mbox|textbf|textit|textrm|mathrm)\s*\{([^{}]*\d[^{}]*)\}", re.ASCII)
_TEXT_COMMAND = re.compile(r"\\(?:text|mbox|math)[a-z]*\s*(?=\{)")
_ONE_GROUP = re.compile(r"\{[^{}]*\}\s*(?:\^\s*(?:\d|\{\s*-?\d\s*\}))?\s*")
_NUMPY = re.compile(r"(?<![A-Za-z])np\.(?=[a-z])")
_COMMAND_OR_LETTER = re.compile(r"\\[A-Za-z]+|[A-Za-z]")
_VARIABLE = re.compile(r"(?<![\\A-Za-z])[A-Za-z]")
# A value that is right for no gold answer known, and quickly compared.
_HARMLESS = "\\sqrt{17}"
# Python writes no integer of more than 4,300 digits.
_MAX_DIGIT_BITS = 1 << 13
# The relative difference above which two constants differ, whatever math-verify says, which takes 1e-16 for zero.
_RELATIVE_TOLERANCE = 1e-10


# What our own grammar of expressions leaves to math-verify's.
_BEYOND = re.compile(
    r"\\(?:int|iint|oint|sum|prod|lim|partial|nabla|begin|mod|pmod|bmod|det|infty|mathbb|mathcal|prime)(?![A-Za-z])|'"
)
_RELATION = re.compile(r"\\(?:le|ge|ne|lt|gt|in|cup|cap)(?![A-Za-z])|[<>]")
_EQUALS = r"(?<![\\<>!:=])=(?!=)"
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}(?!\d))", re.ASCII)
# The names of arbitrary constants, which an answer may choose.
_CONSTANTS = frozenset({"c", "d", "k", "a", "b", "c_1", "c_2", "c_3", "k_1", "k_2"})


class _UnreadableGoldError(Exception):
    """The gold answer parses to nothing, so that no verdict is possible."""


def ask(question: Literal["compare", "class"], *texts: str | None) -> dict[str, Any]:
    """What a grading process is started for: `compare` of a gold answer and an answer, or `answer_class` of one."""
    return compare(*texts) if question == "compare" else answer_class(*texts)  # type: ignore[arg-type]


def answer_class(text: str) -> dict[str, Any]:
    """``{"class": str}``: see `classes`; that of its spelling if the answer cannot be read."""
    return {"class": class_by(text, _class_at_points) or spelling_class(text)}


def _class_at_points(text: str) -> str | None:
    sides = split(_distinguish_cases(text)[0], _EQUALS)
    if len(sides) > 2 or _RELATION.search(text):
        return spelling_class(text)
    try:
        found = [parse(_plain(side)) for side in sides]
    except UnreadableError:
        return spelling_class(text)
    return (equation_class(found) if len(found) == 2 else expression_class(found[0])) or spelling_class(text)


def compare(gold: str, answer: str | None) -> dict[str, Any]:
    """``{"verdict": bool}``, or ``{"verdict": None, "reason": "gold unreadable"}``.

    Without an answer, every value of the gold answer is compared with one that never ends badly.
    """
    try:
        if answer is not None:
            return {"verdict": same_answer(gold, answer, _same_value, _same_families)}
        for value in single_values(gold):
            _same_value(value, _HARMLESS)
        return {"verdict": True}
    except _UnreadableGoldError:
        return {"verdict": None, "reason": "gold unreadable"}


def _same_families(gold: Family, answer: Family) -> bool:
    """Whether two families of solutions are one set."""
    try:
        golds, answers = (
            [(parse(_plain(text)), parameter) for text, parameter in family.members] for family in (gold, answer)
        )
    except UnreadableError:
        return False
    return same_progressions(golds, answers) is True


def _same_value(gold: str, answer: str) -> bool:
    gold, answer = _distinguish_cases(gold.removesuffix("%"), answer)
    if "%" in answer:  # a comment to its grammar
        return False
    if len(pieces(gold, _EQUALS)[0]) != len(pieces(answer, _EQUALS)[0]) or not answer.isascii():
        return False  # what an equation says was read before
    decided = _at_points(gold, answer)
    if decided is not None:
        return decided
    # math-verify drops what looks like a unit, and `t` and `b + c` do: only beside a plain number is `5 m` five metres.
    numeric = _VARIABLE.search(gold) is None
    expected = _parse(gold, _WITHOUT_UNITS) or _parse(gold, _WITH_UNITS)
    if not expected:
        raise _UnreadableGoldError(gold)
    first, second = (_WITH_UNITS, _WITHOUT_UNITS) if numeric else (_WITHOUT_UNITS, _WITH_UNITS)
    found = _parse(answer, first) or _parse(answer, second)
    if not found:
        return False  # the gold answer is mathematics, and this is not
    return any(
        verify(one, other, allow_set_relation_comp=True, timeout_seconds=None, raise_on_error=True)
        and _as_close(one, other)
        and _not_by_default(one, other)
        for one in expected
        for other in found
    )


def _at_points(gold: str, answer: str) -> bool | None:
    """What the values at points say; None if the texts are not in our own grammar, or have too few values."""
    golds, answers = split(gold, _EQUALS), split(answer, _EQUALS)
    if len(golds) != len(answers) or len(golds) > 2 or _RELATION.search(gold + answer):
        return None
    try:
        expected = [parse(_plain(side)) for side in golds]
    except UnreadableError:
        return None
    try:
        found = [parse(_plain(side)) for side in answers]
    except UnreadableError:
        return None if _BEYOND.search(answer) else False
    if len(expected) == 2:
        return same_equation(expected, found) or None
    verdict = same_value(expected[0], found[0])
    if verdict is False and _CONSTANTS & expected[0].letters:
        verdict = any(same_value(expected[0], other) for other in renamed(expected[0], found[0], _CONSTANTS))
    return verdict


def _plain(text: str) -> str:
    """As our own grammar has it."""
    return _THOUSANDS.sub("", without_e_notation(_NUMPY.sub("", text)))


def _parse(text: str, config: NormalizationConfig) -> list[Any]:
    """The whole of an answer as sympy objects; none if its grammar does not take all of it.

    Not by math-verify's ``parse``: where that cannot read a text, it searches it for a part that it can read, such as
    the last fraction.
    """
    text = without_e_notation(_evaluated(text))
    text = _COMMAND_INDEX.sub(r"_{\1}", _SUBSCRIPTED_E.sub(r"\\Upsilon_", text))
    if _TRIGONOMETRIC.search(text):  # elsewhere the sign is left out, as units are
        text = _DEGREES.sub(r"\\frac{\1\\pi}{180}", text)
    text = _DECIMAL.sub(_as_fraction, _NUMPY.sub(r"\\", text))
    # Trailing text is left out like a unit, and digits are none.
    text = _TEXT_WITH_DIGITS.sub(r" \1 ", text)
    # Its units may reach from a first `\\text{ cm}` over anything that follows, if that ends in a brace.
    beginning = _TEXT_COMMAND.search(text)
    if beginning is not None and _ONE_GROUP.fullmatch(text, beginning.end()) is None:
        config = _WITHOUT_UNITS
    latex = normalize_latex(text, config)
    try:
        read = latex2sympy(
            latex, is_real=not should_treat_as_complex(latex), convert_degrees=False, normalization_config=None
        )
    except (MemoryError, RecursionError):
        raise
    except Exception:  # its grammar raises plain exceptions
        return []
    return [read] if isinstance(read, (Basic, MatrixBase)) else []


def _evaluated(text: str) -> str:
    """Arithmetic as its value: the grammar takes ``12!!`` for the factorial of a factorial, and never ends."""
    value, in_percent = exact(canonical(text)) or (None, True)
    if value is None or in_percent or max(abs(value.numerator), value.denominator).bit_length() > _MAX_DIGIT_BITS:
        return text
    return str(value)


def _as_fraction(decimal: re.Match[str]) -> str:
    whole, decimals = decimal.groups()
    return f"\\frac{{{int(whole + decimals)}}}{{{10 ** len(decimals)}}}"


def _distinguish_cases(*texts: str) -> tuple[str, ...]:
    """The parser lowers all letters; where one text has both ``M`` and ``m``, the former gets a letter of its own."""
    used = [{found for found in _COMMAND_OR_LETTER.findall(text) if len(found) == 1} for text in texts]
    both = sorted({letter for letters in used for letter in letters if letter.isupper() and letter.lower() in letters})
    if not both:
        return texts
    taken = {letter.lower() for letters in used for letter in letters}
    free = dict(zip(both, (letter for letter in "qzwvujkyxnlhgfcbaprstom" if letter not in taken), strict=False))
    return tuple(_COMMAND_OR_LETTER.sub(lambda found: free.get(found.group(), found.group()), text) for text in texts)


def _as_close(one: Any, other: Any) -> bool:
    if not (isinstance(one, Expr) and isinstance(other, Expr) and one.is_number and other.is_number):
        return True
    left, right = one.doit().evalf(20), other.doit().evalf(20)
    try:  # in sympy's numbers, whose exponents have no bound: 1/2004! is not 1/2005!
        return bool(abs(left - right) <= _RELATIVE_TOLERANCE * max(abs(left), abs(right)))
    except TypeError:  # not finite, or not decided: math-verify's word stands
        return True


def _not_by_default(one: Any, other: Any) -> bool:
    """Whether two equations differ by a factor only.

    math-verify compares equations by what solves them, and takes two that it cannot solve, or a derivative of what it
    thinks a constant, for equal. A factor that is a sum, such as ``x - 1``, would add solutions.
    """
    if not (isinstance(one, Eq) and isinstance(other, Eq)) or one == other:
        return True
    (left, right), (other_left, other_right) = one.args, other.args
    quotient: Any = (left - right) / (other_left - other_right)  # type: ignore[operator]
    factor = simplify(quotient.replace(Derivative, lambda *parts: Symbol(str(parts))))
    return factor.is_zero is not True and not any(term.free_symbols for term in factor.atoms(Add))


# The first parse builds the grammar's tables and the first comparison imports half of sympy, some 0.3 s together: done
# while the worker starts, so that no item pays for it out of its own time.
compare("x^2+2x+1", "(x+2)^2")
compare("\\sqrt{18}", "3\\sqrt{2}")
