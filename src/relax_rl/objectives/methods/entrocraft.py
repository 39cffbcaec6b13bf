"""Entrocraft (arXiv 2604.26326, Alg. 1): an entropy band that moves over the run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from relax_rl.errors import ConfigError
from relax_rl.objectives.aggregation import SequenceMeanTokenMean
from relax_rl.objectives.base import SelectionScope, TokenSelector, TokenWeights
from relax_rl.objectives.batch import RolloutBatch
from relax_rl.objectives.inputs import ENTROPY, Input
from relax_rl.objectives.objective import Objective
from relax_rl.objectives.selection import choose_tokens, require_scope, selected_share
from relax_rl.objectives.settings import AdvantageSettings, RatioSettings
from relax_rl.objectives.updates import Schedule, ScheduleShape, UpdateReport

__all__ = ["EntrocraftSettings", "EntropyBand", "entrocraft"]


class EntrocraftSettings(AdvantageSettings, RatioSettings):
    """See `EntropyBand`.

    The band is the authors' README's, for models of 0.6 nats or more at the start: set it for yours, whose entropy
    stands in the log of any run.

    Attributes:
        low_start, low_end: lower bound on the entropy at the start and at the end of the run, in nats.
        high_start, high_end: upper bound, likewise.
        schedule: path between the two: "linear" or "cosine".
    """

    paper: ClassVar[str | None] = "2604.26326"

    low_start: float = 0.6
    low_end: float = 0.4
    high_start: float = 0.7
    high_end: float = 0.5
    schedule: ScheduleShape = "linear"
    scope: SelectionScope = "update"


def entrocraft(settings: EntrocraftSettings) -> Objective:
    """GRPO's loss on the completions that `EntropyBand` keeps."""
    low = Schedule(settings.low_start, settings.low_end, settings.schedule)
    high = Schedule(settings.high_start, settings.high_end, settings.schedule)
    return Objective(
        name="entrocraft",
        advantage=settings.advantage,
        token_weights=EntropyBand(low, high, settings.scope),
        surrogate=settings.surrogate,
        aggregation=SequenceMeanTokenMean(),
        regularizers=settings.kl("completion_mean"),
    )


@dataclass(frozen=True)
class EntropyBand(TokenSelector, TokenWeights):
    """Entrocraft: completions that push the entropy further out of a band are left out (arXiv 2604.26326, Alg. 1).

    With H the mean entropy of the update's tokens and m = 1[H > high] - 1[H < low], completion i stays if m A_i >= 0:
    above the band only good completions teach (which sharpens the policy), below it only bad ones (which flattens it).
    The loss is a mean over the completions that stay. Both bounds go in a straight line, or along half a cosine, from
    their first value to their last.

    The released code does otherwise: out of the band it takes the raw rewards as advantages, which are not centred and
    need a reward of -1 to teach anything below the band. This is the paper's algorithm.

    Attributes:
        low, high: bounds in nats a token; 0.6 to 0.4 and 0.7 to 0.5 (the authors' README).
        scope: the tokens whose mean entropy is compared with the band.
        progress: share of the run that is done; it moves.
    """

    low: Schedule
    high: Schedule
    scope: SelectionScope = "update"
    progress: float = 0.0

    def __post_init__(self) -> None:
        require_scope(self.scope)
        if self.low.start > self.high.start or self.low.end > self.high.end:
            raise ConfigError(
                f"The band's lower bound must not exceed its upper one, but they go from {self.low.start} and "
                f"{self.high.start} to {self.low.end} and {self.high.end}."
            )

    def inputs(self) -> frozenset[Input]:
        return frozenset({ENTROPY})

    @property
    def bounds(self) -> tuple[float, float]:
        """The band that is in force."""
        return self.low.at(self.progress), self.high.at(self.progress)

    def columns(self, batch: RolloutBatch, advantages: Tensor) -> Tensor:
        """(P, G, T, 3) entropy, advantage and one over the completion's length."""
        entropy = batch.required(ENTROPY).detach()
        lengths = batch.lengths.clamp(min=1).unsqueeze(-1)
        columns = (entropy, advantages.unsqueeze(-1).expand_as(entropy), (1 / lengths).expand_as(entropy))
        return torch.stack([column.to(entropy.dtype) for column in columns], dim=-1)

    def choose(self, columns: Tensor) -> Tensor:
        """(N,) 0 for the tokens of completions left out, else the completions there are over those that stay."""
        entropy, advantages, shares = columns.double().unbind(-1)
        low, high = self.bounds
        mean = float(entropy.mean()) if len(entropy) else 0.0
        side = int(mean > high) - int(mean < low)
        # Inside the band the side is 0, and 0 >= 0 keeps every completion.
        stays = (side * advantages >= 0).double()
        # Each token carries one over its completion's length, so sums over tokens count completions. The ratio turns
        # the mean over all completions into the mean over those that stay.
        return (stays * shares.sum() / (stays * shares).sum().clamp(min=1e-12)).to(columns.dtype)

    def __call__(self, batch: RolloutBatch, advantages: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        weights = choose_tokens(self, batch, advantages)
        low, high = self.bounds
        metrics = {"entropy/band_low": torch.tensor(low), "entropy/band_high": torch.tensor(high)}
        return advantages.unsqueeze(-1) * weights.to(advantages.dtype), metrics | selected_share(weights, batch)

    def after(self, report: UpdateReport) -> EntropyBand:
        return replace(self, progress=report.progress)

    def state(self) -> dict[str, Any]:
        return {"progress": self.progress}

    def restored(self, state: Mapping[str, Any]) -> EntropyBand:
        return replace(self, progress=float(state["progress"]))
