"""What every task promises, and the check that a task can prove itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from relax_rl.errors import DataError
from relax_rl.rewards.base import Verifier

__all__ = ["Problem", "Task", "TaskReport", "validate_task"]


@dataclass(frozen=True)
class Problem:
    """One question, in the words for both kinds of model, with all that its verifier needs.

    Attributes:
        id: Unique within the task, and stable: the same split, seed and index give the same id and the same problem.
        prompt: Plain text for a model without a chat template.
        answer: The gold answer, in the verifier's own format.
        system: System message for a chat model, if the task wants one.
        instruction: What a chat model is asked; ``None`` means the same words as ``prompt`` (see ``question``).
        solution: A whole completion that must score 1.0, if the task knows one.
    """

    id: str
    prompt: str
    answer: str
    system: str | None = None
    instruction: str | None = None
    solution: str | None = None

    @property
    def question(self) -> str:
        """The user turn for a chat model."""
        return self.prompt if self.instruction is None else self.instruction

    @property
    def messages(self) -> list[dict[str, str]]:
        """The conversation for a chat model, as ``apply_chat_template`` takes it."""
        system = [] if self.system is None else [{"role": "system", "content": self.system}]
        return [*system, {"role": "user", "content": self.question}]


@runtime_checkable
class Task(Protocol):
    """A source of problems together with the verifier that grades them."""

    @property
    def name(self) -> str:
        """Name on the command line and in tables."""
        ...

    @property
    def verifier(self) -> Verifier:
        """The verifier that reads this task's ``Problem.answer``."""
        ...

    def problems(self, split: str, count: int | None = None, seed: int = 0) -> list[Problem]:
        """The first ``count`` problems of a split, the same ones every time.

        ``None`` means the whole split, or the size that a task without end documents. Raises ``DataError`` for a split
        that the task does not have, or if it has fewer problems than asked for.
        """
        ...


@dataclass(frozen=True)
class TaskReport:
    """What ``validate_task`` found; every tuple of ids is empty for a sound task."""

    task: str
    split: str
    checked: int
    unsolved: tuple[str, ...]
    """Ids whose gold solution did not score 1.0."""
    too_lenient: tuple[str, ...]
    """Ids for which a wrong completion did not score 0.0."""
    without_solution: tuple[str, ...]
    """Ids with no known solution: only the wrong completion was tried."""
    repeated_ids: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether no problem failed. Problems without a known solution are no failure, but nothing proves them."""
        return not (self.unsolved or self.too_lenient or self.repeated_ids)

    def __str__(self) -> str:
        """One line for people."""
        proven = self.checked - len(self.without_solution) - len(self.unsolved)
        return (
            f"{self.task}/{self.split}: {self.checked} problems, {proven} gold solutions score 1, "
            f"{len(self.unsolved)} do not, {len(self.too_lenient)} accept a wrong answer, "
            f"{len(self.without_solution)} have no known solution, {len(self.repeated_ids)} repeated ids"
        )


# Wrong for any task with a checkable answer: an empty completion, and one that commits to nothing readable.
WRONG_COMPLETIONS = ("", "I do not know. <answer>unknown</answer> \\boxed{\\text{unknown}}")


def validate_task(
    task: Task, split: str, count: int | None = None, *, seed: int = 0, wrong: Sequence[str] = WRONG_COMPLETIONS
) -> TaskReport:
    """Let a task prove itself: every gold solution scores 1.0 and every completion in ``wrong`` scores 0.0.

    A score of ``None`` counts as failure on both sides: a problem whose gold answer cannot be read is broken.

    Raises:
        DataError: The split is empty, so that nothing would be proven.
    """
    problems = task.problems(split, count, seed)
    if not problems:
        raise DataError(f"Task {task.name!r} has no problems in split {split!r}, so there is nothing to validate.")
    solved = [problem for problem in problems if problem.solution is not None]
    scores = task.verifier.score([p.solution or "" for p in solved], [p.answer for p in solved])
    unsolved = tuple(p.id for p, score in zip(solved, scores, strict=True) if score != 1.0)
    answers = [problem.answer for problem in problems]
    lenient: set[str] = set()
    for completion in wrong:
        verdicts = task.verifier.score([completion] * len(problems), answers)
        lenient.update(p.id for p, score in zip(problems, verdicts, strict=True) if score != 0.0)
    seen: set[str] = set()
    repeated = {p.id for p in problems if p.id in seen or seen.add(p.id)}
    return TaskReport(
        task=task.name,
        split=split,
        checked=len(problems),
        unsolved=unsolved,
        too_lenient=tuple(sorted(lenient)),
        without_solution=tuple(p.id for p in problems if p.solution is None),
        repeated_ids=tuple(sorted(repeated)),
    )
