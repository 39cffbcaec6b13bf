"""Rehearsal of a comparison before its first run: each method is built as its runs are."""

from __future__ import annotations

import contextlib
import gc
import os
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path

from relax_rl.comparison.contents import Contents
from relax_rl.comparison.measures import CHANGES, OF_SOLUTIONS, sampled_measures
from relax_rl.config import BatchPlan, TrainConfig, batch_arithmetic
from relax_rl.errors import ConfigError, RelaxError, RunError
from relax_rl.rewards.base import as_verifier
from relax_rl.runs.lock import FolderLock, is_unstarted
from relax_rl.tasks.modes import WITH_MODES
from relax_rl.workflows.compare.plan import PlannedRun
from relax_rl.workflows.held_out import training_problems
from relax_rl.workflows.imports import without_collection
from relax_rl.workflows.train import task_and_rewards

__all__ = ["Rehearsal", "check_folder", "check_metrics", "rehearse"]


@dataclass(frozen=True)
class Rehearsal:
    """Findings.

    Attributes:
        batches: rollout batches of each run.
        notices: notices of the runs, in sentences, each with the method or the run that it is about; once without
            where it is about all methods.
    """

    batches: BatchPlan
    notices: tuple[str, ...]


def check_metrics(metrics: Sequence[str] | None, config: TrainConfig) -> None:
    """Raises ``ConfigError`` for a metric that these runs cannot be compared by."""
    num_samples = config.evaluation.num_samples
    known = sampled_measures(num_samples)
    for name in metrics or ():
        kind = name.partition("@")[0]
        if name not in known:
            named = ", ".join(one for one in known if not one.startswith(("pass@", "modes@", "recovered@")))
            raise ConfigError(
                f"--metrics: '{name}' cannot be tested; give {named}, or pass@k, modes@k and recovered@k with k from 1 "
                f"to evaluation.num_samples = {num_samples}"
            )
        if (name in CHANGES or kind == "recovered") and not config.evaluation.before:
            raise ConfigError(
                f"--metrics: '{name}' is a change from before training, which these runs do not measure; set "
                "evaluation.before = true, or leave it out"
            )
        counts_solutions = name in OF_SOLUTIONS or kind in ("modes", "recovered")
        if counts_solutions and not as_verifier(task_and_rewards(config)[0].verifier).tells_solutions:
            raise ConfigError(
                f"--metrics: '{name}' counts the solutions found, which the verifier of '{config.task.name}' does not "
                f"distinguish; compare on a task of several solutions ({', '.join(WITH_MODES)}), or leave it out"
            )


def check_folder(folder: Path) -> None:
    """Raises ``RunError`` for a folder with other things in it, one that cannot be written, or one that is taken."""
    existing = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    if not existing.is_dir():
        raise RunError(f"cannot write the folder {folder}: {existing} is a file; choose another with --output DIR")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise RunError(
            f"cannot write the folder {folder}: no permission in {existing}; choose another with --output DIR"
        )
    FolderLock(folder, "comparison").check_free()
    if folder.is_dir() and not is_unstarted(folder) and not Contents.is_in(folder):
        raise RunError(f"{folder} is not empty and holds no comparison; choose another folder with --output DIR")


def rehearse(
    runs: Sequence[PlannedRun],
    owed: Sequence[PlannedRun],
    *,
    overwrite: bool = False,
    unverified: bool = False,
    other_versions: bool = False,
) -> Rehearsal:
    """Build what the runs would, and write nothing.

    Args:
        runs: all of the comparison. The first run of each method is built as far as it goes without data and a model.
        owed: those still to be trained. The first run of each of their methods is built whole, on the CPU, with one
            model for all, since the methods of a comparison share it.
        overwrite: no run resumes from a checkpoint.
        unverified: whether methods may take part whose formula was not read at its source.
        other_versions: than those that wrote a checkpoint are accepted.

    Raises:
        RelaxError: anything that the runs would refuse, with the method that it concerns.
    """
    task, rewards = task_and_rewards(runs[0].config)
    for planned in _first_of_each_method(runs):
        with _naming(planned.method):
            _check_method(planned, unverified=unverified)
    config = runs[0].config
    problems = training_problems(config, task).problems
    plan = batch_arithmetic(config, num_problems=len(problems))
    model = tokenizer = None
    said, resumed = dict[str, list[str]](), list[str]()
    first = _first_of_each_method(owed)
    for planned in first:
        with without_collection():
            from relax_rl.workflows.build import build_run
            from relax_rl.workflows.resume import resumption

        with _naming(planned.method):
            built = build_run(
                planned.config, planned.directory, task, rewards, model=model, tokenizer=tokenizer, on_cpu=True
            )
            for notice in built.notices:
                said.setdefault(notice, []).append(planned.method)
            for other in owed:
                if other.method == planned.method and other.has_checkpoint and not overwrite:
                    found = resumption(
                        other.directory, built.trainer.objective, other.config, other_versions=other_versions
                    )
                    resumed += [f"{other.label}: {notice}" for notice in found.notices]
        if config.peft.r is None:  # an adapter stays in the model that it was made for
            model, tokenizer = built.model, built.tokenizer
        del built
    del model, tokenizer
    gc.collect()  # before other processes need the memory
    sentences = [
        notice if len(methods) == len(first) else f"{', '.join(methods)}: {notice}" for notice, methods in said.items()
    ]
    return Rehearsal(plan, (*sentences, *resumed))


def _first_of_each_method(runs: Sequence[PlannedRun]) -> list[PlannedRun]:
    first: dict[str, PlannedRun] = {}
    for planned in runs:
        first.setdefault(planned.method, planned)
    return list(first.values())


@contextlib.contextmanager
def _naming(method: str) -> Generator[None]:
    """Adds the method's name to an error inside."""
    try:
        yield
    except RelaxError as error:
        raise ConfigError(f"--methods: '{method}': {error}") from error


def _check_method(planned: PlannedRun, *, unverified: bool) -> None:
    from relax_rl.objectives import METHODS, is_verified
    from relax_rl.workflows.recipe import build_recipe

    name = planned.config.objective.name
    method, colon, rest = name.partition(":")
    if colon and method in METHODS:
        raise ConfigError(f"'{rest}' in '{name}' is not an option; write {method}:OPTION=VALUE")
    build_recipe(planned.config, planned.directory.checkpoints, on_cpu=True)
    if not unverified and not is_verified(name):
        raise ConfigError(
            f"the formula of {name} was not read at its source (verified = False), so a verdict would say nothing of "
            "its paper; add --unverified to compare it all the same"
        )
