"""Dynamic spectral dispersion (DSD): how unevenly a latent trajectory's modes contract.

Four estimators of one idea, the variance of a spectrum's moduli:

``paper``     Eq. 6 as printed: the population variance of |eigenvalues| of K = pinv(X) Y.
``singular``  What the authors' working code ran: the unbiased variance of the smoothed singular values of a ridge fit.
``robust``    Ours: the mean, over windows of one fixed number of pairs, of the variance of |eigenvalues| of the
              time-symmetric whitened operator, the radius of pure noise taken off.
``instrumental``  Ours: the variance of |eigenvalues| of the operator fitted with the snapshots before each pair as its
              instruments, on the directions that the past predicts
              (:mod:`~relax_rl.koopman.dispersion.instrumental`).

Why ``robust`` is built as it is (numbers in docs/research/robust-dispersion.md):

- Not a function of length. A least-squares spectrum from N pairs carries noise of radius sqrt(F / N), so any statistic
  of it depends on N. Every window here has the same N, so for stationary dynamics the expectation is the same at every
  length by construction; length only lowers the variance. The price: modes slower than a window are seen as its mean.
- Bounded. With S = (X^T X + Y^T Y) / 2 the eigenvalues of S^-1 X^T Y lie in the unit disc for *any* data (see
  :func:`~relax_rl.koopman.operators.fits.whitened_operator`), so that 0 <= DSD <= 1/4.
- Not inflated by conditioning. Mixing or scaling the kept directions does not change the eigenvalues; directions that
  carry next to no variance are left out of the variance, not counted as modes of modulus zero. There are four pairs to
  a direction, and moduli inside the disc that pure noise fills become zero, with no gradient.
- No promise: a model that chooses every state of a trajectory freely can bring it near the bound, by giving
  each window modes that truly last next to modes that truly do not; pairs held out of the fit then show them too.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache, partial
from typing import Literal, get_args

import torch
from torch import Tensor

from relax_rl.errors import ConfigError, DataError
from relax_rl.koopman.dictionaries.protocol import Dictionary
from relax_rl.koopman.dispersion.instrumental import instrumental_dispersion
from relax_rl.koopman.dispersion.moduli import median_of, variance_of
from relax_rl.koopman.dispersion.result import Diagnostics, Dispersion
from relax_rl.koopman.inputs import as_channels, batch_of, in_its_unit, require_real
from relax_rl.koopman.linalg.eigensolvers import lapack_on_one_thread
from relax_rl.koopman.operators.fits import least_squares_operator, ridge_operator, whitened_operator
from relax_rl.koopman.pairs.snapshots import GramStatistics, exclude_nonfinite, gram_statistics, snapshot_pairs
from relax_rl.koopman.spectra.eigenpairs import SPURIOUS_RESIDUAL, eigenpairs, eigenvalue_moduli
from relax_rl.koopman.spectra.residuals import squared_residuals

__all__ = [
    "LARGE_MODULUS",
    "ROBUST_WINDOW",
    "Dispersion",
    "Estimator",
    "Precision",
    "dispersion_from_gram",
    "dispersion_from_lifted",
    "dynamic_spectral_dispersion",
]

Estimator = Literal["paper", "singular", "robust", "instrumental"]

Precision = Literal["double", "single"]
"""Precision of eigenvalues and singular values. "single" is for speed: sums over snapshot pairs and the
operator are those of double precision, its values are computed in float32 where that moves none of them by more than
:data:`~relax_rl.koopman.spectra.eigenpairs.SINGLE_TOLERANCE`, and the result states a bound on its error."""

ROBUST_WINDOW = 32
"""Snapshot pairs in a window of "robust": short enough that completions of 33 tokens have a dispersion."""

LARGE_MODULUS = 1.5
"""An eigenvalue of a larger modulus is the regression's, not the trajectory's, which would grow without bound by it."""

_NEED_ORDER = ("robust", "instrumental")
_AS_RUN_RIDGE = 1e-3
_AS_RUN_SMOOTHING = 1e-3
# Four pairs a direction make the eigenvalues of pure noise fill a disc of radius 1/2, which is then subtracted.
_PAIRS_PER_DIRECTION = 4
_ENDS_AT_A_TIME = 256
# Directions that carry less than this share of the leading direction's variance are not dynamics: rounding, mostly.
_NEGLIGIBLE_VARIANCE = 1e-6


def dynamic_spectral_dispersion(
    hidden_states: Tensor | Sequence[Tensor],
    mask: Tensor | None,
    dictionary: Dictionary,
    estimator: Estimator = "paper",
    *,
    ridge: float | None = None,
    chunk_size: int | None = None,
    window: int = ROBUST_WINDOW,
    precision: Precision = "double",
) -> Dispersion:
    """DSD of hidden states (B, T, H) under a dictionary, differentiable with respect to the hidden states.

    Args:
        hidden_states: (B, T, H), any floating dtype; lifted in float32, everything after it in float64. One trajectory
            (T, H) is a batch of one; a list of (T_i, H) is padded.
        mask: (B, T) bool, true at the tokens of the trajectory; padding may hold anything, NaN included. None: all.
        dictionary: dictionary of the same width H; its digest is in the result.
        estimator: "paper", "singular", "robust" or "instrumental".
        ridge: absolute ridge of "paper" (default: none) or "singular" (default 1e-3); the others take none.
        chunk_size: pairs taken at a time when Gram statistics are summed; bounds memory, changes nothing else.
        window: snapshot pairs in a window of "robust", which needs at least as many; values of different windows cannot
            be compared.
        precision: "single" is faster for "paper" and "singular", with `error_bound`, a bound on the error of each
            value; the others take none.

    The gradient of "paper" and "singular" is that of their value; "robust" holds the subspace of each window fixed, and
    "instrumental" that of each trajectory. A warning is given where an eigenvalue has a modulus above
    :data:`LARGE_MODULUS`.

    Raises:
        DataError: shapes or dtypes that do not fit.
        ConfigError: an unknown estimator or a ridge that it cannot take.
    """
    hidden_states, mask = _batch(hidden_states, mask, "hidden states", "H", takes_complex=True)
    states, kept, is_nonfinite = exclude_nonfinite(hidden_states, mask)
    measured = _from_finite(dictionary(states), kept, is_nonfinite, estimator, ridge, chunk_size, window, precision)
    return replace(measured, dictionary_digest=dictionary.digest)


def dispersion_from_lifted(
    lifted: Tensor | Sequence[Tensor],
    mask: Tensor | None,
    estimator: Estimator = "paper",
    *,
    ridge: float | None = None,
    chunk_size: int | None = None,
    window: int = ROBUST_WINDOW,
    precision: Precision = "double",
) -> Dispersion:
    """DSD of states (B, T, F) that were lifted already; otherwise :func:`dynamic_spectral_dispersion`."""
    lifted, mask = _batch(lifted, mask, "lifted states", "F")
    states, kept, is_nonfinite = exclude_nonfinite(lifted, mask)
    if ridge is None and estimator != "singular":  # an absolute ridge has a unit
        states, _ = in_its_unit(states, (-2, -1))
    return _from_finite(states, kept, is_nonfinite, estimator, ridge, chunk_size, window, precision)


def dispersion_from_gram(
    statistics: GramStatistics,
    estimator: Estimator = "paper",
    *,
    ridge: float | None = None,
    precision: Precision = "double",
) -> Dispersion:
    """DSD from Gram statistics of batch shape (B,), which may be sums over shards of each trajectory.

    Raises:
        ConfigError: estimators "robust" and "instrumental", which look at more than pairs and so need the states in
            order.
        DataError: statistics of complex observables.
    """
    require_real(statistics.gram, "The Gram matrix")
    if estimator in _NEED_ORDER:
        raise ConfigError(
            f"estimator={estimator!r} looks at more than pairs of snapshots, which Gram statistics do not hold; "
            "gather the lifted states (T, F) and call dispersion_from_lifted."
        )
    _require_estimator(estimator, ridge, precision)
    is_defined = statistics.num_pairs > statistics.num_observables
    # The last snapshot of a trajectory is in the cross statistics alone.
    both = statistics.gram.detach() + statistics.cross.detach()
    is_finite = torch.isfinite(both.sum((-2, -1)))
    if not bool(is_finite.all()):  # a sum may also overflow
        is_finite = torch.isfinite(both).all(-1).all(-1)
    future = statistics.future
    is_usable = is_defined & is_finite
    return _from_gram(statistics, lambda: future, is_usable, estimator, ridge, (~is_finite).sum(), precision)


def _from_finite(
    lifted: Tensor,
    kept: Tensor,
    is_nonfinite: Tensor,
    estimator: Estimator,
    ridge: float | None,
    chunk_size: int | None,
    window: int,
    precision: Precision,
) -> Dispersion:
    _require_estimator(estimator, ridge, precision)
    if window < _PAIRS_PER_DIRECTION:
        raise ConfigError(f"window must be at least {_PAIRS_PER_DIRECTION} snapshot pairs, got {window}.")
    pairs = snapshot_pairs(kept)
    with torch.autocast(lifted.device.type, enabled=False):
        if estimator == "robust":
            return _robust(lifted, pairs, is_nonfinite.sum(), window)
        if estimator == "instrumental":
            return instrumental_dispersion(lifted, pairs, is_nonfinite.sum())
        statistics = gram_statistics(lifted, pairs, chunk_size=chunk_size, needs_future=False)
        # Without gradient: L is in the residuals alone, which are only reported.
        future_of = partial(_future, statistics.gram.detach(), lifted.detach(), pairs)
        is_defined = statistics.num_pairs > statistics.num_observables
        return _from_gram(statistics, future_of, is_defined, estimator, ridge, is_nonfinite.sum(), precision)


def _from_gram(
    statistics: GramStatistics,
    future_of: Callable[[], Tensor],
    is_defined: Tensor,
    estimator: Estimator,
    ridge: float | None,
    num_nonfinite: Tensor,
    precision: Precision,
) -> Dispersion:
    """Spectra of the defined rows only, scattered back: an undefined row is never near an eigensolver or a gradient.

    Args:
        future_of: computes L, which the statistics may lack.
    """
    # Chosen by index and not masked: a gradient of NaN times a mask of zero is NaN.
    chosen = is_defined.nonzero().squeeze(-1)
    rows = GramStatistics(
        statistics.gram[chosen], statistics.cross[chosen], statistics.future[chosen], statistics.num_pairs[chosen]
    )

    def scatter(values: Tensor, undefined: float = 0.0) -> Tensor:
        return values.new_full(is_defined.shape, undefined).index_put((chosen,), values)

    is_single = precision == "single"
    if estimator == "singular":
        with lapack_on_one_thread():
            fit = ridge_operator(rows, _AS_RUN_RIDGE if ridge is None else ridge)
            singular_values, error = _singular_values(fit.matrix, is_single)
        moduli = (singular_values.square() + _AS_RUN_SMOOTHING).sqrt()
        size = moduli.shape[-1]
        # Divided by F - 1, as torch.var does and their code did; Eq. 6 divides by F.
        unbiased = size / max(size - 1, 1)
        variance, error = variance_of(moduli) * unbiased, error * unbiased**0.5
        num_clamped = torch.zeros_like(chosen)
        spectrum_of = cache(partial(eigenpairs, fit.matrix.detach()))
        # No eigenvalue is larger than the largest singular value.
        is_small = bool((singular_values.detach() <= LARGE_MODULUS).all())
    else:
        fit = ridge_operator(rows, ridge) if ridge else least_squares_operator(rows)
        spectrum = eigenvalue_moduli(fit.matrix, is_single=is_single)
        variance, num_clamped, error = variance_of(spectrum.values), spectrum.num_clamped, spectrum.error
        found = spectrum.eigenvalues.to(torch.complex128), spectrum.eigenvectors
        spectrum_of, is_small = (lambda: (found[0], found[1].to(torch.complex128))), False
    if not is_small:
        _warn_if_large(spectrum_of()[0].abs().amax(-1))

    def residuals() -> tuple[Tensor, Tensor]:
        sums = replace(rows, gram=rows.gram.detach(), cross=rows.cross.detach(), future=future_of()[chosen])
        found = squared_residuals(sums, *spectrum_of()).clamp_min(0.0).sqrt()
        share = (found > SPURIOUS_RESIDUAL).double().mean(-1)
        return scatter(median_of(found), torch.nan), scatter(share, torch.nan)

    return Dispersion(
        values=scatter(variance),
        is_defined=is_defined,
        num_pairs=statistics.num_pairs,
        num_clamped=scatter(num_clamped),
        num_nonfinite=num_nonfinite,
        error_bound=scatter(_variance_error(variance.detach(), error)),
        diagnostics=Diagnostics(
            radius=lambda: scatter(spectrum_of()[0].abs().amax(-1)),
            condition=lambda: scatter(fit.condition),
            residuals=residuals,
        ),
    )


def _singular_values(matrix: Tensor, is_single: bool) -> tuple[Tensor, Tensor]:
    """Singular values (B, F) float64 of matrices (B, F, F), and a bound (B,) on their error."""
    if not is_single:
        return torch.linalg.svdvals(matrix), matrix.new_zeros(len(matrix))
    values = torch.linalg.svdvals(matrix.float()).double()
    # Those of K + E with |E| of a few eps |K|, and E moves none by more than its norm, however ill-conditioned K is.
    unit = matrix.shape[-1] ** 0.5 * torch.finfo(torch.float32).eps
    return values, unit * values.detach()[..., :1].sum(-1)


def _variance_error(variance: Tensor, error: Tensor) -> Tensor:
    """The largest change of a variance by errors of at most `error` in each value: |2 Cov(m, d) + Var(d)|."""
    return 2.0 * variance.clamp_min(0.0).sqrt() * error + error.square()


def _future(gram: Tensor, lifted: Tensor, pairs: Tensor) -> Tensor:
    """L = Y^T Y (B, F, F) from G: but for the ends of each run of pairs, second snapshots are first ones too."""
    # +1 where a run of pairs ends, at a snapshot that is only a second one; -1 where it begins.
    ends = torch.nn.functional.pad(pairs.double(), (1, 0)) - torch.nn.functional.pad(pairs.double(), (0, 1))
    rows, steps = ends.nonzero(as_tuple=True)
    future = gram.clone()
    # A few at a time: a mask may have as many holes as tokens, and each is a matrix here.
    for row, step in zip(rows.split(_ENDS_AT_A_TIME), steps.split(_ENDS_AT_A_TIME), strict=True):
        snapshots = lifted[row, step].double()
        products = (ends[row, step].unsqueeze(-1) * snapshots).unsqueeze(-1) * snapshots.unsqueeze(-2)
        future.index_add_(0, row, products)
    return future


def _robust(lifted: Tensor, pairs: Tensor, num_nonfinite: Tensor, window: int) -> Dispersion:
    """The "robust" estimator of :func:`dynamic_spectral_dispersion` on finite lifted states (B, T, F)."""
    num_pairs = pairs.sum(-1)
    num_observables = lifted.shape[-1]
    is_defined = (num_pairs > num_observables) & (num_pairs >= window)
    rows, positions, links = _windows(pairs, is_defined, window)
    tokens = (rows.unsqueeze(-1) * lifted.shape[1] + positions).flatten()
    snapshots = lifted.flatten(0, 1).index_select(0, tokens).double().view(*positions.shape, num_observables)
    rank = min(window // _PAIRS_PER_DIRECTION, num_observables)
    fit = whitened_operator(snapshots, links, rank, center=True, rcond=_NEGLIGIBLE_VARIANCE)
    spectrum = eigenvalue_moduli(fit.matrix)
    noise_radius = (rank / window) ** 0.5
    moduli = (spectrum.values - noise_radius).clamp_min(0.0) / (1.0 - noise_radius)
    # Directions left out are eigenvalues of zero, so that they stand last: the first `rank` are those kept.
    moduli, _ = moduli.sort(-1, descending=True)
    is_kept = torch.arange(rank, device=moduli.device) < fit.rank.unsqueeze(-1)
    # A trajectory without a window is undefined; its mean, 0 / 1, is not used.
    counts = torch.bincount(rows, minlength=len(num_pairs)).clamp_min(1)

    modes = spectrum.values.detach()

    def largest(values: Tensor) -> Tensor:
        return values.new_zeros(num_pairs.shape).scatter_reduce(0, rows, values, "amax")

    def mean(values: Tensor) -> Tensor:
        return torch.zeros_like(counts, dtype=torch.float64).index_add(0, rows, values) / counts

    def residuals() -> tuple[Tensor, Tensor]:
        squares = (1.0 - modes.sort(-1, descending=True).values.square()).clamp_min(0.0)
        found = torch.where(is_kept, squares.sqrt(), torch.nan)
        share = torch.where(is_kept, (found > SPURIOUS_RESIDUAL).double(), torch.nan).nanmean(-1)
        pair = mean(median_of(found)), mean(share)
        return torch.where(is_defined, pair[0], torch.nan), torch.where(is_defined, pair[1], torch.nan)

    return Dispersion(
        values=mean(variance_of(moduli, is_kept)),
        is_defined=is_defined,
        num_pairs=num_pairs,
        num_clamped=torch.zeros_like(num_pairs).index_add(0, rows, spectrum.num_clamped),
        num_nonfinite=num_nonfinite,
        diagnostics=Diagnostics(
            radius=lambda: largest(modes.amax(-1)),
            condition=lambda: largest(torch.where(fit.rank > 0, fit.condition, 0.0)),
            residuals=residuals,
        ),
    )


def _warn_if_large(radius: Tensor) -> None:
    if bool((radius > LARGE_MODULUS).any()):
        warnings.warn(
            f"An operator matrix has an eigenvalue of modulus above {LARGE_MODULUS}, which is the regression's and not "
            "the trajectory's: its dispersion says how ill-posed the fit is (see spectral_radius and condition). "
            "Use estimator='robust', longer trajectories, or fewer observables.",
            RuntimeWarning,
            stacklevel=5,
        )


def _windows(pairs: Tensor, is_defined: Tensor, window: int) -> tuple[Tensor, Tensor, Tensor]:
    """Windows of `window` consecutive snapshot pairs, half overlapping, spread evenly over each defined trajectory.

    Returns:
        The trajectory (M,) of each window; the steps t (M, L) of its snapshots, L = window + 1 where the mask has no
        hole; and which neighbours (M, L - 1) are its pairs, false across a hole and in what fills up shorter windows.
    """
    rows, starts = [], []
    offsets = torch.arange(window, device=pairs.device)
    for row in is_defined.nonzero().squeeze(-1).tolist():
        steps = pairs[row].nonzero().squeeze(-1)
        last_start = len(steps) - window
        count = 1 + -(-last_start // max(window // 2, 1))
        first = torch.linspace(0, last_start, count, dtype=torch.float64, device=pairs.device).round().long()
        starts.append(steps[first.unsqueeze(-1) + offsets])
        rows.append(torch.full((count,), row, device=pairs.device))
    if not rows:
        empty = torch.zeros((0, window + 1), dtype=torch.long, device=pairs.device)
        return empty[:, 0], empty, empty[:, 1:].bool()
    first = torch.cat(starts)
    # Behind a hole, the place of a pair in its window moves on by one: its first snapshot is nobody's second.
    places = offsets + torch.nn.functional.pad((first.diff(dim=-1) > 1).cumsum(-1), (1, 0))
    length = int(places.max()) + 2
    positions = first.new_zeros((len(first), length)).scatter_(1, places, first).scatter_(1, places + 1, first + 1)
    links = torch.zeros((len(first), length - 1), dtype=torch.bool, device=pairs.device).scatter_(1, places, True)
    return torch.cat(rows), positions, links


def _require_estimator(estimator: str, ridge: float | None, precision: str = "double") -> None:
    if precision not in get_args(Precision):
        raise ConfigError(f"Unknown precision {precision!r}; use one of {', '.join(get_args(Precision))}.")
    if precision != "double" and estimator in _NEED_ORDER:
        raise ConfigError(
            f"precision={precision!r} does not fit estimator={estimator!r}, whose directions have no bound on their "
            "error in single precision: leave it out."
        )
    if estimator not in get_args(Estimator):
        raise ConfigError(f"Unknown estimator {estimator!r}; use one of {', '.join(get_args(Estimator))}.")
    if ridge is not None and (ridge < 0 or estimator in _NEED_ORDER):
        raise ConfigError(
            f"ridge={ridge} does not fit estimator={estimator!r}: leave it out, or give a positive number."
        )


def _batch(
    given: Tensor | Sequence[Tensor], valid: Tensor | None, name: str, letter: str, *, takes_complex: bool = False
) -> tuple[Tensor, Tensor]:
    states, mask = batch_of(given, valid, name.capitalize())
    # A dictionary lifts real and imaginary part as channels; observables that are complex have an operator that is.
    states = as_channels(states) if takes_complex else states
    has_mask = mask.shape == states.shape[:2]
    if states.ndim != 3 or states.shape[2] < 1 or not has_mask or not states.is_floating_point():
        raise DataError(
            f"{name.capitalize()} must be a floating (B, T, {letter}) and the mask (B, T), got {tuple(states.shape)} "
            f"{states.dtype} and {tuple(mask.shape)}."
        )
    return states, mask
