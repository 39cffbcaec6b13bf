"""Dictionaries that are set up from the states rather than optimised: identity, polynomial, radial basis, Fourier.

Each standardises the states first (mean and standard deviation of every channel, kept with it and in its digest): a few
channels of a language model are a thousand times the others, and would decide every distance and every product alone.
Up to 500 observables they carry a report of their residual and condition number, as a fitted one does.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations_with_replacement
from typing import ClassVar, Self

import torch
from torch import Tensor

from relax_rl.errors import ConfigError
from relax_rl.koopman.dictionaries.fit import Partition, fit_report, partition_trajectories
from relax_rl.koopman.dictionaries.protocol import StoredDictionary
from relax_rl.koopman.inputs import channel_list

__all__ = ["IdentityDictionary", "PolynomialDictionary", "RadialBasisDictionary", "RandomFourierDictionary"]

_MAX_MONOMIALS = 20_000
_MAX_DISTANCES = 1000
# Beyond this many observables the eigenvalues that a report is made of take longer than all the rest.
_MAX_REPORTED = 500


class _StandardizedDictionary(StoredDictionary):
    """A dictionary with "mean" and "scale" (H,) among its tensors."""

    @property
    def hidden_size(self) -> int:
        return self._tensors["mean"].shape[0]

    @classmethod
    def _of(cls, partition: Partition, tensors: dict[str, Tensor], **settings: float) -> Self:
        dictionary = cls.__new__(cls)
        StoredDictionary.__init__(dictionary, tensors, settings)
        if dictionary.num_observables <= _MAX_REPORTED:
            dictionary.report = fit_report(partition, dictionary, dictionary, "none", steps=0)
        return dictionary


class IdentityDictionary(_StandardizedDictionary):
    """The channels themselves: DMD. F = H."""

    kind: ClassVar[str] = "identity"

    @property
    def num_observables(self) -> int:
        return self.hidden_size

    def _lift(self, states: Tensor) -> Tensor:
        return states

    @classmethod
    def fit(cls, trajectories: Tensor | Sequence[Tensor], *, standardize: bool = True) -> Self:
        """Read mean and scale off the trajectories, a list of (T_i, H); without `standardize`, the states as they are.

        Raises:
            DataError: no more pairs than observables.
        """
        trajectories = channel_list(trajectories)
        partition = _partition(trajectories, trajectories[0].shape[-1])
        return cls._of(partition, standardization(partition.all, standardize))


class PolynomialDictionary(_StandardizedDictionary):
    """All monomials of the channels up to a total degree, the constant included: F = binomial(H + degree, degree)."""

    kind: ClassVar[str] = "polynomial"

    @property
    def num_observables(self) -> int:
        return math.comb(self.hidden_size + self._settings["degree"], self._settings["degree"])

    def _lift(self, states: Tensor) -> Tensor:
        # Products of `degree` factors, each a channel or, for the lower degrees, one.
        factors = torch.cat([torch.ones_like(states[..., :1]), states], dim=-1)
        choices = combinations_with_replacement(range(self.hidden_size + 1), self._settings["degree"])
        index = torch.tensor(list(choices), device=states.device)
        return factors[..., index].prod(-1)

    @classmethod
    def fit(cls, trajectories: Tensor | Sequence[Tensor], *, degree: int = 2, standardize: bool = True) -> Self:
        """Read mean and scale off the trajectories, a list of (T_i, H).

        Raises:
            ConfigError: a degree below 1, or more than 20 000 monomials.
            DataError: no more pairs than observables.
        """
        trajectories = channel_list(trajectories)
        width = trajectories[0].shape[-1]
        if degree < 1 or math.comb(width + degree, degree) > _MAX_MONOMIALS:
            raise ConfigError(
                f"degree must be at least 1 and give at most {_MAX_MONOMIALS} monomials, but {degree} gives "
                f"{math.comb(width + max(degree, 0), max(degree, 0))} of {width} channels; reduce the states first."
            )
        partition = _partition(trajectories, math.comb(width + degree, degree))
        return cls._of(partition, standardization(partition.all, standardize), degree=degree)


class RadialBasisDictionary(_StandardizedDictionary):
    """exp(-|x - c_j|^2 / (2 w^2)) around F centres c_j, and width w."""

    kind: ClassVar[str] = "radial_basis"

    @property
    def num_observables(self) -> int:
        return self._tensors["centres"].shape[0]

    def _lift(self, states: Tensor) -> Tensor:
        distances = torch.cdist(states.reshape(-1, self.hidden_size), self._tensors["centres"])
        lifted = (-0.5 * (distances / self._settings["width"]).square()).exp()
        return lifted.view(*states.shape[:-1], self.num_observables)

    @classmethod
    def fit(
        cls,
        trajectories: Tensor | Sequence[Tensor],
        num_observables: int = 50,
        seed: int = 0,
        *,
        width: float | None = None,
        standardize: bool = True,
    ) -> Self:
        """Draw the centres from the states of the trajectories, a list of (T_i, H), without replacement.

        Args:
            num_observables: F.
            seed: seed of this call's own generator.
            width: w in standardised units; None is the median distance between states.

        Raises:
            ConfigError: a setting out of range.
            DataError: no more pairs than observables.
        """
        partition = _partition(trajectories, num_observables, width)
        tensors = standardization(partition.all, standardize)
        states = _standardized(partition.all, tensors)
        generator = torch.Generator().manual_seed(seed)
        # Before the width is measured, which draws from the same generator: the other way round, the centres of a seed
        # would depend on whether a width was given.
        centres = states[torch.randperm(len(states), generator=generator)[:num_observables].to(states.device)]
        width = _median_distance(states, generator) if width is None else width
        return cls._of(partition, tensors | {"centres": centres}, width=width)


class RandomFourierDictionary(_StandardizedDictionary):
    """sqrt(2 / F) cos(x O / w + b), O (H, F) standard normal and b uniform: a Gaussian kernel of width w (Rahimi and
    Recht, 2007)."""

    kind: ClassVar[str] = "random_fourier"

    @property
    def num_observables(self) -> int:
        return self._tensors["phases"].shape[0]

    def _lift(self, states: Tensor) -> Tensor:
        angles = states @ (self._tensors["frequencies"] / self._settings["width"]) + self._tensors["phases"]
        return (2.0 / self.num_observables) ** 0.5 * angles.cos()

    @classmethod
    def fit(
        cls,
        trajectories: Tensor | Sequence[Tensor],
        num_observables: int = 50,
        seed: int = 0,
        *,
        width: float | None = None,
        standardize: bool = True,
    ) -> Self:
        """Draw frequencies and phases; mean, scale and width are read off the trajectories, a list of (T_i, H).

        Args and errors as of :meth:`RadialBasisDictionary.fit`.
        """
        partition = _partition(trajectories, num_observables, width)
        tensors = standardization(partition.all, standardize)
        generator = torch.Generator().manual_seed(seed)
        states = _standardized(partition.all, tensors)
        width = _median_distance(states, generator) if width is None else width
        # After the width was measured, which draws too: with a width given, a seed has other frequencies than without.
        frequencies = torch.randn((states.shape[-1], num_observables), generator=generator)
        phases = 2.0 * math.pi * torch.rand(num_observables, generator=generator)
        drawn = {"frequencies": frequencies.to(states.device), "phases": phases.to(states.device)}
        return cls._of(partition, tensors | drawn, width=width)


def standardization(trajectories: Sequence[Tensor], is_wanted: bool = True) -> dict[str, Tensor]:
    """Mean and standard deviation (H,) of each channel; 0 and 1 where not wanted."""
    states = torch.cat(list(trajectories))
    if not is_wanted:
        return {"mean": torch.zeros_like(states[0]), "scale": torch.ones_like(states[0])}
    mean, deviation = states.mean(0), states.std(0)
    varies = (states != states[0]).any(0)
    # The squares of channels beyond 1e19, and below its inverse, do not fit in float32.
    if not bool(torch.isfinite(deviation).all()) or bool((varies & (deviation == 0)).any()):
        mean, deviation = states.double().mean(0).float(), states.double().std(0).float()
    # A channel that never changes is zero once its mean is off, whatever it is divided by.
    return {"mean": mean, "scale": torch.where(varies & (deviation > 0), deviation, 1.0)}


def _partition(trajectories: Tensor | Sequence[Tensor], num_observables: int, width: float | None = None) -> Partition:
    if num_observables < 1:
        raise ConfigError(f"num_observables must be at least 1, got {num_observables}.")
    if width is not None and not width > 0:
        raise ConfigError(f"width must be positive, got {width}.")
    # Nothing is held out, so that nothing is drawn from this generator.
    return partition_trajectories(trajectories, num_observables, 0.0, torch.Generator())


def _standardized(trajectories: Sequence[Tensor], tensors: dict[str, Tensor]) -> Tensor:
    return (torch.cat(list(trajectories)) - tensors["mean"]) / tensors["scale"]


def _median_distance(states: Tensor, generator: torch.Generator) -> float:
    """Median distance between states, of a sample where there are many."""
    # A sample, since the distances of all pairs would need N^2 numbers.
    sample = states[torch.randperm(len(states), generator=generator)[:_MAX_DISTANCES].to(states.device)]
    median = float(torch.pdist(sample).median())
    # More than half of the states may coincide, and a width of zero would divide by it.
    return median if median > 0 else 1.0
