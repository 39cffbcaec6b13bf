"""How much volume the mean states of a group's completions span."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch

from relax_rl.errors import ConfigError
from relax_rl.koopman.geometry import log_det_gains
from relax_rl.objectives.base import GroupSignal, SignalReading
from relax_rl.objectives.batch import RolloutBatch
from relax_rl.objectives.inputs import HIDDEN_STATES
from relax_rl.objectives.probe import LiftedStates

__all__ = ["Among", "Space", "StateVolume"]

Among = Literal["correct", "all"]
Space = Literal["lifted", "hidden"]


@dataclass(frozen=True)
class StateVolume(GroupSignal):
    """What a completion adds to the volume that its group's mean states span (ours, study G; after DQO).

        signal_i = log det(I + L) - log det(I + L without i),    L = scale * C C^T,

    C the mean over the tokens of each completion's states, less the mean of these over the completions that take part.
    Not at length one, as in `LogDetBonus`: unit vectors of a centred set point in all directions, however close the set
    lies. With fewer than two that take part nothing is said of the prompt.

    Attributes:
        scale: against the identity; where all entries of L are small the signal is just scale times the squared
            distance to the mean, where they are large it counts directions.
        among: the completions that take part: those with reward > 0, or all that were scored.
        space: "lifted" takes the observables of the dictionary, "hidden" the hidden states themselves.
    """

    scale: float = 1.0
    among: Among = "correct"
    space: Space = "lifted"
    name: str = "volume"

    def __post_init__(self) -> None:
        if not self.scale > 0:
            raise ConfigError(f"scale must be positive, but is {self.scale}.")
        if self.among not in get_args(Among):
            raise ConfigError(f"among is {self.among!r}; choose one of {', '.join(get_args(Among))}.")
        if self.space not in get_args(Space):
            raise ConfigError(f"space is {self.space!r}; choose one of {', '.join(get_args(Space))}.")

    def __call__(self, lifted: LiftedStates, batch: RolloutBatch) -> SignalReading:
        """(P, G) float64, NaN where nothing is said."""
        lengths = lifted.mask.sum(-1)
        takes_part = (lengths > 0) & (batch.rewards > 0 if self.among == "correct" else ~batch.rewards.isnan())
        takes_part = takes_part & (takes_part.sum(-1, keepdim=True) > 1)
        states = lifted.values if self.space == "lifted" else batch.required(HIDDEN_STATES)
        kept = torch.where(lifted.mask.unsqueeze(-1), states, 0.0)
        means = kept.double().sum(2) / lengths.clamp(min=1).unsqueeze(-1)
        is_member = takes_part.unsqueeze(-1)
        centre = torch.where(is_member, means, 0.0).sum(1, keepdim=True) / is_member.sum(1, keepdim=True).clamp(min=1)
        centred = torch.where(is_member, means - centre, 0.0)
        gains = log_det_gains(centred, takes_part, scale=self.scale, unit=False)
        return SignalReading(torch.where(takes_part, gains, torch.nan))
