"""From verl's rows to what an objective reads: nested tensors of responses as padded ones."""

from __future__ import annotations

import hashlib
from typing import Any

import torch
from torch import Tensor
from verl.utils import tensordict_utils as verl_rows

from relax_rl.errors import ConfigError, DataError
from relax_rl.objectives import Objective, RolloutBatch, UpdateTotals
from relax_rl.objectives.inputs import HIDDEN_STATES, LIFTED_STATES, OLD_ENTROPY, REF_LOG_PROBS, Input
from relax_rl.training.verl.groups import Row
from relax_rl.training.verl.states import of_responses

__all__ = ["PLACE", "batch_of", "response_lengths", "response_mask", "rows_of", "uids_of"]

PLACE = "relax_place"
"""The column that numbers the rows of a mini-batch on its process."""


def uids_of(data: Any) -> list[str]:
    """The `uid` of each row."""
    found = verl_rows.get(data, "uid")
    if found is None:
        raise DataError("verl's rows carry no 'uid', which tells the completions of a prompt; use verl's PPO trainer.")
    return [str(uid) for uid in found]


def response_lengths(data: Any) -> Tensor:
    """(B,) tokens of each response."""
    responses = data["responses"]
    if responses.is_nested:
        return responses.offsets().diff()
    return data["attention_mask"][:, data["prompts"].shape[1] :].sum(-1)


def response_mask(data: Any, width: int) -> Tensor:
    """(B, T) bool, True where the policy sampled a token: not at padding, nor at what a tool wrote."""
    return _padded(data["response_mask"], width).bool()


def rows_of(data: Any) -> list[Row]:
    """The inputs of the layout of the groups."""
    lengths = data["input_ids"].offsets().diff().tolist()
    tokens_of = data["input_ids"].values().cpu().split(lengths)
    responses = response_lengths(data).tolist()
    mask = response_mask(data, max(responses))
    return [
        Row(uid, len(ids), tokens, may_be_padding=response == 1 and tokens == 0, digest=_digest(ids))
        for uid, ids, response, tokens in zip(uids_of(data), tokens_of, responses, mask.sum(-1).tolist(), strict=True)
    ]


def _digest(ids: Tensor) -> bytes:
    return hashlib.blake2b(ids.numpy().tobytes(), digest_size=16).digest()


def batch_of(
    objective: Objective,
    micro: Any,
    outputs: Any,
    states: Tensor | None,
    ids: Tensor,
    totals: UpdateTotals | None,
    width: int | None = None,
) -> RolloutBatch:
    """The completions of a micro-batch, with group ids.

    Args:
        micro: verl's rows.
        outputs: outputs of the engine, ``log_probs`` and, where it was asked for, ``entropy``, of every token.
        states: (N, H or F) of every token, where the objective reads them.
        ids: (B,) of the groups.
        width: T; None takes the longest response.

    Raises:
        ConfigError: the objective reads what this run of verl does not compute.
    """
    offsets, lengths = micro["input_ids"].offsets(), response_lengths(micro)
    width = max(width or 0, int(lengths.max()))

    def own(values: Tensor, before: int = 1) -> Tensor:
        return of_responses(values, offsets, lengths, width, before)

    log_probs = own(outputs["log_probs"].values()).float()
    fields: dict[str, Tensor] = {}
    if "entropy" in outputs:
        fields["entropy"] = own(outputs["entropy"].values()).float()
    if states is not None:
        wanted = LIFTED_STATES if objective.reads_lifted_states else HIDDEN_STATES
        fields[wanted.name] = own(states, int(objective.reads_predicting_states))
    if REF_LOG_PROBS in objective.inputs:
        fields["ref_log_probs"] = _column(micro, "ref_log_prob", width, "actor.use_kl_loss=true actor.kl_loss_coef=0")
    if "rollout_is_weights" in micro:
        fields["sampling_weights"] = _padded(micro["rollout_is_weights"], width)
    extras: dict[Input, Tensor] = {}
    if OLD_ENTROPY in objective.inputs:
        extras[OLD_ENTROPY] = _column(micro, "entropy", width, "algorithm.rollout_correction.bypass_mode=false")
    return RolloutBatch(
        log_probs=log_probs,
        old_log_probs=_column(micro, "old_log_probs", width, "no bypass of the old log-probabilities"),
        mask=response_mask(micro, width),
        # Rewards of the verifier, and not verl's advantages: the objective makes its own.
        rewards=_padded(micro["rm_scores"], width).float().sum(-1),
        totals=totals,
        group_ids=ids,
        extras=extras,
        **fields,
    )


def _column(micro: Any, name: str, width: int, setting: str) -> Tensor:
    if name not in micro:
        raise ConfigError(f"The objective reads {name!r}, which this run of verl does not compute; set {setting}.")
    return _padded(micro[name], width).float()


def _padded(tensor: Tensor, width: int) -> Tensor:
    if tensor.is_nested:
        return torch.nested.to_padded_tensor(tensor, 0, (tensor.shape[0], width))
    missing = width - tensor.shape[1]
    return torch.nn.functional.pad(tensor, (0, missing)) if missing > 0 else tensor[:, :width]
