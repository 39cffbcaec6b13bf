"""The answers that published rules of visual benchmarks leave to a language model, and the questions to it.

The sources ask a model to find the answer in a response (MathVista, DynaMath, MMStar), or also whether it is the gold
one (MathVerse, EMMA).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from relax_rl.rewards.official import Graded

__all__ = ["COUNTS", "LEFT_TO_A_MODEL", "Left"]

COUNTS = ("_left", "_unjudged")
"""Ends of the names of official scores that are counts, and no verdicts."""
_PHRASE = re.compile(r'The answer is ".*"\.')


def _mathvista(graded: Graded) -> bool:
    text, choices = graded.text.strip(), graded.columns.get("choices") or ()
    return not (text in choices or _is_number(text) or _PHRASE.search(text))


def _dynamath(graded: Graded) -> bool:
    return "\\boxed{" not in graded.text


def _mmstar(graded: Graded) -> bool:
    return re.match(r"\s*(?:option |the answer is )?\(?[a-d]\b", graded.text.lower()) is None


def _refused(graded: Graded) -> bool:
    """Whether the rule part refuses: it compares texts alone, and so it always does."""
    return True


@dataclass(frozen=True)
class Left:
    """The part of a benchmark that is left to a model.

    Attributes:
        is_left: whether the rule part cannot read a completion that it does not accept.
        accepts_first: whether what the rule part accepts is right without a model.
        compares: whether a model also compares the answer with the gold one.
    """

    is_left: Callable[[Graded], bool]
    accepts_first: bool
    compares: bool

    def leaves(self, graded: Graded, is_right: bool) -> bool:
        """Whether a completion is left to a model, which the rule part calls right or not."""
        return bool(graded.text.strip()) and self.is_left(graded) and not (self.accepts_first and is_right)


_EMMA = Left(_refused, accepts_first=True, compares=True)

LEFT_TO_A_MODEL: Mapping[str, Left] = {
    # Its rule part may accept what it could not read, by the smallest edit distance.
    "mathvista": Left(_mathvista, accepts_first=False, compares=False),
    "mathverse": Left(_refused, accepts_first=True, compares=True),
    "dynamath": Left(_dynamath, accepts_first=False, compares=False),
    "mmstar": Left(_mmstar, accepts_first=False, compares=False),
    "emma": _EMMA,
    "emma_mini": _EMMA,
}
"""By the name of the task."""


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
