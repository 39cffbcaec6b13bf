"""What the toolkit is given by mistake is refused in one sentence, by all of it; what is only in an odd unit is not."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any, get_args

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

from relax_rl import estimators
from relax_rl.errors import DataError, RelaxError
from relax_rl.estimators import DMD, EDMD, DelayDMD, KernelEDMD, OptimisedDMD
from relax_rl.koopman import (
    Estimator,
    GramStatistics,
    GramStream,
    KoopmanDictionary,
    delay_embedding,
    dispersion_from_lifted,
    dmd,
    dynamic_spectral_dispersion,
    edmd,
    effective_rank,
    gram_from_trajectories,
    kernel_edmd,
    koopman_eigenvalues,
    koopstd_distance,
    koopstd_distances,
    optimised_dmd,
    pack_trajectories,
    pseudospectrum,
    snapshot_pairs,
    spectral_wasserstein,
    surrogate_null,
)
from relax_rl.koopman.dictionaries.fixed import (
    IdentityDictionary,
    PolynomialDictionary,
    RadialBasisDictionary,
    RandomFourierDictionary,
)
from relax_rl.koopman.dictionaries.network import NetworkDictionary
from relax_rl.koopman.dispersion.controls import dispersion_by_length, held_out_heterogeneity
from relax_rl.koopman.dispersion.estimators import dispersion_from_gram
from relax_rl.koopman.geometry import (
    effective_rank_growth,
    log_det_diversity,
    log_det_gains,
    stable_rank,
    trajectory_curvature,
)
from relax_rl.koopman.operators.instruments import instrumental_operator
from relax_rl.koopman.pairs.lags import lagged_snapshots, lagged_statistics
from relax_rl.koopman.pairs.snapshots import gram_statistics
from relax_rl.koopman.similarity.distances import spectral_wasserstein_matrix
from relax_rl.koopman.similarity.koopstd import short_time_frames
from relax_rl.koopman.similarity.landscape import agglomerate, classical_scaling, dynamical_landscape, silhouette
from relax_rl.koopman.similarity.representation import (
    canonical_correlation,
    linear_cka,
    procrustes_similarity,
    representational_similarity,
)
from relax_rl.koopman.similarity.vector_fields import delay_operator, delay_spectrum, vector_field_distance
from relax_rl.koopman.spectra.bagging import bagged_spectrum
from relax_rl.koopman.spectra.control import controllability_gramian, dmd_with_control, impulse_response
from relax_rl.koopman.spectra.dmd import dmd_from_statistics
from relax_rl.koopman.spectra.eigenpairs import spectrum_from_statistics
from relax_rl.koopman.spectra.kernels import LinearKernel, RBFKernel, median_distance
from relax_rl.koopman.spectra.lyapunov import (
    exponents_of_products,
    leading_eigenvalues,
    leading_singular_values,
    lyapunov_exponents,
    singular_values_of_jacobian,
)
from relax_rl.koopman.spectra.pseudospectrum import pseudospectrum_from_statistics
from relax_rl.koopman.spectra.reduced_rank_dmd import reduced_rank_dmd
from relax_rl.koopman.spectra.subspace_dmd import subspace_dmd
from relax_rl.koopman.spectra.vamp import cross_validated_rank, vamp_score

STEPS = torch.arange(61, dtype=torch.float64)
ROTATION = torch.stack([0.95**STEPS * (0.5 * STEPS).cos(), 0.95**STEPS * (0.5 * STEPS).sin()], 1)
"""(61, 2) with eigenvalues 0.95 exp(+-0.5 i)."""
MODULUS = 0.95
DICTIONARY = KoopmanDictionary(torch.tensor([[0.5, -1.0, 2.0], [1.0, 1.0, -0.5]]))
MASK = torch.ones(1, 61, dtype=torch.bool)
POINTS = torch.zeros(3, dtype=torch.complex128)

LISTS: dict[str, Callable[[Any], Any]] = {
    "koopman_eigenvalues": koopman_eigenvalues,
    "pseudospectrum": lambda x: pseudospectrum(x, POINTS),
    "dmd": dmd,
    "edmd": lambda x: edmd(x, observables=lambda states: states),
    "kernel_edmd": lambda x: kernel_edmd(x, kernel=LinearKernel()),
    "optimised_dmd": lambda x: optimised_dmd(x, 2),
    "delay_embedding": lambda x: delay_embedding(x, None, 2),
    "gram_from_trajectories": lambda x: gram_from_trajectories(x, lambda states: states),
    "pack_trajectories": pack_trajectories,
    "KoopmanDictionary": lambda x: KoopmanDictionary.fit(x, 3, steps=1),
    "IdentityDictionary": IdentityDictionary.fit,
    "PolynomialDictionary": PolynomialDictionary.fit,
    "RadialBasisDictionary": lambda x: RadialBasisDictionary.fit(x, 4),
    "RandomFourierDictionary": lambda x: RandomFourierDictionary.fit(x, 4),
    "NetworkDictionary": lambda x: NetworkDictionary.fit(x, 2, 1, width=4),
}
"""What takes one trajectory or a list of them."""

TENSORS: dict[str, Callable[[Any], Any]] = {
    "GramStream": lambda x: GramStream().update(x),
    "a dictionary": DICTIONARY,
    "weights": KoopmanDictionary,
    "dispersion": lambda x: dynamic_spectral_dispersion(x, MASK, DICTIONARY),
    "dispersion_from_lifted": lambda x: dispersion_from_lifted(x, MASK),
    "surrogate_null": lambda x: surrogate_null(x, MASK, DICTIONARY, num_surrogates=2),
    "dispersion_by_length": lambda x: dispersion_by_length(x, MASK, DICTIONARY, [20]),
    "held_out_heterogeneity": lambda x: held_out_heterogeneity(x, rank=2),
    "effective_rank": effective_rank,
    "effective_rank_growth": effective_rank_growth,
    "stable_rank": stable_rank,
    "trajectory_curvature": trajectory_curvature,
    "log_det_diversity": log_det_diversity,
    "koopstd_distance": lambda x: koopstd_distance(x, ROTATION),
    "koopstd_distances": lambda x: koopstd_distances([ROTATION, x]),
    "spectral_wasserstein": lambda x: spectral_wasserstein(x, ROTATION),
    "linear_cka": lambda x: linear_cka(x, ROTATION),
    "canonical_correlation": lambda x: canonical_correlation(ROTATION, x),
    "procrustes_similarity": lambda x: procrustes_similarity(x, ROTATION),
    "representational_similarity": lambda x: representational_similarity(x, ROTATION),
    "delay_spectrum": lambda x: delay_spectrum(x, delays=2, rank=2),
    "vector_field_distance": lambda x: vector_field_distance(x, torch.eye(2)),
    "classical_scaling": classical_scaling,
    "silhouette": lambda x: silhouette(x, torch.arange(61) % 2),
}
"""What takes tensors alone."""

REAL = ["weights", "dispersion_from_lifted", "held_out_heterogeneity", "koopstd_distance", "vector_field_distance"]
REAL += ["classical_scaling"]
CHANNELS = ["KoopmanDictionary", "IdentityDictionary", "PolynomialDictionary", "RadialBasisDictionary"]
CHANNELS += ["RandomFourierDictionary", "NetworkDictionary", "linear_cka", "canonical_correlation"]
CHANNELS += ["procrustes_similarity", "representational_similarity", "trajectory_curvature"]
"""What takes complex states as real ones of twice as many channels."""


@pytest.mark.parametrize("name", [*LISTS, *TENSORS])
@pytest.mark.parametrize("given", [ROTATION.tolist(), None, "x", 3.0, []])
def test_what_is_no_tensor_and_no_array_is_refused_in_one_sentence(name: str, given: Any) -> None:
    with pytest.raises(DataError) as refused:
        (LISTS | TENSORS)[name](given)
    message = str(refused.value)
    assert "\n" not in message
    assert "tensor" in message


def numbers(result: Any) -> list[Tensor]:
    """All floating numbers that a result holds, in order."""
    if isinstance(result, Tensor):
        return [result] if result.is_floating_point() or result.is_complex() else []
    if isinstance(result, np.ndarray):
        return numbers(torch.from_numpy(result)) if result.dtype.kind in "fc" else []
    if isinstance(result, float | int | str | bool | None):
        return [torch.tensor(float(result))] if isinstance(result, float) else []
    if isinstance(result, dict):
        return [part for value in result.values() for part in numbers(value)]
    if isinstance(result, list | tuple):
        return [part for each in result for part in numbers(each)]
    return [part for name, value in vars(result).items() if "diagnostics" not in name for part in numbers(value)]


@pytest.mark.parametrize("name", [*LISTS, *TENSORS])
def test_an_array_is_what_its_tensor_is(name: str) -> None:
    """NumPy arrays, read-only ones and those that run backwards, and pandas frames."""
    call = (LISTS | TENSORS)[name]
    square = (ROTATION.unsqueeze(1) - ROTATION).norm(dim=-1)
    states = {
        "classical_scaling": square,
        "silhouette": square,
        "vector_field_distance": torch.tensor([[0.5, 1.0], [0.2, 0.1]]).double(),
        "held_out_heterogeneity": torch.stack([ROTATION, ROTATION.flip(0)]),
    }.get(name, ROTATION.unsqueeze(0) if "dispersion" in name or name == "surrogate_null" else ROTATION)
    expected = call(states)
    frozen = states.numpy().copy()
    frozen.setflags(write=False)
    given = [frozen, states.flip(0).numpy()[::-1]]
    given += [pd.DataFrame(states.numpy())] if states.ndim == 2 else []
    given += [[states.numpy()]] if name in LISTS else []
    for form in given:
        for one, other in zip(numbers(expected), numbers(call(form)), strict=True):
            assert torch.equal(torch.nan_to_num(one), torch.nan_to_num(other))


SHAPES = {name: TENSORS[name] for name in ("effective_rank", "stable_rank", "trajectory_curvature")}
SHAPES |= {
    "effective_rank_growth": lambda x: effective_rank_growth(x, stride=5).velocity,
    "dispersion": lambda x: dynamic_spectral_dispersion(x, None, DICTIONARY).values,
    "from_lifted": lambda x: dispersion_from_lifted(x, None).values,
    "by_length": lambda x: dispersion_by_length(x, None, DICTIONARY, [20])[0].values,
}


@pytest.mark.parametrize("name", SHAPES)
def test_a_ragged_list_is_a_batch(name: str) -> None:
    parts = [ROTATION[:40] + 0.1 * ROTATION[20:60] ** 2, ROTATION[5:30]]
    together = SHAPES[name](parts)
    alone = torch.cat([torch.atleast_1d(SHAPES[name](part)) for part in parts])
    torch.testing.assert_close(together, alone, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(SHAPES[name]([part.numpy() for part in parts]), together, rtol=0, atol=0)


def test_similarities_take_lists_token_by_token() -> None:
    parts = [ROTATION[:40], ROTATION[45:]]
    expected = linear_cka(torch.cat(parts), torch.cat(parts).flip(1))
    arrays: Any = [part.flip(1).numpy() for part in parts]
    torch.testing.assert_close(linear_cka(parts, arrays), expected)


@pytest.mark.parametrize("weight", [torch.ones(3), torch.ones(0, 3), torch.full((2, 3), torch.nan)])
def test_weights_that_are_no_finite_matrix_make_no_dictionary(weight: Tensor) -> None:
    with pytest.raises(DataError, match=r"finite \(H, F\) matrix"):
        KoopmanDictionary(weight)


def test_statistics_with_a_nan_in_any_part_are_refused() -> None:
    whole = gram_from_trajectories([ROTATION], lambda states: states)
    for part in ("gram", "cross"):
        broken = replace(whole, **{part: getattr(whole, part) * torch.nan})
        with pytest.raises(DataError, match="NaN"):
            dmd_from_statistics(broken)


@pytest.mark.parametrize("name", LISTS)
def test_one_trajectory_or_a_list_of_one_are_the_same(name: str) -> None:
    for one, listed in zip(numbers(LISTS[name](ROTATION)), numbers(LISTS[name]([ROTATION])), strict=True):
        assert torch.equal(torch.nan_to_num(one), torch.nan_to_num(listed))


def test_a_list_of_trajectories_shares_one_operator_and_has_no_pair_across_two() -> None:
    parts = [ROTATION[:20], ROTATION[30:]]
    for found in (dmd(parts), edmd(parts, observables=lambda states: states)):
        assert int(found.num_pairs) == 19 + 30
        torch.testing.assert_close(found.eigenvalues.abs(), torch.full((2,), MODULUS, dtype=torch.float64))
    states, pairs = delay_embedding(parts, None, 3)
    assert int(pairs.sum()) == 17 + 28
    assert int(dmd(states, pairs).num_pairs) == 17 + 28


COMPLEX = torch.complex(ROTATION, 0.3 * ROTATION.flip(0) ** 2)


@pytest.mark.parametrize("name", REAL)
def test_complex_data_are_refused_where_their_imaginary_part_would_be_dropped(name: str) -> None:
    square = name in ("vector_field_distance", "classical_scaling")
    given = torch.eye(2) * 1j if square else COMPLEX
    given = given.unsqueeze(0) if name in ("dispersion_from_lifted", "held_out_heterogeneity") else given
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(DataError, match=r"real|floating"):
            (LISTS | TENSORS)[name](given)


@pytest.mark.parametrize("name", CHANNELS)
def test_complex_states_are_their_real_and_imaginary_parts(name: str) -> None:
    channels = torch.view_as_real(COMPLEX).flatten(-2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        forms = [COMPLEX, COMPLEX.numpy()] + ([[COMPLEX[:40], COMPLEX[40:]]] if name in LISTS else [])
        found = [(LISTS | TENSORS)[name](form) for form in forms]
    expected = [(LISTS | TENSORS)[name](channels)] * 2
    expected += [(LISTS | TENSORS)[name]([channels[:40], channels[40:]])] if name in LISTS else []
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one(COMPLEX), other(channels)) if "Dictionary" in name else torch.equal(one, other)


def test_a_dispersion_under_a_dictionary_of_complex_states() -> None:
    dictionary = KoopmanDictionary.fit(COMPLEX, 3, steps=1)
    found = dynamic_spectral_dispersion(COMPLEX, None, dictionary)
    torch.testing.assert_close(found.values, dispersion_from_lifted(dictionary(COMPLEX), None).values)
    assert surrogate_null(COMPLEX, None, dictionary, num_surrogates=2).p_values.shape == (1,)
    assert len(dispersion_by_length(COMPLEX, None, dictionary, [20])) == 1


def test_shapes_of_complex_states_are_those_of_complex_singular_values() -> None:
    turning = torch.exp(0.5j * STEPS).unsqueeze(-1) * torch.tensor([1.0, 2j, 0.5 - 1j])
    torch.testing.assert_close(effective_rank(turning, center=False), torch.tensor(1.0).double())
    singular = np.linalg.svd(COMPLEX.numpy() - COMPLEX.numpy().mean(0), compute_uv=False)
    shares = singular / singular.sum()
    np.testing.assert_allclose(effective_rank(COMPLEX), np.exp(-(shares * np.log(shares)).sum()))
    whole = np.linalg.svd(COMPLEX.numpy(), compute_uv=False)
    np.testing.assert_allclose(stable_rank(COMPLEX), (whole**2).sum() / whole[0] ** 2)
    assert effective_rank_growth(COMPLEX, stride=10).rank.dtype == torch.float64
    unit = COMPLEX.numpy() / np.linalg.norm(COMPLEX.numpy(), axis=-1, keepdims=True)
    expected = np.linalg.slogdet(np.eye(61) + unit @ unit.conj().T)[1]
    np.testing.assert_allclose(log_det_diversity(COMPLEX), expected)


@pytest.mark.parametrize("name", [name for name in LISTS if "Dictionary" in name])
@pytest.mark.parametrize("given", ["all zero", "all the same", "too large"])
def test_states_without_dynamics_or_beyond_float32_give_no_dictionary(name: str, given: str) -> None:
    states = {"all zero": 0.0 * ROTATION, "all the same": 0.0 * ROTATION + 3.7, "too large": 1e200 * ROTATION}[given]
    with pytest.raises(DataError, match=given):
        LISTS[name]([states, states])


@pytest.mark.parametrize("scale", [1e18, 1e-25, 1e-36])
def test_a_dictionary_is_the_same_in_every_unit_that_float32_has(scale: float) -> None:
    """Channels whose squares leave float32 are scaled by what their root mean square is all the same."""
    expected = KoopmanDictionary.fit([ROTATION], 3, steps=5)(ROTATION)
    found = KoopmanDictionary.fit([scale * ROTATION], 3, steps=5)(scale * ROTATION)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)
    other = RadialBasisDictionary.fit([scale * ROTATION], 4)(scale * ROTATION)
    torch.testing.assert_close(other, RadialBasisDictionary.fit([ROTATION], 4)(ROTATION), rtol=1e-3, atol=1e-4)


def moduli(values: Any) -> np.ndarray:
    return np.sort(np.abs(np.asarray(values)))


SPECTRA: dict[str, Callable[[Tensor], Any]] = {
    "koopman_eigenvalues": lambda x: koopman_eigenvalues(x).eigenvalues,
    "dual": lambda x: koopman_eigenvalues(x, rank=2, residual="primal").eigenvalues,
    "dmd": lambda x: dmd(x).eigenvalues,
    "gram": lambda x: dmd(x, solver="gram").eigenvalues,
    "randomised": lambda x: dmd(x, rank=2, solver="randomised").eigenvalues,
    "total_least_squares": lambda x: dmd(x, variant="total_least_squares").eigenvalues,
    "ridge": lambda x: dmd(x, variant="ridge", ridge=1e-9).eigenvalues,
    "forward_backward": lambda x: dmd(x, variant="forward_backward").eigenvalues,
    "optimised_dmd": lambda x: optimised_dmd(x, 2).eigenvalues(1.0),
    "delay_spectrum": lambda x: delay_spectrum(x, delays=1, rank=2),
    "DMD": lambda x: DMD().fit(x.numpy()).eigenvalues_,
    "DelayDMD": lambda x: DelayDMD(2, rank=2).fit(x.numpy()).eigenvalues_,
    "OptimisedDMD": lambda x: OptimisedDMD().fit(x.numpy()).eigenvalues_,
}


@pytest.mark.parametrize("name", SPECTRA)
@pytest.mark.parametrize("scale", [1e200, 1e-200, 1e160, 1e-160, 1e-290])
def test_a_spectrum_is_the_same_in_every_unit(name: str, scale: float) -> None:
    np.testing.assert_allclose(moduli(SPECTRA[name](scale * ROTATION)), [MODULUS] * 2, rtol=1e-6)


MEASURES: dict[str, Callable[[Tensor], Any]] = {
    "pseudospectrum": lambda x: pseudospectrum(x, POINTS + 0.3),
    "effective_rank": effective_rank,
    "effective_rank_growth": lambda x: effective_rank_growth(x, stride=10).velocity,
    "stable_rank": stable_rank,
    "trajectory_curvature": trajectory_curvature,
    "log_det_diversity": log_det_diversity,
    "koopstd_distance": lambda x: koopstd_distance(x, ROTATION.flip(0)),
    "linear_cka": lambda x: linear_cka(x, ROTATION.flip(0)),
    "canonical_correlation": lambda x: canonical_correlation(x, ROTATION.flip(0)),
    "procrustes_similarity": lambda x: procrustes_similarity(ROTATION.flip(0), x),
    "representational_similarity": lambda x: representational_similarity(x, ROTATION.flip(0)),
    "vector_field_distance": lambda x: vector_field_distance(x[:2], ROTATION[5:7]),
    "held_out_heterogeneity": lambda x: held_out_heterogeneity(torch.stack([x, x.flip(0)]), rank=2),
    "residuals": lambda x: koopman_eigenvalues(x[:3].mT, rank=1).residuals,
    "modes": lambda x: dmd(x).forecast(x[0], 3) / x[0, 0],
    "modes of edmd": lambda x: edmd(x, observables=lambda s: s).forecast(x[0], 3) / x[0, 0],
    "KernelEDMD": lambda x: np.abs(KernelEDMD(rank=3).fit(x.numpy()).eigenvalues_),
    "score": lambda x: DMD(rank=1).fit(x.numpy()).score(x.numpy()),
    "OptimisedDMD forecast": lambda x: OptimisedDMD().fit(x.numpy()).forecast(x.numpy()[:1], 3) / float(x[0, 0]),
    "wasserstein": lambda x: spectral_wasserstein(x[:, 0], x[:, 1], order=2.0) / x[0, 0],
    "scaling": lambda x: (
        classical_scaling(x[0, 0] * torch.tensor([[0.0, 3, 4], [3, 0, 5], [4, 5, 0]]).double()).explained
    ),
    "amplitudes": lambda x: optimised_dmd(x, 2).amplitudes.abs() / x[0, 0],
}


@pytest.mark.parametrize("name", MEASURES)
@pytest.mark.parametrize("scale", [1e200, 1e-200, 1e160, 1e-160])
def test_a_measure_without_a_unit_is_the_same_in_every_unit(name: str, scale: float) -> None:
    expected, found = MEASURES[name](ROTATION), MEASURES[name](scale * ROTATION)
    np.testing.assert_allclose(np.asarray(found), np.asarray(expected), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("estimator", ["paper", "robust"])
@pytest.mark.parametrize("scale", [1e-160, 1e-200])
def test_a_dispersion_of_lifted_states_is_the_same_in_every_unit(estimator: Estimator, scale: float) -> None:
    states = torch.randn(2, 61, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64).cumsum(1)
    mask = MASK.expand(2, 61)
    expected = dispersion_from_lifted(states, mask, estimator)
    assert expected.values.gt(0).all()
    found = dispersion_from_lifted(scale * states, mask, estimator)
    torch.testing.assert_close(found.values, expected.values, rtol=1e-6, atol=0)


@pytest.mark.parametrize("scale", [1e200, 1e-160])
def test_sums_of_squares_that_leave_double_precision_are_refused(scale: float) -> None:
    statistics = gram_from_trajectories([scale * ROTATION], lambda states: states)
    with pytest.raises(DataError, match="scale"):
        dmd_from_statistics(statistics)
    with pytest.raises(DataError, match=r"scale|finite"):
        spectrum_from_statistics(statistics)
    with pytest.raises(DataError, match="scale"):
        kernel_edmd(scale * ROTATION, kernel=LinearKernel())
    with pytest.raises(DataError, match="scale"):
        KernelEDMD("polynomial").fit(1e200 * ROTATION.numpy())
    with pytest.raises(DataError, match="unit=True"):
        log_det_diversity(1e200 * ROTATION, unit=False)


def test_more_exponentials_than_snapshots_can_decide_are_refused() -> None:
    with pytest.raises(DataError, match="3 or more"):
        OptimisedDMD().fit(ROTATION[:2].numpy())
    with pytest.raises(DataError, match="3 or more"):
        optimised_dmd([ROTATION[:2], ROTATION[4:6], ROTATION[8:10]], 2)
    found = optimised_dmd([ROTATION[:2], ROTATION[4:7]], 2).eigenvalues(1.0)
    torch.testing.assert_close(found.abs(), torch.full((2,), MODULUS, dtype=torch.float64), rtol=1e-9, atol=0)
    with pytest.raises(DataError, match="all zero"):
        optimised_dmd(0.0 * ROTATION, 2)


def test_a_window_with_too_few_directions_is_refused() -> None:
    with pytest.raises(DataError, match="lower the rank"):
        held_out_heterogeneity(torch.zeros(1, 61, 2), rank=2)
    with pytest.raises(DataError, match="NaN"):
        held_out_heterogeneity(torch.full((1, 61, 2), torch.nan), rank=2)


def test_estimators_take_tensors_too_and_refuse_complex_observables() -> None:
    given = ROTATION.clone().requires_grad_()
    for X in (given, [given, given], ROTATION.bfloat16()):
        np.testing.assert_allclose(moduli(DMD().fit(X).eigenvalues_), [MODULUS] * 2, rtol=2e-2)
    with pytest.raises(DataError, match="must be real"):
        EDMD(lambda states: states * 1j).fit(ROTATION.numpy())


HARD: dict[str, Tensor] = {
    "two snapshots": ROTATION[:2],
    "three snapshots": ROTATION[:3],
    "one snapshot": ROTATION[:1],
    "no snapshot": ROTATION[:0],
    "all zero": 0.0 * ROTATION,
    "all the same": 0.0 * ROTATION + 3.7,
    "a constant column": torch.stack([ROTATION[:, 0], 0.0 * ROTATION[:, 0] + 3.7], 1),
    "NaN": ROTATION * torch.nan,
    "1e200": 1e200 * ROTATION,
    "1e-200": 1e-200 * ROTATION,
    "1e200 and a constant": 1e200 * torch.stack([ROTATION[:, 0], 0.0 * ROTATION[:, 0] + 3.7], 1),
    "complex": torch.complex(ROTATION, ROTATION.flip(0)),
    "two complex snapshots": torch.complex(ROTATION, ROTATION.flip(0))[:2],
    "complex, 1e200": 1e200 * torch.complex(ROTATION, ROTATION.flip(0)),
    "units apart": torch.stack([1e150 * ROTATION[:, 0], 1e-150 * ROTATION[:, 1]], 1),
}
VARIANTS = ("forward_backward", "total_least_squares", "measure_preserving", "instrumental")
ALL: dict[str, Callable[[Any], Any]] = {name: call for name, call in (LISTS | TENSORS).items() if "dispers" not in name}
del ALL["surrogate_null"]
ALL |= {
    "dispersion": lambda x: dynamic_spectral_dispersion(x[None], is_there(x), DICTIONARY),
    "surrogate_null of its own length": lambda x: surrogate_null(x[None], is_there(x), DICTIONARY, num_surrogates=2),
    "dispersion_by_length": lambda x: dispersion_by_length(x[None], is_there(x), DICTIONARY, [20]),
    "dispersion_from_gram": lambda x: dispersion_from_gram(gram_statistics(x[None], snapshot_pairs(is_there(x)))),
    "dispersion_from_gram, single": lambda x: dispersion_from_gram(
        gram_statistics(x[None], snapshot_pairs(is_there(x))), precision="single"
    ),
    "held_out_heterogeneity of one": lambda x: held_out_heterogeneity(x[None], rank=1),
    "dmd_from_statistics": lambda x: dmd_from_statistics(sums_of(x)),
    "spectrum_from_statistics": lambda x: spectrum_from_statistics(sums_of(x)),
    "pseudospectrum_from_statistics": lambda x: pseudospectrum_from_statistics(sums_of(x), POINTS),
    "lagged dmd": lambda x: dmd(*lagged_snapshots(x, None, 2)),
    "instrumental_operator": lambda x: (
        instrumental_operator(lagged_statistics(x, torch.ones(max(len(x) - 1, 0), dtype=torch.bool), 4)).matrix
    ),
    "kernel_edmd, Gaussian": lambda x: kernel_edmd(x, kernel=RBFKernel(median_distance(x) or 1.0)),
    "median_distance": median_distance,
    "koopstd_distances of three": lambda x: koopstd_distances([x, x, ROTATION]),
    "short_time_frames": lambda x: short_time_frames(x, window=2, hop=1),
    "spectral_wasserstein_matrix": lambda x: spectral_wasserstein_matrix([x, ROTATION[:5]]),
    "spectral_wasserstein_matrix of columns": lambda x: spectral_wasserstein_matrix([x[:, 0], ROTATION[:5, 1]]),
    "delay_operator": lambda x: delay_operator(x, delays=2, rank=2),
    "dynamical_landscape": lambda x: dynamical_landscape({"a": [x, ROTATION], "b": [ROTATION, x]}),
    "agglomerate": lambda x: agglomerate((x[:, None] - x).abs().sum(-1), 2),
    "log_det_gains": log_det_gains,
    "leading_singular_values": lambda x: leading_singular_values(
        squared(x), squared(x), torch.ones(2).double(), count=1, iterations=3
    ),
    "subspace_dmd": lambda x: subspace_dmd(x, rank=1),
    "reduced_rank_dmd": lambda x: reduced_rank_dmd(x, rank=1),
    "vamp_score": lambda x: vamp_score(gram_from_trajectories(x, lambda states: states)),
    "cross_validated_rank": lambda x: cross_validated_rank(x, ranks=(1, 2)),
    "dmd_with_control": lambda x: dmd_with_control(x, x[..., :1].flip(0)),
    "controllability_gramian": lambda x: controllability_gramian(x[:2], x[-1:]),
    "impulse_response": lambda x: impulse_response(x[:2], x[-1:], 3),
    "leading_eigenvalues": lambda x: leading_eigenvalues(squared(x), 2, count=1, iterations=3),
    "exponents_of_products": lambda x: exponents_of_products([squared(x)] * 3, 2, count=2).exp(),
    "bagged_spectrum": lambda x: bagged_spectrum([x, x], lambda parts: dmd(parts, rank=1).eigenvalues, bags=3),
    "lagged_snapshots": lambda x: lagged_snapshots(x, None, 1),
    "lyapunov_exponents": lambda x: lyapunov_exponents(lambda state: 0.5 * state, x, num_steps=2),
    "singular_values": lambda x: singular_values_of_jacobian(lambda state: state**2, x[:, 0], count=1, iterations=2),
    **{name: lambda x, variant=name: dmd(x, variant=variant) for name in VARIANTS},
    **{f"DSD {name}": lambda x, name=name: dispersion_from_lifted(x, None, name) for name in get_args(Estimator)},
    **{name: lambda x, name=name: getattr(estimators, name)().fit(x.numpy()) for name in estimators.__all__},
}


def is_there(states: Tensor) -> Tensor:
    return torch.ones((1, len(states)), dtype=torch.bool)


def squared(states: Tensor) -> Callable[[Tensor], Tensor]:
    """Products with a Jacobian (2, 2)."""
    return lambda frame: (states.mT @ states).real @ frame


def sums_of(states: Tensor) -> GramStatistics:
    return gram_from_trajectories(states, lambda given: given)


@pytest.mark.parametrize("name", ALL)
def test_hard_data_give_a_value_or_one_sentence(name: str) -> None:
    """No LinAlgError, no division by zero, and no number that is the algorithm's and not the data's."""
    for case, states in HARD.items():
        # scikit-learn's own checks of too few rows and NaN are ValueErrors, of more than one line.
        refusals = (RelaxError, ValueError) if name in estimators.__all__ else RelaxError
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found, said = None, ""
            try:
                found = ALL[name](states)
            except refusals as refusal:
                said = str(refusal)
        assert name in estimators.__all__ or "\n" not in said
        if found is None:
            continue
        if "1e" not in case and case != "units apart":
            assert all(not bool((values.abs() > 1e10).any()) for values in numbers(found)), (case, name)


def test_estimators_take_pandas_frames() -> None:
    frame = pd.DataFrame(ROTATION.numpy(), columns=["re", "im"])
    single = DMD().fit(frame)
    assert list(single.feature_names_in_) == ["re", "im"]
    np.testing.assert_allclose(moduli(single.eigenvalues_), [MODULUS] * 2, rtol=1e-9)
    several = DMD().fit([frame[:30], frame[30:]])
    assert several.n_pairs_ == 29 + 30
    assert single.predict(frame).shape == (61, 2)
