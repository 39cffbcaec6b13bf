"""Rank correlations, raw and given a third variable, with intervals over clusters."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy import stats

__all__ = ["association", "partial_spearman", "spearman"]


def association(x: np.ndarray, y: np.ndarray, given: np.ndarray, cluster: np.ndarray) -> dict[str, float]:
    """Spearman correlation, raw and given a third variable, with 95 % intervals by bootstrap over clusters."""
    keep = np.isfinite(x) & np.isfinite(y)
    x, y, given, cluster = x[keep], y[keep], given[keep], cluster[keep]
    names = [f"spearman{given}{end}" for given in ("", "_given_length") for end in ("", "_low", "_high")]
    if len(x) < 3:
        return {"units": float(len(x)), **dict.fromkeys(names, float("nan"))}
    members = [np.flatnonzero(cluster == one) for one in np.unique(cluster)]
    generator = np.random.default_rng(0)
    result: dict[str, float] = {"units": float(len(x))}
    measures: dict[str, Callable[[np.ndarray], float]] = {
        "spearman": lambda rows: spearman(x[rows], y[rows]),
        "spearman_given_length": lambda rows: partial_spearman(x[rows], y[rows], given[rows]),
    }
    picks = [
        np.concatenate([members[i] for i in generator.integers(len(members), size=len(members))]) for _ in range(400)
    ]
    everything = np.arange(len(x))
    for name, measure in measures.items():
        drawn = np.array([measure(rows) for rows in picks])
        low, high = np.nanpercentile(drawn, [2.5, 97.5])
        result |= {name: measure(everything), f"{name}_low": float(low), f"{name}_high": float(high)}
    return result


def spearman(x: np.ndarray, y: np.ndarray) -> float:
    """NaN where one of them is constant."""
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        return float("nan")
    return float(np.corrcoef(stats.rankdata(x), stats.rankdata(y))[0, 1])


def partial_spearman(x: np.ndarray, y: np.ndarray, given: np.ndarray) -> float:
    """Correlation of the ranks of x and y after the ranks of ``given`` are regressed out of both."""
    xy, xg, yg = spearman(x, y), spearman(x, given), spearman(y, given)
    if not np.isfinite(xg) or not np.isfinite(yg):
        return xy
    return float((xy - xg * yg) / max(np.sqrt((1 - xg**2) * (1 - yg**2)), 1e-12))
