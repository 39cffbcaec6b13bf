"""DMPO (arXiv 2605.19461): GRPO by tokens, and a distribution over the group to match."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

from torch import Tensor

from relax_rl.errors import ConfigError
from relax_rl.objectives.aggregation import TokenMean, sequence_token_mean
from relax_rl.objectives.base import Measurements, Regularizer
from relax_rl.objectives.batch import RolloutBatch
from relax_rl.objectives.objective import Objective
from relax_rl.objectives.settings import AdvantageSettings, RatioSettings

__all__ = ["DMPOSettings", "DistributionMatching", "dmpo"]


Divergence = Literal["mse", "js"]


class DMPOSettings(AdvantageSettings, RatioSettings):
    """By verl's recipe; see `DistributionMatching`. ``coefficient=2`` and ``skip_flat`` are what its script runs.

    The recipe also has verl's dual clip, which is ``dual_clip=3``.
    """

    paper: ClassVar[str | None] = "2605.19461"

    coefficient: float = 1.0
    temperature: float = 1 / 15
    divergence: Divergence = "mse"
    skip_flat: bool = False
    epsilon: float = 1e-6


def dmpo(settings: DMPOSettings) -> Objective:
    """GRPO by tokens with `DistributionMatching`."""
    matching = DistributionMatching(settings.coefficient, settings.temperature, settings.divergence, settings.skip_flat)
    return Objective(
        name="dmpo",
        advantage=settings.advantage,
        surrogate=settings.surrogate,
        aggregation=TokenMean(),
        regularizers=(*settings.kl("token_mean"), matching),
    )


@dataclass(frozen=True)
class DistributionMatching(Regularizer):
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
    def is_active(self) -> bool:
        return self.coefficient != 0

    def __call__(self, batch: RolloutBatch, measured: Measurements) -> tuple[Tensor, dict[str, Tensor]]:
        advantages = measured.advantages
        takes_part = ~batch.rewards.isnan() & (batch.lengths > 0)
        # A flat group would ask for a uniform policy over its completions, which no reward wants.
        if self.skip_flat:
            spread = advantages.amax(-1) - advantages.amin(-1)
            takes_part = takes_part & (spread > 1e-5).unsqueeze(-1)
        log_target = _log_softmax(advantages / self.temperature, takes_part)
        log_policy = _log_softmax(sequence_token_mean(batch.log_probs, batch), takes_part)
        target, policy = log_target.exp(), log_policy.exp()
        if self.divergence == "mse":
            share = (target - policy).square().masked_fill(~takes_part, 0.0).sum() / batch.update_totals.num_completions
        else:
            # Bounded before the log: completions that take no part have probability 0 in both, and log 0 times 0 is
            # NaN.
            middle = (0.5 * (target + policy)).clamp(min=1e-30).log()
            halves = 0.5 * (target * (log_target - middle) + policy * (log_policy - middle))
            share = halves.masked_fill(~takes_part, 0.0).sum() / batch.update_totals.num_prompts
        distance = (target - policy).abs().masked_fill(~takes_part, 0.0).sum(-1).mean() / 2
        return self.coefficient * share, {"group/total_variation": distance}


def _log_softmax(scores: Tensor, takes_part: Tensor) -> Tensor:
    """log softmax of (P, G) over what takes part; about -1e30, without gradient, elsewhere."""
    # -1e30 and not -inf: a row without any member would otherwise be NaN, in its gradient too.
    return scores.masked_fill(~takes_part, -1e30).log_softmax(dim=-1)
