"""A steering direction under a fitted operator: where it drives the states, and what the model itself does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from relax_rl.errors import DataError
from relax_rl.koopman import dmd
from relax_rl.koopman.spectra.control import controllability_gramian, impulse_response
from relax_rl.koopman.spectra.dmd import DynamicModes, Variant
from relax_rl.latent.sites import FINAL_NORM
from relax_rl.latent.steering import steering_differences
from relax_rl.latent.trajectories import capture_sequences
from relax_rl.spectra.reading import LatentText

__all__ = ["SteeringResponse", "steering_response"]


@dataclass(frozen=True)
class SteeringResponse:
    """The effect of a push at one token on the next ones: predicted by a fitted operator, and measured.

    Attributes:
        num_pushes: measured, over all texts.
        predicted: (N, H) float64, lag 0 first, which is the measured one: where the push enters.
        measured: (N, H), the mean over pushes, per unit of strength.
        gramian: (H, H) controllability Gramian of the push over N steps under the fitted operator. Its trace is the
            energy that the push leaves in the states, as predicted.
        rank: directions of the fitted operator.
        moduli: (R,) of its eigenvalues.
    """

    num_pushes: int
    predicted: Tensor
    measured: Tensor
    gramian: Tensor
    rank: int
    moduli: Tensor

    @property
    def norms(self) -> tuple[Tensor, Tensor]:
        """(N,) sizes of the predicted and of the measured response, lag by lag."""
        return torch.linalg.vector_norm(self.predicted, dim=-1), torch.linalg.vector_norm(self.measured, dim=-1)

    @property
    def cosines(self) -> Tensor:
        """(N,) between predicted and measured; 0 where one of them vanishes."""
        first, second = self.norms
        sizes = first * second
        products = (self.predicted * self.measured).sum(-1)
        return torch.where(sizes > 0, products / torch.where(sizes > 0, sizes, 1.0), 0.0)

    @property
    def energy(self) -> tuple[float, float]:
        """Energy of the response after the push, lags 1 to N - 1, predicted and measured: sums of squares."""
        return float(self.predicted[1:].square().sum()), float(self.measured[1:].square().sum())

    @property
    def relative_error(self) -> float:
        """|predicted - measured| / |measured| over lags 1 to N - 1; 1 is what predicting nothing would have."""
        return float((self.predicted - self.measured)[1:].norm() / self.measured[1:].norm())


def steering_response(
    model: Any,
    texts: Sequence[LatentText],
    direction: Tensor,
    *,
    site: str,
    read: str = FINAL_NORM,
    steps: int = 6,
    strength: float = 1.0,
    pushes_per_text: int = 2,
    rank: int = 8,
    variant: Variant = "least_squares",
) -> SteeringResponse:
    """Add a direction to the states at single tokens, and compare what follows with a fitted operator's prediction.

    The operator is fitted on the states of all texts at `read`, centred. Its response to the push is what was measured
    at the token itself, advanced: d_0 K^n. An operator that describes how states follow each other by *which tokens*
    come next need not describe what a push does: the two agree where the states drive each other, as in a linear
    recurrence.

    Args:
        model: a Hugging Face causal language model.
        texts: read and pushed after their `start`; those shorter than `steps` are left out.
        direction: (H,), at `site`.
        site, strength: see :func:`~relax_rl.latent.steering.steering_differences`.
        read: site of the operator and of the comparison.
        steps: N, lags 0 to N - 1.
        pushes_per_text: tokens of each text that are pushed, evenly spread.
        rank, variant: rank and variant of the fit; see :func:`~relax_rl.koopman.spectra.dmd.dmd`.

    Raises:
        DataError: no text is long enough; a direction of another width.
        ConfigError: a site that there is not.
    """
    long_enough = [text for text in texts if text.num_tokens >= steps]
    if not long_enough:
        raise DataError(f"No text has {steps} tokens to follow a push; give longer ones, or ask for fewer steps.")
    measured = torch.cat(
        [
            steering_differences(
                model,
                text.token_ids,
                site,
                direction,
                at=_places(text, steps, pushes_per_text),
                steps=steps,
                strength=strength,
                read=read,
            )
            for text in long_enough
        ]
    )
    mean = measured.mean(0)
    fit = _fit(model, long_enough, read, rank, variant)
    operator = _matrix(fit)
    response = impulse_response(operator, mean[0], steps)[:, 0]
    return SteeringResponse(
        num_pushes=len(measured),
        predicted=torch.cat([mean[:1], response[1:]]),
        measured=mean,
        gramian=controllability_gramian(operator, mean[0], horizon=steps),
        rank=int(fit.rank),
        moduli=fit.eigenvalues.abs(),
    )


def _places(text: LatentText, steps: int, count: int) -> list[int]:
    last = len(text.token_ids) - steps
    return sorted({round(place) for place in torch.linspace(text.start, last, count).tolist()})


def _fit(model: Any, texts: Sequence[LatentText], read: str, rank: int, variant: Variant) -> DynamicModes:
    trajectories = capture_sequences(
        model, [text.token_ids for text in texts], [read], starts=[text.start for text in texts]
    )
    states = [trajectory.states[read].double() for trajectory in trajectories]
    mean = torch.cat(states).mean(0)
    return dmd([part - mean for part in states], rank=min(rank, len(mean)), variant=variant)


def _matrix(fit: DynamicModes) -> Tensor:
    """K (H, H) over the states, real: eigenfunctions, times eigenvalues, times modes."""
    return ((fit.eigenvectors * fit.eigenvalues) @ fit.modes).real
