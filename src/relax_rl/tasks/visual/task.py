"""A visual benchmark as a task: rows of its layout as problems, with unusable images named and left out."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from relax_rl.errors import DataError
from relax_rl.rewards.base import Verifier
from relax_rl.rewards.visual.verifier import TypedVerifier
from relax_rl.tasks.base import BaseTask, Problem, digest
from relax_rl.tasks.images.cells import cell_pictures, numbered_marks
from relax_rl.tasks.images.faults import fault_words, usable
from relax_rl.tasks.images.picture import Picture
from relax_rl.tasks.rows import LETTERS, Row
from relax_rl.tasks.visual.layouts import READERS, Item
from relax_rl.tasks.visual.sets import VISUAL_SETS, VisualSet

__all__ = ["VISION_PROMPT", "VisualTask"]

VISION_PROMPT = (
    "Given the images and the question, please reason step by step, and put your final answer within \\boxed{}."
)
"""The paper's, as system message."""
_HINTS: Mapping[str, str] = {
    "choice": "Give the letter of the right option.",
    "integer": "Give an integer.",
    "list": "Give a list such as [1, 2, 3].",
    "within": "Give three decimal places, unless the number is whole.",
}
_LOG = logging.getLogger(__name__)
_Group = tuple[Problem, ...]


