"""Problems that show images, from a file or a task."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from relax_rl.errors import DataError
from relax_rl.tasks.base import BaseTask, Problem, Task, as_task
from relax_rl.tasks.files import DATA_SUFFIXES, file_rows
from relax_rl.tasks.images.cells import cell_pictures, numbered_marks
from relax_rl.tasks.images.faults import fault_words, usable
from relax_rl.tasks.registry import build_task
from relax_rl.workflows.progress import OnProgress, Progress, silent
from relax_rl.workflows.prompts import PROMPT_COLUMNS

__all__ = ["image_problems"]

_IMAGE_COLUMNS = ("images", "image")


def image_problems(
    images: str | Path | Task, options: Mapping[str, Any], split: str, count: int, say: OnProgress = silent
) -> tuple[list[Problem], str]:
    """The first so many problems that show an image, and where they are from, in words.

    Args:
        images: a file with a column of prompts and one of images, the name of a task, or a task.
        options: options of a task by name.

    Raises:
        DataError: no such problem, or a file that cannot be read.
    """
    if isinstance(images, str | Path) and Path(images).suffix.lower() in DATA_SUFFIXES:
        return _of_file(Path(images), count, say), str(images)
    task = build_task(str(images), **options) if isinstance(images, str | Path) else as_task(images)
    # Of a mixed task some problems show none.
    problems = [problem for problem in _problems(task, split, count) if problem.images]
    if not problems:
        raise DataError(f"No problem of the task '{task.name}' in '{split}' shows an image; name a task with images.")
    return problems[:count], f"the task {task.name} ({split})"


def _problems(task: BaseTask, split: str, count: int) -> list[Problem]:
    try:
        return task.problems(split, count)
    except DataError:
        if task.is_endless:
            raise
        return task.problems(split)[:count]


def _of_file(path: Path, count: int, say: OnProgress) -> list[Problem]:
    problems: list[Problem] = []
    for number, row in enumerate(file_rows(path), 1):
        prompt = next((row.columns[name] for name in PROMPT_COLUMNS if row.columns.get(name)), None)
        cell = next((row.columns[name] for name in _IMAGE_COLUMNS if row.columns.get(name)), None)
        if not isinstance(prompt, str) or cell is None:
            raise DataError(
                f"There is no prompt with an image in {row.where}: it needs a column of text named "
                f"{' or '.join(PROMPT_COLUMNS)}, and one of images named {' or '.join(_IMAGE_COLUMNS)}."
            )
        shown = cell_pictures(cell, path.parent, f"the image of {row.where}")
        words = numbered_marks(prompt)
        identity = str(row.columns.get("id", f"row-{number}"))
        problems.append(Problem(identity, words, "", images=shown, columns=dict(row.columns), interleaved=True))
    faults: dict[int, str] = {}
    kept = usable(problems, lambda problem: problem.pictures, count, faults)
    if (sentence := fault_words((problems[place].id, why) for place, why in faults.items())) is not None:
        say(Progress("loading", message=f"{path}: {sentence}"))
    if not kept:
        raise DataError(f"There is no prompt with an image that can be shown in '{path}'; add one.")
    return kept
