"""A user's verifier is called on two rows before anything of a run is written: its faults cost no evaluation."""

from __future__ import annotations

import math
from collections.abc import Sequence

from relax_rl.errors import DataError
from relax_rl.rewards.base import Verifier, as_verifier, grade

__all__ = ["check_tried", "rows_to_try", "stated_answer", "try_verifier"]

_ROWS = 2
# A verifier may find nothing to score in two rows; one that finds nothing in so many scores nothing.
_MOST_ROWS = 16
_WRONG = "I do not know."


def rows_to_try(answers: Sequence[str], solutions: Sequence[str | None]) -> list[tuple[str, str]]:
    """(completion, gold answer) of the first problems: the known solution, or the answer in every usual form."""
    pairs = zip(answers[:_MOST_ROWS], solutions[:_MOST_ROWS], strict=True)
    return [(solution or stated_answer(gold), gold) for gold, solution in pairs]


def stated_answer(gold: str) -> str:
    """A completion that states an answer in every usual form."""
    return f"The answer is \\boxed{{{gold}}}.\n<answer>{gold}</answer>"


def try_verifier(verifier: Verifier, answers: Sequence[str], solutions: Sequence[str | None]) -> None:
    """Grade two completions of the first problem or two, one of them wrong; nothing for a verifier of this package.

    Args:
        answers, solutions: of the first problems; a solution that is not known is None.

    Raises:
        DataError: it raises, returns something else than one finite number or None a completion, or scores none of the
            first 16 problems' own solutions. The sentence names the file and line of the user's code.
    """
    known = as_verifier(verifier)
    if not known.is_own_code or not answers:
        return
    rows = rows_to_try(answers, solutions)
    first = [rows[0], (_WRONG, rows[-1][1])]
    verdicts = grade(known, [text for text, _ in first], [gold for _, gold in first], [9] * _ROWS, [False] * _ROWS)
    scores = [verdict.score for verdict in verdicts]
    if all(score is None for score in scores):
        texts, golds = [text for text, _ in rows], [gold for _, gold in rows]
        verdicts = grade(known, texts, golds, [9] * len(rows), [False] * len(rows))
        scores += [verdict.score for verdict in verdicts]
    check_tried(scores, known.described)


def check_tried(scores: Sequence[float | None], what: str) -> None:
    """Raises DataError if no score is a number, or one is infinite."""
    if any(score is not None and math.isinf(score) for score in scores):
        raise DataError(f"{what} returned an infinite score; return a finite number, or None for what it cannot score.")
    if all(score is None for score in scores):
        raise DataError(
            f"{what} scored none of {len(scores)} completions that it was tried on, the first problems' own answers: "
            "it returned None or NaN for all of them, and nothing would be learned."
        )
