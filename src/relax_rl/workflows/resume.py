"""Needs of a resume: a checkpoint that is whole, and the batch that it had."""

from __future__ import annotations

from typing import Any

from relax_rl.config import TrainConfig
from relax_rl.errors import RunError
from relax_rl.objectives import Objective
from relax_rl.objectives.updates import UpdateReport
from relax_rl.runs import RunDirectory
from relax_rl.runs.manifest import Manifest
from relax_rl.runs.resumption import Resumption, resumption_of
from relax_rl.training.objective_state import DICTIONARY_FILE, STATE_FILE
from relax_rl.training.trl.agreement import found_by_first
from relax_rl.training.trl.trainer import RelaxTrainer

__all__ = ["resumed_trainer", "resumption", "save_notices", "settings_for_processes"]


def resumption(
    directory: RunDirectory, objective: Objective, settings: TrainConfig, *, other_versions: bool = False
) -> Resumption:
    """The checkpoint that a run of an objective is resumed from, chosen by one process for all.

    Args:
        directory: directory of the run.
        objective: objective of the run, as it starts.
        settings: to resume it under.
        other_versions: than those that wrote the checkpoint are accepted.

    Raises:
        RunError: there is no whole checkpoint, or something differs from what it was written under.
    """
    needs_dictionary = objective.probe is not None and not objective.probe.is_log_only
    needed = (DICTIONARY_FILE, STATE_FILE) if needs_dictionary else (STATE_FILE,)
    before, now = directory.read_config().trainer.max_steps, settings.trainer.max_steps
    if before != now:
        _check_length(objective, before, now, directory)
    return found_by_first(lambda: resumption_of(directory, also=needed, other_versions=other_versions))


def resumed_trainer(trainer: RelaxTrainer, resumed: Resumption) -> tuple[str, ...]:
    """Prepare a trainer to resume, and say what there is to say.

    Raises:
        RunError: the data, the order of the prompts or the batch is not that of the checkpoint.
    """
    trainer.checked_checkpoint = resumed.checkpoint.path
    manifest = resumed.checkpoint.manifest
    said = [] if manifest is None else found_by_first(lambda: trainer.check_manifest(manifest))
    return (*resumed.notices, *said)


def settings_for_processes(settings: TrainConfig, manifest: Manifest | None, num_processes: int) -> TrainConfig:
    """The settings with which so many processes make the updates of a checkpoint: fewer or more micro-batches each.

    Args:
        settings: those that the run was started with.
        manifest: manifest of the checkpoint; None for one that does not say what its batch was.
        num_processes: number of processes that are to train.

    Raises:
        RunError: their micro-batches do not add up to the batch.
    """
    if manifest is None:
        return settings
    trainer, wanted = settings.trainer, int(manifest.training["completions_per_update"])
    given = trainer.per_device_train_batch_size * num_processes
    if wanted == given * trainer.gradient_accumulation_steps:
        return settings
    accumulation, rest = divmod(wanted, given)
    if rest or not accumulation:
        raise RunError(
            f"checkpoint-{manifest.step} was written by {manifest.training['num_processes']} processes with {wanted} "
            f"completions an update, which {num_processes} processes with micro-batches of "
            f"{trainer.per_device_train_batch_size} cannot make; start as many processes as before"
        )
    changed: dict[str, Any] = {"gradient_accumulation_steps": accumulation}
    if trainer.steps_per_generation is not None:
        # A whole multiple before, so it stays one.
        changed["steps_per_generation"] = (
            trainer.steps_per_generation * accumulation // trainer.gradient_accumulation_steps
        )
    return settings.model_copy(update={"trainer": trainer.model_copy(update=changed)})


def save_notices(args: Any) -> tuple[str, ...]:
    """Remarks on the checkpoints that a run will write."""
    if not args.save_only_model:
        return ()
    return ("trainer.save_only_model is on: checkpoints hold the model alone, so this run cannot be resumed from them",)


def _check_length(objective: Objective, before: int, now: int, directory: RunDirectory) -> None:
    """Refuse more updates for a method whose coefficients follow a schedule over all updates of the run."""
    if objective.after(UpdateReport(1, before, 1.0)).state() != objective.after(UpdateReport(1, now, 1.0)).state():
        raise RunError(
            f"cannot resume {directory.path}: trainer.max_steps was {before} and is now {now}, and the schedule of "
            f"{objective.name!r} depends on it from the first update on; start a new run with --output DIR"
        )
