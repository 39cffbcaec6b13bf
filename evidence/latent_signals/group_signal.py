"""The two ways in which a signal of a group's completions is put to use: as a reward, or as a term of the loss.

A signal (`relax_rl.objectives.base.GroupSignal`) gives each completion a number; the objective measures it once and
passes it as the input `SIGNAL`, NaN for a completion of which it says nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from relax_rl.errors import ConfigError
from relax_rl.objectives.advantages import GroupRelativeAdvantage
from relax_rl.objectives.base import Advantage, Measurements, Regularizer
from relax_rl.objectives.batch import RolloutBatch
from relax_rl.objectives.inputs import SIGNAL, Input
from relax_rl.objectives.shaping import RewardShaping, ShapedAdvantage

__all__ = ["Form", "SignalBonus", "SignalTerm", "SignalUse"]

Form = Literal["advantage", "regularizer"]


@dataclass(frozen=True)
class SignalBonus(RewardShaping):
    """reward + coefficient * signal_i, without gradient (ours, study G).

    In a group of which all are right nothing but the bonus differs, and an advantage that divides by the spread makes
    of it one of full size, whatever the coefficient.

    Attributes:
        coefficient: reward for one unit of the signal.
    """

    coefficient: float

    def inputs(self) -> frozenset[Input]:
        return frozenset({SIGNAL})

    def __call__(self, batch: RolloutBatch) -> Tensor:
        rewards = batch.float_rewards
        return rewards + self.coefficient * batch.required(SIGNAL).detach().nan_to_num(nan=0.0).to(rewards.dtype)


@dataclass(frozen=True)
class SignalTerm(Regularizer):
    """A loss term with gradient through the hidden states (ours, study G):

        L = -coefficient * mean_i signal_i

    for each prompt, over the completions that have a signal (0 where none has), averaged over prompts.

    Attributes:
        coefficient: 0 leaves the term out.
    """

    coefficient: float

    def inputs(self) -> frozenset[Input]:
        return frozenset({SIGNAL})

    @property
    def is_active(self) -> bool:
        return self.coefficient != 0

    def __call__(self, batch: RolloutBatch, measured: Measurements) -> tuple[Tensor, dict[str, Tensor]]:
        signal = batch.required(SIGNAL)
        is_defined = ~signal.isnan()
        per_prompt = torch.where(is_defined, signal, 0.0).sum(-1) / is_defined.sum(-1).clamp(min=1)
        share = per_prompt.sum() / batch.update_totals.num_prompts
        return -self.coefficient * share.to(batch.log_probs.dtype), {}


@dataclass(frozen=True)
class SignalUse:
    """What a method does with its signal.

    Attributes:
        coefficient: 0 only logs it.
        form: "advantage" adds `SignalBonus` to the reward, "regularizer" adds `SignalTerm` to the loss.
    """

    coefficient: float
    form: Form

    def __post_init__(self) -> None:
        if self.form not in get_args(Form):
            raise ConfigError(f"form is {self.form!r}; choose one of {', '.join(get_args(Form))}.")
        if self.coefficient < 0:
            raise ConfigError(
                f"coefficient must not be negative, but is {self.coefficient}; 0 switches the signal off."
            )

    def advantage(self, plain: GroupRelativeAdvantage) -> Advantage:
        """The advantage of the rewards, or of the rewards with the bonus."""
        is_rewarded = self.form == "advantage" and self.coefficient != 0
        return ShapedAdvantage(SignalBonus(self.coefficient), plain) if is_rewarded else plain

    @property
    def terms(self) -> tuple[SignalTerm, ...]:
        return (SignalTerm(self.coefficient),) if self.form == "regularizer" else ()
