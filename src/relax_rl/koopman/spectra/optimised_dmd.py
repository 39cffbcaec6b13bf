"""Optimised DMD: exponentials fitted to whole trajectories, not an operator to pairs (Askham and Kutz 2018).

x(t) ~ sum_j b_j exp(alpha_j t) m_j, by least squares over exponents and modes at once. Every snapshot counts as
measured with noise, so that the exponents are unbiased where those of DMD are damped; times need not be evenly spaced.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

import torch
from torch import Tensor

from relax_rl.errors import ConfigError, DataError
from relax_rl.koopman.inputs import as_tensor, in_its_unit, require_real, trajectory_list
from relax_rl.koopman.linalg.assignment import optimal_assignment
from relax_rl.koopman.linalg.ranks import check_rank
from relax_rl.koopman.pairs.snapshots import double_of, pack_trajectories
from relax_rl.koopman.spectra.dmd import dmd

__all__ = ["Constraint", "ExponentialFit", "optimised_dmd"]

Constraint = Literal["stable", "imaginary", "conjugate_pairs"]
"""Constraints on the exponents: "stable", no growth; "imaginary", neither growth nor decay; "conjugate_pairs", each
with
its conjugate among them (or real), as those of real data are."""

_EPS = torch.finfo(torch.float64).eps
_MAX_DAMPING = 1e16
# An eigenvalue of (almost) zero has no logarithm; it starts as one that fades to this in a step.
_LEAST_MODULUS = 1e-3
_LARGEST_GROWTH = 1e3


@dataclass(frozen=True)
class ExponentialFit:
    """Exponents shared by all trajectories, one amplitude for each mode and trajectory."""

    exponents: Tensor
    """alpha, (R,) complex128: growth rate + i angular frequency, per unit of time; slowest decay first."""
    modes: Tensor
    """(R, H) complex128, rows of unit length."""
    amplitudes: Tensor
    """b, (K, R) complex128, of each trajectory at its time 0."""
    relative_error: float
    """|X - fit| / |X| over all trajectories, in the directions that were fitted."""
    iterations: int
    is_converged: bool
    """False where the largest number of iterations ended it, and where an exponential grows by more than 1000 times in
    a step: it fits one snapshot, the last, and is no dynamics. The fit is the best one seen either way."""

    def eigenvalues(self, dt: float) -> Tensor:
        """exp(alpha dt), (R,): eigenvalues of discrete time."""
        return (self.exponents * dt).exp()

    def at(self, times: Tensor, trajectory: int = 0) -> Tensor:
        """The fit at times (N,) of one of the trajectories, (N, H) complex128."""
        return (
            torch.outer(times.to(torch.complex128), self.exponents).exp() * self.amplitudes[trajectory]
        ) @ self.modes


def optimised_dmd(
    trajectories: Tensor | Sequence[Tensor],
    rank: int,
    *,
    dt: float = 1.0,
    times: Sequence[Tensor] | None = None,
    initial: Tensor | None = None,
    constraints: Sequence[Constraint] = (),
    bound: float | None = None,
    max_iterations: int = 200,
    tolerance: float = 1e-12,
) -> ExponentialFit:
    """Fit `rank` exponentials to trajectories by variable projection and Levenberg-Marquardt.

    The modes are eliminated (for given exponents they are a linear regression), and the exponents follow the full
    Golub-Pereyra Jacobian. A step that does not lower the error is not taken but shortened; columns are scaled so that
    no exponential overflows; exponents that meet are handled by a truncated singular value decomposition.

    Args:
        trajectories: one (T, H) or a list of (T_k, H), real or complex, on the CPU; missing snapshots may simply be
            left out if `times` are given.
        rank: R, at most the number of features H, and less than the snapshots of some trajectory.
        dt: time between two snapshots, if evenly spaced.
        times: (T_k,) of each trajectory, increasing, instead of dt.
        initial: exponents (R,) to start from; None takes those of DMD.
        constraints: see :data:`Constraint`; every iterate fulfils all of them.
        bound: largest growth or decay rate, |Re alpha|, per unit of time; None: no bound.
        max_iterations: most iterations of Levenberg-Marquardt.
        tolerance: ends it when the error falls by less than this share.

    Raises:
        DataError: trajectories, or times, that do not belong together; NaN or Inf; nothing but zeros.
        ConfigError: a setting out of range.
    """
    trajectories = trajectory_list(trajectories)
    snapshots, pairs = pack_trajectories(trajectories)
    _require_settings(rank, min(snapshots.shape), dt, max_iterations, constraints, bound)
    longest = max(len(trajectory) for trajectory in trajectories)
    if longest <= rank:
        raise DataError(
            f"{rank} exponentials go through {longest} snapshots whatever their exponents are; give a trajectory of "
            f"{rank + 1} or more, or a lower rank."
        )
    # In double precision: the exponents come from differences of nearly equal columns.
    snapshots = snapshots.detach().to(double_of(snapshots.dtype))
    if not bool(torch.isfinite(snapshots).all()):
        raise DataError("The snapshots hold NaN or Inf; leave that trajectory out.")
    clocks = _clocks(trajectories, times, dt)
    snapshots, unit = in_its_unit(snapshots)
    _, scales, right = torch.linalg.svd(snapshots, full_matrices=False)
    if not scales[0] > 0:
        raise DataError("The snapshots are all zero, and have no exponents; leave them out.")
    if not scales[rank - 1] > max(snapshots.shape) * _EPS * scales[0]:
        raise DataError(f"The snapshots span fewer than {rank} directions; use a lower rank.")
    basis = right[:rank].mH
    reduced = [part.to(torch.complex128) for part in (snapshots @ basis).split([len(clock) for clock in clocks])]
    if initial is None:
        exponents = _first_exponents(snapshots @ basis, pairs, clocks, dt if times is None else None)
    else:
        exponents = as_tensor(initial, "initial").detach().to(torch.complex128)
        if exponents.shape != (rank,):
            raise ConfigError(
                f"initial must hold {rank} exponents, one for each direction, got {tuple(initial.shape)}."
            )
    admissible = _Admissible(tuple(constraints), bound)
    if constraints or bound is not None:
        exponents = admissible.nearest(_apart(admissible.nearest(exponents), clocks))
    exponents, iterations, is_converged = _descend(exponents, clocks, reduced, max_iterations, tolerance, admissible)
    step = min(float(clock.diff().min()) for clock in clocks if len(clock) > 1)
    is_converged &= float(exponents.real.max()) * step <= math.log(_LARGEST_GROWTH)
    order = exponents.real.argsort(descending=True, stable=True)
    fit = _assemble(exponents[order], clocks, reduced, basis.to(torch.complex128), iterations, is_converged)
    return replace(fit, amplitudes=fit.amplitudes * unit)


def _require_settings(
    rank: int, largest_rank: int, dt: float, max_iterations: int, constraints: Sequence[str], bound: float | None
) -> None:
    if not isinstance(check_rank(rank, largest_rank), int):
        raise ConfigError(f"Optimised DMD fits a whole number of exponentials, got rank={rank!r}.")
    unknown = [name for name in constraints if name not in get_args(Constraint)]
    if unknown:
        raise ConfigError(f"Unknown constraint {unknown[0]!r}; use one of {', '.join(get_args(Constraint))}.")
    if bound is not None and not bound > 0:
        raise ConfigError(f"bound, the largest growth or decay rate, must be positive, got {bound}.")
    if not dt > 0 or max_iterations < 1:
        raise ConfigError(f"dt and max_iterations must be positive, got {dt} and {max_iterations}.")


def _clocks(trajectories: Sequence[Tensor], times: Sequence[Tensor] | None, dt: float) -> list[Tensor]:
    """Times of each trajectory, (T_k,) float64."""
    if times is None:
        return [dt * torch.arange(len(trajectory), dtype=torch.float64) for trajectory in trajectories]
    given = [require_real(as_tensor(clock, "times"), "times") for clock in times]
    clocks = [clock.detach().to("cpu", torch.float64) for clock in given]
    if not all(bool(torch.isfinite(clock).all()) for clock in clocks):
        raise DataError("times hold NaN or Inf; leave those snapshots out.")
    if [clock.shape for clock in clocks] != [trajectory.shape[:1] for trajectory in trajectories]:
        raise DataError("times must be one (T_k,) tensor for each trajectory (T_k, H), of the same length.")
    if any(bool((clock.diff() <= 0).any()) for clock in clocks):
        raise DataError("times must increase from each snapshot to the next.")
    return clocks


def _first_exponents(snapshots: Tensor, pairs: Tensor, clocks: list[Tensor], dt: float | None) -> Tensor:
    """Exponents of DMD on evenly spaced snapshots, of the trapezoidal rule (Askham and Kutz, Section 3.4) on others."""
    if dt is not None:
        eigenvalues = dmd(snapshots, pairs).eigenvalues
    else:
        steps = torch.cat([torch.cat([clock.diff(), clock.new_ones(1)]) for clock in clocks])[:-1][pairs].unsqueeze(-1)
        x, y = snapshots[:-1][pairs], snapshots[1:][pairs]
        generator = torch.linalg.lstsq(0.5 * (x + y), (y - x) / steps, driver="gelsd").solution
        return torch.linalg.eigvals(generator).to(torch.complex128)
    missing = snapshots.shape[-1] - len(eigenvalues)
    eigenvalues = torch.nn.functional.pad(torch.view_as_real(eigenvalues), (0, 0, 0, missing))
    eigenvalues = torch.view_as_complex(eigenvalues)
    is_small = eigenvalues.abs() < _LEAST_MODULUS
    # Several of them must not start as one and the same exponential.
    spread = _LEAST_MODULUS * torch.linspace(1.0, 2.0, len(eigenvalues), dtype=torch.float64)
    return torch.where(is_small, spread.to(eigenvalues.dtype), eigenvalues).log() / dt


def _apart(exponents: Tensor, clocks: list[Tensor]) -> Tensor:
    """Exponents of which constraints made several the same, a little apart: of equal ones no step can part."""
    meets = (exponents[:, None] - exponents[None, :]).abs() < 1e-9
    crowded = (meets.sum(-1) > 1).nonzero().squeeze(-1)
    duration = max(float(clock[-1] - clock[0]) for clock in clocks)
    shifts = torch.linspace(-1.0, 1.0, len(crowded), dtype=torch.float64) / duration
    return exponents.index_add(0, crowded, torch.complex(torch.zeros_like(shifts), shifts))


@dataclass(frozen=True)
class _Projection:
    """Variable projection of one trajectory at given exponents, columns phi_j = exp(alpha_j (t - t_j))."""

    residual: Tensor
    """P X, (T, R), with P the projector onto the complement of the columns."""
    coefficients: Tensor
    """Phi^+ X, (R, R)."""
    adjoint: Tensor
    """(Phi^+)*, (T, R)."""
    outside: Tensor
    """P d_j with d_j = t phi_j, (T, R)."""
    slopes: Tensor
    """d_j* P X, (R, R)."""
    shifts: Tensor
    """t_j, (R,): the last time for growing exponentials, 0 for others, so that no column exceeds 1."""


def _project(exponents: Tensor, clock: Tensor, data: Tensor) -> _Projection:
    shifts = torch.where(exponents.real > 0, clock.max(), 0.0)
    columns = (exponents * (clock.unsqueeze(-1) - shifts)).exp()
    left, scales, right = torch.linalg.svd(columns, full_matrices=False)
    # Columns of exponents that meet are dependent: without the cut-off their coefficients would be huge and cancel.
    kept = scales > max(columns.shape) * _EPS * scales[0]
    left = left[:, kept]
    adjoint = (left / scales[kept]) @ right[kept]
    residual = data - left @ (left.mH @ data)
    derivative = clock.unsqueeze(-1) * columns
    outside = derivative - left @ (left.mH @ derivative)
    return _Projection(residual, adjoint.mH @ data, adjoint, outside, derivative.mH @ residual, shifts)


@dataclass(frozen=True)
class _Admissible:
    """The exponents that the constraints allow."""

    constraints: tuple[Constraint, ...]
    bound: float | None

    def held(self, exponents: Tensor, gradient: Tensor) -> Tensor:
        """A mask of (Re alpha, Im alpha), (2 R,) bool: those at an edge that a descent would cross.

        A Gauss-Newton step for the others must count them as fixed: projected afterwards, it would not be one.
        """
        growth, downhill = exponents.real, -gradient[: len(exponents)]
        held = torch.full_like(growth, "imaginary" in self.constraints, dtype=torch.bool)
        largest = 0.0 if "stable" in self.constraints else math.inf if self.bound is None else self.bound
        held |= (growth >= largest) & (downhill > 0)
        if self.bound is not None:
            held |= (growth <= -self.bound) & (downhill < 0)
        return torch.cat([held, torch.zeros_like(held)])

    def nearest(self, exponents: Tensor) -> Tensor:
        """The nearest exponents that are allowed, (R,)."""
        growth, frequency = exponents.real, exponents.imag
        if "conjugate_pairs" in self.constraints:
            # The cheapest matching of the exponents with their conjugates. One that meets itself becomes real, and so
            # does one whose match is not mutual.
            partner = optimal_assignment((exponents[:, None] - exponents.conj()[None, :]).abs())
            partner = torch.where(partner[partner] == torch.arange(len(partner)), partner, torch.arange(len(partner)))
            growth, frequency = 0.5 * (growth + growth[partner]), 0.5 * (frequency - frequency[partner])
        if "imaginary" in self.constraints:
            growth = torch.zeros_like(growth)
        if "stable" in self.constraints:
            growth = growth.clamp_max(0.0)
        if self.bound is not None:
            growth = growth.clamp(-self.bound, self.bound)
        return torch.complex(growth, frequency)


def _error(parts: list[_Projection]) -> float:
    return sum(float(part.residual.abs().square().sum()) for part in parts)


def _descend(
    exponents: Tensor,
    clocks: list[Tensor],
    data: list[Tensor],
    max_iterations: int,
    tolerance: float,
    admissible: _Admissible,
) -> tuple[Tensor, int, bool]:
    """Levenberg-Marquardt on the real and imaginary parts of the exponents; error never rises.

    A step that leaves what is allowed is taken to the nearest point within.
    """

    def project(candidate: Tensor) -> list[_Projection]:
        return [_project(candidate, clock, part) for clock, part in zip(clocks, data, strict=True)]

    parts = project(exponents)
    error, damping = _error(parts), 1e-2
    smallest = _EPS**2 * sum(float(part.abs().square().sum()) for part in data)
    for iteration in range(1, max_iterations + 1):
        hessian, gradient = _normal_equations(parts)
        is_free = ~admissible.held(exponents, gradient)
        hessian, gradient = hessian * is_free * is_free.unsqueeze(-1), gradient * is_free
        diagonal = hessian.diagonal()
        # Marquardt damps each direction in its own units. An exponent that nothing depends on has a diagonal of zero,
        # and its step would not be damped at all.
        floor = _EPS * diagonal.max().clamp_min(torch.finfo(torch.float64).tiny)
        while True:
            step = torch.linalg.lstsq(
                hessian + damping * torch.diag(diagonal.clamp_min(floor)), -gradient.unsqueeze(-1), driver="gelsd"
            ).solution.squeeze(-1)
            candidate = admissible.nearest(exponents + torch.complex(*step.chunk(2)))
            # A step that is not finite counts as one that does not help: the error stays, and the damping grows.
            trial = project(candidate) if bool(torch.isfinite(step).all()) else parts
            trial_error = _error(trial)
            if trial_error < error:
                break
            damping *= 4.0
            if damping > _MAX_DAMPING:
                return exponents, iteration, True  # no step, however short, lowers the error
        is_still = error - trial_error <= tolerance * error or trial_error <= smallest
        exponents, parts, error, damping = candidate, trial, trial_error, max(damping / 5.0, 1e-14)
        if is_still:
            return exponents, iteration, True
    return exponents, max_iterations, False


def _normal_equations(parts: list[_Projection]) -> tuple[Tensor, Tensor]:
    """J^T J and J^T r of the residual over (Re alpha, Im alpha), summed over trajectories.

    The derivative of P X by alpha_j is -(P d_j b_j + c_j e_j) for a real change and -i (P d_j b_j - c_j e_j) for an
    imaginary one, with rows b = Phi^+ X, columns c = (Phi^+)* and rows e_j = d_j* P X. Both terms have rank one and are
    orthogonal to each other, and the second is orthogonal to the residual.
    """
    size = parts[0].coefficients.shape[0]
    first = torch.zeros((size, size), dtype=torch.complex128)
    second, slope = first.clone(), torch.zeros(size, dtype=torch.complex128)
    for part in parts:
        rows, columns = part.coefficients, part.adjoint
        first += (part.outside.mH @ part.outside) * (rows @ rows.mH).T
        second += (columns.mH @ columns) * (part.slopes @ part.slopes.mH).T
        slope += ((part.outside.mH @ part.residual) * rows.conj()).sum(-1)
    total, difference = first + second, first - second
    top = torch.cat([total.real, -difference.imag], -1)
    bottom = torch.cat([difference.imag, total.real], -1)
    return torch.cat([top, bottom], -2), -torch.cat([slope.real, slope.imag])


def _assemble(
    exponents: Tensor,
    clocks: list[Tensor],
    data: list[Tensor],
    basis: Tensor,
    iterations: int,
    is_converged: bool,
) -> ExponentialFit:
    """Unit modes and amplitudes: of each mode's coefficients in all trajectories, (K, R), the best of rank one."""
    parts = [_project(exponents, clock, part) for clock, part in zip(clocks, data, strict=True)]
    at_zero = torch.stack([part.coefficients * (-exponents * part.shifts).exp().unsqueeze(-1) for part in parts], 1)
    _, _, right = torch.linalg.svd(at_zero, full_matrices=False)
    modes = right[:, 0]
    amplitudes = (at_zero * modes.conj().unsqueeze(1)).sum(-1).T
    norm = sum(float(part.abs().square().sum()) for part in data)
    return ExponentialFit(
        exponents, modes @ basis.mH, amplitudes, (_error(parts) / norm) ** 0.5, iterations, is_converged
    )
