"""What the losses are compared on: settings of every method, and fixed batches."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

Tensors = dict[str, Tensor]

DICTIONARY = {"dictionary": {"num_observables": 4, "steps": 5}, "xi": "quantile:0.5"}
LEAVES = ("log_probs", "entropy", "log_partition", "hidden_states")
"""Tensors that come with a gradient from the policy."""

SETTINGS: dict[str, dict[str, Any]] = {
    "relax": DICTIONARY,
    "relax_as_run": DICTIONARY,
    "rank_shaping": {"stride": 4},
    "pass_at_k": {"k": 2},
    "kl_cov": {"k_ratio": 0.2},
    "clip_cov": {"ratio": 0.2, "cov_low": 0.0},
    "adaptive_entropy_bonus": {"coefficient": 0.01, "target": 1.0},
    "entrocraft": {"low_start": 1.2, "low_end": 1.1, "high_start": 1.3, "high_end": 1.2},
    "spectral_diversity": DICTIONARY | {"coefficient": 1.0},
    "state_volume": DICTIONARY | {"coefficient": 1.0},
    "spectral_novelty": DICTIONARY | {"coefficient": 1.0},
}
"""Settings that make a small batch feel the method, in all of its cases."""

EXTRA: dict[str, dict[str, dict[str, Any]]] = {
    "grpo": {
        "k1": {"beta": 0.1, "kl_estimator": "k1"},
        "k2": {"beta": 0.1, "kl_estimator": "k2"},
        "clips": {"clip_low": 0.1, "clip_high": 0.5},
    },
    "relax": {
        "robust": {"beta": 0.1, "xi": 0.02, "estimator": "robust", "advantage_shaping": "positive_by_length"},
        "bound": {"beta": 0.1, "xi": 0.05, "suspend_above_xi": False, "kl_gate": "all", "kl_reduction": "token_mean"},
        "zeros": {"beta": 0.1, "estimator": "singular", "padding": "zeros", "mean_scope": "micro_batch"},
        "no terms": {"alpha": 0.0, "beta": 0.0},
    },
    "dr_grpo": {"length 50": {"beta": 0.1, "max_tokens": 50}},
    "dapo": {"overlong": {"overlong_buffer": 6, "max_tokens": 40}},
    "dcpo": {"without memory": {"smooth": False}},
    "dmpo": {"flat skipped": {"coefficient": 2.0, "skip_flat": True}},
    "hicra": {"strong": {"alpha": 0.5}},
    "log_det": {"centered": {"center": True, "coefficient": 1.0}},
    "sr_grpo": {"with the verifier": {"verifier_weight": 0.5}},
    "scheduled_entropy_bonus": {"cosine": {"schedule": "cosine", "end": 0.1}},
    "adaptive_entropy_bonus": {"above": {"coefficient": 0.01, "target": 0.1}},
    "entrocraft": {"below": {"low_start": 0.1, "low_end": 0.1, "high_start": 0.2, "high_end": 0.2}},
    "spectral_diversity": {"regularizer": {"form": "regularizer"}},
    "state_volume": {"regularizer": {"form": "regularizer", "among": "all", "space": "hidden"}},
}
"""Further cases of single methods."""


def cases_of(method: str, options: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Names of cases and their settings, in the old dialect. `options` are the settings that the method has."""
    base = SETTINGS.get(method, {})
    cases = {"defaults": base, "beta": base | {"beta": 0.1}}
    if "scope" in options:
        cases["micro_batch"] = base | {"scope": "micro_batch"}
    return cases | {name: base | extra for name, extra in EXTRA.get(method, {}).items()}


@dataclass(frozen=True)
class Shape:
    """Sizes of a batch, and the spread of the log ratios."""

    prompts: int
    group: int
    tokens: int
    width: int
    spread: float


SMALL = Shape(3, 4, 12, 6, 0.3)
WIDE = Shape(4, 8, 40, 8, 0.6)


def plain(seed: int, shape: Shape) -> Tensors:
    """Every tensor that any method reads, in float64, of ragged completions."""
    generator = torch.Generator().manual_seed(seed)
    size = (shape.prompts, shape.group, shape.tokens)

    def uniform(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator, dtype=torch.float64)

    old = -2 * uniform(*size)
    noise = torch.randn(size, generator=generator, dtype=torch.float64)
    lengths = torch.randint(1, shape.tokens + 1, size[:2], generator=generator)
    lengths[0, 0] = shape.tokens
    rewards = (uniform(*size[:2]) < 0.4).double()
    # Where exactly one of a group is right, the methods learn that look at the best completion alone.
    rewards[0] = torch.zeros(shape.group).index_fill(0, torch.tensor([1]), 1.0)
    entropy = 2 * uniform(*size)
    walk = torch.randn(*size, shape.width, generator=generator, dtype=torch.float64).cumsum(2) / 4
    return {
        "log_probs": old + shape.spread * noise,
        "old_log_probs": old,
        "mask": torch.arange(shape.tokens) < lengths.unsqueeze(-1),
        "rewards": rewards,
        "ref_log_probs": old + 0.3 * (uniform(*size) - 0.5),
        "entropy": entropy,
        "old_entropy": entropy * (0.9 + 0.2 * uniform(*size)),
        "entropy_flow": uniform(*size) - 0.4,
        "planning_mask": uniform(*size) < 0.4,
        "log_partition": uniform(shape.prompts),
        "score_features": uniform(*size[:2], shape.width) - 0.5,
        "hidden_states": walk,
        "prompt_keys": torch.arange(shape.prompts),
    }


