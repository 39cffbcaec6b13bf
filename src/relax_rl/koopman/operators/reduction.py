"""Snapshot pairs in the coordinates of their leading singular directions, from which every operator is fitted.

X = Q S V*, with Q (N, R) orthonormal in time, S (R,) and V (F, R) orthonormal over the observables. In the whitened
coordinates x V S^-1 the Gram matrix is the identity, so that nothing fitted there squares the condition of X, though it
be written in Gram matrices. There are four ways to Q, S and V, and everything after them is the same.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal, get_args

import torch
from torch import Tensor

from relax_rl.errors import ConfigError, DataError
from relax_rl.koopman.inputs import all_finite, as_tensor, in_its_unit
from relax_rl.koopman.linalg.eigensolvers import eigh
from relax_rl.koopman.linalg.ranks import Rank, check_rank, select_rank
from relax_rl.koopman.pairs.snapshots import GramStatistics, double_of, paired_snapshots

__all__ = [
    "Reduction",
    "Solver",
    "clean_snapshots",
    "masked_pairs",
    "reduce_kernel",
    "reduce_snapshots",
    "reduce_statistics",
]

Solver = Literal["auto", "svd", "gram", "randomised"]
"""How X is decomposed: by its singular value decomposition; through the Gram matrix of its short side (the method of
snapshots, where T < F), which is several times faster and squares the condition; by a randomised range finder, for a
small rank of wide snapshots. "auto" is "gram" where what it loses is below the rounding of the input (float32 and
bfloat16 that are not too ill-conditioned), and "svd" otherwise, so always for float64."""

_OVERSAMPLING = 10
_POWER_ITERATIONS = 2
_EPS = torch.finfo(torch.float64).eps


@dataclass(frozen=True)
class Reduction:
    """X = Q S V* cut to R directions; in a batch, R is the largest rank, and the directions left out are zero."""

    scales: Tensor
    """S, (..., R), descending; 0 for a direction left out."""
    coefficients: Tensor
    """V S^-1, (..., F, R): whitened coordinates are these times the observables."""
    num_pairs: Tensor
    """(...), int64."""
    first: Tensor | None
    """Q, (..., N, R), rows that are no pair being zero; None where only statistics were given."""
    second: Tensor | None
    """Y V S^-1, (..., N, R)."""
    present: Tensor
    """Q* X' (..., R, H) for the states X' that modes are wanted of; X itself unless others were given."""
    future: Tensor
    """Q* Y', (..., R, H)."""
    pairs: Tensor | None = None
    """(..., N) bool, which rows of `first` and `second` are pairs; None where only statistics were given."""
    statistics: GramStatistics | None = None
    """`whitened` where only statistics were given."""

    @cached_property
    def whitened(self) -> GramStatistics:
        """Statistics of the whitened pairs, (..., R, R): G is the identity, A = Q* Y V S^-1."""
        if self.statistics is not None:
            return self.statistics
        assert self.first is not None
        assert self.second is not None
        first, second = self.first, self.second
        return GramStatistics(first.mH @ first, first.mH @ second, second.mH @ second, self.num_pairs)

    @property
    def rank(self) -> Tensor:
        """Number of directions kept, (...), int64."""
        return (self.scales > 0).sum(-1)

    @property
    def condition(self) -> Tensor:
        """Condition number of X on the directions kept, (...)."""
        return _condition(self.scales)

    def sequence(self) -> tuple[Tensor, Tensor]:
        """The whitened snapshots in order of time, (..., N + 1, R), zero outside every pair, and their pairs.

        Raises:
            ConfigError: only statistics were given, which hold no order.
        """
        if self.first is None or self.second is None or self.pairs is None:
            raise ConfigError(
                "Gram statistics of pairs do not hold the snapshots before each pair; give the snapshots themselves."
            )
        if bool(self.pairs.all()):
            return torch.cat([self.first, self.second[..., -1:, :]], -2), self.pairs
        # A snapshot is the first of its pair, or, at the end of a trajectory, the second one of the pair before.
        links = self.pairs.unsqueeze(-1)
        begins = torch.nn.functional.pad(links, (0, 0, 0, 1))
        first = torch.nn.functional.pad(self.first, (0, 0, 0, 1))
        second = torch.nn.functional.pad(torch.where(links, self.second, 0.0), (0, 0, 1, 0))
        return torch.where(begins, first, second), self.pairs


