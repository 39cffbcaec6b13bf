"""Figures that are drawn for their questions, with variants of each: to train and measure what is seen and inferred.

The problems are made, not stored, by the two rules of `relax_rl.tasks.countdown`: a digest seeds each item, and a
digest of what a figure shows decides its split.
"""

from __future__ import annotations

import functools
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from relax_rl.errors import ConfigError, DataError
from relax_rl.rewards.base import Verifier
from relax_rl.rewards.visual.gold import TypedGold
from relax_rl.rewards.visual.verifier import TypedVerifier
from relax_rl.tasks.base import BaseTask, Problem, digest
from relax_rl.tasks.figures.figure import Figure, legible_figure
from relax_rl.tasks.figures.kind import Kind, Values
from relax_rl.tasks.figures.kinds import KINDS
from relax_rl.tasks.visual.task import VISION_PROMPT

__all__ = ["FORMS", "SIZES", "FiguresTask"]

SIZES = {"train": 1024, "test": 256}
FORMS = ("shown", "text", "picture")
"""The question in words beside the figure; all of it in words; all of it in the picture."""
_SIDES = {1: 80, 2: 448}
_LEAST_SIDES = {1: 56, 2: 224}
_MOST_SIDE = 4096
_TEST_SHARE = 0.2
_MAX_DRAWS = 400
_IN_PICTURE = "Answer the question in the image."


