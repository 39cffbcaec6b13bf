"""Runs of TRL that can be resumed exactly: at any update, in any pass over the prompts, from a verified checkpoint.

The trainer of transformers keeps weights, optimiser, schedule and random numbers, and numbers its checkpoints. Added
here are the order of the prompts in every pass, what each process has in memory in the middle of a rollout batch, and
the manifest that says that a checkpoint is whole (`relax_rl.runs.manifest`).
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate.utils import set_seed
from transformers import TrainerCallback
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR
from trl.trainer.grpo_trainer import GRPOTrainer

from relax_rl.errors import RunError
from relax_rl.runs.checkpoints import Checkpoint, choose, rotate
from relax_rl.runs.manifest import Manifest, begin, discard, installed_versions, seal
from relax_rl.training.notices import Notices
from relax_rl.training.trl.agreement import found_by_first
from relax_rl.training.trl.dataset import dataset_digest
from relax_rl.training.trl.rank_state import load_rank_state, save_rank_state
from relax_rl.training.trl.sampler import PromptSampler
from relax_rl.training.trl.strategy import strategy_of

__all__ = ["ResumableTrainer"]


class ResumableTrainer(GRPOTrainer):
    """`trl.GRPOTrainer` whose runs can be resumed at any update.

    Attributes:
        run_facts: gives what a run directory wants in the manifests of its checkpoints.
        checked_checkpoint: a checkpoint that `train` need not verify again.
    """

    # TRL leaves these open in its own annotations.
    args: Any
    model: Any
    num_generations: Any
    train_dataset: Any
    accelerator: Any
    notices: Notices
    _buffered_inputs: Any

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.run_facts: Callable[[], Mapping[str, Any]] = dict
        self.checked_checkpoint: Path | None = None
        self._data_digest: str | None = None
        self._last_update: dict[str, Any] | None = None
        self._is_stepping = False
        self.add_callback(_Stepping(self))

    # The order of the prompts -------------------------------------------------------------------------------------

    def _get_train_sampler(self, dataset: Any = None) -> PromptSampler:
        args = self.args
        repeats = self.num_iterations * args.steps_per_generation
        return PromptSampler(
            len(self.train_dataset if dataset is None else dataset),
            group_size=self.num_generations,
            prompts_per_rollout=args.generation_batch_size // self.num_generations,
            repeats=repeats,
            updates_per_rollout=repeats // args.gradient_accumulation_steps,
            updates_done=lambda: self.state.global_step,
            seed=args.seed,
            shuffle=bool(self.shuffle_dataset),
        )

    # Resuming -----------------------------------------------------------------------------------------------------

    def train(self, resume_from_checkpoint: Any = None, *args: Any, **kwargs: Any) -> Any:
        """As the trainer of transformers, from a checkpoint that was verified.

        Args:
            resume_from_checkpoint: a checkpoint's folder, or True for the newest whole one.
            args, kwargs: those of `transformers.Trainer.train`.

        Raises:
            RunError: the checkpoint is damaged or was never finished, or the data, the batch or the order of the
                prompts is not that of the checkpoint.
        """
        checkpoint = None
        if resume_from_checkpoint:
            checkpoint, notices = found_by_first(lambda: self._checkpoint_to_resume(resume_from_checkpoint))
            for notice in notices:
                self.notices(notice)
        return super().train(None if checkpoint is None else str(checkpoint), *args, **kwargs)

    def _checkpoint_to_resume(self, given: str | Path | bool) -> tuple[Path, list[str]]:
        """The folder to resume from, and what there is to say of it."""
        checked = self.checked_checkpoint
        if given is not True and checked is not None and checked == Path(str(given)):
            return checked, []
        if given is True:
            choice = choose(Path(self.args.output_dir), self.args.output_dir)
            checkpoint, notices = choice.checkpoint, choice.notices()
        else:
            checkpoint, notices = Checkpoint.inspect(Path(str(given)), digests=True), []
            if checkpoint.state in ("damaged", "unfinished") or not checkpoint.has_optimizer:
                why = ", ".join(checkpoint.faults) or (
                    "it was never finished" if checkpoint.state == "unfinished" else "it holds the model alone"
                )
                raise RunError(f"cannot resume from {given}: {why}; give an older checkpoint")
        if checkpoint.manifest is not None:
            notices += self.check_manifest(checkpoint.manifest)
            if checkpoint.manifest.versions != installed_versions():
                notices.append(f"{checkpoint.path} was written by other versions: {dict(checkpoint.manifest.versions)}")
        return checkpoint.path, notices

    def check_manifest(self, manifest: Manifest) -> list[str]:
        """Remarks on a resume from a checkpoint, in sentences.

        Raises:
            RunError: the resumed run would not be the same run: other data, another order of the prompts, another
                batch, or other processes in the middle of a rollout batch.
        """
        then, now = manifest.training, self.training_facts(manifest.step)
        name = f"checkpoint-{manifest.step}"
        if then["data"] != now["data"]:
            raise RunError(
                f"the training data is not that of {name}, so the prompts to come would be others; give the run its "
                "data back, or start a new one"
            )
        # Earlier versions did not note it.
        before = then.get("strategy", now["strategy"])
        if before != now["strategy"] and not {before, now["strategy"]} <= {"one process", "DDP"}:
            raise RunError(
                f"{name} was written under {before}, and this is {now['strategy']}, which cannot read that optimiser; "
                "start the run as before"
            )
        if before.startswith("DeepSpeed") and then["num_processes"] != now["num_processes"]:
            raise RunError(
                f"{name} holds DeepSpeed's optimiser in {then['num_processes']} parts, and this run has "
                f"{now['num_processes']} processes; resume it with {then['num_processes']}"
            )
        if then["completions_per_update"] != now["completions_per_update"]:
            raise RunError(
                f"an update had {then['completions_per_update']} completions when {name} was written and now has "
                f"{now['completions_per_update']} ({now['num_processes']} processes); change "
                "gradient_accumulation_steps, or start as many processes as before"
            )
        if then["prompts"] != now["prompts"]:
            raise RunError(
                f"the prompts come in another order than when {name} was written (then {then['prompts']}, now "
                f"{now['prompts']}); use the same seed, batch and number of uses of a rollout batch"
            )
        if then["num_processes"] == now["num_processes"]:
            return []
        if then["updates_into_rollout"]:
            raise RunError(
                f"{name} lies inside a rollout batch, of which each process kept its part; resume it with "
                f"{then['num_processes']} processes"
            )
        return [
            f"resumed with {now['num_processes']} processes instead of {then['num_processes']}: an update has "
            f"{now['completions_per_update']} completions as before, but other random numbers than in an uninterrupted "
            "run"
        ]

    def training_facts(self, step: int) -> dict[str, Any]:
        """State that a resume after so many updates must find again."""
        args = self.args
        uses, window = args.steps_per_generation * self.num_iterations, args.gradient_accumulation_steps
        if self._data_digest is None:
            self._data_digest = dataset_digest(self.train_dataset)
        return {
            "num_processes": args.world_size,
            "strategy": strategy_of(self.accelerator),
            "device": args.device.type,
            "completions_per_update": args.per_device_train_batch_size * window * args.world_size,
            "updates_into_rollout": step % (uses // window),
            "prompts": None if self._data_digest is None else self._get_train_sampler().position(step).to_dict(),
            "data": self._data_digest,
            "has_optimizer": not args.save_only_model,
        }

    def _load_rng_state(self, checkpoint: str | None) -> None:
        # Called once a resumed run has made everything that draws numbers, right before its first update.
        if checkpoint is None:
            return
        args, folder = self.args, Path(checkpoint)
        manifest = Manifest.read(folder)
        is_same = manifest is None or manifest.training["num_processes"] == args.world_size
        if is_same:
            super()._load_rng_state(checkpoint)
        else:
            set_seed((args.seed + 1_000_003 * self.state.global_step) % 2**32, device_specific=True)
        state = load_rank_state(folder, args.process_index if is_same else 0, args.device)
        if state is not None:
            self._restore(state)

    # Checkpoints --------------------------------------------------------------------------------------------------

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        step, run_dir = self.state.global_step, Path(self._get_output_dir(trial=trial))
        folder, best = run_dir / f"{PREFIX_CHECKPOINT_DIR}-{step}", self.state.best_model_checkpoint
        if self.args.should_save:
            begin(folder)
        self.accelerator.wait_for_everyone()
        # The trainer would delete old checkpoints by their times, before this one is whole.
        limit, self.args.save_total_limit = self.args.save_total_limit, None
        try:
            super()._save_checkpoint(model, trial)
            self.accelerator.wait_for_everyone()
            if self.args.should_save:
                seal(folder, step, self.training_facts(step), self.run_facts())
        except BaseException:
            if self.args.should_save:
                discard(folder)
            raise
        finally:
            self.args.save_total_limit = limit
        if self.args.should_save:
            rotate(run_dir, step, limit, None if best is None else Path(best))

    def _save_rng_state(self, output_dir: str) -> None:
        super()._save_rng_state(output_dir)
        save_rank_state(self._in_memory(), Path(output_dir), self.args.process_index)

    def save_last_update(self) -> Path | None:
        """Write a checkpoint of the last finished update, from wherever the run was interrupted since.

        For an exception in the middle of an update, on a single process: with several, the others would have to take
        part. The trainer cannot train on afterwards.

        Returns:
            The checkpoint; None where there is no state that a run could be resumed from: before the first update,
            in the middle of an optimiser's step or of what follows it, and with several processes.
        """
        last, step = self._last_update, self.state.global_step
        if last is None or self._is_stepping or last["step"] != step or self.args.world_size > 1:
            return None
        folder = Path(self._get_output_dir(trial=None)) / f"{PREFIX_CHECKPOINT_DIR}-{step}"
        if not (folder.is_dir() and Checkpoint.inspect(folder, digests=True).state == "whole"):
            self._rewind(last)
            self._save_checkpoint(self.model, None)
        return folder

    # What is in memory between two updates ------------------------------------------------------------------------

    @property
    def _is_inside_rollout(self) -> bool:
        """Whether the rollout batch in memory serves further updates."""
        return self._step % (self.args.steps_per_generation * self.num_iterations) != 0

    def _in_memory(self) -> dict[str, Any]:
        """State that this process needs to resume after the last update; subclasses add to it."""
        return {
            "metrics": {name: list(values) for name, values in self._metrics["train"].items()},
            "loss": self._tr_loss.clone(),
            "last_logged": self._globalstep_last_logged,
            "rollout": [dict(batch) for batch in self._buffered_inputs] if self._is_inside_rollout else None,
        }

    def _restore(self, state: dict[str, Any]) -> None:
        """Take up what `_in_memory` gave."""
        # Another number of processes has another number of micro-batches.
        self._step = self.state.global_step * self.args.gradient_accumulation_steps
        self._metrics["train"] = defaultdict(list, state["metrics"])
        self._tr_loss = state["loss"]
        self._globalstep_last_logged = state["last_logged"]
        self._buffered_inputs = state["rollout"]

    def _state_in_objects(self) -> dict[str, Any]:
        """References to what an update replaces, for `_rewind`; subclasses add to it."""
        return {}

    def _rewind(self, last: dict[str, Any]) -> None:
        """Back to the last finished update: its random numbers, and what the next one has changed so far."""
        self._restore(last["memory"])
        self.state.num_input_tokens_seen = last["tokens"]
        random.setstate(last["python"])
        np.random.set_state(last["numpy"])  # noqa: NPY002
        torch.set_rng_state(last["torch"])
        if torch.cuda.is_available():
            torch.cuda.set_rng_state(last["cuda"])

    def _maybe_log_save_evaluate(self, *args: Any, **kwargs: Any) -> None:
        super()._maybe_log_save_evaluate(*args, **kwargs)
        self._last_update = {
            "step": self.state.global_step,
            "memory": self._in_memory(),
            "objects": self._state_in_objects(),
            "tokens": self.state.num_input_tokens_seen,
            "python": random.getstate(),
            "numpy": np.random.get_state(),  # noqa: NPY002
            "torch": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state() if torch.cuda.is_available() else None,
        }
        self._is_stepping = False

    def note_step(self) -> None:
        """The optimiser's step begins: until what follows it is done, the parameters belong to no finished update."""
        self._is_stepping = True


class _Stepping(TrainerCallback):
    def __init__(self, trainer: ResumableTrainer) -> None:
        self._trainer = trainer

    def on_pre_optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        self._trainer.note_step()
