"""What an answer can be, and when two of them are equal.

A gold value says how it is matched, and asks the answer for the view that it needs: its entries in order, its members
in any order, its rows, the values that it claims. A view that an answer does not have is None, and the two are not
equal: no algebra is asked whether a matrix is a number. What is compared in the end are single values, by a function of
the caller: one without algebra in the training process, one with algebra in a grading process.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from relax_rl.rewards.mathematics.literals import canonical

__all__ = [
    "Choice",
    "Compare",
    "Matrix",
    "Meaning",
    "Ordered",
    "RealSet",
    "Single",
    "UnitVectors",
    "Value",
    "all_of",
    "in_any_order",
    "matched",
]

Part = TypeVar("Part")

Compare = Callable[[str, str], bool | None]
"""Whether two single values, gold first, are equal; None: it cannot tell."""


class RealSet(Protocol):
    """A set of real numbers, as :mod:`.regions` has it."""

    @property
    def parts(self) -> tuple[Any, ...]:
        """Its pieces."""
        ...

    @property
    def variable(self) -> str:
        """The name that it bounds; "" if there is none."""
        ...

    @property
    def is_inequality(self) -> bool:
        """Whether it is written as one."""
        ...

    def matches(self, answer: Any, compare: Compare) -> bool | None:
        """Equality with an answer that has a region, too."""
        ...


def all_of(verdicts: Iterable[bool | None]) -> bool | None:
    """True if all are; False as soon as one is; None if one cannot be told."""
    known = True
    for verdict in verdicts:
        if verdict is False:
            return False
        known = known and verdict is not None
    return True if known else None


def in_order(golds: Sequence[Value], answers: Sequence[Value] | None, compare: Compare) -> bool | None:
    """Equality entry by entry."""
    if answers is None or len(golds) != len(answers):
        return False
    return all_of(gold.matches(answer, compare) for gold, answer in zip(golds, answers, strict=True))


def matched(golds: Sequence[Value], answers: Sequence[Value] | None, compare: Compare) -> bool | None:
    """Equality in any order. Equality is transitive enough for greedy matching to decide."""
    if answers is None:
        return False
    return in_any_order(golds, answers, lambda gold, answer: gold.matches(answer, compare))


def in_any_order(
    golds: Sequence[Part], answers: Sequence[Part], same: Callable[[Part, Part], bool | None]
) -> bool | None:
    """Whether each of the gold parts is the same as another one of the answer's, and none is left; None: undecided."""
    if len(golds) != len(answers):
        return False
    left = list(answers)
    for gold in golds:
        verdicts: list[bool | None] = []
        for index, answer in enumerate(left):
            verdicts.append(same(gold, answer))
            if verdicts[-1]:
                left.pop(index)
                break
        else:
            return None if None in verdicts else False
    return True


@dataclass(frozen=True)
class Value(ABC):
    """An answer that was read whole.

    Attributes:
        text: as it is written, tidied.
    """

    text: str

    @property
    @abstractmethod
    def type(self) -> str:
        """What kind of answer this is, for the record."""

    @abstractmethod
    def matches(self, answer: Value, compare: Compare) -> bool | None:
        """Whether an answer is equal to this gold value; None: ``compare`` could not tell."""

    def singles(self) -> tuple[Value, ...]:
        """The single values that this one is made of, in order."""
        return ()

    def claims(self, letters: frozenset[str] = frozenset()) -> tuple[Value, ...] | None:
        """The values that the answer says a single gold value with these letters has: all of them must be right."""
        return None

    def entries(self) -> tuple[Value, ...] | None:
        """The parts of a tuple, vector or bare list, whose order counts."""
        return None

    def vector(self, size: int) -> tuple[Value, ...] | None:
        """The components of a vector."""
        found = self.entries()
        return found if found is not None and len(found) == size else None

    def members(self) -> tuple[Value, ...] | None:
        """The parts of a set or list, in any order; a single value is its own."""
        return None if self.claims() is None else (self,)

    def rows(self) -> tuple[tuple[Value, ...], ...] | None:
        """The rows of a matrix."""
        return None

    def region(self) -> RealSet | None:
        """As a set of real numbers: an interval, a union of them, an inequality that says no more."""
        return None

    def relation(self) -> str | None:
        """As an equation or inequality, for algebra."""
        return None

    def named(self) -> dict[str, Value]:
        """``p = 5, q = 2`` by name."""
        return {}

    def option(self) -> tuple[str, Value | None] | None:
        """The letter of a choice, and its value if it is there."""
        return None

    def meaning(self) -> str:
        """What a phrase says."""
        return ""


@dataclass(frozen=True)
class Single(Value):
    """A number, quantity, expression, time or word.

    Attributes:
        kind: which of them.
        letters: that stand in it, constants and units apart.
        parts: of ``1,234``, which beside a list is one, too.
    """

    kind: str = "expression"
    letters: frozenset[str] = frozenset()
    parts: tuple[Value, ...] = ()

    @property
    def type(self) -> str:
        return self.kind

    def matches(self, answer: Value, compare: Compare) -> bool | None:
        mine, other = self.option(), answer.option()
        if mine and other:
            return mine[0] == other[0]
        claims = answer.claims(self.letters)
        if mine:  # a letter may be a name, too, and has no other form
            return claims is not None and all(mine[0].casefold() == _letter(claim.text).casefold() for claim in claims)
        if claims is None:
            return compare(self.text, answer.text) if "\\begin" in self.text and answer.rows() else False
        return all_of(compare(self.text, claim.text) for claim in claims)

    def singles(self) -> tuple[Value, ...]:
        return (self,)

    def claims(self, letters: frozenset[str] = frozenset()) -> tuple[Value, ...] | None:
        return (self,)

    def members(self) -> tuple[Value, ...] | None:
        return self.parts or (self,)

    def option(self) -> tuple[str, Value | None] | None:
        return (_letter(self.text), None) if self.kind == "choice" else None


