"""From the rows of a micro-batch and their forward to what an objective reads."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from relax_rl.errors import ModelError
from relax_rl.objectives import RolloutBatch, UpdateTotals
from relax_rl.objectives.inputs import Input
from relax_rl.training.inputs.provider import MicroBatch

__all__ = ["rollout_batch_of"]


def rollout_batch_of(
    micro: MicroBatch, found: Mapping[Input, Tensor], totals: UpdateTotals, group_ids: Tensor | None = None
) -> RolloutBatch:
    """A micro-batch of whole groups with a group axis, or one of parts of groups with ids.

    Args:
        micro: its rows in whole groups, in order, unless there are ids.
        found: (B, ...) by optional input, or (P, ...) for one of prompts; with ids, each is (B, ...).
        totals: totals of the update.
        group_ids: (B,).

    Raises:
        ModelError: the forward has no log-probabilities.
    """
    rows, forward, num_tokens = micro.rows, micro.forward, micro.mask.shape[1]
    if forward.log_probs is None:
        raise ModelError("TRL's fused head gave no log-probabilities; this version of TRL does not fit.")

    def shaped(column: Tensor) -> Tensor:
        return column.unflatten(0, (-1, micro.group_size)) if group_ids is None else column

    def optional(name: str) -> Tensor | None:
        return None if rows.get(name) is None else shaped(rows[name])

    log_probs = forward.log_probs[:, -num_tokens:]
    # Without them the policy that samples is the policy that learns, and every ratio is 1.
    old = rows.get("old_per_token_logps")
    inputs = {of: shaped(tensor) if of.shape[:2] == ("P", "G") else tensor for of, tensor in found.items()}
    fields = {of.name: tensor for of, tensor in inputs.items() if of.is_field}
    return RolloutBatch(
        log_probs=shaped(log_probs),
        old_log_probs=shaped(log_probs.detach() if old is None else old),
        mask=shaped(micro.mask),
        rewards=shaped(rows["rewards"]),
        sampling_weights=optional("importance_sampling_ratio"),
        sampled_lengths=optional("sampled_length"),
        totals=totals,
        extras={of: tensor for of, tensor in inputs.items() if not of.is_field},
        group_ids=group_ids,
        **fields,
    )
