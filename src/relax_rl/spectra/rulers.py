"""The ruler of a site, fitted once, and what it measures of one latent trajectory.

Dispersion and spectrum are properties of the dictionary as much as of the model. So a site's dictionary is fitted on
some trajectories, then frozen, and everything else at that site is measured with it; its digest goes with every value.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from relax_rl.errors import ConfigError, DataError
from relax_rl.koopman import (
    Estimator,
    GramStatistics,
    KoopmanDictionary,
    dispersion_from_lifted,
    effective_rank,
    koopman_eigenvalues,
    load_dictionary,
)
from relax_rl.koopman.dictionaries.fixed import RadialBasisDictionary, RandomFourierDictionary
from relax_rl.koopman.dictionaries.protocol import StoredDictionary
from relax_rl.koopman.geometry import trajectory_curvature
from relax_rl.koopman.pairs.snapshots import gram_statistics
from relax_rl.latent.trajectories import LatentTrajectory

__all__ = ["OBSERVABLES", "SiteRuler", "SpectrumSettings", "TrajectorySpectrum", "fit_rulers", "measure"]

OBSERVABLES = ("sigmoid", "random_fourier", "radial_basis")
_PLANE_SNAPSHOTS = 500
_LENGTHS_OVER_OBSERVABLES = (1.5, 2, 3, 4, 6, 8, 12, 16, 24, 32)
"""Points of the length curve: the published dispersion is a function of N / F before all else."""


@dataclass(frozen=True)
class SpectrumSettings:
    """Settings that give the numbers their meaning.

    Attributes:
        sites: names from :mod:`relax_rl.latent.sites`; empty stands for the embedding, three layers and the final norm.
        estimators: estimators of the DSD.
        observables: kind of the dictionaries: "sigmoid" (the paper's, fitted), or "random_fourier" or "radial_basis",
            which are set up from the states and not fitted.
        num_observables: F; None is a third of the median number of tokens, at most 50.
        fit_steps: steps of "sigmoid"; 0 leaves it random.
        fit_tokens: dictionaries are fitted on the first trajectories that hold so many tokens.
        seed: seed of the fit.
        num_paths: trajectories that are kept as 2-D paths for drawing.
    """

    sites: tuple[str, ...] = ()
    estimators: tuple[Estimator, ...] = ("paper", "robust")
    observables: Literal["sigmoid", "random_fourier", "radial_basis"] = "sigmoid"
    num_observables: int | None = None
    fit_steps: int = 150
    fit_tokens: int = 2**14
    seed: int = 0
    num_paths: int = 6

    def __post_init__(self) -> None:
        for name, least in (("num_observables", 1), ("fit_steps", 0), ("fit_tokens", 2), ("num_paths", 0)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise ConfigError(f"{name} must be at least {least}, but is {value}.")
        if self.observables not in OBSERVABLES:
            raise ConfigError(f"There are no observables {self.observables!r}; use one of {', '.join(OBSERVABLES)}.")
        if not self.estimators:
            raise ConfigError("No estimator of the dispersion was named; the usual two are paper and robust.")


@dataclass(frozen=True)
class SiteRuler:
    """A dictionary, and the plane of the two leading principal components, for drawing.

    Attributes:
        site: site of the fit.
        dictionary: dictionary of width H.
        center, plane: (H,) and (H, 2), orthonormal; float32.
    """

    site: str
    dictionary: StoredDictionary
    center: Tensor
    plane: Tensor

    def save(self, folder: Path) -> None:
        """Write ``dictionary-SITE.safetensors`` and ``plane-SITE.safetensors``."""
        folder.mkdir(parents=True, exist_ok=True)
        save_file({"center": self.center, "plane": self.plane.contiguous()}, folder / f"plane-{self.site}.safetensors")
        self.dictionary.save(folder / f"dictionary-{self.site}.safetensors")

    @classmethod
    def load(cls, folder: Path, site: str) -> SiteRuler:
        """Read what :meth:`save` wrote. Raises ``DataError`` where there is none."""
        dictionary = load_dictionary(folder / f"dictionary-{site}.safetensors")
        planes = load_file(folder / f"plane-{site}.safetensors")
        return cls(site, dictionary, planes["center"], planes["plane"])


@dataclass(frozen=True)
class TrajectorySpectrum:
    """Measurements of one trajectory at one site. A value of None does not exist, which is not zero.

    Attributes:
        id: id of the prompt; several samples of one prompt share it.
        site: site of the states.
        num_tokens: T.
        is_finite: whether the states hold neither NaN nor Inf; nothing else is measured of those that do.
        dsd: by estimator; None where undefined (no more pairs than observables).
        max_modulus: largest |eigenvalue| of the least-squares operator.
        residual_kind, residual_median: kind and median of the residuals of its eigenpairs: "primal", "dual", or
            "vacuous", where residuals are zero whatever the dynamics, and the median is None.
        spurious_share: share of eigenpairs with a large residual.
        condition: condition number of the regression.
        num_clamped: nearly defective modes.
        effective_rank, curvature: effective rank and curvature of the states themselves, without dictionary.
        by_length: DSD of the first so many tokens, by estimator, as (tokens, value).
    """

    id: str
    site: str
    num_tokens: int
    is_finite: bool = True
    dsd: dict[str, float | None] = field(default_factory=dict)
    max_modulus: float | None = None
    residual_kind: str = "vacuous"
    residual_median: float | None = None
    spurious_share: float | None = None
    condition: float | None = None
    num_clamped: int = 0
    effective_rank: float | None = None
    curvature: float | None = None
    by_length: dict[str, list[tuple[int, float]]] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """As plain tables and lists."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> TrajectorySpectrum:
        """Read what `to_dict` wrote, JSON in between or not."""
        curves = {name: [(int(n), float(v)) for n, v in points] for name, points in data["by_length"].items()}
        return replace(cls(**data), by_length=curves)


def fit_rulers(
    trajectories: Sequence[LatentTrajectory],
    settings: SpectrumSettings,
    dictionaries: Mapping[str, StoredDictionary] | None = None,
) -> dict[str, SiteRuler]:
    """A ruler for every site of the trajectories.

    Args:
        trajectories: in the order of the prompts.
        dictionaries: those given are taken as they are; the others are fitted, all alike.

    Raises:
        DataError: too few snapshot pairs for the observables, or a dictionary of another width.
    """
    if not trajectories:
        raise DataError("There is no latent trajectory to fit a dictionary on; give at least one text.")
    lengths = sorted(len(trajectory) for trajectory in trajectories)
    num_observables = settings.num_observables or max(4, min(50, lengths[len(lengths) // 2] // 3))
    rulers = {}
    for site in trajectories[0].states:
        states = [trajectory.states[site] for trajectory in trajectories]
        dictionary = (dictionaries or {}).get(site)
        if dictionary is None:
            dictionary = _fit_dictionary(states, num_observables, settings)
        elif dictionary.hidden_size != states[0].shape[1]:
            raise DataError(
                f"The dictionary given for '{site}' was fitted on states of width {dictionary.hidden_size}, but the "
                f"model's have width {states[0].shape[1]}; fit it on this model."
            )
        rulers[site] = SiteRuler(site, dictionary, *_leading_plane(states))
    return rulers


def _fit_dictionary(states: list[Tensor], num_observables: int, settings: SpectrumSettings) -> StoredDictionary:
    if settings.observables == "sigmoid":
        return KoopmanDictionary.fit(states, num_observables, settings.fit_steps, settings.seed)
    kind = RandomFourierDictionary if settings.observables == "random_fourier" else RadialBasisDictionary
    return kind.fit(states, num_observables, settings.seed)


def _leading_plane(trajectories: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Mean (H,) and the two leading principal components (H, 2) of at most some hundred snapshots, evenly taken."""
    states = torch.cat([states for states in trajectories if bool(torch.isfinite(states).all())] or [trajectories[0]])
    states = states[:: max(1, len(states) // _PLANE_SNAPSHOTS)].double().nan_to_num()
    center = states.mean(0)
    values, vectors = torch.linalg.eigh((states - center) @ (states - center).T)  # the short side: H may be thousands
    plane = states.new_zeros((states.shape[1], 2))
    leading = (states - center).T @ vectors[:, -2:].flip(-1)
    plane[:, : leading.shape[1]] = leading / values[-2:].flip(-1).clamp_min(torch.finfo(values.dtype).tiny).sqrt()
    # An eigenvector's sign is anybody's; the same states must give the same picture.
    largest = plane.gather(0, plane.abs().argmax(0, keepdim=True))
    return center.float(), (plane * torch.where(largest < 0, -1.0, 1.0)).float()


def measure(
    states: Tensor, ruler: SiteRuler, identity: str, estimators: Sequence[Estimator]
) -> tuple[TrajectorySpectrum, GramStatistics | None, Tensor]:
    """Measure one trajectory.

    Args:
        states: (T, H), any floating dtype.

    Returns:
        What was measured; the Gram statistics, batch shape (), None without a finite pair; and the path (T, 2).
    """
    num_tokens = len(states)
    path = (states.float() - ruler.center) @ ruler.plane
    if not bool(torch.isfinite(states).all()):
        return TrajectorySpectrum(identity, ruler.site, num_tokens, is_finite=False), None, path
    if num_tokens < 2:
        return TrajectorySpectrum(identity, ruler.site, num_tokens), None, path
    lifted = ruler.dictionary(states)
    batch = gram_statistics(lifted.unsqueeze(0), torch.ones((1, num_tokens - 1), dtype=torch.bool))
    statistics = GramStatistics(batch.gram[0], batch.cross[0], batch.future[0], batch.num_pairs[0])
    dsd, by_length, num_clamped = _dispersions(lifted, estimators)
    spectrum = koopman_eigenvalues(lifted)
    is_sound = not spectrum.is_vacuous
    measured = TrajectorySpectrum(
        id=identity,
        site=ruler.site,
        num_tokens=num_tokens,
        dsd=dsd,
        max_modulus=float(spectrum.eigenvalues.abs().max()),
        residual_kind=spectrum.residual_kind,
        residual_median=float(spectrum.residuals.median()) if is_sound else None,
        spurious_share=spectrum.spurious_share() if is_sound else None,
        condition=spectrum.condition,
        num_clamped=num_clamped,
        effective_rank=float(effective_rank(states)),
        curvature=float(trajectory_curvature(states)),
        by_length=by_length,
    )
    return measured, statistics, path


def _dispersions(
    lifted: Tensor, estimators: Sequence[Estimator]
) -> tuple[dict[str, float | None], dict[str, list[tuple[int, float]]], int]:
    """DSD of lifted states (T, F) by estimator, the same of their first so many tokens, and nearly defective modes."""
    num_tokens, num_observables = lifted.shape
    lengths = [round(num_observables * ratio) + 1 for ratio in _LENGTHS_OVER_OBSERVABLES]
    lengths = [*(length for length in lengths if length < num_tokens), num_tokens]
    mask = torch.arange(num_tokens) < torch.tensor(lengths).unsqueeze(-1)
    dsd: dict[str, float | None] = {}
    by_length: dict[str, list[tuple[int, float]]] = {}
    num_clamped = 0
    for estimator in estimators:
        with warnings.catch_warnings():
            # Of exploding eigenvalues: `max_modulus` has them, and the page says it once for all.
            warnings.simplefilter("ignore", RuntimeWarning)
            found = dispersion_from_lifted(lifted.expand(len(lengths), -1, -1), mask, estimator)
        values = [
            float(value) if defined else None for value, defined in zip(found.values, found.is_defined, strict=True)
        ]
        dsd[estimator] = values[-1]
        by_length[estimator] = [(n, v) for n, v in zip(lengths[:-1], values[:-1], strict=True) if v is not None]
        num_clamped = max(num_clamped, int(found.num_clamped[-1]))
    return dsd, by_length, num_clamped
