"""Snapshots of the latent dynamics while a policy trains: after the first update, and at every checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from relax_rl.config.settings import Precision
from relax_rl.errors import RelaxError
from relax_rl.evaluation.tracing import SnapshotRow, TrajectoryBasis, take_snapshot
from relax_rl.koopman import KoopmanDictionary
from relax_rl.runs import RunDirectory
from relax_rl.training.inputs.provider import Rows
from relax_rl.training.precision import computing_in
from relax_rl.training.trl.strategy import is_sharded
from relax_rl.training.trl.trainer import RelaxTrainer

__all__ = ["SnapshotsOfTraining", "snapshot_rows"]

_MOST_ROWS = 64


class SnapshotsOfTraining(TrainerCallback):
    """Measures completions of the last rollout batch, and writes ``dynamics/update_000050.json``.

    The first process alone reads its own completions once more. The observables are those of the evaluations, so that
    spectra before, during and after training are comparable; without evaluations they are the objective's. There is no
    snapshot of weights that are sharded, nor of prompts that show images.

    Args:
        trainer: trainer of the policy.
        run: directory of the snapshots.
        precision: type in which the policy is computed.
        dictionary: file of the evaluations' observables; it need not exist.
    """

    def __init__(self, trainer: RelaxTrainer, run: RunDirectory, precision: Precision, dictionary: Path) -> None:
        self._trainer, self._run = trainer, run
        self._precision: Precision = precision
        self._path = dictionary
        self._basis_path = run.dynamics / "basis.safetensors"
        self._has_failed = False

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if state.global_step == 1 and not control.should_save:
            self._take(state)

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        self._take(state)

    def _take(self, state: TrainerState) -> None:
        trainer = self._trainer
        # Whole weights are gathered by all processes together, and this is the first one alone.
        if not state.is_world_process_zero or is_sharded(trainer.accelerator) or self._has_failed:
            return
        dictionary = self._dictionary()
        rows = snapshot_rows(trainer.last_rollout, trainer.num_generations, trainer.text_tokenizer)
        if dictionary is None or not rows:
            return
        try:
            self._write(state.global_step, rows, dictionary.to(trainer.accelerator.device))
        except (RelaxError, RuntimeError) as error:
            # What only looks on must not end a run; RuntimeError is also a device out of memory.
            self._has_failed = True
            trainer.notices(
                f"The latent dynamics could not be measured after update {state.global_step} "
                f"({type(error).__name__}: {error}); the run goes on without spectra over training."
            )

    def _write(self, update: int, rows: Sequence[SnapshotRow], dictionary: KoopmanDictionary) -> None:
        trainer = self._trainer
        basis = TrajectoryBasis.load(self._basis_path) if self._basis_path.is_file() else None
        tokenizer = trainer.text_tokenizer
        with trainer.whole_policy(in_training=True) as policy, computing_in(self._precision, policy):
            snapshot, fitted = take_snapshot(
                policy,
                rows,
                dictionary,
                lambda ids: tokenizer.decode(ids, skip_special_tokens=False),
                update=update,
                basis=basis,
                temperature=trainer.args.temperature,
            )
        if basis is None:
            fitted.save(self._basis_path)
        self._run.write_snapshot(update, snapshot.to_dict())

    def _dictionary(self) -> KoopmanDictionary | None:
        if self._path.is_file():
            return KoopmanDictionary.load(self._path)
        probe = self._trainer.objective.probe
        return None if probe is None else probe.dictionary


def snapshot_rows(batches: Sequence[Rows], group: int, tokenizer: Any) -> list[SnapshotRow]:
    """Completions of a rollout batch, whole groups, at most 64; none where prompts show images.

    Args:
        batches: the micro-batches of this process.
        group: G.
        tokenizer: tokenizer that decodes prompts.
    """
    rows: list[SnapshotRow] = []
    for batch in batches:
        if "looks" in batch or "num_images" in batch:
            return []
        columns = zip(
            *(batch[name] for name in ("prompt_ids", "prompt_mask", "completion_ids", "completion_mask")),
            batch["row"].tolist(),
            batch["rewards"].tolist(),
            strict=True,
        )
        for prompt, prompt_mask, completion, mask, row, reward in columns:
            asked, said = prompt[prompt_mask.bool()].tolist(), completion[mask.bool()].tolist()
            if asked and said:
                rows.append(SnapshotRow(row // group, asked, said, reward))
    groups = sorted({row.group for row in rows})[: max(1, _MOST_ROWS // group)]
    chosen = [row for row in rows if row.group in set(groups)]
    texts = {row.group: row.prompt for row in chosen}
    decoded = {number: str(tokenizer.decode(ids, skip_special_tokens=True)) for number, ids in texts.items()}
    return [SnapshotRow(row.group, row.prompt, row.completion, row.reward, decoded[row.group]) for row in chosen]
