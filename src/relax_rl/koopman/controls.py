"""Two controls of a dispersion: how it depends on length, and what is left when time is shuffled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from relax_rl.errors import ConfigError
from relax_rl.koopman.dispersion import Dispersion, Estimator, dispersion_from_lifted
from relax_rl.koopman.observables import Dictionary
from relax_rl.koopman.snapshots import exclude_nonfinite

__all__ = ["SurrogateNull", "dispersion_by_length", "surrogate_null"]


@torch.no_grad()
def dispersion_by_length(
    hidden_states: Tensor,
    mask: Tensor,
    dictionary: Dictionary,
    lengths: Sequence[int],
    estimator: Estimator = "paper",
    **options: Any,
) -> list[Dispersion]:
    """DSD of the first n tokens of each trajectory, for each n of `lengths`; undefined for those that are shorter.

    A curve that falls with n says that the estimator is measuring how few tokens there are.

    Args:
        hidden_states, mask, dictionary, estimator: as for
            :func:`~relax_rl.koopman.dispersion.dynamic_spectral_dispersion`; `options` too.
        lengths: numbers of valid tokens, each at least 2.

    Returns:
        One dispersion a length, without gradient.

    Raises:
        ConfigError: a length below 2.
    """
    if any(length < 2 for length in lengths):
        raise ConfigError(f"lengths must be at least 2 tokens, which are one snapshot pair, got {list(lengths)}.")
    states, kept, is_nonfinite = exclude_nonfinite(hidden_states, mask)
    lifted, position = dictionary(states), kept.cumsum(-1)
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
        rank = 1 + torch.minimum(num_above, num_below).double()
        p_values = (2.0 * rank / (len(self.values) + 1)).clamp_max(1.0)
        return torch.where(self.observed.is_defined, p_values, torch.nan)


@torch.no_grad()
def surrogate_null(
    hidden_states: Tensor,
    mask: Tensor,
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
            :func:`~relax_rl.koopman.dispersion.dynamic_spectral_dispersion`; `options` too.
        num_surrogates: S; 39 are the fewest that can be significant at 5 %, two-sided.
        seed: of this call's own generator.

    Raises:
        ConfigError: fewer than two surrogates.
    """
    if num_surrogates < 2:
        raise ConfigError(f"num_surrogates must be at least 2, got {num_surrogates}.")
    states, kept, is_nonfinite = exclude_nonfinite(hidden_states, mask)
    lifted = dictionary(states)
    observed = dispersion_from_lifted(lifted, kept, estimator, **options)
    observed = replace(observed, dictionary_digest=dictionary.digest, num_nonfinite=is_nonfinite.sum())
    generator = torch.Generator().manual_seed(seed)
    # Places of the valid tokens first, in order; then the same places in random order.
    places = (~kept).to(torch.int8).argsort(dim=-1, stable=True)
    values = []
    for _ in range(num_surrogates):
        keys = torch.rand(kept.shape, generator=generator).to(kept.device).masked_fill(~kept, 2.0)
        shuffled = torch.zeros_like(places).scatter_(1, places, keys.argsort(dim=-1))
        surrogate = lifted.gather(1, shuffled.unsqueeze(-1).expand_as(lifted))
        values.append(dispersion_from_lifted(surrogate, kept, estimator, **options).values)
    return SurrogateNull(observed, torch.stack(values))
