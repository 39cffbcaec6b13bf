"""The dictionary of observables, sigmoid(x W), and fitting it by the spectral residual (ResKoopNet, simplified)."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from relax_rl.errors import ConfigError, DataError
from relax_rl.koopman.lifting import sigmoid_lift
from relax_rl.koopman.operators import ridge_operator
from relax_rl.koopman.snapshots import GramStatistics, gram_statistics, pack_trajectories
from relax_rl.koopman.spectrum import eigenpairs, squared_residuals

__all__ = ["DictionaryFitReport", "KoopmanDictionary"]

_FORMAT = "relax-rl koopman dictionary 1"
_OBJECTIVES = ("relative_residual", "paper", "as_run")
# Ridge of the operator that is refreshed at every step, relative to the mean diagonal of the Gram matrix: small enough
# to leave the eigenpairs alone, large enough that a nearly collapsed dictionary still has some.
_FIT_RIDGE = 1e-8
_AS_RUN_RIDGE = 1e-3
_COLLAPSE_FACTOR = 10.0


@dataclass(frozen=True)
class DictionaryFitReport:
    """What fitting did, measured on all the trajectories before and after."""

    objective: str
    steps: int
    num_trajectories: int
    num_pairs: int
    num_nonfinite: int
    """Trajectories left out because they hold NaN or Inf."""
    loss_before: float
    loss_after: float
    """The objective asked for."""
    relative_residual_before: float
    relative_residual_after: float
    """Mean squared relative residual of the eigenpairs, whichever objective was asked for."""
    condition_before: float
    condition_after: float
    """Condition number of the lifted states X."""


class KoopmanDictionary:
    """F observables of a hidden state, g(x) = sigmoid(x W), no bias; fitted once, then frozen.

    Args:
        weight: W, (H, F), finite; kept in float32.
        report: what fitting did, if it was fitted.
    """

    def __init__(self, weight: Tensor, report: DictionaryFitReport | None = None) -> None:
        if weight.ndim != 2 or 0 in weight.shape or not torch.isfinite(weight).all():
            raise DataError(f"Dictionary weights must be a finite (H, F) matrix, got shape {tuple(weight.shape)}.")
        self.weight = weight.detach().clone().to(torch.float32)
        self.report = report

    @property
    def hidden_size(self) -> int:
        """H."""
        return self.weight.shape[0]

    @property
    def num_observables(self) -> int:
        """F."""
        return self.weight.shape[1]

    @property
    def device(self) -> torch.device:
        return self.weight.device

    @property
    def digest(self) -> str:
        """SHA-256 of the shape and the weights; equal on every device."""
        content = self.weight.cpu().contiguous().numpy().tobytes()
        return hashlib.sha256(str(tuple(self.weight.shape)).encode() + content).hexdigest()

    def __call__(self, states: Tensor) -> Tensor:
        """Lift hidden states (..., H) to (..., F), each in (0, 1), in float32 whatever the dtype or autocast."""
        if states.shape[-1] != self.hidden_size:
            raise DataError(
                f"The dictionary was fitted on hidden states of width {self.hidden_size}, but these have width "
                f"{states.shape[-1]}; fit it on states of the same model and site."
            )
        return sigmoid_lift(states, self.weight)

    def __repr__(self) -> str:
        return f"KoopmanDictionary(H={self.hidden_size}, F={self.num_observables}, digest={self.digest[:12]})"

    def to(self, device: torch.device | str) -> KoopmanDictionary:
        """The same dictionary on another device."""
        return KoopmanDictionary(self.weight.to(device), self.report)

    def save(self, path: str | Path) -> None:
        """Write a safetensors file with the fit report in its metadata; all of it or, if interrupted, nothing."""
        path = Path(path)
        metadata = {"format": _FORMAT, "digest": self.digest}
        if self.report is not None:
            metadata["report"] = json.dumps(asdict(self.report))
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        os.close(descriptor)
        try:
            save_file({"weight": self.weight.cpu().contiguous()}, temporary, metadata=metadata)
            os.replace(temporary, path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise

    @classmethod
    def load(cls, path: str | Path, device: torch.device | str = "cpu") -> KoopmanDictionary:
        """Read what :meth:`save` wrote.

        Raises:
            DataError: no such file, not a dictionary, or weights that do not match their digest.
        """
        path = Path(path)
        if not path.is_file():
            raise DataError(f"There is no dictionary file at {path}.")
        try:
            with safe_open(path, framework="pt") as file:
                metadata = file.metadata() or {}
                weight = file.get_tensor("weight") if metadata.get("format") == _FORMAT else None
        except SafetensorError as error:
            raise DataError(f"{path} is not a readable safetensors file ({error}).") from error
        if weight is None:
            raise DataError(f"{path} is not a Koopman dictionary; it was not written by KoopmanDictionary.save.")
        report = DictionaryFitReport(**json.loads(metadata["report"])) if "report" in metadata else None
        dictionary = cls(weight, report)
        if dictionary.digest != metadata.get("digest"):
            raise DataError(f"The weights in {path} do not match their digest; the file is damaged, fit again.")
        return dictionary.to(device)

    @classmethod
    def fit(
        cls,
        trajectories: Sequence[Tensor],
        num_observables: int = 50,
        steps: int | None = 150,
        seed: int = 0,
        objective: str = "relative_residual",
        learning_rate: float = 1e-3,
        batch_size: int = 64,
        standardize: bool | None = None,
    ) -> KoopmanDictionary:
        """Fit W by Adam on the spectral residual of the operator that it induces.

        Each step draws a batch of trajectories, refreshes the pooled operator K and its eigenpairs, and takes one
        gradient step on W with K and the eigenpairs held fixed (ResKoopNet, arXiv 2501.00701), so that no gradient
        passes through an eigenvector.

        Args:
            trajectories: list of (T_i, H), any floating dtype; those with NaN or Inf are left out and counted.
            num_observables: F.
            steps: Adam steps, each on a batch drawn anew; 0 returns the random start; None is one epoch, every
                trajectory once in random order.
            seed: of this call's own generator; the global one is neither read nor advanced.
            objective: one of

                - "relative_residual" (default): the mean over eigenpairs of |Y v - lambda X v|^2 / |X v|^2.
                - "paper": Eq. 8 as printed, ||(Y - X K) V||_F^2 averaged over trajectories with unit columns in V,
                  which is minimised by observables that are almost constant (a warning says when that happened).
                - "as_run": what the authors' working code minimised, ||Y Vh - X Vh S||_F, not squared, where
                  U S Vh = K = (G + 1e-3 I)^-1 A is the singular decomposition of the batch's pooled operator. Vh stands
                  where eigenvectors would, untransposed, so that even the signs which LAPACK happens to give matter,
                  and since they are refreshed at every step, many steps make the observables alike rather than the
                  loss small (the same warning); one epoch, as they ran, hardly moves W. W starts uniform on
                  +-sqrt(6 / H), the initialisation called Kaiming uniform, not on +-sqrt(1 / H).
            learning_rate: of Adam; the paper's is 1e-4.
            batch_size: trajectories a step; the paper's is 64.
            standardize: start from, and step in, coordinates where every hidden channel has unit root mean square; the
                scale is folded into W, so the dictionary is sigmoid(x W) either way. False is the paper's form. None is
                the objective's own: False for "as_run", True for the others.

        Raises:
            DataError: no usable trajectory, or fewer pairs than observables.
            ConfigError: a setting out of range.
        """
        if objective not in _OBJECTIVES:
            raise ConfigError(f"Unknown dictionary objective {objective!r}; use one of {', '.join(_OBJECTIVES)}.")
        if num_observables < 1 or (steps is not None and steps < 0) or batch_size < 1 or not learning_rate > 0:
            raise ConfigError(
                "num_observables and batch_size must be at least 1, steps at least 0 (None is one epoch), and "
                f"learning_rate positive; got {num_observables}, {batch_size}, {steps}, {learning_rate}."
            )
        usable, num_nonfinite = _usable_trajectories(trajectories, num_observables)
        generator = torch.Generator().manual_seed(seed)
        is_as_run = objective == "as_run"
        scale = _channel_scale(usable) if standardize or (standardize is None and not is_as_run) else None
        bound = ((6.0 if is_as_run else 1.0) / usable[0].shape[-1]) ** 0.5
        start = (torch.rand((usable[0].shape[-1], num_observables), generator=generator) * 2.0 - 1.0) * bound
        batches = _batches(len(usable), batch_size, steps, generator)
        with torch.autocast(usable[0].device.type, enabled=False), torch.enable_grad():
            weight, before, after = _optimise(usable, start, scale, batches, objective, learning_rate)
        report = DictionaryFitReport(
            objective=objective,
            steps=len(batches),
            num_trajectories=len(usable),
            num_pairs=sum(len(trajectory) - 1 for trajectory in usable),
            num_nonfinite=num_nonfinite,
            loss_before=before[objective],
            loss_after=after[objective],
            relative_residual_before=before["relative_residual"],
            relative_residual_after=after["relative_residual"],
            condition_before=before["condition"],
            condition_after=after["condition"],
        )
        is_collapsed = report.condition_after > _COLLAPSE_FACTOR * report.condition_before
        if is_collapsed and objective != "relative_residual":
            warnings.warn(
                f"The residual {objective!r} collapsed the dictionary: the condition number of the lifted states went "
                f"from {report.condition_before:.1e} to {report.condition_after:.1e}; use "
                "objective='relative_residual'.",
                RuntimeWarning,
                stacklevel=2,
            )
        return cls(weight, report)


def _usable_trajectories(trajectories: Sequence[Tensor], num_observables: int) -> tuple[list[Tensor], int]:
    """Finite trajectories of at least one pair, float32 and detached, and how many were left out as not finite."""
    if not trajectories:
        raise DataError("There is no trajectory to fit a dictionary on; give at least one tensor (T, H).")
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
    return usable, num_nonfinite


def _channel_scale(trajectories: list[Tensor]) -> Tensor:
    """Root mean square (H,) of each hidden channel."""
    root_mean_square = torch.cat(trajectories).square().mean(0).sqrt()
    # A channel that is always zero keeps scale one: its weights do not matter, and must stay finite.
    return torch.where(root_mean_square > 0, root_mean_square, 1.0)


def _batches(count: int, size: int, steps: int | None, generator: torch.Generator) -> list[list[int]]:
    """Which trajectories each step takes: `steps` draws, or with None each of them once."""
    if steps is None:
        return [chunk.tolist() for chunk in torch.randperm(count, generator=generator).split(size)]
    return [torch.randperm(count, generator=generator)[:size].tolist() for _ in range(steps)]


def _optimise(
    trajectories: list[Tensor],
    start: Tensor,
    scale: Tensor | None,
    batches: list[list[int]],
    objective: str,
    learning_rate: float,
) -> tuple[Tensor, dict[str, float], dict[str, float]]:
    """W (H, F) after one step of Adam a batch, and the losses on all trajectories before and after."""
    parameter = start.to(trajectories[0].device).requires_grad_()
    optimizer = torch.optim.Adam([parameter], lr=learning_rate)

    def weight() -> Tensor:
        return parameter if scale is None else parameter / scale.unsqueeze(-1)

    before = _losses(trajectories, weight().detach())
    for chosen in batches:
        batch = [trajectories[index] for index in chosen]
        loss = _residual_loss(_pooled_statistics(batch, weight()), objective, len(batch))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    final = weight().detach()
    return final, before, _losses(trajectories, final)


def _pooled_statistics(trajectories: list[Tensor], weight: Tensor) -> GramStatistics:
    states, pairs = pack_trajectories(trajectories)
    pooled = gram_statistics(sigmoid_lift(states, weight).unsqueeze(0), pairs.unsqueeze(0))
    return GramStatistics(pooled.gram[0], pooled.cross[0], pooled.future[0], pooled.num_pairs[0])


def _residual_loss(statistics: GramStatistics, objective: str, num_trajectories: int) -> Tensor:
    """The objective as a function of the statistics, with the operator and its factors refreshed and held fixed."""
    with torch.no_grad():
        if objective == "as_run":
            _, values, vectors = torch.linalg.svd(ridge_operator(statistics, _AS_RUN_RIDGE).matrix)
        else:
            values, vectors = eigenpairs(ridge_operator(statistics, _FIT_RIDGE, relative=True).matrix)
    residuals = squared_residuals(statistics, values, vectors)
    if objective == "relative_residual":
        return residuals.clamp_min(0.0).mean()
    # sum_i |Y v_i - lambda_i X v_i|^2 for the columns v_i, which is ||(Y - X K) V||_F^2 for eigenpairs of K.
    norms = (vectors.conj() * (statistics.gram.to(vectors.dtype) @ vectors)).sum(-2).real
    total = (residuals * norms).sum()
    if objective == "as_run":
        return total.clamp_min(torch.finfo(total.dtype).tiny).sqrt()  # the floor: no slope where the fit is exact
    return total / num_trajectories


@torch.no_grad()
def _losses(trajectories: list[Tensor], weight: Tensor) -> dict[str, float]:
    statistics = _pooled_statistics(trajectories, weight)
    losses = {name: float(_residual_loss(statistics, name, len(trajectories))) for name in _OBJECTIVES}
    values = torch.linalg.eigvalsh(statistics.gram)
    floor = torch.finfo(values.dtype).eps * values[-1]
    return losses | {"condition": float((values[-1] / values[0].clamp_min(floor)).sqrt())}
