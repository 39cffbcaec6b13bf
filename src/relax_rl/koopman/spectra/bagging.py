"""How sure a spectrum is: the fit repeated on trajectories drawn with replacement.

The idea of BOP-DMD (Sashidhar and Kutz 2022, "Bagging, optimized dynamic mode decomposition"), by trajectory: snapshots
of one trajectory depend on each other, and only trajectories are independent of one another.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from relax_rl.errors import ConfigError, DataError
from relax_rl.koopman.inputs import trajectory_list
from relax_rl.koopman.linalg.assignment import optimal_assignment

__all__ = ["BaggedSpectrum", "bagged_spectrum"]

_MOST_FAILURES = 0.5


@dataclass(frozen=True)
class BaggedSpectrum:
    """Eigenvalues fitted to all trajectories, and those of every bag, in the same order."""

    eigenvalues: Tensor
    """(R,) complex128, of all trajectories."""
    bags: Tensor
    """(N, R) complex128; column r holds what each bag found nearest to eigenvalue r (optimal assignment)."""
    num_failures: int
    """Bags that could not be fitted (too few different trajectories) and are left out."""

    def interval(self, of: Callable[[Tensor], Tensor] = torch.abs, level: float = 0.95) -> tuple[Tensor, Tensor]:
        """Percentile interval of a function of the eigenvalues: by default of the moduli, (R,) each.

        Args:
            of: takes eigenvalues (..., R) and returns real numbers (...) or (..., R): `torch.abs`, `torch.angle`, or
                the dispersion, `lambda values: values.abs().var(-1, correction=0)`.
            level: level of the interval, in (0, 1).

        Raises:
            ConfigError: a level outside (0, 1).
        """
        if not 0.0 < level < 1.0:
            raise ConfigError(f"level must lie between 0 and 1, got {level}.")
        found = of(self.bags).double()
        return found.quantile((1 - level) / 2, 0), found.quantile((1 + level) / 2, 0)


def bagged_spectrum(
    trajectories: Sequence[Tensor], fit: Callable[[list[Tensor]], Tensor], *, bags: int = 200, seed: int = 0
) -> BaggedSpectrum:
    """Repeat a fit on `bags` draws of the trajectories with replacement.

    Args:
        trajectories: two or more (T_k, H).
        fit: takes a list of trajectories and returns eigenvalues (R,), the same number for each list:
            `lambda parts: dmd(parts, rank=2).eigenvalues`.
        bags: number of draws.
        seed: seed of the draws.

    Raises:
        ConfigError: fewer than two bags.
        DataError: fewer than two trajectories, or more than half of the bags could not be fitted.
    """
    trajectories = trajectory_list(list(trajectories))
    if len(trajectories) < 2:
        raise DataError(
            "One trajectory tells nothing about how much trajectories differ; give two or more, or cut a long one "
            "into pieces that are longer than its memory."
        )
    if bags < 2:
        raise ConfigError(f"bags must be at least 2, got {bags}.")
    reference = fit(trajectories).to(torch.complex128)
    generator = torch.Generator().manual_seed(seed)
    found, last = [], None
    for _ in range(bags):
        drawn = torch.randint(len(trajectories), (len(trajectories),), generator=generator).tolist()
        try:
            values = fit([trajectories[index] for index in drawn]).to(torch.complex128)
        except DataError as error:
            last = error
            continue
        if values.shape == reference.shape:
            found.append(values)
    if len(found) < (1 - _MOST_FAILURES) * bags:
        raise DataError(
            f"Only {len(found)} of {bags} bags could be fitted; give more trajectories or a lower rank."
        ) from last
    eigenvalues = torch.stack(found)
    # Matched in the complex plane: sorted by modulus, two modes of nearly the same modulus would change places.
    columns = optimal_assignment((reference[:, None] - eigenvalues[:, None, :]).abs())
    return BaggedSpectrum(reference, eigenvalues.gather(-1, columns), bags - len(found))
