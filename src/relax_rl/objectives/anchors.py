"""Anchors on a bank: correct traces of the start policy that the trained one must not lose.

A bank term is one number for each prompt of a batch, of the trace that the trainer draws from the bank for it
(`relax_rl.objectives.inputs.BankTerm`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from relax_rl.errors import ConfigError
from relax_rl.objectives.base import Measurements, Regularizer
from relax_rl.objectives.batch import RolloutBatch
from relax_rl.objectives.inputs import BankTerm, Input
from relax_rl.objectives.updates import UpdateReport

__all__ = ["BankDivergence", "OneSidedAnchor", "one_step_error", "token_divergence"]

_ROUNDING = 1e-5


def token_divergence(log_ratio: Tensor, kind: str, alpha: float = 0.2) -> Tensor:
    """f(u) of each token, u = pi / pi_start and log u (...): 0 at u = 1 (DPH-RL, arXiv 2509.07430, and its code).

    Args:
        kind: "forward" is the estimate k3 of KL(start || policy), bounded by 10; "js" the f of Jensen-Shannon; "alpha"
            that of the alpha-divergence.
        alpha: parameter of "alpha".
    """
    log_ratio = log_ratio.clamp(-20.0, 20.0)
    ratio = log_ratio.exp()
    if kind == "forward":
        return (ratio - log_ratio - 1).clamp(max=10.0)
    if kind == "js":
        return ratio * log_ratio - (ratio + 1) * ((ratio + 1) / 2).log()
    return (ratio.pow(1 - alpha) - (1 - alpha) * ratio - alpha) / (alpha * (alpha - 1))


def one_step_error(lifted: Tensor, mask: Tensor, operator: Tensor) -> Tensor:
    """(N,) float64 relative error of predicting each lifted state by the one before: sum |y - x K|^2 / sum |y|^2.

    Args:
        lifted: (N, T, F).
        mask: (N, T) bool, True from the start of a trace to its end; one of a single state has error 0.
        operator: (F, F), acting from the right.
    """
    values = lifted.double()
    is_pair = (mask[:, :-1] & mask[:, 1:]).unsqueeze(-1)
    missed = torch.where(is_pair, values[:, 1:] - values[:, :-1] @ operator.double(), 0.0).square().sum((1, 2))
    size = torch.where(is_pair, values[:, 1:], 0.0).square().sum((1, 2))
    return missed / size.clamp(min=1e-12)


@dataclass(frozen=True)
class BankDivergence(Regularizer):
    """coefficient times the mean over prompts of the divergence of a bank trace.

    Attributes:
        coefficient: above 0.
        term: the term of a trace.
    """

    coefficient: float
    term: BankTerm

    def __post_init__(self) -> None:
        if not self.coefficient > 0:
            raise ConfigError(f"coefficient must be above 0, but is {self.coefficient}; without it choose grpo.")

    def inputs(self) -> frozenset[Input]:
        return frozenset({self.term})

    @property
    def is_active(self) -> bool:
        return True

    def __call__(self, batch: RolloutBatch, measured: Measurements) -> tuple[Tensor, dict[str, Tensor]]:
        values = batch.required(self.term)
        share = values.sum() / batch.update_totals.num_prompts
        return self.coefficient * share, {"anchor/divergence": values.mean()}


@dataclass(frozen=True)
class OneSidedAnchor(Regularizer):
    """weight times the mean over prompts of relu(v), v = sign term + shift: no force on a trace that is held.

    The weight is the multiplier of the constraint that the mean of v is at most 0: after each update it moves by
    ``ascent`` times that mean, and stays within [0, ``most``].

    Attributes:
        term: the term of a trace.
        sign, shift: make the violation v of it.
        weight: at the start; it moves.
        ascent: step of the dual ascent.
        most: bound on the weight.
    """

    term: BankTerm
    sign: float = 1.0
    shift: float = 0.0
    weight: float = 0.1
    ascent: float = 0.1
    most: float = 10.0

    def __post_init__(self) -> None:
        if self.weight < 0 or self.ascent < 0 or self.most < self.weight:
            raise ConfigError(
                f"An anchor needs 0 <= weight <= most and ascent >= 0, but they are {self.weight}, {self.most} and "
                f"{self.ascent}."
            )

    def inputs(self) -> frozenset[Input]:
        return frozenset({self.term})

    @property
    def is_active(self) -> bool:
        # Also at weight 0: only what is measured can raise the weight again.
        return True

    def __call__(self, batch: RolloutBatch, measured: Measurements) -> tuple[Tensor, dict[str, Tensor]]:
        violation = self.sign * batch.required(self.term) + self.shift
        # The start policy is at the bound itself, and its rounding must not decide whether there is a force.
        share = torch.where(violation > _ROUNDING, violation, 0.0).sum() / batch.update_totals.num_prompts
        figures = {
            "anchor/violation": violation.mean(),
            "anchor/held": (violation.detach() <= _ROUNDING).double().mean(),
            "anchor/weight": torch.tensor(self.weight, dtype=torch.float64, device=violation.device),
        }
        return self.weight * share, figures

    def after(self, report: UpdateReport) -> OneSidedAnchor:
        violation = report.metrics.get("anchor/violation", math.nan)
        if not math.isfinite(violation):
            return self
        return replace(self, weight=min(max(self.weight + self.ascent * violation, 0.0), self.most))

    def state(self) -> dict[str, Any]:
        return {"weight": self.weight}

    def restored(self, state: Mapping[str, Any]) -> OneSidedAnchor:
        return replace(self, weight=float(state["weight"]))
