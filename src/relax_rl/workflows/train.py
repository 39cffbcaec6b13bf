"""Train a policy with verifiable rewards: `train` is what ``relax train`` does, for programs.

There is one build, `prepare`: the rehearsal (``--dry-run``) stops after it, and the run goes on from it. Nothing here
imports torch before the settings, the run directory, the task and the verifier have been found sound.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from relax_rl.config import ObjectiveConfig, TaskConfig, TrainConfig, load_config
from relax_rl.config.loading import NAMED, read_overrides
from relax_rl.errors import ConfigError
from relax_rl.rewards.base import Verifier
from relax_rl.rewards.callables import CallableVerifier
from relax_rl.rewards.functions import RewardFunction, Rewards, configured_rewards, takes_columns
from relax_rl.runs import RunDirectory
from relax_rl.tasks.base import BaseTask, Task, as_task
from relax_rl.tasks.registry import build_task
from relax_rl.workflows.imports import without_collection
from relax_rl.workflows.progress import OnProgress
from relax_rl.workflows.train_result import TrainResult

if TYPE_CHECKING:
    from relax_rl.objectives import Objective
    from relax_rl.workflows.build import TrainingRun

__all__ = ["Source", "TrainResult", "prepare", "task_and_rewards", "train"]

Source = TrainConfig | str | Path | Mapping[str, Any] | None
"""Source of settings, as for `load_config`."""

Scorer = Callable[[list[str], list[str]], Sequence[float | None]]
"""(completions, answers) -> scores; or a function in TRL's signature."""


def train(
    config: Source = None,
    *,
    overrides: Sequence[str] | Mapping[str, Any] = (),
    model: Any = None,
    tokenizer: Any = None,
    task: str | Task | None = None,
    verifier: str | Verifier | Scorer | None = None,
    objective: str | Objective | None = None,
    resume: bool = False,
    overwrite: bool = False,
    allow_code: Collection[str] = (),
    other_versions: bool = False,
    share_before: str | Path | None = None,
    on_progress: OnProgress | None = None,
) -> TrainResult:
    """Train a policy, evaluating it before and after, and leave everything in the run directory.

    Objects are recorded in ``config.json`` by their names alone: give them again when you resume the run.

    Args:
        config: settings, the name of a shipped config, a file, or a run directory; the defaults when None.
        overrides: on top of it, ``["--trainer.max_steps", "20"]`` or ``{"trainer.max_steps": 20}``.
        model: a name, or a Hugging Face model with its ``tokenizer``; it is trained in place.
        tokenizer: in place of the model's own; a processor for an image-text model.
        task: a name, ``module:Class``, or an object.
        verifier: a name, ``module:function``, a verifier, or a function: (completions, answers) -> scores, or in TRL's
            signature.
        objective: a method's name, ``module:function``, or an objective; its settings stand in the config.
        resume: continue the run from its last complete checkpoint, with its own settings where ``config`` is None.
        overwrite: replace the run that is in the run directory.
        allow_code: modules that a config file, or the run that is resumed, may name a task, a verifier or an objective
            of. What the other arguments name needs no permission.
        other_versions: resume although other versions of packages wrote the checkpoint.
        share_before: folder in which runs that start from the same weights share the evaluation before training: the
            first one keeps it there, the others copy it. None: the run makes its own.
        on_progress: receives notices, stages and updates, on the first process alone. Nothing is printed.

    Raises:
        RelaxError: settings, data, a model or a directory that cannot be used; nothing has been written then.
    """
    return prepare(
        config,
        overrides=overrides,
        model=model,
        tokenizer=tokenizer,
        task=task,
        verifier=verifier,
        objective=objective,
        resume=resume,
        overwrite=overwrite,
        allow_code=allow_code,
        other_versions=other_versions,
        share_before=share_before,
    ).train(on_progress)


