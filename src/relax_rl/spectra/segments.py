"""Completions cut into steps: the spectrum of each step, and what a completion's steps say of it in numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from relax_rl.koopman.geometry import effective_rank, trajectory_curvature

__all__ = ["QUANTITIES", "SegmentSpectrum", "SegmentedCompletion", "feature_names", "segment_spectra"]

QUANTITIES = ("max_modulus", "dispersion", "residual", "step", "curvature", "effective_rank")
"""Measures of the states of a segment."""
_SUMMARIES = ("mean", "last", "change")
_MOST_MODES = 4


@dataclass(frozen=True)
class SegmentSpectrum:
    """The dynamics of one step.

    Attributes:
        start, end: in tokens of the completion.
        entropy: mean over its tokens, in nats.
        eigenvalues: (real, imaginary) of the affine map that takes a state to the next one, on the leading directions;
            largest modulus first, at most four; none where all states are the same.
        max_modulus: the largest modulus. dispersion: standard deviation of the moduli.
        residual: median over the eigenvalues.
        step: mean length of the step from state to state over the mean length of a state.
        curvature: mean angle between steps. effective_rank: of the states.
    """

    start: int
    end: int
    entropy: float
    eigenvalues: tuple[tuple[float, float], ...]
    max_modulus: float
    dispersion: float
    residual: float
    step: float
    curvature: float
    effective_rank: float


@dataclass(frozen=True)
class SegmentedCompletion:
    """One completion and its segments, two or more tokens each.

    Attributes:
        problem_id: problems are what the probe is tested across.
        is_right: its label.
        texts: texts of each segment; untrusted.
        mean_state: (H,) over its tokens.
    """

    problem_id: str
    is_right: bool
    texts: tuple[str, ...]
    segments: tuple[SegmentSpectrum, ...]
    mean_state: Tensor

    @property
    def num_tokens(self) -> int:
        """T."""
        return self.segments[-1].end

    @property
    def entropy(self) -> float:
        """Mean over its tokens, in nats."""
        return sum(each.entropy * (each.end - each.start) for each in self.segments) / self.num_tokens

    @property
    def length_features(self) -> list[float]:
        """Features of length alone: tokens, their logarithm, segments."""
        return [float(self.num_tokens), float(np.log(self.num_tokens)), float(len(self.segments))]

    @property
    def entropy_features(self) -> list[float]:
        """Features of entropy alone: mean, that of the last segment, the highest of a segment."""
        values = [each.entropy for each in self.segments]
        return [self.entropy, values[-1], max(values)]

    @property
    def dynamics_features(self) -> list[float]:
        """In the order of :func:`feature_names`."""
        rows = np.array([[float(getattr(each, name)) for name in QUANTITIES] for each in self.segments])
        return [*rows.mean(0).tolist(), *rows[-1].tolist(), *(rows[-1] - rows[0]).tolist()]


def feature_names() -> list[str]:
    """Features of a completion's segments: mean, last segment, and last less first, of each quantity."""
    return [f"{quantity}, {summary}" for summary in _SUMMARIES for quantity in QUANTITIES]


def segment_spectra(states: Tensor, entropy: Tensor, segments: Sequence[tuple[int, int]]) -> list[SegmentSpectrum]:
    """The spectrum of each segment of a completion.

    Each is fitted on its own leading directions, so that nothing of other completions is in it.

    Args:
        states: (T, H), one a token.
        entropy: (T,) nats.
        segments: (start, end) in tokens, of two tokens or more.
    """
    states = states.double()
    return [_measured(states[start:end], float(entropy[start:end].mean()), start, end) for start, end in segments]


def _measured(states: Tensor, entropy: float, start: int, end: int) -> SegmentSpectrum:
    values, residuals = _eigenpairs(states)
    size = float(torch.linalg.vector_norm(states, dim=-1).mean())
    if not len(values):
        return SegmentSpectrum(start, end, entropy, (), 0.0, 0.0, 1.0, 0.0, 0.0, 0.0)
    moduli = values.abs()
    return SegmentSpectrum(
        start=start,
        end=end,
        entropy=entropy,
        eigenvalues=tuple((value.real, value.imag) for value in values.tolist()),
        max_modulus=float(moduli.max()),
        dispersion=float(moduli.std(correction=0)),
        residual=float(residuals.median()),
        step=float(torch.linalg.vector_norm(states.diff(dim=0), dim=-1).mean()) / size,
        curvature=float(trajectory_curvature(states)),
        effective_rank=float(effective_rank(states)),
    )


def _eigenpairs(states: Tensor) -> tuple[Tensor, Tensor]:
    """(R,) eigenvalues, largest modulus first, and residuals of the affine map from each state to the next.

    Both sides are taken off their own means, as least squares with a constant does: off one common mean, a short
    segment would give other eigenvalues than those of its system. None where all states are the same.
    """
    before, after = states[:-1] - states[:-1].mean(0), states[1:] - states[1:].mean(0)
    left, scales, right = torch.linalg.svd(before, full_matrices=False)
    size = torch.linalg.vector_norm(states)
    sound = int((scales > 1e-8 * scales[0]).sum()) if bool(scales[0] > 1e-12 * size) else 0
    rank = min(_MOST_MODES, max(1, len(before) // 2), sound)
    left, scales, directions = left[:, :rank], scales[:rank], right[:rank].mT
    coordinates, ahead = left * scales, after @ directions
    values, vectors = torch.linalg.eig((left.mT @ ahead) / scales.unsqueeze(-1))
    seen, follows = coordinates.to(vectors.dtype) @ vectors, ahead.to(vectors.dtype) @ vectors
    residuals = torch.linalg.vector_norm(follows - values * seen, dim=0) / torch.linalg.vector_norm(seen, dim=0)
    order = values.abs().argsort(descending=True)
    return values[order], residuals[order]
