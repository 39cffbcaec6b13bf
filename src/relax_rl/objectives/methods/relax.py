"""ReLaX: reasoning with latent exploration (arXiv 2512.07558), as published.

GRPO, a reward for dispersed latent dynamics of good completions (Eq. 10), and a KL to the reference policy for those
whose dispersion exceeds a bound xi (Eq. 11).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from pydantic import SkipValidation
from torch import Tensor

from relax_rl.errors import ConfigError
from relax_rl.objectives.aggregation import SequenceMeanTokenMean
from relax_rl.objectives.base import Measurements, Regularizer
from relax_rl.objectives.batch import RolloutBatch
from relax_rl.objectives.inputs import DISPERSION, Input
from relax_rl.objectives.log_mean_exp import log_mean_exp
from relax_rl.objectives.objective import Objective
from relax_rl.objectives.probe import DictionaryOption, DictionarySettings, DispersionProbe, Padding, StateAlignment
from relax_rl.objectives.regularizers import KLGate, KLReduction, ReferenceKL, measured_dispersion, require_choice
from relax_rl.objectives.settings import AdvantageSettings, RatioSettings

__all__ = ["LatentExploration", "RelaxSettings", "relax"]


AdvantageShaping = Literal["positive", "positive_by_length", "none"]
MeanScope = Literal["group", "micro_batch"]


class RelaxSettings(AdvantageSettings, RatioSettings):
    """ReLaX's, Table 3 of the paper.

    Two deviations: xi is read off the first rollout batch, as a number means something for one model, estimator and
    completion length only; and the dictionary is fitted by the relative residual unless its settings say otherwise; see
    `DictionarySettings`.

    Attributes:
        alpha, advantage_shaping, suspend_above_xi, mean_scope: see `LatentExploration`.
        beta: see `ReferenceKL`.
        kl_gate: completions that the KL acts on: "above_xi" (the paper), "above_xi_and_positive" (as run) or "all".
        kl_reduction: mean of the KL: "group_sum" (the paper), "token_mean" (as run), or as `ReferenceKL` has it.
        xi: a number, or a quantile of the first rollout batch. The paper's 25 is a number for its models and reading.
        dictionary: a fitted dictionary, or what differs in how it is fitted.
        estimator, state_alignment, padding: see `DispersionProbe`.
    """

    paper: ClassVar[str | None] = "2512.07558"

    alpha: float = 0.1
    beta: float = 0.01
    xi: float | str = "quantile:0.9"
    dictionary: SkipValidation[DictionaryOption] = None
    estimator: str = "paper"
    advantage_shaping: AdvantageShaping = "positive"
    suspend_above_xi: bool = True
    mean_scope: MeanScope = "group"
    kl_gate: KLGate = "above_xi"
    kl_reduction: KLReduction = "group_sum"
    state_alignment: StateAlignment = "completion"
    padding: Padding = "masked"

    def probe(self, base: DictionarySettings) -> DispersionProbe:
        """The probe of the dispersion; the dictionary is fitted as `base` says where the settings do not."""
        return DispersionProbe.parse(self.dictionary, base, self.xi, self.estimator, self.state_alignment, self.padding)

    @property
    def latent_terms(self) -> tuple[LatentExploration, ReferenceKL]:
        return (
            LatentExploration(self.alpha, self.advantage_shaping, self.suspend_above_xi, self.mean_scope),
            ReferenceKL(self.beta, self.kl_gate, self.kl_reduction, self.kl_estimator),
        )


def relax(settings: RelaxSettings) -> Objective:
    """GRPO + alpha * Eq. 10 + beta * Eq. 11."""
    return Objective(
        name="relax",
        advantage=settings.advantage,
        surrogate=settings.surrogate,
        aggregation=SequenceMeanTokenMean(),
        regularizers=settings.latent_terms,
        probe=settings.probe(DictionarySettings()),
    )


@dataclass(frozen=True)
class LatentExploration(Regularizer):
    """ReLaX's reward for dispersed latent dynamics (arXiv 2512.07558, Eq. 10), as a loss term:

        L = log( (1/G) sum_i exp( -w_i DSD_i ) ),    w_i = max(A_i, 0),

    for each prompt, averaged over prompts, times ``alpha``. It falls as the dispersion of good completions rises.
    Completions without a defined dispersion take no part.

    Attributes:
        alpha: coefficient (0.1 in the paper).
        advantage_shaping: "positive" is the formula above. "none" sets w_i = 1 (Eq. 9; collapses in their Fig. 6).
            "positive_by_length" is what the authors ran: the advantage averaged over the padded length, so w_i also
            grows with the completion's length.
        suspend_above_xi: a trajectory whose dispersion exceeds xi still counts, but carries no gradient (the authors'
            README: "further encouragement of DSD is suspended").
        mean_scope: "group" takes the mean over the G completions of a prompt (the paper); "micro_batch" over all
            completions that happen to be in the batch (as run).
    """

    alpha: float = 0.1
    advantage_shaping: AdvantageShaping = "positive"
    suspend_above_xi: bool = True
    mean_scope: MeanScope = "group"

    def __post_init__(self) -> None:
        require_choice("advantage_shaping", self.advantage_shaping, ("positive", "positive_by_length", "none"))
        require_choice("mean_scope", self.mean_scope, ("group", "micro_batch"))
        if self.alpha < 0:
            raise ConfigError(f"alpha must not be negative, but is {self.alpha}; 0 switches the term off.")

    def inputs(self) -> frozenset[Input]:
        return frozenset({DISPERSION})

    @property
    def is_active(self) -> bool:
        return self.alpha != 0

    @property
    def reads_layout(self) -> bool:
        return self.advantage_shaping == "positive_by_length" or self.mean_scope == "micro_batch"

    def weights(self, batch: RolloutBatch, advantages: Tensor) -> Tensor:
        """w_i, (P, G), no gradient."""
        if self.advantage_shaping == "none":
            return torch.ones_like(advantages)
        positive = advantages.clamp(min=0)
        if self.advantage_shaping == "positive_by_length":
            positive = positive * batch.lengths / batch.mask.shape[-1]
        return positive

    def __call__(self, batch: RolloutBatch, measured: Measurements) -> tuple[Tensor, dict[str, Tensor]]:
        dispersion, xi = measured_dispersion(measured)
        values = dispersion.values
        if self.suspend_above_xi:
            # The value stays in the mean and only its gradient goes: the weights of the other completions do not jump
            # at xi.
            values = torch.where(values > xi, values.detach(), values)
        scores = -self.weights(batch, measured.advantages) * values
        if self.mean_scope == "group":
            per_prompt = log_mean_exp(scores, dispersion.is_defined)
        else:
            whole = log_mean_exp(scores.flatten(), dispersion.is_defined.flatten())
            per_prompt = whole.expand(batch.num_prompts)
        # By the prompts of the update, of which this batch may hold a part.
        share = per_prompt.sum() / batch.update_totals.num_prompts
        metrics = {"latent/loss": per_prompt.mean()}
        return self.alpha * share.to(batch.log_probs.dtype), metrics
