"""Advantages of any method at the size of GRPO's, so that methods are compared at steps of one size.

An advantage that is four times as large is a learning rate that is four times as large, as far as the optimiser and the
clipping of the gradient let it through. What a method does with its advantages shows only beside a method of the same
size.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from relax_rl.errors import ConfigError
from relax_rl.objectives.advantages import GroupRelativeAdvantage
from relax_rl.objectives.base import Advantage
from relax_rl.objectives.batch import RolloutBatch
from relax_rl.objectives.inputs import LATENT_KEYS, MODES, PROMPT_KEYS, Input
from relax_rl.objectives.updates import UpdateReport

__all__ = ["MatchedAdvantage", "require_matchable"]

_KNOWN_BEFORE = frozenset({MODES, PROMPT_KEYS, LATENT_KEYS})
"""Inputs that a rollout batch has before its first update."""


def require_matchable(advantage: Advantage, method: str) -> None:
    """Refuse a method whose advantages are not known before the forward of the policy.

    Raises:
        ConfigError: naming what it reads.
    """
    read = sorted(wanted.name for wanted in advantage.inputs() - _KNOWN_BEFORE)
    read += ["log_probs"] if advantage.reads_log_probs else []
    if read:
        raise ConfigError(
            f"objective.match_rms scales by the advantages of a whole rollout batch before its first update, and those "
            f"of {method!r} follow from {', '.join(read)}, which are not known there; leave it out."
        )


@dataclass(frozen=True)
class MatchedAdvantage(Advantage):
    """The advantages of a method times RMS_GRPO / RMS_own, both running over the rollout batches of the run.

    The mean squares are over the completions of a rollout batch on all ranks, GRPO's those that its advantage would
    have for the same rewards. All updates of a rollout batch, and all of its micro-batches, have one factor. It is 1
    while either of the two has had no advantage but 0: there is nothing to match then, and a method that explores where
    nothing is right is not stopped.

    Attributes:
        base: the method's own.
        decay: decay of the running means.
        own, grpo: running mean squares of both, up to a factor that they share; they move.
    """

    base: Advantage
    decay: float = 0.9
    own: float = 0.0
    grpo: float = 0.0

    @property
    def label(self) -> str:
        return self.base.label

    @property
    def takes_parts(self) -> bool:
        return self.base.takes_parts

    @property
    def factor(self) -> float:
        """Factor of the advantages."""
        return math.sqrt(self.grpo / self.own) if self.own > 0 and self.grpo > 0 else 1.0

    def inputs(self) -> frozenset[Input]:
        return self.base.inputs() | {PROMPT_KEYS}

    @property
    def reference_coefficient(self) -> float:
        return self.base.reference_coefficient

    def __call__(self, batch: RolloutBatch) -> Tensor:
        """(P, G) advantages, no gradient."""
        return self.base(batch) * self.factor

    def before_rollout(
        self,
        keys: Tensor,
        rewards: Tensor,
        modes: Tensor | None = None,
        lengths: Tensor | None = None,
        latent: Tensor | None = None,
    ) -> MatchedAdvantage:
        base = self.base.before_rollout(keys, rewards, modes, lengths, latent)
        batch = _without_tokens(rewards, lengths, {PROMPT_KEYS: keys, MODES: modes, LATENT_KEYS: latent})
        own = self.decay * self.own + _mean_square(base(batch))
        grpo = self.decay * self.grpo + _mean_square(GroupRelativeAdvantage()(batch))
        return replace(self, base=base, own=own, grpo=grpo)

    def after(self, report: UpdateReport) -> MatchedAdvantage:
        return replace(self, base=self.base.after(report))

    def after_rollout(self, rows: Tensor) -> MatchedAdvantage:
        return replace(self, base=self.base.after_rollout(rows))

    def to_remember(self, batch: RolloutBatch) -> Tensor | None:
        return self.base.to_remember(batch)

    def state(self) -> dict[str, Any]:
        return {"own": self.own, "grpo": self.grpo, "base": self.base.state()}

    def restored(self, state: Mapping[str, Any]) -> MatchedAdvantage:
        base = self.base.restored(state["base"]) if state["base"] else self.base
        return replace(self, base=base, own=float(state["own"]), grpo=float(state["grpo"]))


def _mean_square(advantages: Tensor) -> float:
    return float(advantages.double().square().mean())


def _without_tokens(rewards: Tensor, lengths: Tensor | None, given: Mapping[Input, Tensor | None]) -> RolloutBatch:
    """A rollout batch as an advantage sees it that reads no tokens."""
    nothing = torch.zeros(*rewards.shape, 1, device=rewards.device)
    return RolloutBatch(
        log_probs=nothing,
        old_log_probs=nothing,
        mask=torch.ones_like(nothing, dtype=torch.bool),
        rewards=rewards,
        sampled_lengths=lengths,
        extras={wanted: tensor for wanted, tensor in given.items() if tensor is not None},
    )
