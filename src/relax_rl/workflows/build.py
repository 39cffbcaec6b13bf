"""The one build of a training run, and the run itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from relax_rl.config import BatchPlan, TrainConfig, batch_arithmetic
from relax_rl.evaluation.prompts import PromptForm
from relax_rl.evaluation.result import EvaluationResult
from relax_rl.latent.contract.weights import check_finite
from relax_rl.objectives import Objective
from relax_rl.objectives.inputs import MODES
from relax_rl.rewards.functions import Rewards
from relax_rl.rewards.trial import try_verifier
from relax_rl.runs import RunDirectory
from relax_rl.runs.checkpoints import step_of
from relax_rl.runs.resumption import Resumption
from relax_rl.stopping import current
from relax_rl.tasks.base import BaseTask, FindsTooLong, Problem, answers_to_try
from relax_rl.tasks.modes import require_modes
from relax_rl.training.adapters import (
    check_adapter,
    check_bits,
    check_packages,
    check_tied,
    load_options,
    lora_config,
    saved_parameters,
)
from relax_rl.training.measurement import PolicyEvaluation
from relax_rl.training.models import complete_tokenizer, load_model, model_config
from relax_rl.training.notices import Notices
from relax_rl.training.objective import idle_parts
from relax_rl.training.precision import weight_dtype
from relax_rl.training.trl.architectures import check_architecture
from relax_rl.training.trl.assembly import run_trainer
from relax_rl.training.trl.callbacks import OncePrepared, ProgressReport
from relax_rl.training.trl.config import check_trl_version
from relax_rl.training.trl.dataset import prompt_dataset
from relax_rl.training.trl.emergency import keep_last_update
from relax_rl.training.trl.model_card import model_card
from relax_rl.training.trl.stopping import StopWhenAsked
from relax_rl.training.trl.strategy import is_sharded
from relax_rl.training.trl.trainer import RelaxTrainer
from relax_rl.workflows.endings import telling_what_is_kept
from relax_rl.workflows.loading import quiet
from relax_rl.workflows.policy import FittedPrompts, checked_contract, finds_too_long, fit_prompts
from relax_rl.workflows.progress import OnProgress, Progress, silent
from relax_rl.workflows.recipe import Recipe, build_recipe
from relax_rl.workflows.resume import resumed_trainer, resumption, save_notices, settings_for_processes
from relax_rl.workflows.surroundings import check_disk, check_hub, check_trackers
from relax_rl.workflows.train_result import TrainResult

__all__ = ["TrainingRun", "build_run"]


@dataclass(frozen=True)
class TrainingRun:
    """A run that can start: everything is built and checked, and nothing is written yet.

    Attributes:
        settings: to be kept in the run directory.
        directory: where the run leaves everything.
        plan: what the batch settings come to.
        num_problems: of the training split.
        model, tokenizer: the policy.
        trainer: TRL's, with the objective.
        evaluation: None where the settings leave it out.
        checkpoint: that the run is resumed from; None from the start.
        notices: what there is to say before it trains, in sentences.
    """

    settings: TrainConfig
    directory: RunDirectory
    plan: BatchPlan
    num_problems: int
    model: Any
    tokenizer: Any
    trainer: RelaxTrainer
    evaluation: PolicyEvaluation | None
    checkpoint: Path | None
    notices: tuple[str, ...] = ()

    def train(self, on_progress: OnProgress | None = None) -> TrainResult:
        """Write the run directory, evaluate, train, evaluate.

        Args:
            on_progress: receives stages and updates, on the first process alone.

        Raises:
            RunError: the run directory cannot be written.
            Stopped: a stop was asked for (`relax_rl.stopping`); the update that was begun is finished, and kept.
            Exception: what was raised in an update; the last finished one is kept.
        """
        first = self.trainer.is_world_process_zero()
        tell = on_progress if on_progress is not None and first else silent
        if on_progress is not None:
            self.trainer.notices.listen(partial(_tell_notice, tell))
        with self.directory.held(), telling_what_is_kept(self.directory, self.plan.updates):
            # Takes the place of a finished run under --overwrite, so nothing that can be refused comes after.
            self.directory.start(self.settings)
            for notice in (*self.directory.notices, *self.notices):
                tell(Progress("notice", message=notice))
            if self.checkpoint is not None and first:
                self.directory.rewind(step_of(self.checkpoint))
            with quiet():
                if self.trainer.args.push_to_hub:
                    self.trainer.init_hf_repo()
                self._train(tell)
            return self._result()

    def _train(self, tell: OnProgress) -> None:
        trainer, evaluation, checkpoint = self.trainer, self.evaluation, self.checkpoint
        done, last = 0 if checkpoint is None else step_of(checkpoint), self.plan.updates
        if evaluation is not None and checkpoint is None:
            tell(Progress("before", 0, last))
            if is_sharded(trainer.accelerator):
                trainer.add_callback(OncePrepared(lambda: self._before(evaluation)))
            else:
                evaluation.before(self.model, self.tokenizer, trainer.objective)
        if checkpoint is not None and done >= last:
            # Stopped after the last update and before its evaluation; the trainer would add an update.
            trainer.load_checkpoint(checkpoint)
        else:
            trainer.add_callback(ProgressReport(partial(_tell_update, tell)))
            self._update(None if checkpoint is None else str(checkpoint))
        if evaluation is not None:
            tell(Progress("after", last, last))
            with trainer.whole_policy() as policy:
                evaluation.after(policy, self.tokenizer)
        trainer.leave_group()

    def _before(self, evaluation: PolicyEvaluation) -> None:
        with self.trainer.whole_policy() as policy:
            evaluation.before(policy, self.tokenizer, self.trainer.objective)

    def _update(self, checkpoint: str | None) -> None:
        """All updates, or those until a stop is asked for."""
        trainer, request = self.trainer, current()
        trainer.add_callback(StopWhenAsked(request))
        with request.deferred():
            try:
                trainer.train(resume_from_checkpoint=checkpoint)
            except Exception as error:
                keep_last_update(trainer, error)
                # Another rank may have been stopped where it could be at once: then this one lost it.
                if trainer.accelerator.num_processes > 1:
                    request.check()
                raise
            if request.reason is not None:
                trainer.leave_group()

    def _result(self) -> TrainResult:
        kept = {name: self.directory.evaluations / f"{name}.json" for name in ("before", "after")}
        found = {name: EvaluationResult.load(path) for name, path in kept.items() if path.is_file()}
        rows = self.directory.read_metrics()
        return TrainResult(
            output=self.directory.path,
            before=found.get("before"),
            after=found.get("after"),
            metrics=rows[-1] if rows else {},
            num_updates=self.plan.updates,
        )


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
        settings: of the run.
        directory: from `RunDirectory.new` or `RunDirectory.resume`.
        task, rewards: what is asked in training, and what it pays by.
        objective, model, tokenizer: in place of what the settings name. An objective's settings are its own affair.
        resume: from the last complete checkpoint.
        other_versions: than those that wrote the checkpoint are accepted.
        on_cpu: for a process that must leave the accelerator to others; the engine of vLLM is not started either.
        share_before: see `relax_rl.workflows.train.train`.

    Raises:
        RelaxError: whatever would keep the run from starting.
    """
    with quiet():
        flags = {"resume": resume, "other_versions": other_versions, "on_cpu": on_cpu}
        start = _start(settings, directory, objective, is_named=model is None, **flags)
        recipe, resumed, notes = start.recipe, start.resumed, list[str]()
        if MODES in recipe.objective.inputs:
            require_modes(recipe.objective.name, rewards)
        data = _data(settings, start, task, rewards)
        model, tokenizer = _policy(settings, model, tokenizer, notes.append)
        check_tied(settings.peft, model)
        if settings.sampling.engine == "auto" and any(problem.images for problem in data.problems):
            recipe = replace(recipe, group_sampler=None)
        # A resumed run reads there what sampled, and does not choose anew.
        settings = settings.sampled_by("generate" if recipe.group_sampler is None else "relax")
        fitting = task.fitting(_finds_too_long(settings, model, tokenizer))
        if fitting is not task:
            task, data = fitting, _data(settings, start, fitting, rewards)
        fitted = _fitted(settings, model, tokenizer, data.problems, data.evaluated)
        trainer = _trainer(settings, directory, recipe, rewards, model, tokenizer, data.problems, fitted)
        check_disk(directory.path, saved_parameters(trainer.model), settings.trainer, data.plan)
        found = () if resumed is None else resumed_trainer(trainer, resumed)
        idle = [] if objective is not None else idle_parts(settings, recipe.objective, data.plan.updates_per_rollout)
    return TrainingRun(
        settings=settings,
        directory=directory,
        plan=data.plan,
        num_problems=len(data.problems),
        model=model,
        tokenizer=tokenizer,
        trainer=trainer,
        evaluation=_evaluation(settings, task, directory, trainer, fitted, share_before),
        checkpoint=None if resumed is None else resumed.checkpoint.path,
        notices=(*idle, *notes, *fitted.notes, *found, *save_notices(recipe.args)),
    )


