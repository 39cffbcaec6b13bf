"""The law that trades entropy for reward along a run: R = -a exp(H) + b.

"The Entropy Mechanism of Reinforcement Learning for Reasoning Language Models" (arXiv 2505.22617, sections 2.4, 2.5):
on runs **without any intervention on the entropy**, validation reward R and token entropy H of the training prompts
follow it with two coefficients, and at H = 0, with nothing left to trade, the reward is b - a. The law is linear in a
and b, so it is fitted by least squares of R on exp(H); the paper does not say how it was fitted there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from relax_rl.analysis.residuals import autocorrelation, resampled_series
from relax_rl.errors import DataError

__all__ = ["EntropyForecastError", "EntropyLaw", "fit_entropy_law", "forecast_from_start"]

MIN_POINTS = 10
MIN_FALL = 0.05
"""Share of the largest entropy: it must move at least so much of itself for the law to be read off."""


@dataclass(frozen=True)
class EntropyLaw:
    """R = -a exp(H) + b.

    Attributes:
        a, b: in units of the reward; ``a`` is positive.
        intervals: (low, high) of ``a``, ``b`` and ``ceiling``.
        residual_deviation: standard deviation of the reward about the law.
        explained: share of the reward's variance that the law explains (R^2).
        num_points: steps that it was fitted to.
        autocorrelation: autocorrelation of the residuals, from one step to the next.
    """

    a: float
    b: float
    intervals: Mapping[str, tuple[float, float]]
    residual_deviation: float
    explained: float
    num_points: int
    autocorrelation: float

    @property
    def ceiling(self) -> float:
        """b - a: the reward when no entropy is left."""
        return self.b - self.a

    def predict(self, entropy: float | Sequence[float] | np.ndarray) -> np.ndarray:
        """Reward at entropies in nats a token, of the shape given."""
        return self.b - self.a * np.exp(np.asarray(entropy, dtype=np.float64))


@dataclass(frozen=True)
class EntropyForecastError:
    """How well the start of a run predicts the rest of it.

    Attributes:
        law: fitted to the first ``law.num_points`` steps.
        root_mean_square: error on the steps after them, in units of the reward.
        final: predicted minus measured reward, mean over the last tenth of the run.
        naive: root mean square error of taking the reward to stay as it was at the end of the start.
    """

    law: EntropyLaw
    root_mean_square: float
    final: float
    naive: float


def fit_entropy_law(
    entropy: Sequence[float] | np.ndarray,
    reward: Sequence[float] | np.ndarray,
    *,
    confidence: float = 0.95,
    num_resamples: int = 2000,
    seed: int = 0,
) -> EntropyLaw:
    """Fit the law to the steps of one run, in their order.

    Intervals are of a bootstrap of the residuals that keeps their autocorrelation (`relax_rl.analysis.residuals`).

    Args:
        entropy: nats a token, one value a step.
        reward: reward of the same steps.

    Raises:
        DataError: fewer than 10 points, values that are not finite or negative entropy, an entropy that hardly moves,
            or a reward that does not rise as the entropy falls.
    """
    entropy, reward = _checked(entropy, reward)
    a, b, residuals = _least_squares(np.exp(entropy), reward)
    if a <= 0:
        raise DataError(
            f"the reward does not rise as the entropy falls (a = {a:.3g}), so the law does not hold for this run; it "
            "is for runs without an intervention on the entropy."
        )
    samples = _resampled_coefficients(np.exp(entropy), residuals, num_resamples, np.random.default_rng(seed))
    tails = ((1 - confidence) / 2, (1 + confidence) / 2)
    draws = {"a": a + samples[:, 0], "b": b + samples[:, 1], "ceiling": b - a + samples[:, 1] - samples[:, 0]}
    intervals = {name: (float(low), float(high)) for name, (low, high) in _quantiles(draws, tails).items()}
    if intervals["a"][0] <= 0:
        raise DataError(
            f"the entropy moves too little for its effect on the reward to be told from noise (a = {a:.3g}, "
            f"{confidence:.0%} interval {intervals['a'][0]:.3g} to {intervals['a'][1]:.3g}); use more steps."
        )
    spread = float(np.sum((reward - reward.mean()) ** 2))
    return EntropyLaw(
        a=a,
        b=b,
        intervals=intervals,
        residual_deviation=float(np.sqrt(residuals @ residuals / (len(residuals) - 2))),
        explained=1 - float(residuals @ residuals) / spread,
        num_points=len(reward),
        autocorrelation=autocorrelation(residuals),
    )


def forecast_from_start(
    entropy: Sequence[float] | np.ndarray, reward: Sequence[float] | np.ndarray, share: float = 0.15
) -> EntropyForecastError:
    """Fit the law to the first steps of a run and hold it against the others, whose entropy is given to it.

    The paper fits the first 15 % and reports errors of about 1 % on the rest.

    Raises:
        DataError: as `fit_entropy_law` on the start, or a share that leaves no step on one side.
    """
    if not 0 < share < 1:
        raise DataError(f"share is {share}; give the part of the run to fit to, between 0 and 1.")
    entropy, reward = _checked(entropy, reward)
    start = round(share * len(reward))
    if start < MIN_POINTS:
        raise DataError(
            f"{share:.0%} of {len(reward)} steps are {start}, and the law needs {MIN_POINTS}; use a longer run."
        )
    law = fit_entropy_law(entropy[:start], reward[:start])
    errors = law.predict(entropy[start:]) - reward[start:]
    tail = max(1, len(reward) // 10)
    stays = reward[max(0, start - tail) : start].mean()
    return EntropyForecastError(
        law=law,
        root_mean_square=float(np.sqrt(np.mean(errors**2))),
        final=float(errors[-tail:].mean()),
        naive=float(np.sqrt(np.mean((stays - reward[start:]) ** 2))),
    )


def _checked(entropy, reward) -> tuple[np.ndarray, np.ndarray]:
    entropy, reward = np.asarray(entropy, dtype=np.float64), np.asarray(reward, dtype=np.float64)
    if entropy.ndim != 1 or entropy.shape != reward.shape:
        raise DataError(f"need one entropy and one reward a step; got shapes {entropy.shape} and {reward.shape}.")
    if len(entropy) < MIN_POINTS:
        raise DataError(f"the entropy law needs at least {MIN_POINTS} steps, and there are {len(entropy)}.")
    num_bad = int((~np.isfinite(entropy) | ~np.isfinite(reward)).sum())
    if num_bad or entropy.min() < 0:
        what = f"{num_bad} steps are not finite" if num_bad else f"an entropy is negative ({entropy.min():.3g})"
        raise DataError(f"{what}; leave out the steps that were not measured.")
    fall = float(entropy.max() - entropy.min())
    if fall < MIN_FALL * entropy.max():
        raise DataError(
            f"the entropy stays between {entropy.min():.4g} and {entropy.max():.4g} nats, too little to read a law "
            "off; use a longer run."
        )
    return entropy, reward


def _least_squares(x: np.ndarray, reward: np.ndarray) -> tuple[float, float, np.ndarray]:
    """a, b and the residuals of reward = -a x + b."""
    centred = x - x.mean()
    a = -float(centred @ reward) / float(centred @ centred)
    b = float(reward.mean()) + a * float(x.mean())
    return a, b, reward - (b - a * x)


def _resampled_coefficients(
    x: np.ndarray, residuals: np.ndarray, num_resamples: int, generator: np.random.Generator
) -> np.ndarray:
    """Errors of a and b, (num_resamples, 2), when the residuals are drawn again."""
    noise = resampled_series(residuals, num_resamples, generator)
    centred = x - x.mean()
    a = -(noise @ centred) / float(centred @ centred)
    return np.column_stack([a, noise.mean(axis=1) + a * x.mean()])


def _quantiles(draws: Mapping[str, np.ndarray], tails: tuple[float, float]) -> dict[str, np.ndarray]:
    return {name: np.quantile(values, tails) for name, values in draws.items()}
