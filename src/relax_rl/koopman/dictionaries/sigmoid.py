"""The dictionary of the paper, sigmoid(x W), and fitting it by the spectral residual (ResKoopNet, simplified)."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar, get_args

import torch
from torch import Tensor

from relax_rl.errors import ConfigError, DataError
from relax_rl.koopman.dictionaries.fit import (
    DictionaryObjective,
    Partition,
    fit_report,
    lift_batch,
    partition_trajectories,
    residual_loss,
    validation_residual,
)
from relax_rl.koopman.dictionaries.lifting import sigmoid_lift
from relax_rl.koopman.dictionaries.protocol import DictionaryFitReport, StoredDictionary, load_dictionary
from relax_rl.koopman.inputs import as_tensor, channel_list

__all__ = ["DictionaryFitReport", "KoopmanDictionary"]

_FORMAT = "relax-rl koopman dictionary 1"
_COLLAPSE_FACTOR = 10.0
_VALIDATION_SHARE = 0.2
_NUM_VALIDATIONS = 10


class KoopmanDictionary(StoredDictionary):
    """F observables of a hidden state, g(x) = sigmoid(x W), no bias; fitted once, then frozen.

    Args:
        weight: W, (H, F), finite; kept in float32.
        report: record of the fit, if it was fitted.
    """

    kind: ClassVar[str] = "sigmoid"

    def __init__(self, weight: Tensor, report: DictionaryFitReport | None = None) -> None:
        weight = as_tensor(weight, "Dictionary weight")
        if weight.ndim != 2 or 0 in weight.shape or not torch.isfinite(weight).all():
            raise DataError(f"Dictionary weights must be a finite (H, F) matrix, got shape {tuple(weight.shape)}.")
        super().__init__({"weight": weight}, report=report)

    @property
    def weight(self) -> Tensor:
        """W, (H, F) float32."""
        return self._tensors["weight"]

    @property
    def hidden_size(self) -> int:
        return self.weight.shape[0]

    @property
    def num_observables(self) -> int:
        return self.weight.shape[1]

    @cached_property
    def _digest(self) -> str:
        """SHA-256 of the shape and the weights."""
        # As it was before there were other kinds: the files and the evaluations of older runs name it.
        content = self.weight.cpu().contiguous().numpy().tobytes()
        return hashlib.sha256(str(tuple(self.weight.shape)).encode() + content).hexdigest()

    def _lift(self, states: Tensor) -> Tensor:
        return sigmoid_lift(states, self.weight)

    def _metadata(self) -> dict[str, str]:
        return {"format": _FORMAT}

    @classmethod
    def load(cls, path: str | Path, device: torch.device | str = "cpu") -> KoopmanDictionary:
        """Read what :meth:`save` wrote.

        Raises:
            DataError: no such file, not a dictionary of this kind, or weights that do not match their digest.
        """
        dictionary = load_dictionary(path, device)
        if not isinstance(dictionary, cls):
            raise DataError(f"{path} holds a dictionary of kind {dictionary.kind!r}; read it with load_dictionary.")
        return dictionary

    @classmethod
    def fit(
        cls,
        trajectories: Tensor | Sequence[Tensor],
        num_observables: int = 50,
        steps: int | None = 150,
        seed: int = 0,
        objective: DictionaryObjective = "relative_residual",
        learning_rate: float = 1e-3,
        batch_size: int = 64,
        standardize: bool | None = None,
        validation_share: float | None = None,
    ) -> KoopmanDictionary:
        """Fit W by Adam on the spectral residual of the operator that it induces.

        Each step draws a batch of trajectories, refreshes the pooled operator K and its eigenpairs, and takes one
        gradient step on W with K and the eigenpairs held fixed (ResKoopNet, arXiv 2501.00701), so that no gradient
        passes through an eigenvector.

        Args:
            trajectories: list of (T_i, H), or one (T, H), real, any floating dtype; those with NaN or Inf are left out
                and counted.
            num_observables: F.
            steps: Adam steps, each on a new batch; 0 returns the random start; None is one epoch, every
                trajectory once in random order.
            seed: seed of this call's own generator; the global one is neither read nor advanced.
            objective: one of

                - "relative_residual" (default): the mean over eigenpairs of |Y v - lambda X v|^2 / |X v|^2, which is
                  the same for every scale of the observables, plus a penalty where observables become alike
                  (:func:`~relax_rl.koopman.dictionaries.fit.condition_penalty`).
                - "paper": Eq. 8 as printed, ||(Y - X K) V||_F^2 averaged over trajectories with unit columns in V,
                  which is minimised by observables that are almost constant (a warning says when that happened).
                - "as_run": what the authors' working code minimised, ||Y Vh - X Vh S||_F, not squared, where
                  U S Vh = K = (G + 1e-3 I)^-1 A is the singular decomposition of the batch's pooled operator. Vh stands
                  where eigenvectors would, untransposed, so that even the signs which LAPACK happens to give matter,
                  and since they are refreshed at every step, many steps make the observables alike rather than the
                  loss small (the same warning); one epoch, as they ran, hardly moves W. W starts uniform on
                  +-sqrt(6 / H), the initialisation called Kaiming uniform, not on +-sqrt(1 / H).
            learning_rate: learning rate of Adam; the paper's is 1e-4.
            batch_size: trajectories a step; the paper's is 64.
            standardize: start from, and step in, coordinates where every hidden channel has unit root mean square; the
                scale is folded into W, so the dictionary is sigmoid(x W) either way, and the digest covers it. Without
                it a few huge channels saturate the sigmoids (docs/reference/koopman.md has by how much); taking off the
                mean as well changes nothing there, and would need a bias. False is the paper's form. None is the
                objective's own: False for "as_run", True for the others.
            validation_share: share of the trajectories, held out whole: the step with the smallest residual on them is
                returned. None is 0.2 for "relative_residual" and 0 (the last step) for the other two, which stay as
                they were published.

        Raises:
            DataError: no usable trajectory, fewer pairs than observables, or states that are all the same.
            ConfigError: a setting out of range.
        """
        trajectories = channel_list(trajectories)
        if objective not in get_args(DictionaryObjective):
            names = ", ".join(get_args(DictionaryObjective))
            raise ConfigError(f"Unknown dictionary objective {objective!r}; use one of {names}.")
        if num_observables < 1 or (steps is not None and steps < 0) or batch_size < 1 or not learning_rate > 0:
            raise ConfigError(
                "num_observables and batch_size must be at least 1, steps at least 0 (None is one epoch), and "
                f"learning_rate positive; got {num_observables}, {batch_size}, {steps}, {learning_rate}."
            )
        generator = torch.Generator().manual_seed(seed)
        is_as_run = objective == "as_run"
        if validation_share is None:
            validation_share = _VALIDATION_SHARE if objective == "relative_residual" else 0.0
        width = trajectories[0].shape[-1]
        bound = ((6.0 if is_as_run else 1.0) / width) ** 0.5
        # Drawn first, and on the CPU: a seed has one start, whatever is held out and whatever the device.
        start = (torch.rand((width, num_observables), generator=generator) * 2.0 - 1.0) * bound
        partition = partition_trajectories(trajectories, num_observables, validation_share, generator)
        is_scaled = standardize or (standardize is None and not is_as_run)
        scale = _channel_scale(partition.all) if is_scaled else None
        batches = _batches(len(partition.training), batch_size, steps, generator)
        device = partition.training[0].device
        # Gradients on: a caller inside no_grad (a measurement often is) wants a fit all the same.
        with torch.autocast(device.type, enabled=False), torch.enable_grad():
            path = _optimise(partition, start.to(device), scale, batches, objective, learning_rate)
            report = fit_report(
                partition,
                lambda states: sigmoid_lift(states, path.start),
                lambda states: sigmoid_lift(states, path.best),
                objective,
                len(batches),
                path.best_step,
            )
        _warn_if_collapsed(report)
        return cls(path.best, report)


@dataclass(frozen=True)
class _Path:
    """Weights in the units of the states: where the optimisation began, and the best of what it passed."""

    start: Tensor
    best: Tensor
    best_step: int


def _channel_scale(trajectories: list[Tensor]) -> Tensor:
    """Root mean square (H,) of each hidden channel."""
    states = torch.cat(trajectories)
    root_mean_square = states.square().mean(0).sqrt()
    # The squares of channels beyond 1e19, and below its inverse, do not fit in float32, in which the states are.
    if not bool(((root_mean_square > 0) & torch.isfinite(root_mean_square)).all()):
        root_mean_square = states.double().square().mean(0).sqrt().float()
    # A channel that is always zero keeps scale one: its weights do not matter, and must stay finite.
    return torch.where(root_mean_square > 0, root_mean_square, 1.0)


def _batches(count: int, size: int, steps: int | None, generator: torch.Generator) -> list[list[int]]:
    """The trajectories of each step: `steps` draws, or with None each of them once."""
    if steps is None:
        return [chunk.tolist() for chunk in torch.randperm(count, generator=generator).split(size)]
    return [torch.randperm(count, generator=generator)[:size].tolist() for _ in range(steps)]


def _optimise(
    partition: Partition,
    start: Tensor,
    scale: Tensor | None,
    batches: list[list[int]],
    objective: DictionaryObjective,
    learning_rate: float,
) -> _Path:
    """One step of Adam a batch; of W (H, F) after some of them, the one that does best on what was held out."""
    parameter = start.requires_grad_()
    optimizer = torch.optim.Adam([parameter], lr=learning_rate)

    def weight() -> Tensor:
        return parameter if scale is None else parameter / scale.unsqueeze(-1)

    def score(candidate: Tensor) -> float:
        return validation_residual(partition, lambda states: sigmoid_lift(states, candidate))

    # The start counts: where no step improves on it, it is what is returned.
    first = best = weight().detach().clone()
    best_step, best_score = 0, score(best) if partition.validation else float("inf")
    interval, taken = max(1, len(batches) // _NUM_VALIDATIONS), 0
    for step, chosen in enumerate(batches, start=1):
        current = weight()
        batch = lift_batch(
            [partition.training[index] for index in chosen],
            lambda states, current=current: sigmoid_lift(states, current),
        )
        optimizer.zero_grad()
        residual_loss(batch, objective).backward()
        if parameter.grad is None or not bool(parameter.grad.isfinite().all()):
            # One step on it, and no weight is finite any more: what was reached before stays.
            break
        optimizer.step()
        taken = step
        if partition.validation and (step % interval == 0 or step == len(batches)):
            candidate = weight().detach().clone()
            candidate_score = score(candidate)
            if candidate_score < best_score:
                best, best_step, best_score = candidate, step, candidate_score
    if not partition.validation:
        best, best_step = weight().detach().clone(), taken
    return _Path(first, best, best_step)


def _warn_if_collapsed(report: DictionaryFitReport) -> None:
    if report.objective != "relative_residual" and report.condition_after > _COLLAPSE_FACTOR * report.condition_before:
        warnings.warn(
            f"The residual {report.objective!r} collapsed the dictionary: the condition number of the lifted states "
            f"went from {report.condition_before:.1e} to {report.condition_after:.1e}; use "
            "objective='relative_residual'.",
            RuntimeWarning,
            stacklevel=3,
        )
