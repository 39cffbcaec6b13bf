"""Review of a set of problems: repeats, contradictions, problems that are too long; counted, or left out on request."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from relax_rl.errors import ConfigError
from relax_rl.rewards.base import Verifier, as_verifier
from relax_rl.tasks.base import Problem
from relax_rl.tasks.overlap import question_digest

__all__ = ["DROPS", "Review", "parse_drop", "question_key", "reviewed", "shared"]

DROPS = ("duplicates", "contradictions", "too_long")
"""Allowed names of ``drop``."""


@dataclass(frozen=True)
class Review:
    """Findings in the problems of a split; ids of problems, in their order.

    Attributes:
        total: problems with a gold answer.
        empty: places of rows without a gold answer. They are always left out.
        exact: problems that repeat an earlier one word for word.
        alike: problems that repeat an earlier one but for its look (`question_digest`).
        contradictory: all problems of a question that occurs with different gold answers.
        too_long: problems whose prompt is longer than the limit.
        limit: in characters; None: no limit.
        dropped: the names of `DROPS` that were left out.
    """

    total: int
    empty: tuple[str, ...] = ()
    exact: tuple[str, ...] = ()
    alike: tuple[str, ...] = ()
    contradictory: tuple[str, ...] = ()
    too_long: tuple[str, ...] = ()
    limit: int | None = None
    dropped: tuple[str, ...] = field(default=())

    @property
    def lines(self) -> list[str]:
        """One line for people for each kind that was found."""
        repeated = len(self.exact) + len(self.alike)
        found = [
            (
                "empty",
                self.empty,
                f"{_count(len(self.empty), 'row')} without a gold answer left out, such as {_first(self.empty)}",
            ),
            (
                "duplicates",
                (*self.exact, *self.alike),
                f"{repeated} of {_count(self.total, 'problem')} repeat an earlier question: {len(self.exact)} word for "
                f"word, {len(self.alike)} but for its look",
            ),
            (
                "contradictions",
                self.contradictory,
                f"{len(self.contradictory)} of {_count(self.total, 'problem')} ask a question that occurs with "
                f"contradicting gold answers, such as {_first(self.contradictory)}",
            ),
            (
                "too_long",
                self.too_long,
                f"{len(self.too_long)} of {_count(self.total, 'problem')} have a prompt of more than {self.limit} "
                "characters",
            ),
        ]
        return [f"{words}{self._fate(kind)}" for kind, ids, words in found if ids]

    def _fate(self, kind: str) -> str:
        if kind == "empty":
            return ""
        return "; left out" if kind in self.dropped else f" (--task.drop {kind} leaves them out)"


def parse_drop(drop: str | Sequence[str]) -> tuple[str, ...]:
    """``"duplicates,too_long"`` or a list of such names.

    Raises:
        ConfigError: a name that is none of `DROPS`.
    """
    names = [name.strip() for name in drop.split(",")] if isinstance(drop, str) else list(drop)
    names = [name for name in names if name]
    unknown = next((name for name in names if name not in DROPS), None)
    if unknown is not None:
        raise ConfigError(f"drop names {unknown!r}; choose among {', '.join(DROPS)}.")
    return tuple(name for name in DROPS if name in names)


def question_key(problem: Problem) -> bytes:
    """Equal for problems that ask the same, but for its look; options and earlier turns are part of the question."""
    return question_digest("\n".join([*(text for _, text in problem.turns), problem.question, *problem.options]))


def reviewed(
    problems: Sequence[Problem],
    verifier: Verifier,
    drop: Collection[str] = (),
    limit: int | None = None,
    empty: Sequence[str] = (),
) -> tuple[list[Problem], Review]:
    """The problems that are kept, and what was found.

    Args:
        verifier: says which gold answers are equal, so that 1/2 does not contradict 0.5.
        drop: names of `DROPS` to leave out. Of duplicates the first stays; of contradictions none.
        limit: characters of a prompt; None: any number.
        empty: places of rows that have no gold answer, and so are no problems.
    """
    groups: dict[bytes, list[Problem]] = {}
    for problem in problems:
        groups.setdefault(question_key(problem), []).append(problem)
    several = [group for group in groups.values() if len(group) > 1]
    exact, alike = _repeats(several)
    against = {id(problem) for group in several if _contradicts(group, verifier) for problem in group}
    long = {id(p) for p in problems if limit is not None and _num_characters(p) > limit}
    found = {"duplicates": exact | alike, "contradictions": against, "too_long": long}
    out = set[int]().union(*(found[name] for name in drop))
    # Where contradictions go as a whole, their repeats are no duplicates of anything that stays.
    review = Review(
        total=len(problems),
        empty=tuple(empty),
        exact=_ids(problems, exact - against),
        alike=_ids(problems, alike - against),
        contradictory=_ids(problems, against),
        too_long=_ids(problems, long),
        limit=limit,
        dropped=tuple(drop),
    )
    return [problem for problem in problems if id(problem) not in out], review


def shared(problems: Sequence[Problem], others: Mapping[str, Sequence[Problem]]) -> dict[str, int]:
    """How many of some problems ask what another split asks, too, by the name of the split."""
    keys = [question_key(problem) for problem in problems]
    found: dict[str, int] = {}
    for name, split in others.items():
        known = {question_key(problem) for problem in split}
        if count := sum(key in known for key in keys):
            found[name] = count
    return found


def _repeats(groups: Sequence[Sequence[Problem]]) -> tuple[set[int], set[int]]:
    exact, alike = set[int](), set[int]()
    for group in groups:
        seen: set[tuple[object, ...]] = set()
        for problem in group:
            words = (problem.question, problem.turns, problem.options)
            if seen:
                (exact if words in seen else alike).add(id(problem))
            seen.add(words)
    return exact, alike


def _contradicts(group: Sequence[Problem], verifier: Verifier) -> bool:
    golds = list(dict.fromkeys(problem.answer for problem in group))
    if len(golds) < 2:
        return False
    return len(set(as_verifier(verifier).classes(golds))) > 1


def _num_characters(problem: Problem) -> int:
    return sum(len(message["content"]) for message in problem.messages)


def _ids(problems: Sequence[Problem], chosen: Collection[int]) -> tuple[str, ...]:
    return tuple(problem.id for problem in problems if id(problem) in chosen)


def _first(names: Sequence[str]) -> str:
    return names[0] if names else ""


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number != 1)}"