def on_policy(seed: int, shape: Shape) -> Tensors:
    """Every ratio is 1, and every prompt has right and wrong completions."""
    tensors = plain(seed, shape)
    tensors["rewards"][:, 0], tensors["rewards"][:, 1] = 1.0, 0.0
    return tensors | {"log_probs": tensors["old_log_probs"].clone()}


def hostile(seed: int, shape: Shape) -> Tensors:
    """NaN behind the mask, completions and a group without a score, an empty completion, a group of equal rewards."""
    tensors = plain(seed, shape)
    tensors["mask"][1, 1] = False
    mask = tensors["mask"]
    for name in ("log_probs", "old_log_probs", "ref_log_probs", "entropy", "old_entropy", "entropy_flow"):
        tensors[name] = tensors[name].masked_fill(~mask, math.nan)
    tensors["hidden_states"] = tensors["hidden_states"].masked_fill(~mask.unsqueeze(-1), math.nan)
    tensors["rewards"][0, 1] = math.nan
    tensors["rewards"][1] = 1.0
    tensors["rewards"][2] = math.nan
    tensors["rewards"][3, :2] = torch.tensor([1.0, 0.0], dtype=torch.float64)
    return tensors


def weighted(seed: int, shape: Shape) -> Tensors:
    """Graded rewards, weights of the sampler, completions longer than their loss, a broken hidden state."""
    tensors = plain(seed, shape)
    generator = torch.Generator().manual_seed(seed + 1000)
    rewards, log_probs = tensors["rewards"], tensors["log_probs"]
    noise = torch.rand(rewards.shape, generator=generator, dtype=torch.float64)
    tensors["hidden_states"][0, 2, 0, 0] = math.nan
    return tensors | {
        "rewards": rewards + 0.1 * noise.round(decimals=1),
        "sampling_weights": 0.5 + torch.rand(log_probs.shape, generator=generator, dtype=torch.float64),
        "sampled_lengths": tensors["mask"].sum(-1) + 2,
    }


_FAR = torch.tensor([30.0, -8.0, 3.0, -3.0, 100.0, -120.0], dtype=torch.float64)
"""Nats by which single tokens have moved."""


def far_ratios(seed: int, shape: Shape) -> Tensors:
    """Single tokens far from the policy that sampled them, beyond what an exponential bears, near the reference."""
    tensors = plain(seed, shape)
    for name in ("log_probs", "ref_log_probs"):
        tensors[name][0, : len(_FAR), 0] += _FAR
    return tensors


def far_reference(seed: int, shape: Shape) -> Tensors:
    """Single tokens far from the reference, near the policy that sampled them."""
    tensors = plain(seed, shape)
    tensors["ref_log_probs"][0, : len(_FAR), 0] -= _FAR
    return tensors


def single(seed: int, shape: Shape) -> Tensors:
    """The same as `plain` in float32."""
    return {name: t.float() if t.is_floating_point() else t for name, t in plain(seed, shape).items()}


@dataclass(frozen=True)
class Sequence:
    """Two updates in a row: the batch, and into how many parts each is cut."""

    make: Callable[[int, Shape], Tensors]
    shape: Shape
    parts: int = 1

    def updates(self) -> list[list[Tensors]]:
        """The parts of each of two updates, whose prompts are the same."""
        return [self._cut(self.make(seed, self.shape)) for seed in (1, 2)]

    def _cut(self, tensors: Mapping[str, Tensor]) -> list[Tensors]:
        # The first part is the smaller one, so that a mean over parts shows.
        bounds = [0, 1, self.shape.prompts] if self.parts == 2 else [0, self.shape.prompts]
        return [
            {name: tensor[start:end].clone() for name, tensor in tensors.items()} for start, end in pairwise(bounds)
        ]


SEQUENCES = {
    "small": Sequence(plain, SMALL),
    "wide": Sequence(plain, WIDE),
    "on policy": Sequence(on_policy, WIDE),
    "hostile": Sequence(hostile, WIDE),
    "weighted": Sequence(weighted, WIDE),
    "far ratios": Sequence(far_ratios, WIDE),
    "far reference": Sequence(far_reference, WIDE),
    "in parts": Sequence(plain, WIDE, parts=2),
    "float32": Sequence(single, WIDE),
}
