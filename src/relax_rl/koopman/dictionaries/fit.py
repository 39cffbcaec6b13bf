"""Losses of a dictionary: the residual of the operator it induces, and terms that keep it from collapsing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from relax_rl.errors import ConfigError, DataError
from relax_rl.koopman.dictionaries.protocol import DictionaryFitReport
from relax_rl.koopman.inputs import channel_list
from relax_rl.koopman.operators.fits import ridge_operator
from relax_rl.koopman.pairs.snapshots import GramStatistics, gram_statistics, pack_trajectories
from relax_rl.koopman.spectra.eigenpairs import eigenpairs
from relax_rl.koopman.spectra.residuals import squared_residuals

__all__ = [
    "CONDITION_PENALTY",
    "CONDITION_THRESHOLD",
    "FIT_RIDGE",
    "DictionaryObjective",
    "LiftedBatch",
    "Partition",
    "fit_report",
    "lift_batch",
    "partition_trajectories",
    "residual_loss",
    "validation_residual",
]

Lift = Callable[[Tensor], Tensor]
"""(N, H) -> (N, F)."""

DictionaryObjective = Literal["relative_residual", "paper", "as_run"]

FIT_RIDGE = 1e-8
"""Ridge of the operator that is refreshed at every step, relative to the mean diagonal of the Gram matrix: small enough
to leave the eigenpairs alone, large enough that a nearly collapsed dictionary still has some."""
CONDITION_PENALTY = 1e-2
CONDITION_THRESHOLD = 1e3
"""Coefficient and threshold of the penalty on the condition number, those of Coote and Colbrook's code."""
_AS_RUN_RIDGE = 1e-3
# As many as a step takes by default; enough to tell the steps of a fit apart.
_VALIDATION_TRAJECTORIES = 64
# Below this an eigenvalue of a correlation matrix of float32 observables is rounding.
_CORRELATION_FLOOR = 1e-12


@dataclass(frozen=True)
class LiftedBatch:
    """Lifted trajectories, pooled."""

    statistics: GramStatistics
    """Batch shape ()."""
    first: Tensor
    """(N, F), the first snapshots X."""
    num_trajectories: int


def lift_batch(trajectories: Sequence[Tensor], lift: Lift) -> LiftedBatch:
    """Lift (T_i, H) and pool their statistics, differentiable in whatever `lift` is."""
    states, pairs = pack_trajectories(trajectories)
    lifted = lift(states)
    pooled = gram_statistics(lifted.unsqueeze(0), pairs.unsqueeze(0))
    statistics = GramStatistics(pooled.gram[0], pooled.cross[0], pooled.future[0], pooled.num_pairs[0])
    return LiftedBatch(statistics, lifted[:-1][pairs], len(trajectories))


def residual_loss(batch: LiftedBatch, objective: DictionaryObjective) -> Tensor:
    """The objective as a function of the statistics, with the operator and its factors refreshed and held fixed."""
    statistics = batch.statistics
    with torch.no_grad():
        if objective == "as_run":
            _, values, vectors = torch.linalg.svd(ridge_operator(statistics, _AS_RUN_RIDGE).matrix)
        else:
            values, vectors = eigenpairs(ridge_operator(statistics, FIT_RIDGE, relative=True).matrix)
    if objective == "relative_residual":
        return _mean_residual(statistics, values, vectors) + condition_penalty(batch)
    residuals = squared_residuals(statistics, values, vectors)
    # sum_i |Y v_i - lambda_i X v_i|^2 for the columns v_i, which is ||(Y - X K) V||_F^2 for eigenpairs of K.
    norms = (vectors.conj() * (statistics.gram.to(vectors.dtype) @ vectors)).sum(-2).real
    total = (residuals * norms).sum()
    if objective == "as_run":
        return total.clamp_min(torch.finfo(total.dtype).tiny).sqrt()  # the floor: no slope where the fit is exact
    return total / batch.num_trajectories


