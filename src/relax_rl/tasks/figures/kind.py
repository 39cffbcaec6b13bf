"""The contract of a kind of figure: values, the words and the drawing of them, and two routes to the gold answer."""

from __future__ import annotations

import random
from dataclasses import dataclass

from relax_rl.tasks.figures.drawing import Drawing, Scene

__all__ = ["Kind", "Values", "capital"]


@dataclass(frozen=True)
class Values:
    """A question about a figure that is not drawn yet.

    Attributes:
        ask: number of the question; a place in `Kind.questions`.
        shown: the numbers that the figure shows; they decide whether it belongs to ``train`` or to ``test``.
        target: object of the question, such as a row of a table.
    """

    ask: int
    shown: tuple[int, ...]
    target: tuple[int, ...] = ()


class Kind:
    """A kind of figure with its questions. All answers are whole numbers.

    Attributes:
        name: name of the kind, in options and facets.
        questions: a name for each question, in facets.
        easy: the questions of level 1, by place; empty: the kind is not in that level.
        may_be_dark: it can be drawn on dark paper.
    """

    name: str
    questions: tuple[str, ...]
    easy: tuple[int, ...] = ()
    may_be_dark: bool = True

    def draw(self, ask: int, level: int, rng: random.Random) -> Values:
        """Random values for a question; level 1 is easier than level 2."""
        raise NotImplementedError

    def words(self, values: Values) -> str:
        """The question. It gives away no number of the figure."""
        raise NotImplementedError

    def described(self, values: Values) -> str:
        """The figure in words, for the twin without a picture."""
        raise NotImplementedError

    def answer(self, values: Values) -> int:
        """The gold answer by its formula."""
        raise NotImplementedError

    def slip(self, values: Values) -> int:
        """The answer of the known slip of this question."""
        raise NotImplementedError

    def scene(self, values: Values, rng: random.Random, *, is_small: bool) -> Scene:
        """The figure to scale; the generator chooses what the values leave open.

        Args:
            is_small: the picture has few pixels, so that only a few words can be read.
        """
        raise NotImplementedError

    def measured(self, drawing: Drawing, values: Values) -> float:
        """The gold answer by measuring the drawing; of ``values``, only the question and its target may be read."""
        raise NotImplementedError


def capital(place: int) -> str:
    """The letter of a bar, row or column: A, B, C, ..."""
    return chr(ord("A") + place)
