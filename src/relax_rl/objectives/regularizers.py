"""The KL to the reference policy, on all completions or on those that a gate selects."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from relax_rl.errors import ConfigError, DataError
from relax_rl.objectives.aggregation import sequence_token_mean
from relax_rl.objectives.base import Measurements, Regularizer
from relax_rl.objectives.batch import RolloutBatch
from relax_rl.objectives.inputs import DISPERSION, REF_LOG_PROBS, Input
from relax_rl.objectives.kl import KLEstimator, token_kl
from relax_rl.objectives.probe import GroupDispersion

__all__ = ["KLGate", "KLReduction", "ReferenceKL", "measured_dispersion", "require_choice"]

KLGate = Literal["above_xi", "above_xi_and_positive", "all"]
KLReduction = Literal["group_sum", "completion_mean", "token_mean", "token_sum"]


def require_choice(name: str, value: str, allowed: tuple[str, ...]) -> None:
    """Raises ConfigError for a value that is not among those allowed."""
    if value not in allowed:
        raise ConfigError(f"{name} is {value!r}; choose one of {', '.join(allowed)}.")


def measured_dispersion(measured: Measurements) -> tuple[GroupDispersion, float]:
    """The dispersion of the batch and the bound xi. Raises DataError where they were not measured."""
    if measured.dispersion is None or measured.xi is None:
        raise DataError("A term that reads the dispersion was called without a measurement of it.")
    return measured.dispersion, measured.xi


@dataclass(frozen=True)
class ReferenceKL(Regularizer):
    """KL to the reference policy, on all completions or on those whose dispersion exceeds xi.

    ReLaX (Eq. 11): beta * sum over {i: DSD_i > xi} KL(policy || reference)_i, where KL_i is the mean over the tokens of
    completion i.

    Attributes:
        beta: coefficient (0.01 in the paper).
        gate: "above_xi" is ReLaX's adaptive KL; "above_xi_and_positive" also asks for a positive advantage (as run);
            "all" is the plain KL of GRPO (worse throughout in their Fig. 6).
        reduction: "group_sum" sums over the gated completions of a prompt and averages over prompts (as printed);
            "completion_mean" averages over all completions (plain GRPO); "token_mean" over all tokens (as run);
            "token_sum" sums over tokens, divides by ``max_completion_length`` and averages over completions (Dr. GRPO).
            Completions outside the gate contribute 0 and stay in the denominator.
        estimator: k1, k2 or k3; see `relax_rl.objectives.kl` for what each one's gradient is.
        max_completion_length: the constant of "token_sum", in tokens.
    """

    beta: float = 0.01
    gate: KLGate = "above_xi"
    reduction: KLReduction = "group_sum"
    estimator: KLEstimator = "k3"
    max_completion_length: int | None = None

    def __post_init__(self) -> None:
        require_choice("gate", self.gate, ("above_xi", "above_xi_and_positive", "all"))
        require_choice("reduction", self.reduction, get_args(KLReduction))
        require_choice("estimator", self.estimator, ("k1", "k2", "k3"))
        if (self.reduction == "token_sum") != (self.max_completion_length is not None):
            raise ConfigError('max_completion_length is the constant of reduction = "token_sum"; give both or neither.')
        if self.beta < 0:
            raise ConfigError(f"beta must not be negative, but is {self.beta}; 0 switches the term off.")

    def inputs(self) -> frozenset[Input]:
        if not self.is_active:
            return frozenset()
        return frozenset({REF_LOG_PROBS} if self.gate == "all" else {REF_LOG_PROBS, DISPERSION})

    @property
    def reference_coefficient(self) -> float:
        return self.beta

    @property
    def is_active(self) -> bool:
        return self.beta != 0

    def selected(self, batch: RolloutBatch, measured: Measurements) -> Tensor:
        """(P, G) bool: the completions that the KL acts on."""
        if self.gate == "all":
            return torch.ones_like(batch.rewards, dtype=torch.bool)
        dispersion, xi = measured_dispersion(measured)
        is_selected = dispersion.is_defined & (dispersion.values.detach() > xi)
        return is_selected & (measured.advantages > 0) if self.gate == "above_xi_and_positive" else is_selected

    def __call__(self, batch: RolloutBatch, measured: Measurements) -> tuple[Tensor, dict[str, Tensor]]:
        ref_log_probs = batch.required(REF_LOG_PROBS)
        is_selected = self.selected(batch, measured)
        # Both are 0 where masked, before the exponential: nothing overflows behind the mask.
        log_probs = batch.log_probs.masked_fill(~batch.mask, 0.0)
        kl = token_kl(log_probs, ref_log_probs, self.estimator)
        totals = batch.update_totals
        if self.reduction in ("token_mean", "token_sum"):
            # Completions outside the gate are 0 in the sum and stay in the denominator, or a rarer gate would mean a
            # stronger KL.
            gated = kl.masked_fill(~(batch.mask & is_selected.unsqueeze(-1)), 0.0)
            of_tokens = max(totals.num_tokens, 1.0)
            length = self.max_completion_length
            share = gated.sum() / (of_tokens if length is None else length * totals.num_completions)
        else:
            count = totals.num_prompts if self.reduction == "group_sum" else totals.num_completions
            share = sequence_token_mean(kl, batch).masked_fill(~is_selected, 0.0).sum() / count
        metrics = {"latent/kl_gate": is_selected.float().mean(), "kl": kl.sum() / batch.mask.sum().clamp(min=1)}
        return self.beta * share, metrics