def _mean_residual(statistics: GramStatistics, values: Tensor, vectors: Tensor) -> Tensor:
    """Mean squared relative residual of the eigenpairs that have a part in the data.

    An observable that has become constant at zero leaves eigenvectors whose norm v* G v is the rounding of zero. Their
    residual is any number up to 1e290, and its gradient is not finite in float32.
    """
    norms = (vectors.conj() * (statistics.gram.detach().to(vectors.dtype) @ vectors)).sum(-2).real
    has_part = norms > torch.finfo(norms.dtype).eps * statistics.gram.detach().diagonal(dim1=-2, dim2=-1).sum(-1)
    # A residual of zero may round to below it.
    return squared_residuals(statistics, values, vectors).clamp_min(0.0)[has_part].mean()


def condition_penalty(batch: LiftedBatch) -> Tensor:
    """Penalty on the condition number kappa of the observables' correlations, c max(log kappa - log kappa_0, 0).

    Coote and Colbrook (arXiv 2606.29083) add a penalty on the condition number of the lifted data to the mean squared
    residual; the form, c = 0.01 and kappa_0 = 1000 are those of their released code. Ours is that kappa is of the
    centred observables at unit variance, so that no scale of the observables or of W is preferred, only their being
    alike; and that the two extreme eigenvectors are held fixed, which is exact where they are simple.
    """
    centred = batch.first.double() - batch.first.double().mean(0)
    norms = torch.linalg.vector_norm(centred, dim=0)
    # A constant observable has no correlations, and counts as one that is unlike all others.
    is_constant = norms.detach() == 0
    norms = torch.where(is_constant, 1.0, norms)
    correlation = centred.mT @ centred / (norms.unsqueeze(-1) * norms) + torch.diag(is_constant.double())
    _, vectors = torch.linalg.eigh(correlation.detach())
    extremes = vectors[:, [0, -1]]
    smallest, largest = (extremes * (correlation @ extremes)).sum(0).clamp_min(_CORRELATION_FLOOR)
    log_condition = 0.5 * (largest.log() - smallest.log())
    return CONDITION_PENALTY * (log_condition - torch.tensor(CONDITION_THRESHOLD).log()).clamp_min(0.0)


@dataclass(frozen=True)
class Partition:
    """Trajectories to fit on and to choose by, whole ones each."""

    training: list[Tensor]
    validation: list[Tensor]
    num_nonfinite: int

    @property
    def all(self) -> list[Tensor]:
        return self.training + self.validation


def partition_trajectories(
    trajectories: Tensor | Sequence[Tensor], num_observables: int, validation_share: float, generator: torch.Generator
) -> Partition:
    """Finite trajectories of at least one pair, float32 and detached; a share of them, at least one, held out.

    None is held out where fewer than five trajectories, or no more pairs than observables, would be left to fit on.

    Raises:
        DataError: no usable trajectory, no more pairs than observables, or states that a dictionary cannot distinguish.
        ConfigError: a share outside [0, 1).
    """
    if not 0.0 <= validation_share < 1.0:
        raise ConfigError(f"validation_share must lie in [0, 1), got {validation_share}.")
    usable, num_nonfinite = _usable_trajectories(trajectories, num_observables)
    if validation_share == 0.0:
        return Partition(usable, [], num_nonfinite)
    order = torch.randperm(len(usable), generator=generator).tolist()
    num_validation = max(1, round(validation_share * len(usable)))
    # Sorted, as the batches that are drawn later are positions in this list.
    held_out, kept = order[:num_validation], sorted(order[num_validation:])
    training = [usable[index] for index in kept]
    # A fit on a handful of trajectories is worth more than a validation on one.
    if len(training) < 4 or sum(len(trajectory) - 1 for trajectory in training) <= num_observables:
        return Partition(usable, [], num_nonfinite)
    return Partition(training, [usable[index] for index in sorted(held_out)], num_nonfinite)


