"""Problems that choose the best policy of a run: neither trained on, nor those that it is judged by."""

from __future__ import annotations

from dataclasses import dataclass

from relax_rl.config import TrainConfig
from relax_rl.errors import ConfigError
from relax_rl.tasks.base import BaseTask, Problem, image_digest

__all__ = ["Training", "training_problems"]


@dataclass(frozen=True)
class Training:
    """The problems of a run's training split.

    Attributes:
        problems: trained on.
        selecting: evaluated on during training; empty without such evaluations.
        split: split of the latter, for people.
    """

    problems: list[Problem]
    selecting: list[Problem]
    split: str = ""


def training_problems(settings: TrainConfig, task: BaseTask) -> Training:
    """The problems to train on, and those held out of them.

    Raises:
        DataError: the task does not have the split, or so many problems.
        ConfigError: nothing would be left to train on, or to select by.
    """
    split, evaluation, seed = settings.train_split, settings.evaluation, settings.seed
    if evaluation.every is None:
        return Training(task.problems(split, settings.train_problems, seed), [])
    count = evaluation.num_selecting
    if evaluation.selection_split is not None:
        name = evaluation.selection_split
        return Training(task.problems(split, settings.train_problems, seed), task.problems(name, count), name)
    asked = settings.train_problems
    # The order is the run's own, so that runs of several seeds are selected by different problems.
    all_problems = task.problems(split, asked + count if task.is_endless and asked is not None else None, seed)
    kept, held = all_problems[:-count], all_problems[-count:]
    if len(kept) < max(asked or 1, 1):
        raise ConfigError(
            f"the split {split!r} has {len(all_problems):,} problems, too few to train on {asked or 1:,} and hold "
            f"{count} out for evaluations during training; lower evaluation.held_out or train_problems, or name "
            "a split with evaluation.selection_split"
        )
    trained = kept[:asked]
    asked_before = {_key(problem) for problem in trained}
    held = [problem for problem in held if _key(problem) not in asked_before]
    if not held:
        raise ConfigError(
            f"every problem held out of {split!r} is trained on, too, under another id; name another split with "
            "evaluation.selection_split"
        )
    return Training(trained, held, f"{split}, held out")


def _key(problem: Problem) -> tuple[object, ...]:
    return problem.question, problem.turns, image_digest(problem.images)
