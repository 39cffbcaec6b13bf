"""Lists, sets and named values: ``1, 2``, ``\\{1, 2\\}``, ``x = 1 or x = 2``, ``p = 5, q = 2``."""

from __future__ import annotations

import re
from dataclasses import dataclass

from relax_rl.rewards.mathematics.grammar.names import FUNCTION, in_their_order, letters_of, same_name
from relax_rl.rewards.mathematics.grammar.values import Compare, RealSet, Value, all_of, in_order, matched

__all__ = ["Equation", "Listed", "Named", "Ratio"]


@dataclass(frozen=True)
class Named(Value):
    """``x = 5``, ``f(x) = x + 22``, ``x = 2 + 3 = 5``.

    Attributes:
        name: what stands first.
        value: what stands last.
        between: the other sides, which are claims, too.
        argument: the letter of a function: ``f(t) = t`` is ``f(x) = x``.
    """

    name: str
    value: Value
    between: tuple[Value, ...] = ()

    @property
    def type(self) -> str:
        return self.value.type

    def matches(self, answer: Value, compare: Compare) -> bool | None:
        named = answer.named()
        if len(named) == 1:
            ((name, value),) = named.items()
            if not same_name(self.name, name):
                return self._as_relation(answer, compare)
            return self.value.matches(value, _with_argument(self.name, name, compare))
        if answer.relation() is not None:
            return self._as_relation(answer, compare)
        return self.value.matches(answer, compare)

    def _as_relation(self, answer: Value, compare: Compare) -> bool | None:
        mine, other = self.relation(), answer.relation()
        return False if mine is None or other is None else compare(mine, other)

    def singles(self) -> tuple[Value, ...]:
        return (*self.between, *self.value.singles())

    def claims(self, letters: frozenset[str] = frozenset()) -> tuple[Value, ...] | None:
        claimed = self.value.claims(letters)
        return None if claimed is None else (*self.between, *claimed)

    def entries(self) -> tuple[Value, ...] | None:
        return None if self.between else self.value.entries()

    def vector(self, size: int) -> tuple[Value, ...] | None:
        return None if self.between else self.value.vector(size)

    def members(self) -> tuple[Value, ...] | None:
        return (self,) if self.between else self.value.members()

    def rows(self) -> tuple[tuple[Value, ...], ...] | None:
        return None if self.between else self.value.rows()

    def region(self) -> RealSet | None:
        return None if self.between else self.value.region()

    def relation(self) -> str | None:
        return None if self.between or self.value.claims() is None else f"{self.name} = {self.value.text}"

    def named(self) -> dict[str, Value]:
        return {self.name: self if self.between else self.value}

    def option(self) -> tuple[str, Value | None] | None:
        return None if self.between else self.value.option()


def _with_argument(gold: str, answer: str, compare: Compare) -> Compare:
    """``f(t) = t`` is read as ``f(x) = x`` beside that."""
    mine, other = FUNCTION.fullmatch(gold), FUNCTION.fullmatch(answer)
    if mine is None or other is None or mine[2] == other[2]:
        return compare
    letter = re.compile(rf"(?<![A-Za-z\\]){other[2]}(?![A-Za-z])")
    return lambda one, two: mine[2] not in letters_of(two) and compare(one, letter.sub(mine[2], two))


@dataclass(frozen=True)
class Equation(Value):
    """``x + y = 5``, ``5 + 7 = 12``: sides of which none is a name of the others."""

    sides: tuple[Value, ...]

    @property
    def type(self) -> str:
        return "equation" if any(self._letters) else "number"

    @property
    def _letters(self) -> list[frozenset[str]]:
        return [letters_of(side.text) for side in self.sides]

    def matches(self, answer: Value, compare: Compare) -> bool | None:
        if not any(self._letters):
            return self.sides[-1].matches(answer, compare)
        relation = answer.relation()
        return False if relation is None else compare(self.text, relation)

    def singles(self) -> tuple[Value, ...]:
        return (self.sides[-1],) if not any(self._letters) else ()

    def claims(self, letters: frozenset[str] = frozenset()) -> tuple[Value, ...] | None:
        """All sides but those with a letter that the gold value has not: they stand for any value."""
        known = [
            side for side, mine in zip(self.sides[:-1], self._letters, strict=False) if not mine or mine <= letters
        ]
        claimed = [side.claims(letters) for side in (*known, self.sides[-1])]
        if any(claim is None for claim in claimed):
            return None
        return tuple(value for claim in claimed for value in claim or ())

    def relation(self) -> str | None:
        return self.text if len(self.sides) == 2 else None


