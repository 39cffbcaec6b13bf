"""Quantities of a rollout batch before its first update: the old log-probabilities, and the rewards of all ranks."""

from __future__ import annotations

from torch import Tensor

from relax_rl.errors import ModelError
from relax_rl.objectives.inputs import LATENT_KEYS, MODES, OLD_ENTROPY
from relax_rl.training.inputs.provider import Rows, Trainer
from relax_rl.training.rows import in_row_order

__all__ = ["gathered_rewards", "remember_old"]


def remember_old(trainer: Trainer, batches: list[Rows]) -> None:
    """Add what the policy that sampled gives for each micro-batch. Collective, before the first update.

    Raises:
        ModelError: TRL's head gives no log-probabilities.
    """
    for batch in batches:
        forward, width = trainer.forward_only(batch), batch["completion_ids"].shape[1]
        if forward.log_probs is None:
            raise ModelError("TRL's fused head gave no log-probabilities; this version of TRL does not fit.")
        batch["old_per_token_logps"] = forward.log_probs[:, -width:]
        if OLD_ENTROPY in trainer.objective.inputs and forward.entropy is not None:
            batch["old_entropy"] = forward.entropy[:, -width:]


def gathered_rewards(trainer: Trainer, batches: list[Rows], group_size: int) -> dict[str, Tensor]:
    """The arguments of `Objective.before_rollout`, of all ranks. Collective."""
    keys = in_row_order(batches, [batch["prompt_key"] for batch in batches])[::group_size]
    columns = {"rewards": [batch["rewards"] for batch in batches]}
    columns["lengths"] = [trainer.completion_mask(batch).sum(-1) for batch in batches]
    columns |= {"modes": [batch["mode"] for batch in batches]} if MODES in trainer.objective.inputs else {}
    if LATENT_KEYS in trainer.objective.inputs:
        columns["latent"] = [batch["latent_keys"] for batch in batches]
    ordered = {name: in_row_order(batches, parts) for name, parts in columns.items()}
    grouped = {name: column.unflatten(0, (-1, group_size)) for name, column in ordered.items()}
    return {name: trainer.accelerator.gather(tensor) for name, tensor in (grouped | {"keys": keys}).items()}