def reduce_snapshots(
    snapshots: Tensor,
    pairs: Tensor,
    *,
    rank: Rank = None,
    solver: Solver = "auto",
    seed: int = 0,
    states: Tensor | None = None,
) -> Reduction:
    """Reduce snapshots (..., T, F), with `pairs` (..., T-1) bool, to `rank` directions.

    Args:
        snapshots: real or complex, any precision, finite where they are in a pair; computed in double precision.
        pairs: mask of the neighbours that are snapshot pairs.
        rank: see :data:`~relax_rl.koopman.linalg.ranks.Rank`.
        solver: see :data:`Solver`; "randomised" needs a whole number for `rank`.
        seed: seed of the randomised solver's own generator.
        states: (..., T, H), what modes are wanted of; None is the snapshots themselves.

    Raises:
        DataError: no direction to keep, or a NaN or Inf in a pair.
        ConfigError: a rank or a solver that there is not.
    """
    rank = check_rank(rank, snapshots.shape[-1])
    if solver not in get_args(Solver):
        raise ConfigError(f"Unknown solver {solver!r}; use one of {', '.join(get_args(Solver))}.")
    if solver == "randomised" and not isinstance(rank, int):
        raise ConfigError(f"The randomised solver needs a whole number for rank, got {rank!r}; or use solver='gram'.")
    # Whole numbers are exact, so nothing of theirs may be lost: they count as double precision.
    is_inexact = snapshots.is_floating_point() or snapshots.is_complex()
    precision = torch.finfo(snapshots.dtype).eps if is_inexact else _EPS
    used = paired_snapshots(pairs)
    snapshots, unit = in_its_unit(clean_snapshots(snapshots, used), (-2, -1))
    x, y = masked_pairs(snapshots, pairs)
    if solver == "randomised":
        assert isinstance(rank, int)
        parts = _randomised(x, rank, seed)
    elif solver == "svd" or (solver == "auto" and precision <= _EPS):
        parts = _svd(x)
    else:
        parts = _short_side(snapshots, pairs, x)
        # Judged on the directions that are kept. What is cut off may be as ill-conditioned as it likes.
        if solver == "auto" and _is_lossy(parts, parts.select(rank, pairs, x.shape[-1]), precision):
            parts = _svd(x)
    chosen = parts.select(rank, pairs, x.shape[-1])
    targets = (x, y) if states is None else masked_pairs(clean_snapshots(states, used), pairs)
    reduction = _cut(parts, chosen, pairs, targets, x, y)
    return reduction if unit.ndim == 0 else _in_units_of(unit, reduction, states is None)


def reduce_kernel(
    kernel: Tensor, pairs: Tensor, states: Tensor, *, rank: Rank = None, tolerance: float = 1e-12
) -> Reduction:
    """Reduce a kernel matrix k(z_s, z_t), (..., T, T), of snapshots that may lift to infinitely many observables.

    `coefficients` are then over the kernel sections k(., x_t) of the T-1 first snapshots.

    Args:
        kernel: Hermitian positive semi-definite.
        pairs: (..., T-1) bool.
        states: (..., T, H), what modes are wanted of.
        rank: see :data:`~relax_rl.koopman.linalg.ranks.Rank`; a number is at most T - 1.
        tolerance: eigenvalues of the kernel matrix below this share of the largest are rounding.

    Raises:
        DataError: no direction to keep; NaN or Inf in a pair or in the kernel.
        ConfigError: a rank that there is not.
    """
    rank = check_rank(rank, kernel.shape[-1] - 1)
    targets = masked_pairs(clean_snapshots(states, paired_snapshots(pairs)), pairs)
    # An inner product counts where both of its snapshots are the first of a pair; padding has a kernel with everything.
    links = pairs.unsqueeze(-1) & pairs.unsqueeze(-2)
    kernel = as_tensor(kernel, "the kernel of the states").detach().to(double_of(kernel.dtype))
    xx, yx = torch.where(links, kernel[..., :-1, :-1], 0.0), torch.where(links, kernel[..., 1:, :-1], 0.0)
    if not bool(torch.isfinite(xx).all() and torch.isfinite(yx).all()):
        raise DataError("The kernel of some snapshots is NaN or Inf; use another kernel, or scale the states.")
    if _is_underflow(xx):
        raise DataError("The kernel of the snapshots is too small for double precision; scale the states.")
    parts = _from_inner_products(xx, yx, tolerance**0.5)
    return _cut(parts, parts.select(rank, pairs, kernel.shape[-1] - 1), pairs, targets)


