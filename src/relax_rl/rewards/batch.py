"""Completions that are graded together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from relax_rl.errors import DataError

__all__ = ["GradingBatch"]

_COLUMNS = {
    "answers": "gold answers",
    "opened": "tags in opened",
    "num_tokens": "lengths in num_tokens",
    "truncated": "flags in truncated",
    "options": "lists of options",
}


@dataclass(frozen=True)
class GradingBatch:
    """Completions, their gold answers, and what the caller knows of each; None for a column that it does not know.

    Attributes:
        completions: text of a policy, untrusted.
        answers: the gold answers.
        opened: the tag of the thought that each prompt opened; "" for none.
        num_tokens: lengths of the completions.
        truncated: which completions hit their length limit: an answer that the limit cut is none.
        options: the texts of the options A, B, ... of each problem; empty for a problem without.

    Raises:
        DataError: a column has more or fewer rows than there are completions.
    """

    completions: Sequence[str]
    answers: Sequence[str]
    opened: Sequence[str] | None = None
    num_tokens: Sequence[int] | None = None
    truncated: Sequence[bool] | None = None
    options: Sequence[Sequence[str]] | None = None

    def __post_init__(self) -> None:
        for column, words in _COLUMNS.items():
            rows = getattr(self, column)
            if rows is not None and len(rows) != len(self):
                raise DataError(f"{len(self)} completions were given with {len(rows)} {words}; give one each.")

    def __len__(self) -> int:
        return len(self.completions)

    @property
    def texts(self) -> list[str]:
        """The completions behind the tags that their prompts opened.

        A verifier must see the tag, or a thought that never ends would pass for an answer.
        """
        if self.opened is None:
            return list(self.completions)
        return [tag + completion for tag, completion in zip(self.opened, self.completions, strict=True)]

    @property
    def is_cut(self) -> Sequence[bool]:
        """``truncated``, False where it is not known."""
        return [False] * len(self) if self.truncated is None else self.truncated

    @property
    def choices(self) -> Sequence[Sequence[str]]:
        """``options``, empty where they are not known."""
        return [()] * len(self) if self.options is None else self.options