def _letter(text: str) -> str:
    return canonical(text).strip("()")


@dataclass(frozen=True)
class Meaning(Value):
    """What several phrases say: ``empty set``, ``infinitely many``, ``all real numbers``, ``undefined``."""

    phrase: str = ""

    @property
    def type(self) -> str:
        return self.phrase

    def matches(self, answer: Value, compare: Compare) -> bool | None:
        return answer.meaning() == self.phrase

    def members(self) -> tuple[Value, ...] | None:
        return (self,)

    def meaning(self) -> str:
        return self.phrase


@dataclass(frozen=True)
class Choice(Value):
    """The letter of an option with its value: ``(B) 12``. Beside a letter the letter counts, else the value."""

    letter: str
    value: Value

    @property
    def type(self) -> str:
        return "choice"

    def matches(self, answer: Value, compare: Compare) -> bool | None:
        other = answer.option()
        if other is None:
            return self.value.matches(answer, compare)
        letter, value = other
        return letter == self.letter and (value is None or self.value.matches(value, compare))

    def singles(self) -> tuple[Value, ...]:
        return self.value.singles()

    def claims(self, letters: frozenset[str] = frozenset()) -> tuple[Value, ...] | None:
        return self.value.claims(letters)

    def option(self) -> tuple[str, Value | None] | None:
        return self.letter, self.value


@dataclass(frozen=True)
class Ordered(Value):
    """A tuple, or a vector in angle brackets, or a list of three and more in square ones."""

    opening: str
    parts: tuple[Value, ...]
    interval: RealSet | None = None

    @property
    def type(self) -> str:
        if "\\infty" in self.text:
            return "interval"
        return "tuple" if self.opening == "(" else "vector"

    def matches(self, answer: Value, compare: Compare) -> bool | None:
        entries = answer.entries()
        if entries is None:
            entries = answer.vector(len(self.parts))
        if entries is not None:
            return in_order(self.parts, entries, compare)
        return False if self.interval is None or answer.region() is None else self.interval.matches(answer, compare)

    def singles(self) -> tuple[Value, ...]:
        return tuple(single for part in self.parts for single in part.singles())

    def entries(self) -> tuple[Value, ...] | None:
        return self.parts

    def members(self) -> tuple[Value, ...] | None:
        return (self,)

    def region(self) -> RealSet | None:
        return self.interval


@dataclass(frozen=True)
class Matrix(Value):
    """Rows of equal length; a single column or row is a vector, too."""

    cells: tuple[tuple[Value, ...], ...]

    @property
    def type(self) -> str:
        return "vector" if self.entries() else "matrix"

    def matches(self, answer: Value, compare: Compare) -> bool | None:
        rows = answer.rows()
        if rows is not None:
            if [len(row) for row in rows] != [len(row) for row in self.cells]:
                return False
            return all_of(in_order(row, other, compare) for row, other in zip(self.cells, rows, strict=True))
        mine = self.entries()
        if mine is not None:
            entries = answer.vector(len(mine))
            if entries is not None:
                return in_order(mine, entries, compare)
        claims = answer.claims() or ()
        return compare(self.text, claims[0].text) if len(claims) == 1 and _has_matrix(claims[0].text) else False

    def singles(self) -> tuple[Value, ...]:
        return tuple(single for row in self.cells for cell in row for single in cell.singles())

    def entries(self) -> tuple[Value, ...] | None:
        if len(self.cells) == 1 and len(self.cells[0]) > 1:
            return self.cells[0]
        is_column = len(self.cells) > 1 and all(len(row) == 1 for row in self.cells)
        return tuple(row[0] for row in self.cells) if is_column else None

    def members(self) -> tuple[Value, ...] | None:
        return (self,)

    def rows(self) -> tuple[tuple[Value, ...], ...] | None:
        return self.cells


def _has_matrix(text: str) -> bool:
    return "\\begin" in text and "=" not in text


@dataclass(frozen=True)
class UnitVectors(Value):
    r"""``3\mathbf{i} - 2\mathbf{j} + \mathbf{k}``; of two of them it may be a plane vector or one in space."""

    parts: tuple[Value, Value, Value]
    is_plane: bool = False

    @property
    def type(self) -> str:
        return "vector"

    def matches(self, answer: Value, compare: Compare) -> bool | None:
        for size in (3, 2) if self.is_plane else (3,):
            entries = answer.vector(size)
            if entries is not None:
                return in_order(self.parts[:size], entries, compare)
        return False

    def singles(self) -> tuple[Value, ...]:
        return self.parts

    def vector(self, size: int) -> tuple[Value, ...] | None:
        return self.parts[:size] if size == 3 or (size == 2 and self.is_plane) else None

    def members(self) -> tuple[Value, ...] | None:
        return (self,)
