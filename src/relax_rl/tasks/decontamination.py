"""The problems of a set that are in an evaluation set, too: by the whole question, and by thirteen words in a row.

Thirteen words are the unit of the report on GPT-3 (Brown et al. 2020, arXiv:2005.14165, appendix C). A question of
fewer words is found by the whole of it alone. Rewording is not seen, so a count is a lower bound.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from relax_rl.errors import ConfigError, DataError
from relax_rl.tasks.base import Problem
from relax_rl.tasks.benchmarks import BENCHMARKS, EVALUATION_SETS, benchmark
from relax_rl.tasks.overlap import question_digest

__all__ = ["AGAINST", "Overlap", "evaluation_problems", "overlaps"]

AGAINST = (*EVALUATION_SETS, "gsm8k")
"""The evaluation sets that a report names by default."""
NUM_WORDS = 13
_WORD = re.compile(r"[^\W_]+")


@dataclass(frozen=True)
class Overlap:
    """Overlap of a set with one evaluation set.

    Attributes:
        name: name of the evaluation set.
        total: its problems.
        same: ids of its problems whose question, but for its look, is in the set.
        similar: ids of its other problems that share thirteen words in a row with a question of the set.
        rows: ids of the set's problems that share either.
    """

    name: str
    total: int
    same: tuple[str, ...]
    similar: tuple[str, ...]
    rows: tuple[str, ...]

    def __str__(self) -> str:
        """One line for people."""
        if not self.rows:
            return f"{self.name}: none of {self.total} problems"
        return (
            f"{self.name}: {len(self.same)} of {self.total} problems as a whole, {len(self.similar)} more by "
            f"{NUM_WORDS} words in a row; in {len(self.rows)} rows, such as {', '.join(self.rows[:3])}"
        )


def overlaps(problems: Sequence[Problem], held: Mapping[str, Sequence[Problem]]) -> list[Overlap]:
    """Overlap of some problems with evaluation sets, in the order of their names."""
    by_digest: dict[bytes, list[str]] = {}
    by_words: dict[tuple[str, ...], list[str]] = {}
    needed = {gram for others in held.values() for other in others for gram in _grams(_text(other))}
    for problem in problems:
        text = _text(problem)
        by_digest.setdefault(question_digest(text), []).append(problem.id)
        for gram in needed.intersection(_grams(text)):
            by_words.setdefault(gram, []).append(problem.id)
    return [_overlap(name, others, by_digest, by_words) for name, others in held.items()]


def evaluation_problems(
    names: Sequence[str] | None, data_dir: str | Path | None = None
) -> tuple[dict[str, list[Problem]], list[str]]:
    """The problems of evaluation sets, and why some could not be read.

    Args:
        names: None: all of `AGAINST`, those that can be read.
        data_dir: folder of their files; None: the Hub.

    Raises:
        ConfigError: a name that is no set of problems with a test split.
        DataError: a named set, or every set, cannot be read.
    """
    for name in names or ():
        if name not in BENCHMARKS or "test" not in BENCHMARKS[name].sizes:
            raise ConfigError(f"There is no evaluation set '{name}'; choose among {', '.join(AGAINST)}.")
    held: dict[str, list[Problem]] = {}
    missing: list[str] = []
    for name in names or AGAINST:
        try:
            held[name] = benchmark(name, data_dir).problems("test")
        except DataError as error:
            if names is not None:
                raise
            missing.append(f"{name}: not compared; {error}")
    if not held:
        raise DataError(f"No evaluation set can be read ({missing[0]}) Name the folder of their files with --data-dir.")
    return held, missing


def _overlap(
    name: str,
    others: Sequence[Problem],
    by_digest: Mapping[bytes, list[str]],
    by_words: Mapping[tuple[str, ...], list[str]],
) -> Overlap:
    same, similar = list[str](), list[str]()
    rows: dict[str, None] = {}
    for other in others:
        text = _text(other)
        whole = by_digest.get(question_digest(text), [])
        parts = [row for gram in set(_grams(text)) for row in by_words.get(gram, ())]
        rows |= dict.fromkeys([*whole, *parts])
        if whole:
            same.append(other.id)
        elif parts:
            similar.append(other.id)
    return Overlap(name, len(others), tuple(same), tuple(similar), tuple(sorted(rows)))


def _text(problem: Problem) -> str:
    return "\n".join([*(text for _, text in problem.turns), problem.question])


def _grams(text: str) -> Iterable[tuple[str, ...]]:
    words = _WORD.findall(unicodedata.normalize("NFKC", text).casefold())
    return (tuple(words[start : start + NUM_WORDS]) for start in range(len(words) - NUM_WORDS + 1))