@dataclass(frozen=True)
class VisualTask(BaseTask):
    """Problems of a visual benchmark, from the Hub or from a local folder in the published layout.

    A question with variants (DynaMath) or versions (MathVerse) comes with all of them, one after the other, or not at
    all: a number of problems counts each variant, and must be a multiple of their number.

    Args:
        name: a name in `VISUAL_SETS`.
        path: folder of the published files; None: the Hub.
        blind: leave the images out, to measure what the words alone give away.
        system: system message; None for none.

    Raises:
        DataError: when problems are asked for: a file, column or split that is not there.
    """

    name: str
    path: str | Path | None = None
    blind: bool = False
    system: str | None = VISION_PROMPT
    verifier: Verifier = field(default_factory=TypedVerifier, compare=False, repr=False)
    _groups: dict[str, list[_Group]] = field(
        default_factory=dict[str, list[_Group]], init=False, compare=False, repr=False
    )
    _kept: dict[tuple[str, int, int | None], list[Problem]] = field(
        default_factory=dict[tuple[str, int, int | None], list[Problem]], init=False, compare=False, repr=False
    )
    _faults: dict[str, dict[str, str]] = field(
        default_factory=dict[str, dict[str, str]], init=False, compare=False, repr=False
    )

    @property
    def group_size(self) -> int:  # type: ignore[override]
        """See `BaseTask.group_size`."""
        return VISUAL_SETS[self.name].num_variants

    def problems(self, split: str, count: int | None = None, seed: int = 0) -> list[Problem]:
        """See `Task.problems`; problems whose image cannot be used are left out with all their variants."""
        groups = self._all(split)
        if seed:
            groups = sorted(groups, key=lambda group: digest(self.name, str(seed), group[0].group or group[0].id))
        size = len(groups[0])
        if count is not None and (count < 0 or count % size):
            raise DataError(
                f"{count} problems of '{self.name}' were asked for; each question comes in {size} variants, so ask for "
                f"a multiple of {size}."
            )
        key = (split, seed, count)
        if key not in self._kept:
            self._kept[key] = self._usable(split, groups, count)
        return list(self._kept[key])

    def _usable(self, split: str, groups: Sequence[_Group], count: int | None) -> list[Problem]:
        size, found = len(groups[0]), dict[int, str]()
        kept = usable(groups, _pictures, None if count is None else count // size, found)
        faults = self._faults[split] | {groups[place][0].id: why for place, why in found.items()}
        if (words := fault_words(faults.items())) is not None:
            _LOG.warning("%s/%s: %s.", self.name, split, words)
        problems = [problem for group in kept for problem in group]
        if count is not None and len(problems) < count:
            raise DataError(
                f"The task '{self.name}' has {len(problems)} problems that can be shown in '{split}'; {count} were "
                "asked for."
            )
        return problems[:count]

    def _all(self, split: str) -> list[_Group]:
        if split not in self._groups:
            self._groups[split] = self._load(VISUAL_SETS[self.name], split)
        return self._groups[split]

    def _load(self, known: VisualSet, split: str) -> list[_Group]:
        if split not in known.splits:
            raise DataError(f"The task '{self.name}' has no split '{split}'; it has {', '.join(known.splits)}.")
        groups: dict[str, list[Problem]] = {}
        faults: dict[str, str] = {}
        for published in known.splits[split]:
            suffix = f"-{published}" if len(known.splits[split]) > 1 else ""
            for row in self._rows(known, published):
                item = READERS[self.name](row)
                identity = f"{self.name}-{item.id}{suffix}"
                try:
                    problem = self._problem(identity, item, row)
                except DataError as error:
                    faults[identity] = str(error).rstrip(".")
                    continue
                groups.setdefault(item.group or identity, []).append(problem)
        self._faults[split] = faults
        whole = self._whole(groups, known.num_variants, faults)
        if not whole:
            raise DataError(f"The task '{self.name}' has no problem in the split '{split}'.")
        return whole

    def _whole(self, groups: Mapping[str, Sequence[Problem]], size: int, faults: Mapping[str, str]) -> list[_Group]:
        """The groups with all their variants. One that lacks a variant for another reason than its image is refused."""
        whole: list[_Group] = []
        for name, group in groups.items():
            if size == 1 or len(group) == size:
                whole.append(tuple(group))
            elif not any(identity.startswith(f"{self.name}-{name}-") for identity in faults):
                raise DataError(
                    f"The question {name!r} of '{self.name}' has {len(group)} of its {size} variants; without all of "
                    "them there is no worst case."
                )
        return whole

    def _rows(self, known: VisualSet, published: str) -> Iterator[Row]:
        return known.hub_rows(published) if self.path is None else known.folder_rows(Path(self.path), published)

    def _problem(self, identity: str, item: Item, row: Row) -> Problem:
        if None in item.images:
            raise DataError(f"Image {item.images.index(None) + 1} is missing in {row.where}.")
        folder = None if self.path is None else Path(self.path)
        images = () if self.blind else cell_pictures(list(item.images), folder, f"the image of {row.where}")
        words = numbered_marks("\n".join([item.question, *_lines(item)]))
        value = item.gold.members[0] if item.gold.kind == "any" else item.gold.value
        columns: dict[str, Any] = {"choices": list(item.options), "published": item.published, **item.columns}
        return Problem(
            id=identity,
            prompt=words if self.system is None else f"{self.system}\n\n{words}",
            answer=str(item.gold),
            system=self.system,
            instruction=words,
            solution=f"\\boxed{{{value}}}",
            mistake=f"\\boxed{{{_another(item)}}}",
            images=images,
            options=item.options,
            columns=columns,
            interleaved=bool(images),
            group=item.group,
            facets=item.facets,
        )


def _lines(item: Item) -> list[str]:
    """The options, where the question does not show them, and the form of the answer."""
    shown = () if item.shows_options else zip(LETTERS, item.options, strict=False)
    hint = _HINTS.get(item.gold.kind, "")
    if item.gold.kind == "float":
        hint = f"Round to {item.gold.number} decimal place{'s' * (item.gold.number != '1')}."
    return [*(f"({letter}) {text}" for letter, text in shown), *([hint] if hint else [])]


def _another(item: Item) -> str:
    """A wrong answer of the same form."""
    if item.gold.kind != "choice":
        return "-98765.4321"
    letters = LETTERS[: max(len(item.options), 2)]
    place = letters.find(item.gold.value)
    others = [one for one, letter in enumerate(letters) if letter != item.gold.value]
    different = [one for one in others if not item.options or place < 0 or item.options[one] != item.options[place]]
    return LETTERS[(different or others)[0]]


def _pictures(group: _Group) -> list[Picture]:
    return [picture for problem in group for picture in problem.pictures]
