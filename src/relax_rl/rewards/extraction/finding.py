"""What a reader has found in a text: an answer, or why there is none."""

from __future__ import annotations

import re
from collections import deque
from dataclasses import dataclass

__all__ = ["PLACEHOLDER", "Commitment", "Extraction", "last_match"]

# What an echo of the instruction holds: "put it in \boxed{}", "in <answer> ... </answer>".
PLACEHOLDER = re.compile(r"[\s.\u2026_]*|\s*\\[lc]?dots\s*")


@dataclass(frozen=True)
class Extraction:
    """The answer found in a completion.

    Attributes:
        text: the answer; None if there is none.
        how: ``boxed``, ``tagged``, ``stated``, ``bold`` or ``display`` (at the end of the text) or ``bare number``;
            without an answer ``no answer``, ``unclosed box``, ``unclosed tag``, ``unclosed thought`` (the completion
            ended inside it), ``retracted`` (the completion takes it back) or ``truncated``.
        last: what the last box alone holds, where ``text`` joins several: ``\\boxed{2}, \\boxed{3}`` is ``2, 3``.
        letter: the letter of an option that is stated after a value: ``\\boxed{12}. The answer is (C).``
        whole: all that the tag holds, where ``text`` may be a part of it.
    """

    text: str | None
    how: str
    last: str | None = None
    letter: str | None = None
    whole: str | None = None

    @property
    def verbatim(self) -> str | None:
        """The answer to the letter, for text that is no mathematics: the point that ends a sentence is part of it."""
        return self.text if self.whole is None else self.whole


@dataclass(frozen=True)
class Commitment:
    """An answer with the place that commits to it: character offsets in the text that was read."""

    start: int
    end: int
    found: Extraction


def last_match(pattern: re.Pattern[str], text: str) -> re.Match[str] | None:
    """The last of the matches from left to right, without a list of all of them."""
    return next(iter(deque(pattern.finditer(text), maxlen=1)), None)