def reduce_statistics(statistics: GramStatistics, *, rank: Rank = None) -> Reduction:
    """Reduce Gram statistics; directions below sqrt(eps) of the leading one are rounding, and are left out."""
    rank = check_rank(rank, statistics.num_observables)
    gram, cross = statistics.gram.detach(), statistics.cross.detach()
    if not bool(torch.isfinite(gram).all() and torch.isfinite(cross).all()):
        raise DataError("The Gram statistics hold NaN or Inf, or squares too large for them; scale the snapshots.")
    if _is_underflow(gram):
        raise DataError("The squares of the snapshots are too small for double precision; scale the snapshots.")
    values, vectors = eigh(gram)
    scales, vectors = values.flip(-1).clamp_min(0.0).sqrt(), vectors.flip(-1)
    # The eigenvalues of G are squares: what is rounding below F eps there is rounding below its root here.
    num_observables = statistics.num_observables
    chosen = select_rank(scales, rank, statistics.num_pairs, num_observables, (num_observables * _EPS) ** 0.5)
    scales, inverse = _kept(scales, chosen)
    coefficients = vectors[..., : scales.shape[-1]] * inverse.unsqueeze(-2)
    whitened = statistics.changed_basis(coefficients)
    present, future = coefficients.mH @ gram, coefficients.mH @ cross
    num_pairs = statistics.num_pairs
    return Reduction(scales, coefficients, num_pairs, None, None, present, future, statistics=whitened)


@dataclass(frozen=True)
class _Parts:
    """S (..., K) descending, and the parts that give the rest once the directions are chosen."""

    scales: Tensor
    floor: float
    """Singular values below this share of the largest are rounding."""
    left: Tensor | None = None
    """Q, (..., N, K); None: X V S^-1."""
    right: Tensor | None = None
    """V, (..., F, K); None: X* Q S^-1."""
    products: Tensor | None = None
    """Y X*, (..., N, N), where V is None."""

    def select(self, rank: Rank, pairs: Tensor, width: int) -> Tensor:
        return select_rank(self.scales, rank, pairs.sum(-1), width, self.floor)


def _svd(x: Tensor) -> _Parts:
    left, scales, right = torch.linalg.svd(x, full_matrices=False)
    return _Parts(scales, max(x.shape[-2:]) * _EPS, left, right.mH)


def _randomised(x: Tensor, rank: int, seed: int) -> _Parts:
    """Halko, Martinsson and Tropp (2011), Algorithm 4.4, on the range of X."""
    size = min(rank + _OVERSAMPLING, *x.shape[-2:])
    generator = torch.Generator().manual_seed(seed)
    test = torch.randn((x.shape[-1], size), generator=generator, dtype=torch.float64).to(x.device, x.dtype)
    basis = torch.linalg.qr(x @ test).Q
    # Orthonormalised after every product: bare powers would leave nothing but the leading direction above rounding.
    for _ in range(_POWER_ITERATIONS):
        basis = torch.linalg.qr(x @ torch.linalg.qr(x.mH @ basis).Q).Q
    left, scales, right = torch.linalg.svd(basis.mH @ x, full_matrices=False)
    return _Parts(scales, max(x.shape[-2:]) * _EPS, basis @ left, right.mH)


def _short_side(snapshots: Tensor, pairs: Tensor, x: Tensor) -> _Parts:
    floor = (max(x.shape[-2:]) * _EPS) ** 0.5
    if x.shape[-2] < x.shape[-1]:
        # Both products are blocks of one, since y_t is x_{t+1}.
        products = snapshots @ snapshots.mH
        xx, yx = products[..., :-1, :-1], products[..., 1:, :-1]
        if not bool(pairs.all()):
            links = pairs.unsqueeze(-1) & pairs.unsqueeze(-2)
            xx, yx = torch.where(links, xx, 0.0), torch.where(links, yx, 0.0)
        return _from_inner_products(xx, yx, floor)
    values, right = eigh(x.mH @ x)
    return _Parts(values.flip(-1).clamp_min(0.0).sqrt(), floor, right=right.flip(-1))


def _from_inner_products(xx: Tensor, yx: Tensor, floor: float) -> _Parts:
    """From X X* and Y X*, (..., N, N)."""
    values, left = eigh(xx)
    return _Parts(values.flip(-1).clamp_min(0.0).sqrt(), floor, left.flip(-1), products=yx)


def _is_lossy(parts: _Parts, rank: Tensor, precision: float) -> bool:
    """Whether squaring the condition of X, on the directions chosen, costs more than the precision of the input."""
    scales, _ = _kept(parts.scales, rank)
    return bool((_condition(scales).square() * _EPS > precision).any())


