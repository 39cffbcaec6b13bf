"""Resampling the residuals of a fit to a series whose neighbours resemble each other.

The steps of a run are autocorrelated, so resampling single steps makes intervals too narrow, and so do blocks of a
series as short as a run. Here the residuals are whitened by a first-order autoregression, its innovations resampled,
and coloured again: the sieve bootstrap (Buehlmann 1997) with one lag.
"""

from __future__ import annotations

import math

import numpy as np
from scipy.signal import lfilter

__all__ = ["autocorrelation", "resampled_series"]

_BURN_IN = 50


def autocorrelation(residuals: np.ndarray, num_coefficients: int = 2) -> float:
    """Lag-one correlation of the residuals of a fit, from 0 to below 1, corrected for the bias of a short series.

    Args:
        num_coefficients: number of coefficients of the fit, each of which makes the residuals look less alike than the
            errors are.
    """
    count = len(residuals)
    centred = residuals - residuals.mean()
    variance = float(centred @ centred)
    if variance == 0 or count < 5:
        return 0.0
    rho = float(centred[1:] @ centred[:-1]) / variance
    # About (1 + 2 rho) / n for each coefficient: two of them make Kendall's (1954) bias for a series without its mean.
    corrected = rho + num_coefficients * (1 + 2 * rho) / count
    return min(max(corrected, 0.0), 1 - 2 / count)


def resampled_series(
    residuals: np.ndarray, num_resamples: int, generator: np.random.Generator, num_coefficients: int = 2
) -> np.ndarray:
    """Series with the residuals' spread and autocorrelation, (num_resamples, n).

    Args:
        num_coefficients: number of coefficients of the fit that left the residuals; their spread is widened by the
            degrees of freedom that it took.
    """
    count = len(residuals)
    rho = autocorrelation(residuals, num_coefficients)
    innovations = residuals[1:] - rho * residuals[:-1]
    innovations = (innovations - innovations.mean()) * math.sqrt(count / (count - num_coefficients))
    drawn = generator.choice(innovations, size=(num_resamples, count + _BURN_IN))
    return np.asarray(lfilter([1.0], [1.0, -rho], drawn, axis=1))[:, _BURN_IN:]
