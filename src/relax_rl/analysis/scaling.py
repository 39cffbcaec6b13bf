"""Reward against compute as a sigmoid in its logarithm, with a ceiling that more compute does not pass.

"The Art of Scaling Reinforcement Learning Compute for LLMs" (arXiv 2510.13786, Eq. 1):

    R(C) = R_0 + (A - R_0) / (1 + (C_mid / C)^B)

R_0 is the reward before training, A the asymptote, B > 0 the efficiency, C_mid the compute at half of the gain. The
paper leaves out the very beginning of a run, and repeated runs moved its A by 0.02.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import least_squares
from scipy.special import expit

from relax_rl.analysis.residuals import resampled_series
from relax_rl.errors import DataError

__all__ = ["ScalingCurve", "fit_scaling_curve"]

MIN_POINTS = 8
SEEN_GAIN = 0.5
"""The part of the gain that the points must have seen, or the ceiling is a guess."""


@dataclass(frozen=True)
class ScalingCurve:
    """R(C) of the module.

    Attributes:
        start: R_0.
        asymptote: A.
        exponent: B.
        midpoint: C_mid, in the unit of the compute.
        intervals: (low, high) of ``asymptote``, ``exponent`` and ``midpoint``.
        residual_deviation: standard deviation of the reward about the curve.
        num_points: number of points of the fit.
    """

    start: float
    asymptote: float
    exponent: float
    midpoint: float
    intervals: Mapping[str, tuple[float, float]]
    residual_deviation: float
    num_points: int

    def predict(self, compute: float | Sequence[float] | np.ndarray) -> np.ndarray:
        """Reward at amounts of compute above 0, of the shape given."""
        return _curve(
            np.log(np.asarray(compute, dtype=np.float64)),
            self.start,
            np.array([self.asymptote, np.log(self.exponent), np.log(self.midpoint)]),
        )


def fit_scaling_curve(
    compute: Sequence[float] | np.ndarray,
    reward: Sequence[float] | np.ndarray,
    start: float,
    *,
    confidence: float = 0.95,
    num_resamples: int = 200,
    seed: int = 0,
) -> ScalingCurve:
    """Fit A, B and C_mid by least squares, from a grid of starting values; intervals by a bootstrap of the residuals.

    Args:
        compute: spent up to each point, in any unit, rising and above 0 (updates, tokens, device seconds).
        reward: at each point.
        start: R_0, the reward before training.

    Raises:
        DataError: fewer than 8 points, compute that does not rise, values that are not finite, a reward that does not
            rise, or a run that ends before half of the gain that would have to be extrapolated.
    """
    log_compute, reward = _checked(compute, reward, start)
    fitted = min((_fit(log_compute, reward, start, guess) for guess in _guesses(log_compute, reward, start)), key=_cost)
    parameters = fitted.x
    residuals = reward - _curve(log_compute, start, parameters)
    seen = (_curve(log_compute[-1:], start, parameters)[0] - start) / (parameters[0] - start)
    if parameters[0] <= start or seen < SEEN_GAIN:
        raise DataError(
            "the reward does not bend towards a ceiling within these points, so its asymptote would be a guess; use a "
            "longer run."
        )
    noises = resampled_series(residuals, num_resamples, np.random.default_rng(seed), num_coefficients=3)
    smooth = _curve(log_compute, start, parameters)
    refits = np.array([_fit(log_compute, smooth + noise, start, parameters).x for noise in noises])
    low, high = np.quantile(refits, [(1 - confidence) / 2, (1 + confidence) / 2], axis=0)
    return ScalingCurve(
        start=start,
        asymptote=float(parameters[0]),
        exponent=float(np.exp(parameters[1])),
        midpoint=float(np.exp(parameters[2])),
        intervals={
            "asymptote": (float(low[0]), float(high[0])),
            "exponent": (float(np.exp(low[1])), float(np.exp(high[1]))),
            "midpoint": (float(np.exp(low[2])), float(np.exp(high[2]))),
        },
        residual_deviation=float(np.sqrt(residuals @ residuals / (len(reward) - 3))),
        num_points=len(reward),
    )


def _checked(compute, reward, start: float) -> tuple[np.ndarray, np.ndarray]:
    compute, reward = np.asarray(compute, dtype=np.float64), np.asarray(reward, dtype=np.float64)
    if compute.ndim != 1 or compute.shape != reward.shape:
        raise DataError(f"need one amount of compute and one reward a point; got {compute.shape} and {reward.shape}.")
    if len(compute) < MIN_POINTS:
        raise DataError(f"the scaling curve needs at least {MIN_POINTS} points, and there are {len(compute)}.")
    if not (np.isfinite(compute).all() and np.isfinite(reward).all() and np.isfinite(start)):
        raise DataError("compute and reward must be finite; leave out the points that were not measured.")
    if compute[0] <= 0 or (np.diff(compute) <= 0).any():
        raise DataError(
            "compute must be above 0 and rise from point to point; sort the points, and leave out the start."
        )
    return np.log(compute), reward


def _curve(log_compute: np.ndarray, start: float, parameters: np.ndarray) -> np.ndarray:
    """Parameters are A, log B, log C_mid."""
    asymptote, log_exponent, log_midpoint = parameters
    return start + (asymptote - start) * expit(np.exp(log_exponent) * (log_compute - log_midpoint))


def _guesses(log_compute: np.ndarray, reward: np.ndarray, start: float) -> list[np.ndarray]:
    gain = max(float(reward.max()) - start, 1e-3)
    return [
        np.array([start + factor * gain, log_exponent, midpoint])
        for factor in (1.0, 1.5)
        for log_exponent in (-0.5, 0.5, 1.5)
        for midpoint in np.quantile(log_compute, (0.1, 0.5, 0.9))
    ]


def _fit(log_compute: np.ndarray, reward: np.ndarray, start: float, guess: np.ndarray) -> Any:
    # Bounds only keep the search from running off where the points do not bind it.
    span = log_compute[-1] - log_compute[0] + 1
    low = [-np.inf, np.log(0.05), log_compute[0] - 2 * span]
    high = [np.inf, np.log(50.0), log_compute[-1] + 2 * span]

    def residuals(parameters: np.ndarray) -> np.ndarray:
        return _curve(log_compute, start, parameters) - reward

    return least_squares(residuals, np.clip(guess, low, high), bounds=(low, high), max_nfev=300)


def _cost(fitted: Any) -> float:
    return float(fitted.cost)