def _condition(scales: Tensor) -> Tensor:
    smallest = torch.where(scales > 0, scales, torch.inf).amin(-1)
    return torch.where(torch.isfinite(smallest), scales[..., 0] / smallest, torch.inf)


def _cut(
    parts: _Parts,
    rank: Tensor,
    pairs: Tensor,
    targets: tuple[Tensor, Tensor],
    x: Tensor | None = None,
    y: Tensor | None = None,
) -> Reduction:
    """The directions chosen, whitened. Without X and Y the coefficients are those over the rows of X, Q S^-2."""
    # In a batch the largest rank sets the size. Where a matrix keeps fewer directions, the others become exact zeros,
    # and so zero eigenvalues, instead of noise.
    scales, inverse = _kept(parts.scales, rank)
    size, shrink = scales.shape[-1], inverse.unsqueeze(-2)
    if parts.right is not None:
        assert x is not None
        assert y is not None
        coefficients = parts.right[..., :size] * shrink
        left = x @ coefficients if parts.left is None else torch.where(shrink > 0, parts.left[..., :size], 0.0)
        second = y @ coefficients
    else:
        assert parts.left is not None
        assert parts.products is not None
        left = torch.where(shrink > 0, parts.left[..., :size], 0.0)
        over_rows = left * shrink.square()
        coefficients = over_rows if x is None else x.mH @ over_rows
        second = parts.products @ over_rows
    # The states may be complex where the observables are real (a kernel), and the other way round.
    dtype = torch.promote_types(left.dtype, targets[0].dtype)
    present, future = (left.mH.to(dtype) @ target.to(dtype) for target in targets)
    return Reduction(scales, coefficients, pairs.sum(-1), left, second, present, future, pairs)


def _in_units_of(unit: Tensor, reduction: Reduction, is_of_snapshots: bool) -> Reduction:
    """The reduction of snapshots that were taken in a unit (..., 1, 1), in the unit in which they were given."""
    targets = unit if is_of_snapshots else 1.0
    return replace(
        reduction,
        scales=reduction.scales * unit.squeeze(-1),
        coefficients=reduction.coefficients / unit,
        present=reduction.present * targets,
        future=reduction.future * targets,
    )


def _is_underflow(gram: Tensor) -> bool:
    """Whether some matrix of squares is so small that rounding has taken digits of it, but not all zero."""
    largest = gram.diagonal(dim1=-2, dim2=-1).abs().amax(-1)
    return bool(((largest > 0) & (largest < torch.finfo(torch.float64).tiny / _EPS)).any())


def _kept(scales: Tensor, rank: Tensor) -> tuple[Tensor, Tensor]:
    """Singular values cut to the largest rank, 0 where left out, and their inverses, 0 there too."""
    size = int(rank.max()) if rank.numel() else 0
    if size == 0:
        raise DataError("No direction of the snapshots is left to fit dynamics in: they are all zero, or all noise.")
    kept = torch.arange(size, device=rank.device) < rank.unsqueeze(-1)
    scales = torch.where(kept, scales[..., :size], 0.0)
    # The inner `where` keeps 1 / 0 from being computed: times zero, infinity would be NaN.
    return scales, torch.where(kept, 1.0 / torch.where(kept, scales, 1.0), 0.0)


def clean_snapshots(snapshots: Tensor, used: Tensor) -> Tensor:
    """Double precision, detached, zero wherever no pair is, whatever stood there."""
    if used.shape != snapshots.shape[:-1]:
        raise DataError(
            f"Snapshots must be (..., T, F) and pairs (..., T-1), got {tuple(snapshots.shape)} and pairs of "
            f"{used.shape[-1]} snapshots."
        )
    snapshots = snapshots.detach().to(double_of(snapshots.dtype))
    # Before the check: padding may hold NaN, which is no reason to refuse a trajectory.
    if not bool(used.all()):
        snapshots = torch.where(used.unsqueeze(-1), snapshots, 0.0)
    if not all_finite(snapshots):
        raise DataError("The snapshots hold NaN or Inf; leave that trajectory out (see `exclude_nonfinite`).")
    return snapshots


def masked_pairs(snapshots: Tensor, pairs: Tensor) -> tuple[Tensor, Tensor]:
    """X and Y, (..., T-1, F), zero where there is no pair."""
    x, y = snapshots[..., :-1, :], snapshots[..., 1:, :]
    if bool(pairs.all()):
        return x, y
    return torch.where(pairs.unsqueeze(-1), x, 0.0), torch.where(pairs.unsqueeze(-1), y, 0.0)
