"""A task as a model can be shown it: images within a budget of pixels, and no prompt that is too long."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from relax_rl.errors import DataError
from relax_rl.tasks.base import BaseTask, FindsTooLong, Problem
from relax_rl.tasks.images.budget import PixelBudget

__all__ = ["FittedTask"]

_MOST_NAMED = 5
_MOST_ROUNDS = 8
"""Most rounds of asking a task without end for more problems."""
_Key = tuple[str, int | None, int]


class FittedTask(BaseTask):
    """The problems of another task, with resized images, and without those whose prompt is too long.

    Nothing of a prompt is cut. A question with variants is left out with all of them, since its worst case is over all.

    Args:
        task: task of the problems.
        pixels: bounds of every image.
        too_long: finds the problems to leave out; None: all stay.
        say: receives a sentence on the problems of a split that were left out, once for each.
    """

    def __init__(
        self,
        task: BaseTask,
        pixels: PixelBudget | None = None,
        too_long: FindsTooLong | None = None,
        say: Callable[[str], None] | None = None,
    ) -> None:
        self.name, self.verifier, self.is_endless = task.name, task.verifier, task.is_endless
        self._task, self._pixels, self._too_long, self._say = task, pixels or PixelBudget(), too_long, say
        self._found: dict[_Key, tuple[list[Problem], list[str]]] = {}
        self._long: dict[tuple[str, int], dict[str, bool]] = {}

    def problems(self, split: str, count: int | None = None, seed: int = 0) -> list[Problem]:
        """The first ``count`` problems of the split that fit. Raises DataError if there are fewer."""
        return list(self._kept(split, count, seed)[0])

    def left_out(self, split: str, count: int | None = None, seed: int = 0) -> tuple[str, ...]:
        """See `BaseTask.left_out`."""
        return (*self._task.left_out(split, count, seed), *self._kept(split, count, seed)[1])

    def remarks(self, split: str) -> list[str]:
        """See `BaseTask.remarks`."""
        return self._task.remarks(split)

    def fitting(self, too_long: FindsTooLong) -> BaseTask:
        """See `BaseTask.fitting`."""
        inner = self._task.fitting(too_long)
        return self if inner is self._task else FittedTask(inner, self._pixels, self._too_long, self._say)

    def _kept(self, split: str, count: int | None, seed: int) -> tuple[list[Problem], list[str]]:
        key = (split, count, seed)
        if key not in self._found:
            kept, left_out, total = self._read(split, count, seed)
            self._found[key] = kept, left_out
            if left_out and self._say is not None:
                self._say(_sentence(self.name, split, left_out, total))
        return self._found[key]

    def _read(self, split: str, count: int | None, seed: int) -> tuple[list[Problem], list[str], int]:
        """Problems that fit, ids of those that do not, and how many were looked at."""
        asked, problems = count, self._task.problems(split, count, seed)
        long = self._longs(split, seed, problems)
        for _ in range(_MOST_ROUNDS):
            missing = 0 if count is None else count - sum(problem.id not in long for problem in problems)
            if missing <= 0 or asked is None:
                break
            asked, problems = self._more(split, asked + 2 * missing, seed)
            long = self._longs(split, seed, problems)
        # Beyond the last problem that is kept nothing was left out: it was not asked for.
        kept: list[Problem] = []
        left_out: list[str] = []
        for problem in problems:
            if len(kept) == count:
                break
            if problem.id in long:
                left_out.append(problem.id)
            else:
                kept.append(self._shown(problem))
        if not kept or (count is not None and len(kept) < count):
            wanted = "" if count is None else f"; {count} were asked for"
            raise DataError(
                f"The task '{self.name}' has {len(kept)} problems in '{split}' whose prompt is not too long, and "
                f"{len(left_out)} whose prompt is{wanted}; allow longer prompts, or ask for fewer problems."
            )
        return kept, left_out, len(kept) + len(left_out)

    def _more(self, split: str, count: int, seed: int) -> tuple[int | None, list[Problem]]:
        """So many problems; all of the split, and None in place of the number, where there are fewer."""
        try:
            return count, self._task.problems(split, count, seed)
        except DataError:
            return None, self._task.problems(split, None, seed)

    def _shown(self, problem: Problem) -> Problem:
        if self._pixels.is_open or not problem.images:
            return problem
        return replace(problem, images=tuple(self._pixels.of(picture) for picture in problem.pictures))

    def _longs(self, split: str, seed: int, problems: Sequence[Problem]) -> set[str]:
        """Ids of the problems that are left out. Each problem is looked at once."""
        if self._too_long is None:
            return set()
        known = self._long.setdefault((split, seed), {})
        new = [self._shown(problem) for problem in problems if problem.id not in known]
        found = set(self._too_long(new)) if new else set[str]()
        groups = {problem.group for problem in new if problem.group and problem.id in found}
        known.update((problem.id, problem.id in found or problem.group in groups) for problem in new)
        return {problem.id for problem in problems if known[problem.id]}


def _sentence(name: str, split: str, left_out: Sequence[str], total: int) -> str:
    named = ", ".join(left_out[:_MOST_NAMED]) + (", ..." if len(left_out) > _MOST_NAMED else "")
    noun = "problem is" if len(left_out) == 1 else "problems are"
    return f"{name}/{split}: {len(left_out)} of {total} {noun} left out, whose prompt is too long: {named}"