def prepare(
    config: Source = None,
    *,
    overrides: Sequence[str] | Mapping[str, Any] = (),
    model: Any = None,
    tokenizer: Any = None,
    task: str | Task | None = None,
    verifier: str | Verifier | Scorer | None = None,
    objective: str | Objective | None = None,
    resume: bool = False,
    overwrite: bool = False,
    allow_code: Collection[str] = (),
    other_versions: bool = False,
    share_before: str | Path | None = None,
) -> TrainingRun:
    """Build and check everything that a run needs, and write nothing; for the arguments, see `train`.

    What is cheap comes first: settings and directory, then task, verifier and objective, then the data, then the model
    and the trainer.

    Raises:
        RelaxError: anything that would keep the run from starting.
    """
    if resume and overwrite:
        raise ConfigError("--resume continues a run and --overwrite deletes it; give one of them")
    given: dict[str, Any] = {"model": model, "task": task, "verifier": verifier, "objective": objective}
    names = {key: value for key, value in given.items() if isinstance(value, str)}
    objects = {key: value for key, value in given.items() if value is not None and key not in names}
    # A name that is given here replaces the file's before the file's code would be asked for.
    named = {f"{key}.name" if key in NAMED else key: value for key, value in names.items()}
    changes = read_overrides({**read_overrides(overrides), **named})
    settings = _resolved(config, changes, resume=resume, allow_code=allow_code)
    if "verifier" in objects and not isinstance(verifier, Verifier):
        if not callable(verifier):
            raise ConfigError(
                f"verifier is {verifier!r}; give a name, a verifier, or a function of completions, answers"
            )
        own: Any = verifier
        objects["verifier"] = (
            RewardFunction(own, getattr(own, "__name__", type(own).__name__))
            if takes_columns(own)
            else CallableVerifier(own)
        )
    if "task" in objects and not isinstance(task, Task):
        raise ConfigError(f"task is {task!r}; give a name, or an object with name, verifier and problems")
    if "model" in objects and tokenizer is None:
        raise ConfigError("model is an object; give its tokenizer, too, or the model's name or folder instead")
    settings = _naming(settings, **objects)
    path = settings.output_path
    if resume and settings.sampling.engine == "auto":
        # What it came to when the run began, whatever it would come to now.
        settings = settings.sampled_by(RunDirectory.open(path).read_config().sampling.engine)
    directory = RunDirectory.resume(path, settings) if resume else RunDirectory.new(path, overwrite=overwrite)
    source, rewards = task_and_rewards(settings, objects.get("task"), objects.get("verifier"))

    with without_collection():
        from relax_rl.workflows.build import build_run

    return build_run(
        settings,
        directory,
        source,
        rewards,
        objective=objects.get("objective"),
        model=objects.get("model"),
        tokenizer=tokenizer,
        resume=resume,
        other_versions=other_versions,
        share_before=None if share_before is None else Path(share_before),
    )


def task_and_rewards(
    settings: TrainConfig, task: Task | None = None, verifier: Verifier | RewardFunction | None = None
) -> tuple[BaseTask, Rewards]:
    """Task and rewards of a training; objects replace names.

    Raises:
        ConfigError: no such task or verifier, or an option that it does not have.
    """
    source = build_task(settings.task.name, **settings.task.options) if task is None else as_task(task)
    if verifier is None:
        return source, configured_rewards(settings.verifier, source.verifier)
    return source, Rewards(None, (verifier,)) if isinstance(verifier, RewardFunction) else Rewards(verifier)


def _resolved(
    source: Source, overrides: Mapping[str, Any], *, resume: bool, allow_code: Collection[str]
) -> TrainConfig:
    """The settings asked for; those of the run itself where a run is resumed without naming a config."""
    if not resume or source is not None:
        return load_config(source, overrides, allow_code=allow_code)
    named = overrides.get("output")
    directory = RunDirectory.open(str(named) if named else load_config(None, overrides).output_path)
    # The path may have been a link, such as runs/latest.
    settings = load_config(directory.config_path, overrides, allow_code=allow_code)
    return load_config(settings, {"output": str(directory.path)})


def _naming(
    settings: TrainConfig,
    *,
    model: Any = None,
    task: Task | None = None,
    verifier: Verifier | RewardFunction | None = None,
    objective: Objective | None = None,
) -> TrainConfig:
    """The settings with the names of the objects that take the place of what they name."""
    named: dict[str, Any] = {}
    if model is not None:
        named["model"] = str(model.config._name_or_path or type(model).__name__)
    if task is not None:
        named["task"] = TaskConfig(name=task.name)
    if verifier is not None:
        named["verifier"] = verifier.name
    if objective is not None:
        named["objective"] = ObjectiveConfig(name=objective.name)
    return settings.model_copy(update=named)