@dataclass(frozen=True)
class _Start:
    """Where a run starts from.

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
    """What the settings decide, and the checkpoint; `is_named` where the settings name the model."""
    check_trl_version()
    check_packages(settings.peft)
    load_options(settings)
    recipe = build_recipe(settings, directory.checkpoints, objective, on_cpu=on_cpu)
    check_bits(settings.peft, on_cpu=recipe.args.use_cpu)
    check_trackers(settings.trainer.report_to)
    check_hub(settings.trainer)
    trained, resumed = settings, None
    if resume:
        resumed = resumption(directory, recipe.objective, settings, other_versions=other_versions)
        trained = settings_for_processes(settings, resumed.checkpoint.manifest, recipe.args.world_size)
        if trained != settings:
            recipe = build_recipe(trained, directory.checkpoints, objective, on_cpu=on_cpu)
    if is_named:
        check_adapter(settings)
        check_architecture(model_config(settings.model, settings.model_revision), recipe.args)
    return _Start(recipe, trained, resumed)


@dataclass(frozen=True)
class _Data:
    """Problems of the training split and of the evaluation, and what the batch settings make of the former."""

    problems: list[Problem]
    evaluated: list[Problem]
    plan: BatchPlan


def _data(settings: TrainConfig, start: _Start, task: BaseTask, rewards: Rewards) -> _Data:
    """The problems, of which the verifiers have graded two."""
    problems = task.problems(settings.train_split, settings.train_problems, settings.seed)
    # TRL drops what does not fill a rollout batch, and would end at once, having trained on nothing.
    plan = batch_arithmetic(start.trained, start.recipe.args.world_size, len(problems))
    evaluation = settings.evaluation
    evaluated = task.problems(evaluation.split, evaluation.num_problems) if evaluation.enabled else []
    if rewards.verifier is not None:
        try_verifier(rewards.verifier, *answers_to_try(problems))
    try_verifier(task.verifier, *answers_to_try(evaluated))
    return _Data(problems, evaluated, plan)


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


def _finds_too_long(settings: TrainConfig, model: Any, tokenizer: Any) -> FindsTooLong:
    switches = settings.trainer.chat_template_kwargs
    contract = checked_contract(model, tokenizer, settings.model, switches)
    return finds_too_long(
        contract, tokenizer, settings.trainer.max_completion_length, PromptForm(settings.prompts.plain, switches or {})
    )


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
) -> RelaxTrainer:
    return run_trainer(
        directory,
        recipe.objective,
        rewards,
        prompt_dataset(problems, tokenizer, fitted.form),
        model,
        tokenizer,
        recipe.args,
        card=_card(settings),
        most_prompt_tokens=fitted.form.most_tokens,
        max_batches=settings.sampling.max_batches,
        branching=recipe.branching,
        group_sampler=recipe.group_sampler,
        guard=settings.guard,
        notices=Notices(),
        peft_config=lora_config(settings.peft, settings.model_revision),
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
    )


def _card(settings: TrainConfig) -> str:
    return model_card(
        base_model=settings.model,
        revision=settings.model_revision,
        precision=settings.dtype,
        task=settings.task.name,
        split=settings.train_split,
        objective=settings.objective.model_dump(),
        num_updates=settings.trainer.max_steps,
        group_size=settings.trainer.num_generations,
        seed=settings.seed,
        digest=settings.digest,
    )


def _tell_update(tell: OnProgress, update: int, num_updates: int, metrics: Mapping[str, float]) -> None:
    tell(Progress("training", update, num_updates, metrics=metrics))


def _tell_notice(tell: OnProgress, sentence: str) -> None:
    tell(Progress("notice", message=sentence))
