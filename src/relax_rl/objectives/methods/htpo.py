"""HTPO (arXiv 2605.08283): a loss by difficulty, correctness and entropy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from relax_rl.errors import ConfigError
from relax_rl.objectives.aggregation import TokenMean
from relax_rl.objectives.base import Surrogate
from relax_rl.objectives.batch import RolloutBatch
from relax_rl.objectives.inputs import ENTROPY, Input
from relax_rl.objectives.objective import Objective
from relax_rl.objectives.settings import AdvantageSettings, ClipSettings
from relax_rl.objectives.surrogates import clip_metrics, dual_clip, of_each_token, unit_ratio

__all__ = ["HTPOSettings", "HierarchicalTokenSurrogate", "htpo"]


class HTPOSettings(AdvantageSettings, ClipSettings):
    """HTPO's; see `HierarchicalTokenSurrogate`.

    Attributes:
        hard_below: share of right completions below which a prompt is hard.
        high_share: share of a completion's tokens that count as high in entropy.
        low_dropped, high_dropped: share of the tokens of low and of high entropy that are left out.
        dual_clip: bound on the loss of tokens with a negative advantage, in advantages.
    """

    paper: ClassVar[str | None] = "2605.08283"
    off_policy: ClassVar[frozenset[str]] = frozenset({"dual_clip"})

    clip_high: float = 0.28
    hard_below: float = 0.6
    high_share: float = 0.2
    low_dropped: float = 0.006
    high_dropped: float = 0.02
    correct_reward: float = 1.0
    dual_clip: float = 10.0


def htpo(settings: HTPOSettings) -> Objective:
    """The loss of HTPO."""
    surrogate = HierarchicalTokenSurrogate(
        clip_low=settings.clip_low,
        clip_high=settings.clip_high,
        hard_below=settings.hard_below,
        high_share=settings.high_share,
        low_dropped=settings.low_dropped,
        high_dropped=settings.high_dropped,
        correct_reward=settings.correct_reward,
        dual_clip=settings.dual_clip,
    )
    return Objective(
        name="htpo",
        advantage=settings.advantage,
        surrogate=surrogate,
        aggregation=TokenMean(),
        regularizers=settings.kl("token_mean"),
    )


@dataclass(frozen=True)
class HierarchicalTokenSurrogate(Surrogate):
    """HTPO: another loss for each kind of prompt, completion and token (arXiv 2605.08283; authors' code).

    A prompt is hard where fewer than ``hard_below`` of its completions are right. A token is a high one where its
    entropy is among the max(1, int(high_share n)) highest of its completion's n. With r the ratio, [a, b] the clip's
    bounds, u = r / sg[r], and PPO the clipped loss:

        hard and right:  low tokens PPO, but 0 for the lowest entropies among them;
                         high tokens +b u A where r > b, +u A / sg[r] where r < a, else -r A
        hard and wrong, easy and wrong:  low tokens PPO;  high tokens +a u A where r < a, else -r A
        easy and right:  PPO, but 0 for the highest entropies among the high tokens

    then `dual_clip`. Mind the plus signs, which are the authors': outside the bounds the gradient turns around and
    pulls the token back. The two shares that get 0 are int(share n) of the low (at least 1, less 1) and of the high
    (at least 1) tokens. A completion that was not scored has advantage 0 and no gradient.

    Attributes:
        clip_low, clip_high: 0.2 and 0.28, as DAPO.
        hard_below: 0.6; high_share: 0.2; low_dropped: 0.006; high_dropped: 0.02 (the authors' code).
        correct_reward: completions with at least this reward are right.
        dual_clip: 10.
    """

    clip_low: float = 0.2
    clip_high: float = 0.28
    hard_below: float = 0.6
    high_share: float = 0.2
    low_dropped: float = 0.006
    high_dropped: float = 0.02
    correct_reward: float = 1.0
    dual_clip: float = 10.0

    def __post_init__(self) -> None:
        for name in ("hard_below", "high_share", "low_dropped", "high_dropped"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"{name} must be in [0, 1], but is {getattr(self, name)}.")

    def inputs(self) -> frozenset[Input]:
        return frozenset({ENTROPY})

    def __call__(self, batch: RolloutBatch, advantages: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Per-token loss (P, G, T) for advantages (P, G) or (P, G, T), and the shares of tokens outside the bounds."""
        ratio, unit, advantage = torch.exp(batch.log_ratio), unit_ratio(batch), of_each_token(advantages)
        low, high = 1 - self.clip_low, 1 + self.clip_high
        is_high, is_dropped = self._tokens(batch)
        is_right = (batch.rewards >= self.correct_reward).unsqueeze(-1)
        is_hard = self._is_hard(batch).view(-1, 1, 1)
        below, above = ratio < low, ratio > high
        plain = -ratio * advantage
        clipped = -torch.minimum(ratio * advantage, ratio.clamp(low, high) * advantage)
        # Bounded before it is chosen from: an infinity in the branch not taken would make the gradient NaN.
        inverse = torch.exp(-batch.log_ratio.detach().clamp(min=-20.0))
        right = torch.where(above, high * unit * advantage, torch.where(below, inverse * unit * advantage, plain))
        wrong = torch.where(below, low * unit * advantage, plain)
        free = torch.where(is_right, right, wrong)
        # High tokens of easy, right completions are the one kind of high token that keeps PPO's clip.
        loss = torch.where(is_high & ~(is_right & ~is_hard), free, clipped)
        loss = loss.masked_fill(is_right & torch.where(is_hard, is_dropped[0], is_dropped[1]), 0.0)
        return dual_clip(loss, advantage, self.dual_clip), clip_metrics(below, above, batch)

    def _is_hard(self, batch: RolloutBatch) -> Tensor:
        """(P,) bool."""
        num_scored = (~batch.rewards.isnan()).sum(-1).clamp(min=1)
        return (batch.rewards >= self.correct_reward).sum(-1) / num_scored < self.hard_below

    def _tokens(self, batch: RolloutBatch) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """(P, G, T) bool: the tokens of high entropy; the lowest of the others, and the highest of these."""
        entropy = batch.required(ENTROPY).detach()
        is_high = _top(entropy, batch.mask, self.high_share)
        is_low = batch.mask & ~is_high
        lowest = _top(-entropy, is_low, self.low_dropped)
        # The authors compare the lowest with < and the others with >=, so that the last of the lowest stays.
        last = torch.where(lowest, entropy, -torch.inf).amax(-1, keepdim=True)
        return is_high, (is_low & (entropy < last), _top(entropy, is_high, self.high_dropped))


def _top(values: Tensor, among: Tensor, share: float) -> Tensor:
    """(P, G, T) bool: in each row those at least as large as the max(1, int(share n))-th largest of its n."""
    count = (share * among.sum(-1, keepdim=True)).long().clamp(min=1)
    ordered = values.masked_fill(~among, -torch.inf).sort(dim=-1, descending=True).values
    return among & (values >= ordered.gather(-1, count - 1))
