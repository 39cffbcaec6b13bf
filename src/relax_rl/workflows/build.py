"""The one build of a training run, and the run itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from relax_rl.config import BatchPlan, TrainConfig, batch_arithmetic
from relax_rl.evaluation.prompts import PromptForm
from relax_rl.latent.contract.files import check_revision
from relax_rl.latent.contract.weights import check_finite
from relax_rl.objectives import Objective
from relax_rl.objectives.inputs import MODES
from relax_rl.rewards.functions import Rewards
from relax_rl.rewards.trial import try_verifier
from relax_rl.runs import RunDirectory
from relax_rl.runs.resumption import Resumption
from relax_rl.tasks.base import BaseTask, Problem, answers_to_try
from relax_rl.tasks.fitted import FittedTask
from relax_rl.tasks.images.budget import PixelBudget
from relax_rl.tasks.modes import require_modes
from relax_rl.tasks.part_rewards import require_whole_rewards
from relax_rl.training.adapters import (
    check_adapter,
    check_bits,
    check_packages,
    check_tied,
    load_options,
    lora_config,
    saved_parameters,
)
from relax_rl.training.bank import check_bank
from relax_rl.training.inputs.masked import check_shows_images
from relax_rl.training.measurement import PolicyEvaluation
from relax_rl.training.models import complete_tokenizer, load_model, model_config
from relax_rl.training.notices import Notices
from relax_rl.training.objective import idle_parts
from relax_rl.training.parts import check_frozen, check_has_parts, freeze
from relax_rl.training.precision import weight_dtype
from relax_rl.training.trl.architectures import check_architecture
from relax_rl.training.trl.assembly import run_trainer
from relax_rl.training.trl.dataset import prompt_dataset
from relax_rl.training.trl.trainer import RelaxTrainer
from relax_rl.workflows.final import start_card
from relax_rl.workflows.held_out import Training, training_problems
from relax_rl.workflows.loading import quiet
from relax_rl.workflows.policy import (
    FittedPrompts,
    check_sight,
    checked_contract,
    finds_left_out,
    finds_too_long,
    fit_prompts,
)
from relax_rl.workflows.recipe import Recipe, build_recipe
from relax_rl.workflows.resume import resumed_trainer, resumption, save_notices, settings_for_processes
from relax_rl.workflows.rollout_server import check_rollout_server
from relax_rl.workflows.surroundings import check_disk, check_hub, check_trackers
from relax_rl.workflows.training_run import TrainingRun

__all__ = ["TrainingRun", "build_run"]


def build_run(
    settings: TrainConfig,
    directory: RunDirectory,
    task: BaseTask,
    rewards: Rewards,
    *,
    objective: Objective | None = None,
    model: Any = None,
    tokenizer: Any = None,
    resume: bool = False,
    other_versions: bool = False,
    on_cpu: bool = False,
    share_before: Path | None = None,
) -> TrainingRun:
    """Build everything that a run needs, what is cheap first; nothing is written.

    Args:
        settings: settings of the run.
        directory: from `RunDirectory.new` or `RunDirectory.resume`.
        task, rewards: task of the training, and its rewards.
        objective, model, tokenizer: in place of what the settings name. An objective's settings are its own affair.
        resume: from the last complete checkpoint.
        other_versions: than those that wrote the checkpoint are accepted.
        on_cpu: for a process that must leave the accelerator to others; the engine of vLLM is not started either.
        share_before: see `relax_rl.workflows.train.train`.

    Raises:
        RelaxError: anything that would keep the run from starting.
    """
    with quiet():
        flags = {"resume": resume, "other_versions": other_versions, "on_cpu": on_cpu}
        start = _start(settings, directory, objective, is_named=model is None, **flags)
        recipe, resumed, notes = start.recipe, start.resumed, list[str]()
        if MODES in recipe.objective.inputs:
            require_modes(recipe.objective.name, rewards)
        if not recipe.objective.advantage.takes_parts:
            num_graders = len(settings.verifier) if isinstance(settings.verifier, list) else 1
            require_whole_rewards(recipe.objective.name, task, rewards, num_graders)
        evaluation = settings.evaluation
        check_bank(recipe.objective, task.name, evaluation.split if evaluation.enabled else None)
        pixels = PixelBudget(settings.prompts.min_pixels, settings.prompts.max_pixels)
        task = task if pixels.is_open else FittedTask(task, pixels)
        data = _data(settings, start, task, rewards)
        check_shows_images(recipe.objective, any(problem.images for problem in data.problems))
        if model is None:
            check_sight(settings.model, settings.model_revision, [*data.problems, *data.all_evaluated])
        model, tokenizer = _policy(settings, model, tokenizer, notes.append)
        check_tied(settings.peft, model)
        freeze(model, settings.freeze)
        if settings.sampling.engine == "auto" and any(problem.images for problem in data.problems):
            recipe = replace(recipe, group_sampler=None)
        # A resumed run reads there what sampled, and does not choose again.
        settings = settings.sampled_by("generate" if recipe.group_sampler is None else "relax")
        fitting = _fitting(settings, task, model, tokenizer, notes.append)
        if fitting is not task:
            task, data = fitting, _data(settings, start, fitting, rewards)
        fitted = _fitted(settings, model, tokenizer, data.problems, data.all_evaluated)
        card = start_card(settings, len(data.problems), names_method=objective is None)
        trainer = _trainer(settings, directory, recipe, rewards, model, tokenizer, data.problems, fitted, card)
        check_frozen(trainer.model, settings.freeze)
        saved, keeps_best = saved_parameters(trainer.model), settings.evaluation.every is not None
        check_disk(directory.path, saved, settings.trainer, data.plan, keeps_best=keeps_best)
        found = () if resumed is None else resumed_trainer(trainer, resumed)
        idle = [] if objective is not None else idle_parts(settings, recipe.objective, data.plan.updates_per_rollout)
    return TrainingRun(
        settings=settings,
        directory=directory,
        plan=data.plan,
        model=model,
        tokenizer=tokenizer,
        trainer=trainer,
        evaluation=_evaluation(settings, task, directory, trainer, fitted, share_before),
        training=data.training,
        names_method=objective is None,
        checkpoint=None if resumed is None else resumed.checkpoint.path,
        notices=(*idle, *notes, *fitted.notes, *found, *save_notices(recipe.args)),
    )


@dataclass(frozen=True)
class _Start:
    """Start of a run.

    Attributes:
        recipe: for as many processes as there are.
        trained: the settings with which so many make the same updates; the run is recorded under those that it was
            started with.
        resumed: None from the start.
    """

    recipe: Recipe
    trained: TrainConfig
    resumed: Resumption | None


def _start(
    settings: TrainConfig,
    directory: RunDirectory,
    objective: Objective | None,
    *,
    is_named: bool,
    resume: bool,
    other_versions: bool,
    on_cpu: bool,
) -> _Start:
    """Decisions of the settings, and the checkpoint; `is_named` where the settings name the model."""
    check_packages(settings.peft)
    load_options(settings)
    recipe = build_recipe(settings, directory.checkpoints, objective, on_cpu=on_cpu)
    check_bits(settings.peft, on_cpu=recipe.args.use_cpu)
    check_trackers(settings.trainer.report_to)
    check_hub(settings.trainer)
    check_rollout_server(recipe.args)
    trained, resumed = settings, None
    if resume:
        resumed = resumption(directory, recipe.objective, settings, other_versions=other_versions)
        trained = settings_for_processes(settings, resumed.checkpoint.manifest, recipe.args.world_size)
        if trained != settings:
            recipe = build_recipe(trained, directory.checkpoints, objective, on_cpu=on_cpu)
    if is_named:
        check_adapter(settings)
        if not resume:
            check_revision(settings.model, settings.model_revision)
        config = model_config(settings.model, settings.model_revision)
        check_has_parts(config, settings.freeze, settings.model)
        check_architecture(config, recipe.args)
    return _Start(recipe, trained, resumed)


@dataclass(frozen=True)
class _Data:
    """Problems of the training split and of the evaluation, and what the batch settings make of the former."""

    training: Training
    evaluated: list[Problem]
    plan: BatchPlan

    @property
    def problems(self) -> list[Problem]:
        """Trained on."""
        return self.training.problems

    @property
    def all_evaluated(self) -> list[Problem]:
        """Before, during and after training."""
        return [*self.evaluated, *self.training.selecting]


def _data(settings: TrainConfig, start: _Start, task: BaseTask, rewards: Rewards) -> _Data:
    """The problems, of which the verifiers have graded two."""
    training = training_problems(settings, task)
    problems = training.problems
    # TRL drops what does not fill a rollout batch, and would end at once, having trained on nothing.
    plan = batch_arithmetic(start.trained, start.recipe.args.world_size, len(problems))
    evaluation = settings.evaluation
    evaluated = task.problems(evaluation.split, evaluation.num_problems) if evaluation.enabled else []
    if rewards.verifier is not None:
        try_verifier(rewards.verifier, *answers_to_try(problems))
    try_verifier(task.verifier, *answers_to_try(evaluated))
    return _Data(training, evaluated, plan)


def _policy(settings: TrainConfig, model: Any, tokenizer: Any, tell: Callable[[str], None]) -> tuple[Any, Any]:
    """The policy and its tokenizer, loaded unless the policy is given."""
    if model is None:
        dtype, revision = weight_dtype(settings.dtype), settings.model_revision
        options = load_options(settings)
        model, own = load_model(settings.model, dtype, revision, trains=True, tell=tell, options=options)
        return model, own if tokenizer is None else tokenizer
    check_finite(model, settings.model)
    complete_tokenizer(model, tokenizer)
    return model, tokenizer


def _fitting(
    settings: TrainConfig, task: BaseTask, model: Any, tokenizer: Any, tell: Callable[[str], None]
) -> BaseTask:
    """The task without the problems whose prompt is too long, as far as the settings leave them out."""
    switches, prompts = settings.trainer.chat_template_kwargs, settings.prompts
    contract = checked_contract(model, tokenizer, settings.model, switches)
    asked = (contract, tokenizer, settings.trainer.max_completion_length, PromptForm(prompts.plain, switches or {}))
    fitting = task.fitting(finds_too_long(*asked))
    too_long = finds_left_out(*asked, overlong=prompts.overlong, max_prompt_length=prompts.max_prompt_length)
    return fitting if too_long is None else FittedTask(fitting, too_long=too_long, say=tell)


def _fitted(
    settings: TrainConfig, model: Any, tokenizer: Any, problems: list[Problem], evaluated: list[Problem]
) -> FittedPrompts:
    switches = settings.trainer.chat_template_kwargs
    return fit_prompts(
        checked_contract(model, tokenizer, settings.model, switches),
        tokenizer,
        {"the training split": problems, "the evaluation": evaluated},
        settings.trainer.max_completion_length,
        plain=settings.prompts.plain,
        switches=switches,
        overlong=settings.prompts.overlong,
    )


def _trainer(
    settings: TrainConfig,
    directory: RunDirectory,
    recipe: Recipe,
    rewards: Rewards,
    model: Any,
    tokenizer: Any,
    problems: list[Problem],
    fitted: FittedPrompts,
    card: str,
) -> RelaxTrainer:
    return run_trainer(
        directory,
        recipe.objective,
        rewards,
        prompt_dataset(problems, tokenizer, fitted.form),
        model,
        tokenizer,
        recipe.args,
        card=card,
        most_prompt_tokens=fitted.form.most_tokens,
        max_batches=settings.sampling.max_batches,
        branching=recipe.branching,
        group_sampler=recipe.group_sampler,
        guard=settings.guard,
        notices=Notices(),
        sight=settings.sight,
        peft_config=lora_config(settings.peft, settings.model_revision, model, settings.freeze),
    )


def _evaluation(
    settings: TrainConfig,
    task: BaseTask,
    directory: RunDirectory,
    trainer: RelaxTrainer,
    fitted: FittedPrompts,
    shared: Path | None,
) -> PolicyEvaluation | None:
    if not settings.evaluation.enabled:
        return None
    return PolicyEvaluation(
        settings.evaluation,
        task,
        directory,
        train_split=settings.train_split,
        max_completion_length=settings.trainer.max_completion_length,
        precision=settings.dtype,
        num_observables=settings.dictionary.num_observables,
        say=trainer.notices,
        form=fitted.form,
        is_sharded=trainer.forwards_in_step,
        shared=shared,
        engine=trainer.engine(),
    )
