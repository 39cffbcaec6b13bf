"""Losses that ask for a distribution over the completions of a prompt, not for the best of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from relax_rl.errors import ConfigError, DataError
from relax_rl.objectives.aggregation import sequence_token_mean
from relax_rl.objectives.base import Measurements
from relax_rl.objectives.batch import RolloutBatch
from relax_rl.objectives.surrogates import clip_metrics, of_each_token

__all__ = ["DistributionMatching", "Divergence", "FlowBalanceSurrogate"]

Divergence = Literal["mse", "js"]


@dataclass(frozen=True)
class DistributionMatching:
    """DMPO's term: the policy's distribution over a group is to be that of its advantages (arXiv 2605.19461).

        p = softmax_i(A_i / temperature),    q = softmax_i(mean_t log_probs_it),
        mse: mean over completions of (p_i - q_i)^2;    js: mean over prompts of the Jensen-Shannon divergence of p, q.

    Read off the recipe of the community of verl for the paper, where a length-normalised log-probability stands for the
    policy and GRPO's advantage for the reward. A completion that was not scored or has no tokens is in neither p nor q.

    Attributes:
        coefficient: 1, and 2 in the recipe's script.
        temperature: 1/15 (the recipe).
        divergence: "mse" (the recipe's default) or "js".
        skip_flat: leave out groups without a difference in advantage (the recipe's ``grpo_dmpo_zero``, used by its
            script). They stay in the denominator here, for the mean to be the same however an update is cut.
    """

    coefficient: float = 1.0
    temperature: float = 1 / 15
    divergence: Divergence = "mse"
    skip_flat: bool = False

    def __post_init__(self) -> None:
        if self.divergence not in get_args(Divergence):
            raise ConfigError(f"divergence is {self.divergence!r}; choose one of {', '.join(get_args(Divergence))}.")
        if self.coefficient < 0 or self.temperature <= 0:
            raise ConfigError(
                f"coefficient must not be negative and temperature must be positive, but they are {self.coefficient} "
                f"and {self.temperature}."
            )

    @property
    def needs(self) -> frozenset[str]:
        return frozenset()

    @property
    def is_active(self) -> bool:
        return self.coefficient != 0

    def __call__(self, batch: RolloutBatch, measured: Measurements) -> tuple[Tensor, dict[str, Tensor]]:
        advantages = measured.advantages
        takes_part = ~batch.rewards.isnan() & (batch.lengths > 0)
        if self.skip_flat:
            spread = advantages.amax(-1) - advantages.amin(-1)
            takes_part = takes_part & (spread > 1e-5).unsqueeze(-1)
        log_target = _log_softmax(advantages / self.temperature, takes_part)
        log_policy = _log_softmax(sequence_token_mean(batch.log_probs, batch), takes_part)
        target, policy = log_target.exp(), log_policy.exp()
        if self.divergence == "mse":
            share = (target - policy).square().masked_fill(~takes_part, 0.0).sum() / batch.update_totals.num_completions
        else:
            middle = (0.5 * (target + policy)).clamp(min=1e-30).log()
            halves = 0.5 * (target * (log_target - middle) + policy * (log_policy - middle))
            share = halves.masked_fill(~takes_part, 0.0).sum() / batch.update_totals.num_prompts
        distance = (target - policy).abs().masked_fill(~takes_part, 0.0).sum(-1).mean() / 2
        return self.coefficient * share, {"group/total_variation": distance}


def _log_softmax(scores: Tensor, takes_part: Tensor) -> Tensor:
    """log softmax of (P, G) over what takes part; about -1e30, without gradient, elsewhere."""
    return scores.masked_fill(~takes_part, -1e30).log_softmax(dim=-1)


@dataclass(frozen=True)
class FlowBalanceSurrogate:
    """FlowRL: the policy is to be the reference, tilted by the reward (arXiv 2509.15207).

        loss_i = w_i (log Z + mean_t log_probs - beta A_i - mean_t ref_log_probs)^2,
        w_i = min(exp(sum_t log r_t), weight_max), no gradient.

    log Z is learned along with the policy (`RolloutBatch.log_partition`): at the minimum the policy is proportional to
    the reference times exp(beta A). The authors' released code computes the bounded w and multiplies by the unbounded
    one; the bound is that of verl's recipe.

    Attributes:
        beta: 15 (paper).
        weight_max: 10 (verl's recipe).
    """

    beta: float = 15.0
    weight_max: float = 10.0

    def __post_init__(self) -> None:
        if self.weight_max < 1:
            raise ConfigError(f"weight_max must be at least 1, but is {self.weight_max}.")

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({"ref_log_probs", "log_partition"})

    def __call__(self, batch: RolloutBatch, advantages: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """(P, G, T) the loss of the completion at each of its tokens, for advantages (P, G)."""
        if advantages.dim() != 2:
            raise DataError("FlowRL's loss is one of whole completions and takes no advantages of tokens.")
        log_partition = batch.required("log_partition").unsqueeze(-1)
        ref = sequence_token_mean(batch.required("ref_log_probs"), batch)
        residual = log_partition + sequence_token_mean(batch.log_probs, batch) - self.beta * advantages - ref
        log_weight = batch.log_ratio.detach().sum(-1)
        weight = log_weight.clamp(max=20.0).exp().clamp(max=self.weight_max)
        is_scored = ~batch.rewards.isnan()
        loss = of_each_token((weight * residual.square()).masked_fill(~is_scored, 0.0)).expand_as(batch.log_probs)
        nothing = torch.zeros_like(batch.mask)
        is_high = (log_weight.exp() > self.weight_max).unsqueeze(-1) & batch.mask
        return loss, clip_metrics(nothing, is_high, batch) | {
            "group/log_partition": log_partition.mean(),
            "group/residual": residual[is_scored].abs().mean(),
        }
