"""A training run that is built: it evaluates, trains, evaluates, and leaves everything in the run directory."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from relax_rl.config import BatchPlan, TrainConfig
from relax_rl.evaluation.result import EvaluationResult
from relax_rl.reports.spectra.image import spectrum_image
from relax_rl.runs import RunDirectory
from relax_rl.runs.checkpoints import step_of
from relax_rl.stopping import current
from relax_rl.training.measurement import PolicyEvaluation
from relax_rl.training.selection import Selection
from relax_rl.training.snapshots import SnapshotsOfTraining
from relax_rl.training.trl.callbacks import EvaluationsDuringTraining, OncePrepared, ProgressReport
from relax_rl.training.trl.emergency import keep_last_update
from relax_rl.training.trl.stopping import StopWhenAsked
from relax_rl.training.trl.strategy import is_sharded
from relax_rl.training.trl.tracked import track_spectra
from relax_rl.training.trl.trainer import RelaxTrainer
from relax_rl.workflows.endings import telling_what_is_kept
from relax_rl.workflows.final import final_card, start_card, write_final
from relax_rl.workflows.held_out import Training
from relax_rl.workflows.loading import quiet
from relax_rl.workflows.progress import OnProgress, Progress, silent
from relax_rl.workflows.train_result import TrainResult

__all__ = ["TrainingRun"]


@dataclass(frozen=True)
class TrainingRun:
    """A run that can start: everything is built and checked, and nothing is written yet.

    Attributes:
        settings: to be kept in the run directory.
        directory: directory of the run.
        plan: sizes of the batches.
        training: the problems.
        model, tokenizer: the policy.
        trainer: TRL's, with the objective.
        evaluation: None where the settings leave it out.
        names_method: whether the settings name the method, and not an object in its place.
        checkpoint: checkpoint that the run resumes; None from the start.
        notices: notices before it trains, in sentences.
    """

    settings: TrainConfig
    directory: RunDirectory
    plan: BatchPlan
    training: Training
    model: Any
    tokenizer: Any
    trainer: RelaxTrainer
    evaluation: PolicyEvaluation | None
    names_method: bool
    checkpoint: Path | None
    notices: tuple[str, ...] = ()

    @property
    def num_problems(self) -> int:
        """Trained on."""
        return len(self.training.problems)

    def train(self, on_progress: OnProgress | None = None) -> TrainResult:
        """Write the run directory, evaluate, train, evaluate.

        Args:
            on_progress: receives stages and updates, on the first process alone.

        Raises:
            RunError: the run directory cannot be written.
            Stopped: a stop was asked for (`relax_rl.stopping`); the update that was begun is finished, and kept.
            Exception: an error in an update; the last finished one is kept.
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
                with self._engine_ready():
                    evaluation.before(self.model, self.tokenizer, trainer.objective)
        if checkpoint is not None and done >= last:
            # Stopped after the last update and before its evaluation; the trainer would add an update.
            trainer.load_checkpoint(checkpoint)
        else:
            trainer.add_callback(ProgressReport(partial(_tell_update, tell)))
            self._evaluate_on_the_way(tell)
            self._follow_dynamics()
            self._update(None if checkpoint is None else str(checkpoint))
        if evaluation is not None:
            tell(Progress("after", last, last))
            with self._engine_ready(), trainer.whole_policy() as policy:
                evaluation.after(policy, self.tokenizer)
        if trainer.is_world_process_zero():
            own = {"names_method": self.names_method}
            write_final(self.directory, final_card(self.settings, trainer, self.directory, self.num_problems, **own))
        trainer.leave_group()

    def _evaluate_on_the_way(self, tell: OnProgress) -> None:
        evaluation, every = self.evaluation, self.settings.evaluation.every
        if evaluation is None or every is None:
            return
        selection = Selection(
            every=every,
            metric=self.settings.evaluation.best_by,
            measure=partial(self._during, evaluation),
            save=lambda folder: self.trainer.save_model(str(folder), _internal_call=True),
            run=self.directory,
            say=partial(_tell_evaluation, tell),
            card=start_card(self.settings, self.num_problems, names_method=self.names_method),
        )
        self.trainer.add_callback(EvaluationsDuringTraining(selection))

    def _engine_ready(self) -> AbstractContextManager[None]:
        """Entered before the policy is made whole: what is gathered already could not be gathered for the engine."""
        engine = self.trainer.engine()
        return nullcontext() if engine is None else engine.with_weights()

    def _follow_dynamics(self) -> None:
        dictionary = self.directory.evaluations / "dictionary.safetensors"
        self.trainer.add_callback(SnapshotsOfTraining(self.trainer, self.directory, self.settings.dtype, dictionary))
        track_spectra(self.trainer, self.directory, spectrum_image)

    def _before(self, evaluation: PolicyEvaluation) -> None:
        with self._engine_ready(), self.trainer.whole_policy(in_training=True) as policy:
            evaluation.before(policy, self.tokenizer, self.trainer.objective)

    def _during(self, evaluation: PolicyEvaluation) -> EvaluationResult:
        with self._engine_ready(), self.trainer.whole_policy(in_training=True) as policy:
            return evaluation.during(policy, self.tokenizer, self.training.selecting, self.training.split)

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


def _tell_update(tell: OnProgress, update: int, num_updates: int, metrics: Mapping[str, float]) -> None:
    tell(Progress("training", update, num_updates, metrics=metrics))


def _tell_notice(tell: OnProgress, sentence: str) -> None:
    tell(Progress("notice", message=sentence))


def _tell_evaluation(tell: OnProgress, sentence: str) -> None:
    tell(Progress("evaluated", message=sentence))
