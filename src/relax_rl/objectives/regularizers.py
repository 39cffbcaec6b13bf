"""Terms added to the policy loss: latent exploration and the KL to the reference policy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from relax_rl.errors import ConfigError, DataError
from relax_rl.objectives.aggregation import sequence_token_mean
from relax_rl.objectives.base import Measurements
from relax_rl.objectives.batch import RolloutBatch
from relax_rl.objectives.kl import KLEstimator, token_kl
from relax_rl.objectives.logmeanexp import log_mean_exp
from relax_rl.objectives.probe import GroupDispersion

__all__ = ["LatentExploration", "ReferenceKL", "plain_kl"]

AdvantageShaping = Literal["positive", "positive_by_length", "none"]
MeanScope = Literal["group", "micro_batch"]
KLGate = Literal["above_xi", "above_xi_and_positive", "all"]
KLReduction = Literal["group_sum", "completion_mean", "token_mean", "token_sum"]


def _require_choice(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ConfigError(f"{name} is {value!r}; choose one of {', '.join(allowed)}.")


def _dispersion(measured: Measurements) -> tuple[GroupDispersion, float]:
    if measured.dispersion is None or measured.xi is None:
        raise DataError("A term that reads the dispersion was called without a measurement of it.")
    return measured.dispersion, measured.xi


@dataclass(frozen=True)
class LatentExploration:
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
        _require_choice("advantage_shaping", self.advantage_shaping, ("positive", "positive_by_length", "none"))
        _require_choice("mean_scope", self.mean_scope, ("group", "micro_batch"))
        if self.alpha < 0:
            raise ConfigError(f"alpha must not be negative, but is {self.alpha}; 0 switches the term off.")

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({"hidden_states"})

    @property
    def is_active(self) -> bool:
        return self.alpha != 0

    def weights(self, batch: RolloutBatch, advantages: Tensor) -> Tensor:
        """w_i, (P, G), no gradient."""
        if self.advantage_shaping == "none":
            return torch.ones_like(advantages)
        positive = advantages.clamp(min=0)
        if self.advantage_shaping == "positive_by_length":
            positive = positive * batch.lengths / batch.mask.shape[-1]
        return positive

    def __call__(self, batch: RolloutBatch, measured: Measurements) -> tuple[Tensor, dict[str, Tensor]]:
        dispersion, xi = _dispersion(measured)
        values = dispersion.values
        if self.suspend_above_xi:
            values = torch.where(values > xi, values.detach(), values)
        scores = -self.weights(batch, measured.advantages) * values
        if self.mean_scope == "group":
            per_prompt = log_mean_exp(scores, dispersion.is_defined)
        else:
            whole = log_mean_exp(scores.flatten(), dispersion.is_defined.flatten())
            per_prompt = whole.expand(batch.num_prompts)
        share = per_prompt.sum() / batch.update_totals.num_prompts
        metrics = {"latent/loss": per_prompt.mean()}
        return self.alpha * share.to(batch.log_probs.dtype), metrics


@dataclass(frozen=True)
class ReferenceKL:
    """KL to the reference policy, on all completions or on those whose dispersion exceeds xi.

    ReLaX (Eq. 11): beta * sum over {i: DSD_i > xi} KL(policy || reference)_i, where KL_i is the mean over the tokens of
    completion i.

    Attributes:
        beta: coefficient (0.01 in the paper).
        gate: "above_xi" is ReLaX's adaptive KL; "above_xi_and_positive" also asks for a positive advantage (as run);
            "all" is the plain KL of GRPO (worse throughout in their Fig. 6).
        reduction: "group_sum" sums over the gated completions of a prompt and averages over prompts (as printed);
            "completion_mean" averages over all completions (plain GRPO); "token_mean" over all tokens (as run);
            "token_sum" sums over tokens and divides by ``max_tokens``, a mean over all completions (Dr. GRPO).
            Completions outside the gate contribute 0 and stay in the denominator.
        estimator: k1, k2 or k3; see `relax_rl.objectives.kl` for what each one's gradient is.
        max_tokens: the constant of "token_sum".
    """

    beta: float = 0.01
    gate: KLGate = "above_xi"
    reduction: KLReduction = "group_sum"
    estimator: KLEstimator = "k3"
    max_tokens: int | None = None

    def __post_init__(self) -> None:
        _require_choice("gate", self.gate, ("above_xi", "above_xi_and_positive", "all"))
        _require_choice("reduction", self.reduction, get_args(KLReduction))
        _require_choice("estimator", self.estimator, ("k1", "k2", "k3"))
        if (self.reduction == "token_sum") != (self.max_tokens is not None):
            raise ConfigError('max_tokens is the constant of reduction = "token_sum"; give both or neither.')
        if self.beta < 0:
            raise ConfigError(f"beta must not be negative, but is {self.beta}; 0 switches the term off.")

    @property
    def needs(self) -> frozenset[str]:
        if not self.is_active:
            return frozenset()
        return frozenset({"ref_log_probs"} if self.gate == "all" else {"ref_log_probs", "hidden_states"})

    @property
    def is_active(self) -> bool:
        return self.beta != 0

    def selected(self, batch: RolloutBatch, measured: Measurements) -> Tensor:
        """(P, G) bool: the completions that the KL acts on."""
        if self.gate == "all":
            return torch.ones_like(batch.rewards, dtype=torch.bool)
        dispersion, xi = _dispersion(measured)
        is_selected = dispersion.is_defined & (dispersion.values.detach() > xi)
        return is_selected & (measured.advantages > 0) if self.gate == "above_xi_and_positive" else is_selected

    def __call__(self, batch: RolloutBatch, measured: Measurements) -> tuple[Tensor, dict[str, Tensor]]:
        if batch.ref_log_probs is None:
            raise DataError("A KL term needs ref_log_probs, but RolloutBatch.ref_log_probs is None; or set beta to 0.")
        is_selected = self.selected(batch, measured)
        # Masked before the exponential, so that nothing overflows behind the mask.
        log_probs, ref_log_probs = (x.masked_fill(~batch.mask, 0.0) for x in (batch.log_probs, batch.ref_log_probs))
        kl = token_kl(log_probs, ref_log_probs, self.estimator)
        totals = batch.update_totals
        if self.reduction in ("token_mean", "token_sum"):
            gated = kl.masked_fill(~(batch.mask & is_selected.unsqueeze(-1)), 0.0)
            of_tokens = max(totals.num_tokens, 1.0)
            share = gated.sum() / (of_tokens if self.max_tokens is None else self.max_tokens * totals.num_completions)
        else:
            count = totals.num_prompts if self.reduction == "group_sum" else totals.num_completions
            share = sequence_token_mean(kl, batch).masked_fill(~is_selected, 0.0).sum() / count
        metrics = {
            "latent/kl_gate": is_selected.float().mean(),
            "kl": kl.sum() / batch.mask.sum().clamp(min=1),
        }
        return self.beta * share, metrics


def plain_kl(beta: float, reduction: KLReduction) -> tuple[ReferenceKL]:
    """The terms of a method with nothing but a KL on all completions (k3); none is added where ``beta`` is 0."""
    return (ReferenceKL(beta, gate="all", reduction=reduction, estimator="k3"),)
