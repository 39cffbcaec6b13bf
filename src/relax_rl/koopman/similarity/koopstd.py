"""KoopSTD: two trajectories are as far apart as the reliable parts of their spectra over short-time Fourier frames.

Zhang, Ye, Yan, Song, Wu and Wu, "KoopSTD: Reliable Similarity Analysis between Dynamical Systems via Approximating
Koopman Spectrum with Timescale Decoupling", ICML 2025. As the paper describes it:

1. frames: the real part of a short-time Fourier transform of every channel, one row a frame, in the order of time, and
   not padded at the ends, so that the frames of a linear system move by exactly lambda^hop;
2. the operator between consecutive frames on their leading singular directions, by least squares or ridge;
3. the ResDMD residual of each eigenpair, of which the smallest are kept;
4. the 1-Wasserstein distance between the eigenvalues kept, a metric.

The released code differs in every step: it reshapes frames and frequencies into each other, ranks singular vectors with
singular values in place of eigenpairs, keeps those of the *largest* residual, and squares the distance.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from relax_rl.errors import ConfigError, DataError
from relax_rl.koopman.inputs import as_tensor, in_its_unit
from relax_rl.koopman.linalg.directions import leading_directions
from relax_rl.koopman.similarity.distances import spectral_wasserstein, spectral_wasserstein_matrix
from relax_rl.koopman.spectra.dmd import DynamicModes, dmd

__all__ = ["KoopSTD", "ShortTimeSpectrum", "Taper", "koopstd_distance", "koopstd_distances", "short_time_frames"]

Taper = Literal["rectangular", "hann"]
"""Weights of the states within a frame. Rectangular ones see all of a window alike; Hann's leak less from one frequency
into others and see half of it. Neither separates systems better throughout (docs/reference/similarity.md)."""

# Numbers in the frames of trajectories decomposed together: enough to hide what a small matrix costs besides its
# arithmetic, and few enough to stay in the cache.
_BATCH_NUMBERS = 2**20


@dataclass(frozen=True)
class ShortTimeSpectrum:
    """The eigenvalues of one trajectory that KoopSTD compares, smallest residual first."""

    eigenvalues: Tensor
    """(R,) complex128, of one hop; with dt, log(lambda) / (hop dt)."""
    residuals: Tensor
    """(R,) float64, ResDMD; near 1 an eigenvalue is no better than none."""


@dataclass(frozen=True)
class KoopSTD:
    """Settings of KoopSTD, and the spectra under them.

    Raises:
        ConfigError: a setting out of range.
    """

    window: int = 8
    """States in a frame."""
    hop: int = 4
    """States from one frame to the next. A hop of 1 crowds all eigenvalues near 1."""
    rank: int = 8
    """Leading singular directions of the frames that the operator acts on; fewer where the frames have fewer."""
    num_modes: int | None = 4
    """Eigenvalues kept, of smallest residual; None keeps all. Where the last place falls to one of a conjugate pair, it
    is the one of positive frequency, of every trajectory alike."""
    ridge: float = 0.0
    """Relative to the mean square of the singular values kept; 0 is least squares."""
    taper: Taper = "rectangular"
    dt: float | None = None
    """Time between two states; with it eigenvalues are those of continuous time, log(lambda) / (hop dt), one of 0
    counting as the rounding unit. None leaves them those of one hop."""

    def __post_init__(self) -> None:
        for name in ("window", "hop", "rank"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, got {getattr(self, name)}.")
        if self.num_modes is not None and self.num_modes < 1:
            raise ConfigError(f"num_modes must be at least 1, got {self.num_modes}; use None to keep all.")
        if self.ridge < 0:
            raise ConfigError(f"ridge must not be negative, got {self.ridge}.")
        if self.taper not in get_args(Taper):
            raise ConfigError(f"Unknown taper {self.taper!r}; use one of {', '.join(get_args(Taper))}.")
        if self.dt is not None and not self.dt > 0:
            raise ConfigError(f"dt, the time between two states, must be positive, got {self.dt}.")

    def spectrum(self, x: Tensor) -> ShortTimeSpectrum:
        """Spectrum of a real trajectory (T, H), time along rows.

        Raises:
            DataError: too short for as many frames as it takes for residuals to mean something; NaN or Inf.
        """
        return next(self._spectra(as_tensor(x, "A trajectory").unsqueeze(0)))

    def spectra(self, trajectories: Sequence[Tensor] | Tensor) -> list[ShortTimeSpectrum]:
        """:meth:`spectrum` of each of B trajectories (T_i, H_i); those of one shape are decomposed together."""
        shapes: dict[tuple[int, ...], list[int]] = {}
        given = [as_tensor(trajectory, "A trajectory") for trajectory in trajectories]
        for index, trajectory in enumerate(given):
            shapes.setdefault(tuple(trajectory.shape), []).append(index)
        spectra: dict[int, ShortTimeSpectrum] = {}
        for shape, members in shapes.items():
            size = max(1, _BATCH_NUMBERS * self.hop // max(math.prod(shape) * self.window, 1))
            for start in range(0, len(members), size):
                batch = members[start : start + size]
                states = torch.stack([given[index] for index in batch])
                spectra.update(zip(batch, self._spectra(states), strict=True))
        return [spectra[index] for index in range(len(spectra))]

    def _spectra(self, states: Tensor) -> Iterator[ShortTimeSpectrum]:
        """Spectra of states (B, T, H)."""
        if states.ndim != 3:
            raise DataError(f"A trajectory must be (T, H), got {tuple(states.shape[1:])}.")
        frames = short_time_frames(in_its_unit(states, (-2, -1))[0], window=self.window, hop=self.hop, taper=self.taper)
        # Of the first frames of the pairs alone, which the regression is on: the last frame is nobody's first.
        coordinates = frames @ leading_directions(frames[:, :-1], self.rank)
        modes = dmd(
            coordinates,
            rank=coordinates.shape[-1],
            variant="ridge" if self.ridge > 0 else "least_squares",
            ridge=self.ridge,
        )
        if bool(modes.is_interpolating.any()):
            raise DataError(
                f"{states.shape[1]} states make {frames.shape[1] - 1} pairs of frames, no more than their "
                f"{int(modes.rank.max())} directions, so that every residual is zero; lower the rank, window or hop."
            )
        return (self._keep(modes, row) for row in range(len(states)))

    def _keep(self, modes: DynamicModes, row: int) -> ShortTimeSpectrum:
        rank = int(modes.rank[row])
        values, residuals = modes.eigenvalues[row, :rank], modes.residuals[row, :rank]
        # One of a conjugate pair has the residual of the other, but for rounding, which must not choose between them.
        residuals = torch.where(values.imag < 0, residuals.roll(1), residuals)
        # Stable, so that of an equal pair the positive frequency, which stands first, is kept.
        kept = residuals.argsort(stable=True)[: self.num_modes]
        values, residuals = values[kept], residuals[kept]
        if self.dt is not None:
            smallest = torch.finfo(torch.float64).eps
            values = torch.where(values.abs() < smallest, smallest, values).log() / (self.hop * self.dt)
        return ShortTimeSpectrum(values, residuals)


def koopstd_distance(x: Tensor, y: Tensor, *, order: float = 1.0, **settings: Any) -> float:
    """KoopSTD distance of two trajectories (T, H) and (T', H'), whose lengths and widths need not agree.

    Args:
        order: order of the Wasserstein distance; 1 is the paper's.
        settings: fields of :class:`KoopSTD`, the same for both.
    """
    method = KoopSTD(**settings)
    return float(spectral_wasserstein(method.spectrum(x).eigenvalues, method.spectrum(y).eigenvalues, order=order))


def koopstd_distances(trajectories: Sequence[Tensor] | Tensor, *, order: float = 1.0, **settings: Any) -> Tensor:
    """KoopSTD distances of all pairs of B trajectories, (B, B) float64: one spectrum each, then all pairs at once.

    Arguments as in :func:`koopstd_distance`.
    """
    spectra = KoopSTD(**settings).spectra(trajectories)
    return spectral_wasserstein_matrix([spectrum.eigenvalues for spectrum in spectra], order=order)


def short_time_frames(x: Tensor, *, window: int, hop: int, taper: Taper = "rectangular") -> Tensor:
    """Real part of the short-time Fourier transform of every channel, in order of time.

    Equal to `torch.stft(..., center=False)`: no padding at the ends, whose frames would follow no dynamics.

    Args:
        x: (..., T, H) real.
        window: W, states in a frame.
        hop: states from one frame to the next; the time scale of the spectrum.

    Returns:
        (..., 1 + (T - W) // hop, H (W // 2 + 1)) float64.

    Raises:
        DataError: a trajectory that is not real and finite, or shorter than two frames.
    """
    x = as_tensor(x, "A trajectory")
    if x.ndim < 2 or x.is_complex() or x.shape[-1] < 1:
        raise DataError(f"A trajectory must be a real (..., T, H) with H >= 1, got {tuple(x.shape)} {x.dtype}.")
    if not torch.isfinite(x).all():
        raise DataError("A trajectory holds NaN or Inf; leave it out.")
    if x.shape[-2] < window + hop:
        raise DataError(
            f"Two frames of {window} states, {hop} apart, need {window + hop} states, got {x.shape[-2]}; "
            "choose a shorter window."
        )
    segments = x.detach().double().unfold(-2, window, hop)
    if taper == "hann":
        segments = segments * torch.hann_window(window, dtype=segments.dtype, device=x.device)
    return torch.fft.rfft(segments).real.flatten(-2)
