"""Training problems put together from one or more sets, without repeats and without what an evaluation set holds."""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass, field
from fractions import Fraction

from relax_rl.errors import DataError
from relax_rl.rewards.base import Verifier
from relax_rl.tasks.base import BaseTask, Problem, Task, in_order
from relax_rl.tasks.overlap import question_digest

__all__ = ["MixReport", "TrainingMix"]

_NUMBER = re.compile(r"-?\d{1,40}(?:\.\d{1,40}|/[1-9]\d{0,40})?", re.ASCII)
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class MixReport:
    """Counts of the rows.

    Attributes:
        rows: by part, as read.
        contradictory: rows whose question is also there with another number for its answer; all of them are dropped.
        repeated: rows of the others whose question came before, in the same part or another.
        overlap: questions that an evaluation set has too, by the name of the set; they are dropped.
        kept: problems that remain.
    """

    rows: dict[str, int]
    contradictory: int
    repeated: int
    overlap: dict[str, int]
    kept: int

    def __str__(self) -> str:
        """One line for people."""
        shared = ", ".join(f"{count} of {name}" for name, count in self.overlap.items() if count) or "none"
        rows = " and ".join(f"{count} rows of {name}" for name, count in self.rows.items())
        return (
            f"{self.kept} training problems from {rows}; "
            f"dropped: {self.repeated} repeated, {self.contradictory} with contradictory answers, and what evaluation "
            f"sets hold: {shared}"
        )


@dataclass(frozen=True)
class TrainingMix(BaseTask):
    """The ``train`` splits of ``parts``, one after the other, and the ``test`` split of ``held_out``.

    Questions are compared by :func:`.overlap.question_digest`. What was dropped is in ``report`` and, once, in the log.

    Args:
        name: name of the task.
        parts: the sets, in order; all are graded by the verifier of the first.
        held_out: the task that ``test`` comes from.
        exclude: evaluation sets, none of whose ``test`` questions is trained on.
    """

    name: str
    parts: tuple[Task, ...]
    held_out: Task
    exclude: tuple[Task, ...] = ()
    _mixed: list[tuple[list[Problem], MixReport]] = field(default_factory=list, init=False, compare=False, repr=False)

    @property
    def verifier(self) -> Verifier:
        """That of the first part."""
        return self.parts[0].verifier

    def problems(self, split: str, count: int | None = None, seed: int = 0) -> list[Problem]:
        """The first ``count`` problems of ``train`` or ``test`` in the order of ``seed``; None: all.

        Raises:
            DataError: another split, fewer problems than asked for, or a part or an evaluation set that cannot be read.
        """
        if split == "test":
            return self.held_out.problems("test", count, seed)
        if split != "train":
            raise DataError(f"The task '{self.name}' has the splits train and test; there is no '{split}'.")
        return in_order(self._train[0], count, seed, source=f"The task '{self.name}'", split=split)

    @property
    def report(self) -> MixReport:
        """How many rows there are, and how many were dropped and why."""
        return self._train[1]

    @property
    def _train(self) -> tuple[list[Problem], MixReport]:
        if not self._mixed:
            self._mixed.append(self._mix())
            _LOG.warning("%s: %s", self.name, self.report)
        return self._mixed[0]

    def _mix(self) -> tuple[list[Problem], MixReport]:
        held = {task.name: self._digests_of(task) for task in self.exclude}
        rows = {part.name: part.problems("train") for part in self.parts}
        by_question: dict[bytes, list[Problem]] = {}
        for problem in (problem for problems in rows.values() for problem in problems):
            by_question.setdefault(question_digest(problem.question), []).append(problem)
        contradictory = {
            question
            for question, problems in by_question.items()
            if len({_number(problem.answer) for problem in problems} - {None}) > 1
        }
        dropped = contradictory.union(*held.values())
        kept = [problems[0] for q, problems in by_question.items() if q not in dropped]
        return kept, MixReport(
            rows={name: len(problems) for name, problems in rows.items()},
            contradictory=sum(len(by_question[question]) for question in contradictory),
            repeated=sum(len(problems) - 1 for q, problems in by_question.items() if q not in contradictory),
            overlap={name: len(digests & by_question.keys()) for name, digests in held.items()},
            kept=len(kept),
        )

    def _digests_of(self, task: Task) -> set[bytes]:
        try:
            return {question_digest(problem.question) for problem in task.problems("test")}
        except DataError as error:
            raise DataError(
                f"{str(error).rstrip('.')}; '{self.name}' leaves out the problems of evaluation sets and so needs "
                f"'{task.name}': provide it, or name the sets to leave out yourself (--task.exclude '[]' for none)."
            ) from error


def _number(answer: str) -> Fraction | None:
    """The answer as an exact number, if it is written as one."""
    return Fraction(answer) if _NUMBER.fullmatch(answer) else None
