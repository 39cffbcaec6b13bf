"""Outcome-based exploration (arXiv 2509.06941): what a completion comes to is worth more while it is rare.

Known from a detailed note; the strength is ours. The paper leaves the tokens of the answer out of the bonus, which is
not done here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal, get_args

import torch
from torch import Tensor

from relax_rl.errors import ConfigError
from relax_rl.objectives.advantages import GroupRelativeAdvantage
from relax_rl.objectives.aggregation import SequenceMeanTokenMean
from relax_rl.objectives.base import Advantage
from relax_rl.objectives.batch import RolloutBatch
from relax_rl.objectives.inputs import MODES, PROMPT_KEYS, Input
from relax_rl.objectives.modes import mode_counts
from relax_rl.objectives.objective import Objective
from relax_rl.objectives.settings import AdvantageSettings, RatioSettings

__all__ = ["ExplorationKind", "OutcomeCounts", "OutcomeExplorationSettings", "OutcomeNovelty", "outcome_exploration"]

ExplorationKind = Literal["ucb_con", "ucb_mean", "batch"]


class OutcomeExplorationSettings(AdvantageSettings, RatioSettings):
    """See `OutcomeNovelty`. It needs a task that has modes.

    Attributes:
        kind: "ucb_con" and "ucb_mean" count outcomes over the run, "batch" in the group.
        coefficient: strength of the bonus.
        baseline: b0 of "ucb_con" (the paper's).
        right_from: completions with at least this reward are right.
    """

    paper: ClassVar[str | None] = "2509.06941"
    verified: ClassVar[bool] = False

    kind: ExplorationKind = "ucb_con"
    coefficient: float = 0.1
    baseline: float = 0.5
    right_from: float = 1.0


def outcome_exploration(settings: OutcomeExplorationSettings) -> Objective:
    """GRPO's loss with `OutcomeNovelty`."""
    return Objective(
        name="outcome_exploration",
        advantage=OutcomeNovelty(
            settings.kind, settings.coefficient, settings.baseline, settings.right_from, settings.epsilon
        ),
        surrogate=settings.surrogate,
        aggregation=SequenceMeanTokenMean(),
        regularizers=settings.kl("completion_mean"),
    )


@dataclass(frozen=True)
class OutcomeCounts:
    """How often each outcome of each prompt was sampled before, and those of the rollout batch that is trained on.

    Attributes:
        past: prompt key to (mode to number), without the present rollout batch.
        present: the same of that batch alone.
    """

    past: Mapping[int, Mapping[int, int]] = field(default_factory=dict)
    present: Mapping[int, Mapping[int, int]] = field(default_factory=dict)

    def after(self, keys: Tensor, modes: Tensor) -> OutcomeCounts:
        """The counts in front of the next rollout batch, of keys (P,) and modes (P, G)."""
        past = {key: Counter(counts) for key, counts in self.past.items()}
        for key, counts in self.present.items():
            past[key] = past.get(key, Counter()) + Counter(counts)
        present: dict[int, Counter[int]] = {}
        for key, group in zip(keys.tolist(), modes.tolist(), strict=True):
            present.setdefault(key, Counter()).update(group)
        return OutcomeCounts(past, present)

    def state(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            name: {str(key): {str(mode): count for mode, count in counts.items()} for key, counts in table.items()}
            for name, table in (("past", self.past), ("present", self.present))
        }

    @classmethod
    def of_state(cls, state: Mapping[str, Any]) -> OutcomeCounts:
        """The counts that `state` gave."""
        past, present = (
            {int(key): {int(mode): int(n) for mode, n in counts.items()} for key, counts in state[name].items()}
            for name in ("past", "present")
        )
        return cls(past, present)


@dataclass(frozen=True)
class OutcomeNovelty(Advantage):
    """GRPO's advantage plus coefficient E_i, with o_i the mode of completion i, right or wrong, and N(o) how often the
    prompt came to o in earlier rollout batches:

        ucb_con:   E_i = min(1, 1 / sqrt(N(o_i))) - baseline
        ucb_mean:  E_i = b_i - mean of the others' b,    b_i the first term of ucb_con
        batch:     E_i = -(1 / G) number of the others of the group with o_j = o_i

    E is 0 in a group that is all right, and for a completion without a score. All completions without an answer (-1)
    are one outcome. In the paper an outcome is the final answer, so that all right completions are one: it explores
    among wrong ones. Where the task has modes, an outcome is a solution.

    Attributes:
        kind: kind of E.
        coefficient: its strength.
        baseline: baseline of "ucb_con".
        right_from: smallest reward of a right completion.
        epsilon: see `GroupRelativeAdvantage`.
        counts: counts of the run so far; `Objective.before_rollout` moves them.
    """

    kind: ExplorationKind = "ucb_con"
    coefficient: float = 0.1
    baseline: float = 0.5
    right_from: float = 1.0
    epsilon: float = 1e-4
    counts: OutcomeCounts = OutcomeCounts()

    def __post_init__(self) -> None:
        if self.kind not in get_args(ExplorationKind):
            raise ConfigError(f"kind is {self.kind!r}; choose one of {', '.join(get_args(ExplorationKind))}.")
        if self.coefficient < 0:
            raise ConfigError(f"coefficient must not be negative, but is {self.coefficient}.")

    def inputs(self) -> frozenset[Input]:
        return frozenset({MODES} if self.kind == "batch" else {MODES, PROMPT_KEYS})

    def __call__(self, batch: RolloutBatch) -> Tensor:
        """(P, G) advantages, no gradient."""
        rewards = batch.float_rewards
        is_scored = ~rewards.isnan()
        novelty = self._novelty(batch, is_scored).to(rewards.dtype)
        is_all_right = ((rewards >= self.right_from) | ~is_scored).all(-1, keepdim=True)
        novelty = novelty.masked_fill(is_all_right | ~is_scored, 0.0)
        return GroupRelativeAdvantage(self.epsilon)(batch) + self.coefficient * novelty

    def _novelty(self, batch: RolloutBatch, is_scored: Tensor) -> Tensor:
        modes = batch.required(MODES)
        count = is_scored.sum(-1, keepdim=True)
        if self.kind == "batch":
            return -(mode_counts(modes, is_scored) - 1).clamp(min=0) / count.clamp(min=1)
        bonus = 1 / self._seen(batch.required(PROMPT_KEYS), modes).clamp(min=1).sqrt()
        if self.kind == "ucb_con":
            return bonus - self.baseline
        bonus = bonus.masked_fill(~is_scored, 0.0)
        return bonus - (bonus.sum(-1, keepdim=True) - bonus) / (count - 1).clamp(min=1)

    def _seen(self, keys: Tensor, modes: Tensor) -> Tensor:
        """(P, G) float64: how often each one's outcome was sampled before."""
        past = self.counts.past
        rows = [
            [past.get(key, {}).get(mode, 0) for mode in group]
            for key, group in zip(keys.tolist(), modes.tolist(), strict=True)
        ]
        return torch.tensor(rows, dtype=torch.float64, device=modes.device)

    def before_rollout(
        self,
        keys: Tensor,
        rewards: Tensor,
        modes: Tensor | None = None,
        lengths: Tensor | None = None,
        latent: Tensor | None = None,
    ) -> OutcomeNovelty:
        if self.kind == "batch" or modes is None:
            return self
        return replace(self, counts=self.counts.after(keys, modes))

    def state(self) -> dict[str, Any]:
        return {} if self.kind == "batch" else self.counts.state()

    def restored(self, state: Mapping[str, Any]) -> OutcomeNovelty:
        return replace(self, counts=OutcomeCounts.of_state(state))
