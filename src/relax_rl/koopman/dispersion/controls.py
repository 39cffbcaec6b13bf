"""Controls of a dispersion: how it depends on length, what is left when time is shuffled, what other pairs say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from relax_rl.errors import ConfigError, DataError
from relax_rl.koopman.dictionaries.protocol import Dictionary
from relax_rl.koopman.dispersion.estimators import ROBUST_WINDOW, Dispersion, Estimator, dispersion_from_lifted
from relax_rl.koopman.inputs import as_channels, as_tensor, batch_of, in_its_unit, require_real
from relax_rl.koopman.pairs.snapshots import exclude_nonfinite

__all__ = ["SurrogateNull", "dispersion_by_length", "held_out_heterogeneity", "surrogate_null"]


@torch.no_grad()
def dispersion_by_length(
    hidden_states: Tensor | Sequence[Tensor],
    mask: Tensor | None,
    dictionary: Dictionary,
    lengths: Sequence[int],
    estimator: Estimator = "paper",
    **options: Any,
) -> list[Dispersion]:
    """DSD of the first n tokens of each trajectory, for each n of `lengths`; undefined for those that are shorter.

    A curve that falls with n says that the estimator is measuring how few tokens there are.

    Args:
        hidden_states, mask, dictionary, estimator: as for
            :func:`~relax_rl.koopman.dispersion.estimators.dynamic_spectral_dispersion`; `options` too.
        lengths: numbers of valid tokens, each at least 2.

    Returns:
        One dispersion a length, without gradient.

    Raises:
        ConfigError: a length below 2.
    """
    if any(length < 2 for length in lengths):
        raise ConfigError(f"lengths must be at least 2 tokens, which are one snapshot pair, got {list(lengths)}.")
    states, kept, is_nonfinite = exclude_nonfinite(*_channels(hidden_states, mask))
    lifted, position = dictionary(states), kept.cumsum(-1)
    # Only where all n tokens are there: a shorter trajectory would be measured at its own length under this one.
    is_reached = [kept & (position <= length) & (position[:, -1:] >= length) for length in lengths]
    measured = [dispersion_from_lifted(lifted, reached, estimator, **options) for reached in is_reached]
    return [replace(each, dictionary_digest=dictionary.digest, num_nonfinite=is_nonfinite.sum()) for each in measured]


@dataclass(frozen=True)
class SurrogateNull:
    """A dispersion beside those of the same states in random order."""

    observed: Dispersion
    values: Tensor
    """(S, B) float64, of the surrogates; 0 where undefined."""

    @property
    def z_scores(self) -> Tensor:
        """(B,) distance of the observed value from the surrogates' mean in their standard deviations; or NaN."""
        deviation = self.values.std(0)
        scores = (self.observed.values - self.values.mean(0)) / deviation
        return torch.where(self.observed.is_defined & (deviation > 0), scores, torch.nan)

    @property
    def p_values(self) -> Tensor:
        """(B,) two-sided permutation p value, at least 2 / (S + 1); NaN where undefined."""
        num_above = (self.values >= self.observed.values).sum(0)
        num_below = (self.values <= self.observed.values).sum(0)
        # The observed value is one of the orders, and ties count against it: p is never zero.
        rank = 1 + torch.minimum(num_above, num_below).double()
        p_values = (2.0 * rank / (len(self.values) + 1)).clamp_max(1.0)
        return torch.where(self.observed.is_defined, p_values, torch.nan)


@torch.no_grad()
def surrogate_null(
    hidden_states: Tensor | Sequence[Tensor],
    mask: Tensor | None,
    dictionary: Dictionary,
    estimator: Estimator = "paper",
    *,
    num_surrogates: int = 39,
    seed: int = 0,
    **options: Any,
) -> SurrogateNull:
    """DSD of trajectories whose valid tokens are put in random order, which leaves everything but their dynamics.

    Args:
        hidden_states, mask, dictionary, estimator: as for
            :func:`~relax_rl.koopman.dispersion.estimators.dynamic_spectral_dispersion`; `options` too.
        num_surrogates: S; 39 are the fewest that can be significant at 5 %, two-sided.
        seed: seed of this call's own generator.

    Raises:
        ConfigError: fewer than two surrogates.
    """
    if num_surrogates < 2:
        raise ConfigError(f"num_surrogates must be at least 2, got {num_surrogates}.")
    states, kept, is_nonfinite = exclude_nonfinite(*_channels(hidden_states, mask))
    lifted = dictionary(states)
    observed = dispersion_from_lifted(lifted, kept, estimator, **options)
    observed = replace(observed, dictionary_digest=dictionary.digest, num_nonfinite=is_nonfinite.sum())
    generator = torch.Generator().manual_seed(seed)
    # Places of the valid tokens first, in order; then the same places in random order.
    places = (~kept).to(torch.int8).argsort(dim=-1, stable=True)
    values = []
    for _ in range(num_surrogates):
        # Keys lie below 1, so that masked places sort behind all valid ones.
        keys = torch.rand(kept.shape, generator=generator).to(kept.device).masked_fill(~kept, 2.0)
        shuffled = torch.zeros_like(places).scatter_(1, places, keys.argsort(dim=-1))
        surrogate = lifted.gather(1, shuffled.unsqueeze(-1).expand_as(lifted))
        values.append(dispersion_from_lifted(surrogate, kept, estimator, **options).values)
    return SurrogateNull(observed, torch.stack(values))