@dataclass(frozen=True)
class Listed(Value):
    """Values in any order, bare or in braces.

    Attributes:
        is_set: written in braces.
        is_alternative: joined by "or": several spellings of one value, or several guesses.
    """

    parts: tuple[Value, ...]
    is_set: bool = False
    is_alternative: bool = False

    @property
    def type(self) -> str:
        return "set" if self.is_set else "named values" if self.named() else "list"

    def matches(self, answer: Value, compare: Compare) -> bool | None:
        mine, other = self.named(), answer.named()
        if mine and len(other) > 1:
            return self._by_name(mine, other, compare)
        if mine:
            return in_order(self.entries() or (), answer.entries(), compare)
        members = answer.members()
        entries = answer.entries()
        if not self.is_set and entries is not None and (members is None or len(members) == 1):
            return in_order(self.parts, entries, compare)  # a point may lose its parentheses, its order not
        return matched(self.parts, members, compare)

    def _by_name(self, mine: dict[str, Value], other: dict[str, Value], compare: Compare) -> bool | None:
        if len(mine) != len(other):
            return False
        pairs = [(value, found) for name, value in mine.items() for key, found in other.items() if same_name(name, key)]
        return len(pairs) == len(mine) and all_of(value.matches(found, compare) for value, found in pairs)

    def singles(self) -> tuple[Value, ...]:
        return tuple(single for part in self.parts for single in part.singles())

    def claims(self, letters: frozenset[str] = frozenset()) -> tuple[Value, ...] | None:
        if not self.is_alternative and len(self.parts) != 1:
            return None
        claimed = [part.claims(letters) for part in self.parts]
        return None if None in claimed else tuple(value for claim in claimed for value in claim or ())

    def entries(self) -> tuple[Value, ...] | None:
        named = self.named()
        if self.is_set or len(self.parts) < 2 or any(part.relation() and not part.named() for part in self.parts):
            return None
        return tuple(named[name] for name in in_their_order(list(named))) if named else self.parts

    def members(self) -> tuple[Value, ...] | None:
        return self.parts

    def named(self) -> dict[str, Value]:
        """Each part's name and value, if all have one, each another: indices make no other name."""
        found: dict[str, Value] = {}
        for part in self.parts:
            mine = part.named()
            if len(mine) != 1:
                return {}
            found |= mine
        heads = {re.split(r"[_(]", name)[0] for name in found}
        return found if len(heads) == len(self.parts) > 1 else {}


@dataclass(frozen=True)
class Ratio(Value):
    """``1 : 2 : 3``, equal to what has the same proportions."""

    parts: tuple[Value, ...]

    @property
    def type(self) -> str:
        return "ratio"

    def matches(self, answer: Value, compare: Compare) -> bool | None:
        others = answer.entries()
        if others is None or len(others) != len(self.parts):
            return False
        if any("\\ldots" in part.text for part in (*self.parts, *others)):
            return in_order(self.parts, others, compare)
        mine, found = (
            [f"\\frac{{{part.text}}}{{{parts[0].text}}}" for part in parts] for parts in (self.parts, others)
        )
        return all_of(map(compare, mine[1:], found[1:]))

    def singles(self) -> tuple[Value, ...]:
        return self.parts

    def entries(self) -> tuple[Value, ...] | None:
        return self.parts
