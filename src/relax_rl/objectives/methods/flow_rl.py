"""FlowRL (arXiv 2509.15207): match the reference tilted by the reward, with a learned log Z."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from relax_rl.errors import ConfigError, DataError
from relax_rl.objectives.aggregation import SequenceMeanTokenMean, sequence_token_mean
from relax_rl.objectives.base import Surrogate
from relax_rl.objectives.batch import RolloutBatch
from relax_rl.objectives.inputs import LOG_PARTITION, REF_LOG_PROBS, Input
from relax_rl.objectives.objective import Objective
from relax_rl.objectives.settings import AdvantageSettings
from relax_rl.objectives.surrogates import clip_metrics, of_each_token

__all__ = ["FlowBalanceSurrogate", "FlowRLSettings", "flow_rl"]


class FlowRLSettings(AdvantageSettings):
    """FlowRL's; see `FlowBalanceSurrogate`. ``beta`` is a KL on top, which the paper has not."""

    paper: ClassVar[str | None] = "2509.15207"
    off_policy: ClassVar[frozenset[str]] = frozenset({"weight_max"})

    tilt: float = 15.0
    weight_max: float = 10.0
    epsilon: float = 1e-6


def flow_rl(settings: FlowRLSettings) -> Objective:
    """The loss of FlowRL."""
    return Objective(
        name="flow_rl",
        advantage=settings.advantage,
        surrogate=FlowBalanceSurrogate(settings.tilt, settings.weight_max),
        aggregation=SequenceMeanTokenMean(),
        regularizers=settings.kl("completion_mean"),
    )


@dataclass(frozen=True)
class FlowBalanceSurrogate(Surrogate):
    """FlowRL: the policy is to be the reference, tilted by the reward (arXiv 2509.15207).

        loss_i = w_i (log Z + mean_t log_probs - tilt A_i - mean_t ref_log_probs)^2,
        w_i = min(exp(sum_t log r_t), weight_max), no gradient.

    log Z is learned along with the policy (the input `LOG_PARTITION`): at the minimum the policy is proportional to
    the reference times exp(tilt A). The authors' released code computes the bounded w and multiplies by the unbounded
    one; the bound is that of verl's recipe.

    Attributes:
        tilt: the paper's beta, 15.
        weight_max: 10 (verl's recipe).
    """

    tilt: float = 15.0
    weight_max: float = 10.0

    def __post_init__(self) -> None:
        if self.weight_max < 1:
            raise ConfigError(f"weight_max must be at least 1, but is {self.weight_max}.")

    def inputs(self) -> frozenset[Input]:
        return frozenset({REF_LOG_PROBS, LOG_PARTITION})

    @property
    def reference_coefficient(self) -> float:
        return 1.0

    def __call__(self, batch: RolloutBatch, advantages: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """(P, G, T) the loss of the completion at each of its tokens, for advantages (P, G)."""
        if advantages.dim() != 2:
            raise DataError("FlowRL's loss is one of whole completions and takes no advantages of tokens.")
        log_partition = batch.required(LOG_PARTITION).unsqueeze(-1)
        ref = sequence_token_mean(batch.required(REF_LOG_PROBS), batch)
        residual = log_partition + sequence_token_mean(batch.log_probs, batch) - self.tilt * advantages - ref
        log_weight = batch.log_ratio.detach().sum(-1)
        # Clamped before the exponential: the sum over a whole completion overflows float32 long before its tokens do.
        weight = log_weight.clamp(max=20.0).exp().clamp(max=self.weight_max)
        is_scored = ~batch.rewards.isnan()
        # One loss a completion, repeated at its tokens: the mean over tokens of each completion gives it back.
        loss = of_each_token((weight * residual.square()).masked_fill(~is_scored, 0.0)).expand_as(batch.log_probs)
        nothing = torch.zeros_like(batch.mask)
        is_high = (log_weight.exp() > self.weight_max).unsqueeze(-1) & batch.mask
        return loss, clip_metrics(nothing, is_high, batch) | {
            "group/log_partition": log_partition.mean(),
            "group/residual": residual[is_scored].abs().mean(),
        }