@dataclass(frozen=True)
class FiguresTask(BaseTask):
    """Questions about drawn figures whose answer is a whole number.

    Figures are to scale. ``test`` asks each question about several figures: the first one, ``redrawn`` other drawings
    of the same values, and ``others`` figures with other values, each in all ``forms``. These are one group, so that an
    evaluation resamples questions and gives ``worst`` and ``robustness`` (`relax_rl.evaluation.breakdown`). ``train``
    draws each question once, in one of the forms. Without a count ``train`` gives 1024 problems and ``test`` 256. A
    longer list begins with the shorter one. An id depends on split, seed and place alone, and a picture's identity on
    its drawing, not on its pixels.

    Attributes:
        level: 1: easy questions about clocks, bars, shapes, graphs and tables in small pictures; 2: all of them.
        kinds: names of `KINDS`, with commas or as a list; None: all of the level.
        forms: some of `FORMS`; with "text" and "picture", an evaluation gives the ``modality_gap``.
        redrawn, others: further figures of a question of ``test``.
        side: side of the pictures, in pixels; None: 80 for level 1, 448 for level 2.
        blind: leave the pictures out, to measure what the words alone give away.
        system: system message; None for none; "": the paper's at level 2, none at level 1.

    Raises:
        ConfigError: A parameter out of range, or an unknown name.
    """

    level: int = 2
    kinds: str | Sequence[str] | None = None
    forms: str | Sequence[str] = "shown"
    redrawn: int = 1
    others: int = 2
    side: int | None = None
    blind: bool = False
    system: str | None = ""
    name: str = field(default="figures", init=False)
    is_endless: ClassVar[bool] = True
    verifier: Verifier = field(default_factory=TypedVerifier, init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        if self.level not in _SIDES:
            raise ConfigError(f"level of figures is {self.level!r}; choose 1 or 2.")
        if self.system == "":
            object.__setattr__(self, "system", VISION_PROMPT if self.level == 2 else None)
        known = tuple(name for name, kind in KINDS.items() if self.level == 2 or kind.easy)
        # Tuples, so that a task can be a key.
        object.__setattr__(self, "kinds", _names("kinds", self.kinds, known, f" of level {self.level}"))
        object.__setattr__(self, "forms", _names("forms", self.forms, FORMS))
        for parameter, most in {"redrawn": 20, "others": 20}.items():
            if not 0 <= getattr(self, parameter) <= most:
                raise ConfigError(
                    f"{parameter} of figures is {getattr(self, parameter)}; choose a whole number from 0 to {most}."
                )
        least = _LEAST_SIDES[2 if "picture" in self.forms else self.level]
        if self.side is not None and not least <= self.side <= _MOST_SIDE:
            raise ConfigError(
                f"side of figures is {self.side}; choose a number of pixels from {least} to {_MOST_SIDE}."
            )
        if self.pixels < least:
            raise ConfigError(f"The form 'picture' needs words in the picture; set side to {least} or more.")

    @property
    def kind_names(self) -> tuple[str, ...]:
        """The kinds that come, in turn."""
        return tuple(self.kinds or ())

    @property
    def pixels(self) -> int:
        """The side of the pictures."""
        return self.side or _SIDES[self.level]

    @property
    def group_size(self) -> int:  # type: ignore[override]
        """See `BaseTask.group_size`."""
        return (1 + self.redrawn + self.others) * len(self.forms)

    def problems(self, split: str, count: int | None = None, seed: int = 0) -> list[Problem]:
        """The first ``count`` problems of ``split`` (``"train"`` or ``"test"``) for this seed.

        Raises:
            DataError: No such split, a number of ``test`` problems that would cut a question's variants, or figures
                that cannot be drawn so that their words can be read.
        """
        if split not in SIZES:
            raise DataError(f"figures has no split {split!r}; choose one of {', '.join(SIZES)}.")
        size = self.group_size if split == "test" else 1
        count = SIZES[split] - SIZES[split] % size if count is None else count
        if count < 0 or count % size:
            raise DataError(
                f"{count} problems of 'figures' were asked for; each question of {split} comes in {size} variants, so "
                f"ask for a multiple of {size}, or change redrawn, others or forms."
            )
        return list(_made(self, split, seed, count))

    def is_test(self, kind: str, values: Values) -> bool:
        """Whether figures of these values are in the split ``test``, whatever the question, the seed and the level."""
        return digest("figures", kind, *map(str, values.shown)) < _TEST_SHARE * 2**64

    def question(self, split: str, seed: int, index: int) -> list[Problem]:
        """The variants of one question of ``test``, in all forms; of ``train``, one problem."""
        identity = f"{self.name}-{split}-{seed}-{index}"
        shape = (self.name, str(self.level), str(self.pixels), split, str(seed), str(index))
        rng = random.Random(digest(*shape, *self.kind_names))
        kind = KINDS[self.kind_names[index % len(self.kind_names)]]
        ask = rng.choice(kind.easy if self.level == 1 else range(len(kind.questions)))
        if split == "train":
            form, (figure,) = rng.choice(tuple(self.forms)), self._figures(kind, ask, split, rng, 0, shape)
            return [self._problem(identity, kind, figure, form)]
        named = ["first", *["redrawn"] * self.redrawn]
        figures = self._figures(kind, ask, split, rng, self.redrawn, shape)
        shown = {figures[0].values.shown}
        for other in range(self.others):
            (figure,) = self._figures(kind, ask, split, rng, 0, (*shape, f"other {other}"), shown)
            shown.add(figure.values.shown)
            figures.append(figure)
            named.append("values")
        return [
            self._problem(f"{identity}-v{place}" + (f"-{form}" if form != "shown" else ""), kind, figure, form, sort)
            for place, (figure, sort) in enumerate(zip(figures, named, strict=True))
            for form in self.forms
        ]

    def _figures(
        self,
        kind: Kind,
        ask: int,
        split: str,
        rng: random.Random,
        redrawn: int,
        seed: tuple[str, ...],
        seen: set[tuple[int, ...]] | None = None,
    ) -> list[Figure]:
        """New values of the split in so many further drawings, of all of which the words can be read."""
        for _ in range(_MAX_DRAWS):
            values = kind.draw(ask, self.level, rng)
            if (
                self.is_test(kind.name, values) != (split == "test")
                or values.shown in (seen or ())
                or kind.slip(values) == kind.answer(values)
            ):
                continue
            made = [
                legible_figure(kind.name, values, self.pixels, "", *seed, *map(str, values.shown), str(place))
                for place in range(1 + redrawn)
            ]
            figures = [figure for figure in made if figure is not None]
            if len(figures) == len(made) and all(self._captioned(kind, one) is not None for one in figures):
                return figures
        raise DataError(
            f"figures found no new {split} problem of the kind '{kind.name}' that can be read at {self.pixels} pixels; "
            "raise side, or ask for fewer variants."
        )

    def _captioned(self, kind: Kind, figure: Figure) -> Figure | None:
        """The figure below its question, if that form is asked for; None: its words cannot be read."""
        if "picture" not in self.forms:
            return figure
        words = kind.words(figure.values)
        return legible_figure(kind.name, figure.values, figure.side, words, str(figure.seed))

    def _problem(self, identity: str, kind: Kind, figure: Figure, form: str, variant: str = "") -> Problem:
        values = figure.values
        words = kind.words(values)
        if form == "text":
            words = f"{kind.described(values)} {words}"
        elif form == "picture":
            figure, words = self._captioned(kind, figure) or figure, _IN_PICTURE
        facets = {"kind": (kind.name,), "question": (f"{kind.name}: {kind.questions[values.ask]}",)}
        facets |= {"variant": (variant,)} if variant else {}
        facets |= {"twin": (form,)} if form != "shown" else {}
        return Problem(
            id=identity,
            prompt=words if self.system is None else f"{self.system}\n\n{words}",
            answer=str(TypedGold("integer", str(kind.answer(values)))),
            system=self.system,
            instruction=words,
            solution=f"\\boxed{{{kind.answer(values)}}}",
            mistake=f"\\boxed{{{kind.slip(values)}}}",
            images=() if self.blind or form == "text" else (figure,),
            # For `relax spectrum --images` with words in place of the figure.
            columns={"kind": kind.name} | ({} if form == "text" else {"image_words": kind.described(values)}),
            group=identity.rpartition("-v")[0],
            facets=facets,
        )


def _names(parameter: str, given: str | Sequence[str] | None, known: Sequence[str], of: str = "") -> tuple[str, ...]:
    """The names that were given, in the order of the known ones."""
    if given is None:
        return tuple(known)
    named = {name.strip() for name in (given.split(",") if isinstance(given, str) else given)}
    wrong = sorted(named - set(known))
    if wrong or not named:
        raise ConfigError(
            f"{parameter} of figures names {wrong[0]!r}; choose from {', '.join(known)}{of}."
            if wrong
            else f"{parameter} of figures is empty; choose from {', '.join(known)}{of}."
        )
    return tuple(name for name in known if name in named)


@functools.lru_cache(maxsize=8)
def _made(task: FiguresTask, split: str, seed: int, count: int) -> tuple[Problem, ...]:
    # A comparison and its evaluations ask for the same problems many times.
    size = task.group_size if split == "test" else 1
    return tuple(problem for index in range(count // size) for problem in task.question(split, seed, index))
