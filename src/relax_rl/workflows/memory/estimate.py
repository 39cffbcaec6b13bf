"""Bytes on each device, part by part, at the moments of a run that need most.

What is counted: weights, reference, gradients and moments, sharded as the strategy says; the activations that the
backward of a micro-batch reads, with a mask for attention; the head, which TRL computes in tiles; the hidden states
that an objective reads; and the cache of a rollout batch or an evaluation, as though no completion ended early.
Checked against measured peaks on the CPU (tests/workflows/test_memory.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from relax_rl.workflows.memory.shape import ModelShape

__all__ = ["Estimate", "Load", "Moment", "Strategy", "estimated"]

Strategy = Literal["one process", "DDP", "ZeRO-2", "ZeRO-3", "FSDP"]

_TILE = (4096, 32768)
"""Tokens, and columns of the vocabulary, of a tile of TRL's head."""
_TILE_COPIES = 8.5
"""Copies of a tile, in float32, where there is no kernel for it and torch computes its gradient step by step."""
_STATE_BYTES = 6.5
"""For each entry of the hidden states: an objective's own copies and gradients; measured at 8 x 4096 x 3584."""
_LOGIT_COPIES = 3
"""Copies of the float32 logits of the token that is sampled."""


@dataclass(frozen=True)
class Load:
    """Memory of a run on a device; see `relax_rl.workflows.memory.plan` for where it comes from.

    Attributes:
        shape: shape of the model.
        ranks, strategy: ranks that share it, and their strategy.
        weight_bytes: bytes of a weight of the policy: 4, 2, or less for quantised ones.
        compute_bytes: bytes of an activation.
        trained: parameters that learn: all, or those of an adapter.
        trained_bytes: bytes of each.
        moments: values that the optimiser keeps for each, in units of `trained_bytes`.
        has_reference: whether a second model is held.
        micro_batch: completions in a forward and backward of one rank.
        accumulates: an update has several micro-batches.
        rollout: completions of a rollout batch on one rank; 0 where vLLM samples.
        evaluated: completions that one rank samples at once in an evaluation; 0 without one.
        prompt, completion: tokens.
        is_checkpointed: activations of one layer at a time are recomputed.
        reads_states: the objective reads hidden states.
        rank_of_adapter: rank of a LoRA adapter; 0 without one.
        is_accelerated: TRL's kernel computes the head.
        masks_attention: attention is given a mask of all pairs of tokens.
        fixed: bytes of the runtime.
        engine: bytes that vLLM holds beside the trainer; `engine_sleeps`: not during an update.
    """

    shape: ModelShape
    ranks: int
    strategy: Strategy
    weight_bytes: float
    compute_bytes: int
    trained: int
    trained_bytes: int
    moments: float
    has_reference: bool
    micro_batch: int
    accumulates: bool
    rollout: int
    evaluated: int
    prompt: int
    completion: int
    is_checkpointed: bool
    reads_states: bool
    rank_of_adapter: int = 0
    is_accelerated: bool = True
    masks_attention: bool = True
    fixed: float = 0.0
    engine: float = 0.0
    engine_sleeps: bool = False


@dataclass(frozen=True)
class Moment:
    """A moment of a run that may need most: its parts in bytes, by name."""

    name: str
    parts: dict[str, float]

    @property
    def total(self) -> float:
        return sum(self.parts.values())


@dataclass(frozen=True)
class Estimate:
    """The moments of a run on one device."""

    moments: tuple[Moment, ...]

    @property
    def peak(self) -> Moment:
        """The one that needs most."""
        return max(self.moments, key=lambda moment: moment.total)


def estimated(load: Load) -> Estimate:
    """The memory of one device, in bytes, at each moment that may need most."""
    held = _held(load)
    engine = {"vLLM": load.engine} if load.engine else {}
    awake = {} if load.engine_sleeps else engine
    return Estimate(
        (
            Moment("update", held | awake | _update(load)),
            Moment("rollout", held | engine | _sampling(load, load.rollout)),
            Moment("evaluation", held | awake | _sampling(load, load.evaluated)),
        )
    )


