"""The verifier of mathematical answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from relax_rl.errors import DataError
from relax_rl.rewards.extraction import extract_answer
from relax_rl.rewards.literals import same_literal
from relax_rl.rewards.pool import WorkerPool

__all__ = ["MathGrade", "MathVerifier"]

# Longer than any gold answer known (210 characters), shorter than what a parser should be given.
_MAX_ANSWER_CHARS = 2000


@dataclass(frozen=True)
class MathGrade:
    """The verdict on one completion and how it came about.

    Attributes:
        score: 1.0 right, 0.0 wrong, None: could not be scored.
        extracted: the text taken for the answer; None if the completion has none.
        how: ``boxed``, ``stated``, ``bare number``; or ``no answer``, ``unclosed box`` (both score 0.0).
        reason: why ``score`` is None: ``gold unreadable``, ``too long``, or a reason of :class:`.pool.Outcome`.
        detail: the words of an error, for people.
    """

    score: float | None
    extracted: str | None
    how: str
    reason: str | None = None
    detail: str = ""


class MathVerifier:
    """Grades completions against gold answers in LaTeX or plain text.

    Equal spellings and rational numbers (exactly: 0.333 is not 1/3) are decided in place. Everything else is compared
    by ``math-verify`` in worker processes with hard limits, started when first needed. A verdict depends on the pair
    of texts alone: not on load, order or the number of workers.

    Args:
        timeout_s: CPU seconds that one comparison may take.
        num_workers: worker processes; None: one per CPU, at most 8.
        memory_mb: address space of a worker, MiB.
        allow_bare_number: take the last number of a completion that neither boxes nor states an answer.
    """

    name = "math"

    def __init__(
        self,
        *,
        timeout_s: float = 5.0,
        num_workers: int | None = None,
        memory_mb: int = 1024,
        allow_bare_number: bool = False,
    ) -> None:
        self.allow_bare_number = allow_bare_number
        self._pool = WorkerPool(
            "relax_rl.rewards.equivalence:compare", num_workers=num_workers, timeout_s=timeout_s, memory_mb=memory_mb
        )

    def score(self, completions: Sequence[str], answers: Sequence[str]) -> list[float | None]:
        """1.0, 0.0 or None (could not be scored) for each completion. Raises DataError if the lengths differ."""
        return [grade.score for grade in self.grade(completions, answers)]

    def grade(self, completions: Sequence[str], answers: Sequence[str]) -> list[MathGrade]:
        """As ``score``, with what was extracted, how, and why there is no verdict."""
        if len(completions) != len(answers):
            raise DataError(f"{len(completions)} completions were given with {len(answers)} gold answers.")
        grades: list[MathGrade | None] = []
        undecided: dict[tuple[str, str], list[int]] = {}
        for index, (completion, gold) in enumerate(zip(completions, answers, strict=True)):
            extraction = extract_answer(completion, allow_bare_number=self.allow_bare_number)
            grade = _grade_in_place(gold, extraction.text, extraction.how)
            grades.append(grade)
            if grade is None and extraction.text is not None:
                undecided.setdefault((gold, extraction.text), []).append(index)
        for pair, outcome in zip(undecided, self._pool.map(list(undecided)), strict=True):
            value = outcome.value or {}
            verdict, reason = value.get("verdict"), outcome.reason or value.get("reason")
            score = None if verdict is None else float(verdict)
            for index in undecided[pair]:
                how = extract_answer(completions[index], allow_bare_number=self.allow_bare_number).how
                grades[index] = MathGrade(score, pair[1], how, reason, outcome.detail)
        return [grade for grade in grades if grade is not None]

    def close(self) -> None:
        """End the worker processes now rather than with the interpreter."""
        self._pool.close()


def _grade_in_place(gold: str, extracted: str | None, how: str) -> MathGrade | None:
    """The grade, if it takes no algebra."""
    if not gold.strip():
        return MathGrade(None, extracted, how, "gold unreadable", "the gold answer is empty")
    if extracted is None:
        return MathGrade(0.0, None, how)
    if max(len(extracted), len(gold)) > _MAX_ANSWER_CHARS:
        return MathGrade(None, extracted, how, "too long", f"{len(extracted)} characters, at most {_MAX_ANSWER_CHARS}")
    same = same_literal(gold, extracted)
    return None if same is None else MathGrade(float(same), extracted, how)
