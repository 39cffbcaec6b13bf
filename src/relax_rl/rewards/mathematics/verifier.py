"""The verifier of mathematical answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from relax_rl.errors import DataError
from relax_rl.rewards.base import BaseVerifier, Verdict, check_lengths
from relax_rl.rewards.mathematics.extraction import Extraction, extract_answer
from relax_rl.rewards.mathematics.members import is_collection, same_in_place
from relax_rl.rewards.workers.pool import WorkerPool

__all__ = ["MathVerifier"]

# Longer than any gold answer known (210 characters), shorter than what a parser should be given.
_MAX_ANSWER_CHARS = 2000


class MathVerifier(BaseVerifier):
    """Grades completions against gold answers in LaTeX or plain text.

    Equal spellings, rational numbers (exactly: 0.333 is not 1/3) and collections of them are decided in place.
    Everything else is compared by ``math-verify`` in worker processes with hard limits, started when first needed. A
    verdict depends on the pair of texts alone: not on load, order or the number of workers.

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
            "relax_rl.rewards.mathematics.equivalence:compare",
            num_workers=num_workers,
            timeout_s=timeout_s,
            memory_mb=memory_mb,
        )

    def score(self, completions: Sequence[str], answers: Sequence[str]) -> list[float | None]:
        """1.0, 0.0 or None (could not be scored) for each completion. Raises DataError if the lengths differ."""
        return [verdict.score for verdict in self.grade(completions, answers)]

    def grade(
        self,
        completions: Sequence[str],
        answers: Sequence[str],
        num_tokens: Sequence[int] | None = None,
        *,
        truncated: Sequence[bool] | None = None,
    ) -> list[Verdict]:
        """As ``score``, with what was extracted, how, and why there is no verdict.

        Args:
            truncated: which completions hit their length limit, where the caller knows: a stated answer at the very
                end of such a one may be cut and is none.
        """
        check_lengths(completions, answers)
        flags = [False] * len(completions) if truncated is None else truncated
        if len(flags) != len(completions):
            raise DataError(f"{len(completions)} completions were given with {len(flags)} flags in truncated.")
        verdicts: list[Verdict | None] = []
        undecided: dict[tuple[str, str], list[tuple[int, str]]] = {}
        for index, (completion, gold, is_truncated) in enumerate(zip(completions, answers, flags, strict=True)):
            found = extract_answer(completion, allow_bare_number=self.allow_bare_number, is_truncated=is_truncated)
            text = _read_beside(gold, found)
            verdicts.append(_verdict_in_place(gold, text, found.how))
            if verdicts[-1] is None and text is not None:
                undecided.setdefault((gold, text), []).append((index, found.how))
        for pair, (value, reason, detail) in zip(undecided, self._compare(list(undecided)), strict=True):
            for index, how in undecided[pair]:
                verdicts[index] = Verdict(None if value is None else float(value), pair[1], how, reason, detail)
        return [verdict for verdict in verdicts if verdict is not None]

    def extract(self, completion: str) -> str | None:
        """The answer that a completion commits to; None if there is none. ``grade`` says how it was found."""
        return extract_answer(completion, allow_bare_number=self.allow_bare_number).text

    def classes(self, answers: Sequence[str | None]) -> list[int | None]:
        """A label for each extracted answer, the same for equal ones, so that ``0.5`` and ``\\frac12`` are one vote.

        Labels count from 0 in order of first appearance; None where there is no answer. Which answers share a label
        does not depend on their order. An answer that cannot be compared is equal only to its own spelling.
        """
        left = sorted({answer for answer in answers if answer is not None}, key=lambda text: (len(text), text))
        leader: dict[str, str] = {}
        while left:
            first, *rest = left
            leader[first] = first
            verdicts = self._same(first, rest)
            leader.update({text: first for text, is_same in zip(rest, verdicts, strict=True) if is_same})
            left = [text for text, is_same in zip(rest, verdicts, strict=True) if not is_same]
        labels: dict[str, int] = {}
        return [None if text is None else labels.setdefault(leader[text], len(labels)) for text in answers]

    def close(self) -> None:
        """End the worker processes now rather than with the interpreter."""
        self._pool.close()

    def _same(self, first: str, others: Sequence[str]) -> list[bool]:
        """Which of the others equal the first; one that cannot be compared does not."""
        short = [text for text in others if max(len(first), len(text)) <= _MAX_ANSWER_CHARS]
        known = {text: same_in_place(first, text) for text in short}
        asked = [text for text in short if known[text] is None]
        compared = self._compare([(first, text) for text in asked])
        known.update({text: value for text, (value, _, _) in zip(asked, compared, strict=True)})
        return [bool(known.get(text)) for text in others]

    def _compare(self, pairs: Sequence[tuple[str, str]]) -> list[tuple[bool | None, str | None, str]]:
        """(equal, reason if unknown, detail) of each pair, gold first, from the worker processes."""
        found = []
        for outcome in self._pool.map(pairs):
            value: dict[str, Any] = outcome.value or {}
            found.append((value.get("verdict"), outcome.reason or value.get("reason"), outcome.detail))
        return found


def _read_beside(gold: str, found: Extraction) -> str | None:
    """Boxes that are joined are one list beside a gold list; beside a single gold answer the last box wins."""
    return found.text if found.last is None or is_collection(gold) else found.last


def _verdict_in_place(gold: str, extracted: str | None, how: str) -> Verdict | None:
    """The verdict, if it takes no algebra."""
    if not gold.strip():
        return Verdict(None, extracted, how, "gold unreadable", "the gold answer is empty")
    if extracted is None:
        return Verdict(0.0, None, how)
    if max(len(extracted), len(gold)) > _MAX_ANSWER_CHARS:
        return Verdict(None, extracted, how, "too long", f"{len(extracted)} characters, at most {_MAX_ANSWER_CHARS}")
    same = same_in_place(gold, extracted)
    return None if same is None else Verdict(float(same), extracted, how)
