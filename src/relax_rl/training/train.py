"""One training run, from settings to checkpoints and evaluations."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import set_seed
from datasets import Dataset
from transformers import PreTrainedModel, PreTrainedTokenizerBase, ProcessorMixin
from transformers.trainer_callback import PrinterCallback
from transformers.utils.logging import disable_progress_bar

from relax_rl.config import TrainConfig, batch_arithmetic
from relax_rl.errors import ConfigError, RelaxError, RunError
from relax_rl.objectives import Objective
from relax_rl.rewards.base import Verifier
from relax_rl.rewards.registry import configured_verifier
from relax_rl.rewards.reward_function import VerifierReward
from relax_rl.runs import RunDirectory
from relax_rl.tasks.base import Task
from relax_rl.tasks.registry import build_task
from relax_rl.training.measurement import PolicyEvaluation
from relax_rl.training.models import load_model
from relax_rl.training.objective import build_objective_from
from relax_rl.training.objective_state import DICTIONARY_FILE, STATE_FILE
from relax_rl.training.precision import weight_dtype
from relax_rl.training.trl.branching import Branching
from relax_rl.training.trl.callbacks import MetricsFile, ProgressBar
from relax_rl.training.trl.config import check_trl_version, grpo_config
from relax_rl.training.trl.dataset import prompt_dataset
from relax_rl.training.trl.model_card import model_card
from relax_rl.training.trl.recorder import RolloutRecorder
from relax_rl.training.trl.trainer import RelaxTrainer

__all__ = ["train"]


@dataclass(frozen=True)
class _Parts:
    """Everything a run needs, built and checked before anything is written."""

    objective: Objective
    task: Task
    verifier: Verifier
    prompts: Dataset
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase | ProcessorMixin


def branching_from(config: TrainConfig) -> Branching | None:
    """CURE's rollout plan where the settings ask for it. Raises ConfigError for groups that it does not fit."""
    sampling, trainer = config.sampling, config.trainer
    if sampling.trunks is None:
        return None
    return Branching(trainer.num_generations, sampling.trunks, sampling.branch_top, trainer.max_completion_length)


def train(config: TrainConfig, run: RunDirectory, resume: bool = False) -> RunDirectory:
    """Train, evaluating before and after, and leave everything in the run directory.

    Args:
        config: the run's settings.
        run: from `RunDirectory.new` or `RunDirectory.resume`; nothing is written before every part of the run has been
            built.
        resume: go on from the last complete checkpoint.

    Raises:
        RelaxError: for settings, data, a model or a directory that cannot be used.
    """
    check_trl_version()
    # Bars for loading a model and writing a checkpoint would tear the progress of the run apart.
    disable_progress_bar()
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"transformers\.")
    parts = _build(config)
    checkpoint = _checkpoint(run, parts.objective) if resume else None
    on_cpu = {"use_cpu": True} if not torch.cuda.is_available() else {}
    args = grpo_config(config, parts.objective, run.checkpoints, **on_cpu)
    trainer = _trainer(config, parts, run, args)
    run.start(config)  # takes the place of a finished run under --overwrite, so nothing that can be refused comes after
    if checkpoint is not None and PartialState().is_main_process:
        run.rewind(_updates_in(checkpoint))
    evaluation = PolicyEvaluation(config, parts.task, run) if config.evaluation.enabled else None
    if evaluation is not None and checkpoint is None:
        evaluation.before(parts.model, parts.tokenizer, trainer.objective)
    if checkpoint is not None and _updates_in(checkpoint) >= config.trainer.max_steps:
        # Stopped after the last update and before its evaluation; the trainer would add an update.
        trainer._load_from_checkpoint(str(checkpoint))
    else:
        trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
    if evaluation is not None:
        # Without the trainer's own precision, so that both evaluations are in that of the settings.
        evaluation.after(trainer.accelerator.unwrap_model(trainer.model, keep_fp32_wrapper=False), parts.tokenizer)
    trainer.leave_group()
    return run


def _checkpoint(run: RunDirectory, objective: Objective) -> Path:
    also = (DICTIONARY_FILE, STATE_FILE) if objective.probe is not None else (STATE_FILE,)
    checkpoint = run.latest_checkpoint(also)
    if checkpoint is None:
        raise RunError(f"The run {run.path} has no complete checkpoint to resume from; start it anew with --overwrite.")
    return checkpoint


def _updates_in(checkpoint: Path) -> int:
    return int(checkpoint.name.removeprefix("checkpoint-"))


def _build(config: TrainConfig) -> _Parts:
    objective = build_objective_from(config)
    task = build_task(config.task.name, **config.task.options)
    problems = task.problems(config.train_split, config.train_problems, config.seed)
    # TRL drops what does not fill a rollout batch, and would end at once, having trained on nothing.
    batch_arithmetic(config, PartialState().num_processes, len(problems))
    verifier = configured_verifier(config.verifier, task.verifier)
    if config.evaluation.enabled:
        task.problems(config.evaluation.split, config.evaluation.num_problems)
    model, tokenizer = load_model(config.model, weight_dtype(config.dtype), config.model_revision)
    return _Parts(objective, task, verifier, prompt_dataset(problems, tokenizer), model, tokenizer)


def _trainer(config: TrainConfig, parts: _Parts, run: RunDirectory, args: Any) -> RelaxTrainer:
    set_seed(config.seed)
    try:
        return _built_trainer(config, parts, run, args)
    except (RelaxError, ImportError, ValueError) as error:
        run.discard_empty()
        if isinstance(error, RelaxError):
            raise
        raise ConfigError(f"TRL refuses the settings under 'trainer': {' '.join(str(error).split())}") from error


def _built_trainer(config: TrainConfig, parts: _Parts, run: RunDirectory, args: Any) -> RelaxTrainer:
    trainer = RelaxTrainer(
        objective=parts.objective,
        recorder=RolloutRecorder(run),
        card=model_card(config),
        max_batches=config.sampling.max_batches,
        branching=branching_from(config),
        model=parts.model,
        args=args,
        processing_class=parts.tokenizer,
        reward_funcs=[VerifierReward(parts.verifier)],
        train_dataset=parts.prompts,
        callbacks=[MetricsFile(run), ProgressBar(f"{config.objective.name} seed {config.seed}")],
    )
    trainer.remove_callback(PrinterCallback)
    return trainer
