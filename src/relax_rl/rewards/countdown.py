"""Exact grading of countdown: does the committed expression reach the target with the given numbers?

Nothing is ever handed to ``eval``. A small recursive-descent parser reads ``+ - * /``, brackets and whole numbers, and
computes with fractions, so that ``1/3*3`` is 1. Everything that costs time is bounded before it is done: the length of
the expression (and with it the size of every result), the depth of its brackets, and the digits of a number.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

from relax_rl.rewards.base import OneByOneVerifier, Verdict
from relax_rl.rewards.solutions import Expression, canonical, value_of

__all__ = [
    "Computed",
    "CountdownAnswer",
    "CountdownVerifier",
    "ExpressionVerifier",
    "commitment",
    "committed_expression",
    "evaluate",
    "parsed_expression",
]

MAX_EXPRESSION_CHARS = 256
MAX_DEPTH = 32
MAX_DIGITS = 9
MAX_NUMBERS = 32

_OPEN, _CLOSE, _BOXED = "<answer>", "</answer>", "\\boxed{"
_TOKEN = re.compile(rf"\s*([0-9]{{1,{MAX_DIGITS}}}|[-+*/()])", re.ASCII)
_ANSWER = re.compile(
    rf"([0-9]{{1,{MAX_DIGITS}}}(?: [0-9]{{1,{MAX_DIGITS}}}){{0,{MAX_NUMBERS - 1}}})>([0-9]{{1,{MAX_DIGITS}}})"
)
# How language models like to write the same four signs and brackets.
_SYNONYMS = {"\\times": "*", "\\cdot": "*", "\\div": "/", "×": "*", "·": "*", "÷": "/", "−": "-"}
_SYNONYMS |= {"\\left": "", "\\right": "", "$": ""}


@dataclass(frozen=True)
class CountdownAnswer:
    """All that grading needs: the numbers of a problem and its target. As text: ``11 1 3>14``."""

    numbers: tuple[int, ...]
    target: int

    def __str__(self) -> str:
        """The text form, which ``parse`` reads back."""
        return f"{' '.join(map(str, self.numbers))}>{self.target}"

    @classmethod
    def parse(cls, text: str) -> CountdownAnswer | None:
        """Read the text form; ``None`` if it is anything else."""
        match = _ANSWER.fullmatch(text)
        if match is None:
            return None
        return cls(tuple(int(number) for number in match[1].split(" ")), int(match[2]))


@dataclass(frozen=True)
class Computed:
    """An expression that could be read: its exact value, the numbers in it in order, and its tree."""

    value: Fraction
    numbers: list[int]
    tree: Expression


class ExpressionVerifier(OneByOneVerifier):
    """Scores 1.0 if the committed expression is what a subclass asks for beside the gold answer, else 0.0.

    The committed expression is the last complete ``<answer>...</answer>``, and without one the last ``\\boxed{...}``.
    The gold answer is the text of a `CountdownAnswer`. The score is ``None`` only if it cannot be read. The mode of a
    completion is the canonical form of its expression, right or wrong (`relax_rl.rewards.solutions`).
    """

    has_modes = True

    def is_right(self, found: Computed, gold: CountdownAnswer) -> bool:
        """Whether an expression answers the problem."""
        raise NotImplementedError

    def verdict(self, completion: str, answer: str) -> Verdict:
        """See `OneByOneVerifier.verdict`; the gold answer is a text such as ``"11 1 3>14"``."""
        expression, how = commitment(completion)
        gold = CountdownAnswer.parse(answer)
        if gold is None:
            return Verdict(None, expression, how, "gold unreadable", "it must be like 11 1 3>14")
        found = None if expression is None else _computed(expression)
        if found is None:
            return Verdict(0.0, expression, how)
        return Verdict(float(self.is_right(found, gold)), expression, how, mode=canonical(found.tree))


class CountdownVerifier(ExpressionVerifier):
    """Scores 1.0 if the committed expression uses each number exactly once and equals the target, else 0.0.

    Intermediate results may be negative or fractions. See `ExpressionVerifier` for all else.
    """

    name = "countdown"

    def is_right(self, found: Computed, gold: CountdownAnswer) -> bool:
        """See `ExpressionVerifier.is_right`."""
        return found.value == gold.target and sorted(found.numbers) == sorted(gold.numbers)


def committed_expression(completion: str) -> str | None:
    """The text the completion commits to, or ``None`` if it commits to nothing. Linear time."""
    return commitment(completion)[0]


def commitment(completion: str) -> tuple[str | None, str]:
    """As `committed_expression`, with `Verdict.how`."""
    close = completion.rfind(_CLOSE)
    start = completion.rfind(_OPEN, 0, close) if close >= 0 else -1
    if start >= 0:
        start += len(_OPEN)
        return completion[start : completion.find(_CLOSE, start)], "tagged"
    boxed = _last_boxed(completion)
    return boxed, "no answer" if boxed is None else "boxed"


def _last_boxed(completion: str) -> str | None:
    """What the braces of the last ``\\boxed{`` hold; ``None`` if they stay open or hold more than an expression may."""
    start = completion.rfind(_BOXED)
    if start < 0:
        return None
    start += len(_BOXED)
    depth = 1
    for position in range(start, min(len(completion), start + MAX_EXPRESSION_CHARS + 1)):
        depth += {"{": 1, "}": -1}.get(completion[position], 0)
        if depth == 0:
            return completion[start:position]
    return None


def evaluate(expression: str) -> tuple[Fraction, list[int]] | None:
    """The exact value of an expression and the numbers in it, in order.

    ``None`` if it is not an expression in ``+ - * /``, brackets and unsigned whole numbers, if it divides by zero, or
    if it exceeds a bound of this module (256 characters, 32 nested brackets, 9 digits).
    """
    found = _computed(expression)
    return None if found is None else (found.value, found.numbers)


def parsed_expression(expression: str) -> Expression | None:
    """The tree of an expression; ``None`` as for `evaluate`."""
    found = _computed(expression)
    return None if found is None else found.tree


def _computed(expression: str) -> Computed | None:
    if len(expression) > MAX_EXPRESSION_CHARS:
        return None
    for synonym, sign in _SYNONYMS.items():
        expression = expression.replace(synonym, sign)
    tokens = _tokens(expression.strip())
    if tokens is None:
        return None
    try:
        tree = _Parser(tokens).tree()
        return Computed(value_of(tree), [int(token) for token in tokens if token.isdigit()], tree)
    except (_NotAnExpression, ZeroDivisionError):
        return None


def _tokens(text: str) -> list[str] | None:
    """Numbers, signs and brackets; ``None`` if anything else is in the text."""
    tokens: list[str] = []
    position = 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            return None
        tokens.append(match[1])
        position = match.end()
    return tokens


class _NotAnExpression(Exception):  # noqa: N818 - it never leaves this module
    pass


class _Parser:
    """sum := product (("+" | "-") product)*; product := atom (("*" | "/") atom)*; atom := number | "(" sum ")"."""

    def __init__(self, tokens: list[str]) -> None:
        self._tokens = tokens
        self._position = 0
        self._depth = 0

    def tree(self) -> Expression:
        result = self._sum()
        if self._position != len(self._tokens):
            raise _NotAnExpression
        return result

    def _peek(self) -> str:
        return self._tokens[self._position] if self._position < len(self._tokens) else ""

    def _take(self) -> str:
        token = self._peek()
        self._position += 1
        return token

    def _sum(self) -> Expression:
        result = self._product()
        while self._peek() in ("+", "-"):
            result = (self._take(), result, self._product())
        return result

    def _product(self) -> Expression:
        result = self._atom()
        while self._peek() in ("*", "/"):
            result = (self._take(), result, self._atom())
        return result

    def _atom(self) -> Expression:
        token = self._take()
        if token.isdigit():
            return int(token)
        if token != "(" or self._depth == MAX_DEPTH:
            raise _NotAnExpression
        self._depth += 1
        result = self._sum()
        self._depth -= 1
        if self._take() != ")":
            raise _NotAnExpression
        return result