def held_out_heterogeneity(lifted: Tensor, *, rank: int = 8, window: int = ROBUST_WINDOW) -> Tensor:
    """Variance of the modes' moduli, each measured on snapshot pairs that took no part in finding the modes.

    A judge of a dispersion that was optimised: what is found here was not made by fitting noise. In windows of a fixed
    number of pairs, half overlapping, the ``rank`` leading directions are whitened; modes come from every other pair,
    and the modulus of each is that of its correlation over the pairs between them; then the folds change places.

    Args:
        lifted: (B, T, F) trajectories of one length, none shorter than a window; the gradient holds the modes fixed.
        rank: directions kept in each window, at most F and ``window``.
        window: snapshot pairs in a window.

    Returns:
        (B,) float64, from 0 to 1/4.

    Raises:
        DataError: trajectories shorter than a window, not (B, T, F) or not real; or a window with fewer than ``rank``
            directions.
    """
    lifted = require_real(as_tensor(lifted, "Lifted states"), "Lifted states")
    if lifted.ndim != 3 or lifted.shape[1] <= window:
        raise DataError(f"Lifted states must be (B, T, F) with T above {window}, got {tuple(lifted.shape)}.")
    if not bool(torch.isfinite(lifted.detach()).all()):
        raise DataError("The lifted states hold NaN or Inf; leave that trajectory out.")
    pieces = _windows(in_its_unit(lifted.double(), (-2, -1))[0], window)
    x, y = pieces[..., :-1, :], pieces[..., 1:, :]
    mean = 0.5 * (x.mean(-2, keepdim=True) + y.mean(-2, keepdim=True))
    x, y = x - mean, y - mean
    values, vectors = torch.linalg.eigh((x.mT @ x + y.mT @ y).detach())
    # A window whose states do not move has eigenvalues of zero; the floor keeps their inverse root finite.
    basis = vectors[..., -rank:] * values[..., None, -rank:].clamp_min(1e-30).rsqrt()
    x, y = x @ basis, y @ basis
    folds = []
    for fold in (0, 1):
        a, b = x[..., fold::2, :].detach(), y[..., fold::2, :].detach()
        matrix, info = torch.linalg.solve_ex(0.5 * (a.mT @ a + b.mT @ b), a.mT @ b)
        if bool((info != 0).any()):
            raise DataError(f"A window of the lifted states has fewer than {rank} directions; lower the rank.")
        modes = torch.linalg.eig(matrix).eigenvectors
        p, q = x[..., 1 - fold :: 2, :].to(modes.dtype) @ modes, y[..., 1 - fold :: 2, :].to(modes.dtype) @ modes
        moduli = (p.conj() * q).sum(-2).abs() / (0.5 * (p.abs() ** 2 + q.abs() ** 2)).sum(-2)
        folds.append(moduli.var(-1, correction=0))
    return torch.stack(folds).mean(0).mean(-1)


def _channels(states: object, mask: object) -> tuple[Tensor, Tensor]:
    """A batch with its mask, complex states as channels, as dictionaries lift them."""
    states, mask = batch_of(states, mask, "Hidden states")
    return as_channels(states), mask


def _windows(lifted: Tensor, window: int) -> Tensor:
    """(B, windows, window + 1, F): half overlapping, spread evenly over the trajectory."""
    last = lifted.shape[1] - 1 - window
    starts = torch.linspace(0, last, 1 + -(-last // (window // 2)), dtype=torch.float64).round().long().tolist()
    return torch.stack([lifted[:, start : start + window + 1] for start in starts], 1)
