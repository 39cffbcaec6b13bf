"""What every verifier promises, and the verdict of one that explains itself."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from relax_rl.errors import DataError

__all__ = ["ExplainingVerifier", "Verdict", "Verifier", "check_lengths", "grade"]


@dataclass(frozen=True)
class Verdict:
    """The score of one completion and how it came about.

    Attributes:
        score: 1.0 right, 0.0 wrong, None: could not be scored.
        extracted: the text taken for the answer; None if the completion has none (or the verifier takes none).
        how: where it was found, as :class:`.extraction.Extraction` has it: ``boxed``, ``tagged``, ``stated`` or ``bare
            number``; or why there is none: ``no answer``, ``unclosed box``, ``unclosed tag``, ``unclosed thought``,
            ``truncated`` (all score 0.0).
        reason: why ``score`` is None: ``gold unreadable``, ``too long``, or a reason of :class:`.pool.Outcome`.
        detail: the words of an error, or what a format lacks, for people.
        parts: of a weighted set, each member's name and own score.
    """

    score: float | None
    extracted: str | None = None
    how: str = ""
    reason: str | None = None
    detail: str = ""
    parts: tuple[tuple[str, float | None], ...] = ()


@runtime_checkable
class Verifier(Protocol):
    """Grades completions against gold answers, in bounded time, whatever a policy wrote.

    A score is 1.0 (right) or 0.0 (wrong), or anything between for a verifier that documents partial credit. ``None``
    means *could not be scored*: the gold answer is unreadable, or the grader ran into its limit. It is never a polite
    0.0; callers leave such a completion out of means and out of the loss, and count it.
    """

    @property
    def name(self) -> str:
        """Short name for metric keys and tables, such as ``"countdown"``."""
        ...

    def score(self, completions: Sequence[str], answers: Sequence[str]) -> list[float | None]:
        """Score ``completions[i]`` against the gold ``answers[i]``.

        Both sequences have the same length, else ``DataError``. Completions are untrusted text and never raise.
        """
        ...


@runtime_checkable
class ExplainingVerifier(Verifier, Protocol):
    """A verifier whose verdicts say what was extracted, how, and why there is none."""

    def grade(self, completions: Sequence[str], answers: Sequence[str]) -> list[Verdict]:
        """As ``score``, with the reasons."""
        ...


def grade(
    verifier: Verifier,
    completions: Sequence[str],
    answers: Sequence[str],
    num_tokens: Sequence[int] | None = None,
    truncated: Sequence[bool] | None = None,
) -> list[Verdict]:
    """The verdicts of any verifier; those of one that does not explain itself hold its scores alone.

    Args:
        num_tokens: lengths of the completions, for a verifier with ``needs_num_tokens``; another is not given them.
        truncated: which completions hit their length limit, where the caller knows, for a verifier whose ``grade``
            asks for it: an answer that the limit cut is none.

    Raises:
        DataError: it returns another number of scores than it was asked for.
    """
    lengths = (num_tokens,) if getattr(verifier, "needs_num_tokens", False) else ()
    if isinstance(verifier, ExplainingVerifier):
        asks = "truncated" in inspect.signature(verifier.grade).parameters
        flags = {"truncated": truncated} if asks and truncated is not None else {}
        verdicts = verifier.grade(completions, answers, *lengths, **flags)
    else:
        verdicts = [Verdict(score) for score in verifier.score(completions, answers, *lengths)]
    if len(verdicts) != len(completions):
        raise DataError(
            f"The verifier '{verifier.name}' returned {len(verdicts)} scores for {len(completions)} completions."
        )
    return verdicts


def check_lengths(completions: Sequence[str], answers: Sequence[str]) -> None:
    """Raises DataError unless there is one gold answer for each completion."""
    if len(completions) != len(answers):
        raise DataError(f"{len(completions)} completions were given with {len(answers)} gold answers; give one each.")
