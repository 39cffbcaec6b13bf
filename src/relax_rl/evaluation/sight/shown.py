"""A problem as a condition shows it: with other or altered images, without any, or with words in their place."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

from PIL.Image import Image

from relax_rl.errors import DataError
from relax_rl.latent.images.conditions import PATCH, Condition
from relax_rl.tasks.base import Problem, digest
from relax_rl.tasks.images.picture import Picture

__all__ = ["IMAGE_WORDS", "shown_under"]

IMAGE_WORDS = "image_words"
"""Column of a problem that says in words what its images show."""


def shown_under(
    problems: Sequence[Problem], condition: Condition, *, seed: int = 0, patch: int = PATCH
) -> list[Problem | None]:
    """Each problem under a condition; None where there is no such thing.

    "other" takes the images of another question with as many of them, whose pixels differ; a problem has none where all
    others differ in number or are variants of it.

    Args:
        problems: all with images.
        seed: seed of the other problem and of masked squares.
        patch: side of a masked square in pixels.

    Raises:
        DataError: "words" for a problem that has none.
    """
    if condition.kind == "true":
        return list(problems)
    if condition.kind == "other":
        return _exchanged(problems, seed)
    if condition.kind in ("none", "words"):
        return [_in_words(problem, with_words=condition.kind == "words") for problem in problems]
    return [_altered(problem, condition, seed, patch) for problem in problems]


@dataclass(frozen=True)
class _Altered(Picture):
    """An image under a condition, made when it is opened."""

    inner: Picture
    condition: Condition
    seed: str
    patch: int

    @property
    def name(self) -> str:
        """See `Picture.name`."""
        return self.inner.name

    @property
    def size(self) -> tuple[int, int]:
        """See `Picture.size`."""
        return self.inner.size

    @property
    def identity(self) -> bytes:
        """See `Picture.identity`."""
        return f"{self.condition.name} {self.seed} {self.patch} ".encode() + self.inner.identity

    def open(self) -> Image:
        """See `Picture.open`."""
        return self.condition.altered(self.inner.open(), self.seed, self.patch)


def _altered(problem: Problem, condition: Condition, seed: int, patch: int) -> Problem:
    seeds = (f"{seed} {problem.id} {place}" for place in range(len(problem.images)))
    images = tuple(_Altered(one, condition, own, patch) for one, own in zip(problem.pictures, seeds, strict=True))
    return replace(problem, images=images)


def _exchanged(problems: Sequence[Problem], seed: int) -> list[Problem | None]:
    shown = [tuple(picture.identity for picture in problem.pictures) for problem in problems]
    found: list[Problem | None] = []
    for place, problem in enumerate(problems):
        others = [
            other
            for other, candidate in enumerate(problems)
            if len(shown[other]) == len(shown[place])
            and shown[other] != shown[place]
            and (not problem.group or candidate.group != problem.group)
        ]
        if not others:
            found.append(None)
            continue
        other = random.Random(digest("another image", str(seed), problem.id)).choice(others)
        found.append(replace(problem, images=problems[other].images))
    return found


def _in_words(problem: Problem, *, with_words: bool) -> Problem:
    words = "".join(part for part in problem.parts if isinstance(part, str)).strip()
    if with_words:
        given = problem.columns.get(IMAGE_WORDS)
        if not given or not isinstance(given, str | list | tuple):
            raise DataError(
                f"The problem {problem.id!r} does not say in words what its images show; give it a column "
                f"'{IMAGE_WORDS}', or leave the condition 'words' out."
            )
        words = "\n".join([*([given] if isinstance(given, str) else map(str, given)), words])
    prompt = words if problem.system is None else f"{problem.system}\n\n{words}"
    return replace(problem, images=(), interleaved=False, prompt=prompt, instruction=words)