def _shares(load: Load) -> tuple[int, int, int]:
    """Ranks over which weights, gradients and moments are shared out."""
    whole = load.strategy in ("ZeRO-3", "FSDP")
    return (
        load.ranks if whole else 1,
        load.ranks if whole or load.strategy == "ZeRO-2" else 1,
        load.ranks if whole or load.strategy == "ZeRO-2" else 1,
    )


def _held(load: Load) -> dict[str, float]:
    """Memory that stays from update to update."""
    shape, (of_weights, _, of_moments) = load.shape, _shares(load)
    frozen = shape.num_parameters * load.weight_bytes
    own = load.trained * load.trained_bytes if load.rank_of_adapter else 0
    parts = {
        "weights": frozen / of_weights + own,
        "optimizer": load.trained * load.trained_bytes * load.moments / of_moments,
    }
    if load.has_reference:
        parts["reference"] = frozen / of_weights
    if of_weights > 1:
        # The layer at work and the one that is fetched meanwhile.
        parts["gathered layers"] = 2 * shape.layer_parameters * load.compute_bytes
    if load.fixed:
        parts["runtime"] = load.fixed
    return parts


def _update(load: Load) -> dict[str, float]:
    shape, (_, of_gradients, _) = load.shape, _shares(load)
    gradients = load.trained * load.trained_bytes / of_gradients
    if load.strategy == "DDP":
        gradients *= 2  # buckets
    rows, tokens = load.micro_batch, load.prompt + load.completion
    states = rows * load.completion * shape.hidden
    layer = rows * tokens * _layer_bytes(load)
    if load.is_checkpointed:
        activations, recomputed = shape.num_layers * rows * tokens * shape.hidden * load.compute_bytes, layer
    else:
        activations, recomputed = shape.num_layers * layer, 0.0
    head = 4 * states + _tile(load) + (0 if load.rank_of_adapter else 4 * shape.head_parameters)
    terms = _STATE_BYTES * states if load.reads_states else 0.0
    masks = rows * tokens**2 * (1 + load.compute_bytes) if load.masks_attention else 0
    parts = {"activations": activations, "attention mask": masks}
    # The head's gradient, an objective's own and the first layer's recomputation come one after the other.
    largest = max(head, terms, recomputed)
    parts["head" if largest == head else "objective's states" if largest == terms else "recomputed layer"] = largest
    if load.accumulates or gradients > activations:
        return parts | {"gradients": gradients}
    return parts  # they grow while the activations go


def _tile(load: Load) -> float:
    """A tile of the head: the logits of some tokens, and on an accelerator the weights in float32."""
    tokens = min(load.micro_batch * load.completion, _TILE[0])
    columns = min(load.shape.vocabulary, _TILE[1])
    if load.is_accelerated:
        return 4 * columns * (tokens + load.shape.hidden)
    return 4 * columns * tokens * _TILE_COPIES


def _layer_bytes(load: Load) -> float:
    """Numbers that the backward of one layer reads, for each token."""
    shape, width = load.shape, load.compute_bytes
    norms = 2 * 8 * shape.hidden
    residuals = 2 * width * shape.hidden
    attention = width * (3 * shape.query + 2 * shape.key_value)
    mlp = width * 4 * shape.intermediate
    total = norms + residuals + attention + mlp
    if load.rank_of_adapter:
        per_layer = len(shape.linear_features) / shape.num_layers
        total += 4 * load.rank_of_adapter * per_layer
        if width < 4:  # an adapter in float32 takes a copy of its input
            total += 4 * sum(inputs for inputs, _ in shape.linear_features) / shape.num_layers
    return total


def _sampling(load: Load, rows: int) -> dict[str, float]:
    if not rows:
        return {}
    shape = load.shape
    cache = rows * (load.prompt + load.completion) * 2 * shape.key_value * load.compute_bytes
    return {
        # A layer's part is copied as it grows.
        "cache": cache * (shape.num_layers + 1),
        "logits": rows * shape.vocabulary * 4 * _LOGIT_COPIES,
    }