def _usable_trajectories(trajectories: Tensor | Sequence[Tensor], num_observables: int) -> tuple[list[Tensor], int]:
    """Finite trajectories of at least one pair, float32 and detached, and how many were left out as not finite."""
    trajectories = channel_list(trajectories)
    finite = [trajectory for trajectory in trajectories if bool(torch.isfinite(trajectory).all())]
    usable = [trajectory.detach().float() for trajectory in finite if len(trajectory) >= 2]
    num_nonfinite = len(trajectories) - len(finite)
    num_pairs = sum(len(trajectory) - 1 for trajectory in usable)
    if num_pairs <= num_observables:
        raise DataError(
            f"A dictionary of {num_observables} observables needs more than {num_observables} snapshot pairs, but the "
            f"{len(trajectories)} trajectories given hold {num_pairs} ({num_nonfinite} were left out for NaN or Inf); "
            "give more or longer trajectories, or fewer observables."
        )
    _require_motion(usable)
    return usable, num_nonfinite


def _require_motion(trajectories: list[Tensor]) -> None:
    """Refuse what has no dynamics in float32, in which dictionaries lift."""
    if not all(bool(torch.isfinite(trajectory).all()) for trajectory in trajectories):
        raise DataError("The snapshots are too large for float32, in which a dictionary lifts them; scale them down.")
    first = trajectories[0][0]
    if all(bool((trajectory == first).all()) for trajectory in trajectories):
        what = "all zero" if not bool(first.any()) else "all the same"
        raise DataError(
            f"The snapshots are {what} in float32, in which a dictionary lifts them, so there are no dynamics to fit; "
            "check where they were recorded, or scale them up."
        )


@torch.no_grad()
def validation_residual(partition: Partition, lift: Lift, ridge: float = FIT_RIDGE) -> float:
    """Mean squared relative residual, on what is held out, of the eigenpairs of the rest (64 trajectories of each)."""
    training = lift_batch(partition.training[:_VALIDATION_TRAJECTORIES], lift).statistics
    held_out = lift_batch(partition.validation[:_VALIDATION_TRAJECTORIES], lift).statistics
    values, vectors = eigenpairs(ridge_operator(training, ridge, relative=True).matrix)
    return float(_mean_residual(held_out, values, vectors))


@torch.no_grad()
def fit_report(
    partition: Partition,
    before: Lift,
    after: Lift,
    objective: str,
    steps: int,
    best_step: int | None = None,
) -> DictionaryFitReport:
    """Losses and condition numbers of two lifts on all trajectories, and on those held out."""
    measured = [_measure(lift_batch(partition.all, lift)) for lift in (before, after)]
    validation = [validation_residual(partition, lift) if partition.validation else None for lift in (before, after)]
    name = objective if objective in get_args(DictionaryObjective) else "relative_residual"
    return DictionaryFitReport(
        objective=objective,
        steps=steps,
        num_trajectories=len(partition.all),
        num_pairs=sum(len(trajectory) - 1 for trajectory in partition.all),
        num_nonfinite=partition.num_nonfinite,
        loss_before=measured[0][name],
        loss_after=measured[1][name],
        relative_residual_before=measured[0]["residual"],
        relative_residual_after=measured[1]["residual"],
        condition_before=measured[0]["condition"],
        condition_after=measured[1]["condition"],
        num_validation=len(partition.validation),
        validation_before=validation[0],
        validation_after=validation[1],
        best_step=best_step if partition.validation else None,
    )


def _measure(batch: LiftedBatch) -> dict[str, float]:
    objectives = get_args(DictionaryObjective)
    # The objective includes the penalty; the residual that is reported does not.
    losses = {name: float(residual_loss(batch, name)) for name in objectives}
    residual = losses["relative_residual"] - float(condition_penalty(batch))
    values = torch.linalg.eigvalsh(batch.statistics.gram)
    # A collapsed dictionary has a singular Gram matrix: its condition is then the largest that float64 can tell.
    floor = torch.finfo(values.dtype).eps * values[-1]
    condition = float((values[-1] / values[0].clamp_min(floor)).sqrt())
    return losses | {"residual": residual, "condition": condition}
