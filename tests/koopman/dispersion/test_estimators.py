"""DSD against its printed formula in numpy, and against everything that a batch of completions can throw at it."""

import numpy as np
import pytest
import torch

from relax_rl.errors import ConfigError, DataError
from relax_rl.koopman import KoopmanDictionary, dispersion_from_lifted, dynamic_spectral_dispersion, snapshot_pairs
from relax_rl.koopman.dispersion import estimators
from relax_rl.koopman.dispersion.estimators import Estimator, dispersion_from_gram
from relax_rl.koopman.pairs.snapshots import gram_statistics

ESTIMATORS = ("paper", "singular", "robust")


@pytest.fixture(scope="module")
def states(linear_system) -> torch.Tensor:
    return linear_system(0.3, 60, 5, seed=1).float()


@pytest.fixture
def mask() -> torch.Tensor:
    lengths = torch.tensor([60, 45, 40, 60, 50])
    return torch.arange(60) < lengths[:, None]


def printed_formula(lifted: np.ndarray) -> float:
    return float(np.var(np.abs(np.linalg.eigvals(np.linalg.pinv(lifted[:-1]) @ lifted[1:]))))


def as_run_formula(lifted: np.ndarray) -> float:
    x, y = lifted[:-1], lifted[1:]
    K = np.linalg.solve(x.T @ x + 1e-3 * np.eye(x.shape[1]), x.T @ y)
    return float(np.var(np.sqrt(np.linalg.svd(K, compute_uv=False) ** 2 + 1e-3), ddof=1))


def robust_formula(lifted: np.ndarray, window: int = 32, rank: int = 8) -> float:
    """One window, whitened explicitly: singular vectors of the stacked snapshots rather than a Gram matrix."""
    x, y = lifted[:window], lifted[1 : window + 1]
    mean = (x.mean(0) + y.mean(0)) / 2
    x, y = x - mean, y - mean
    _, s, vt = np.linalg.svd(np.concatenate([x, y]) / np.sqrt(2), full_matrices=False)
    whiten = vt[:rank].T / s[:rank]
    radius = np.sqrt(rank / window)
    moduli = np.abs(np.linalg.eigvals((x @ whiten).T @ (y @ whiten)))
    return float(np.var(np.maximum(moduli - radius, 0) / (1 - radius)))


@pytest.mark.parametrize(("estimator", "formula"), [("paper", printed_formula), ("singular", as_run_formula)])
def test_batched_equals_the_formula_one_trajectory_at_a_time(states, mask, dictionary, estimator, formula) -> None:
    result = dynamic_spectral_dispersion(states, mask, dictionary, estimator)
    lifted = dictionary(states).double().numpy()
    expected = [formula(row[keep]) for row, keep in zip(lifted, mask.numpy(), strict=True)]
    np.testing.assert_allclose(result.values, expected, rtol=0, atol=1e-8)
    assert result.is_defined.all()
    assert result.num_pairs.tolist() == [59, 44, 39, 59, 49]


def test_robust_equals_its_formula_on_one_window_and_averages_windows(states, dictionary) -> None:
    lifted = dictionary(states).double()
    mask = torch.ones(5, 33, dtype=torch.bool)
    result = dispersion_from_lifted(lifted[:, :33], mask, "robust")
    np.testing.assert_allclose(result.values, [robust_formula(row.numpy()) for row in lifted], atol=1e-9)
    longer = dispersion_from_lifted(lifted[:, :49], torch.ones(5, 49, dtype=torch.bool), "robust")
    expected = [(robust_formula(row.numpy()) + robust_formula(row.numpy()[16:])) / 2 for row in lifted]
    np.testing.assert_allclose(longer.values, expected, atol=1e-9)


def test_robust_leaves_the_pairs_across_a_hole_out(states, dictionary) -> None:
    lifted, mask = dictionary(states[:1]).double(), torch.ones(1, 37, dtype=torch.bool)
    mask[0, 20], mask[0, 27] = False, False  # 19 + 5 + 8 = 32 pairs: one window, of 35 snapshots
    row, keep = lifted[0].numpy(), snapshot_pairs(mask)[0].numpy()
    x, y = row[:36][keep], row[1:37][keep]
    x, y = x - (x.mean(0) + y.mean(0)) / 2, y - (x.mean(0) + y.mean(0)) / 2
    values, vectors = np.linalg.eigh((x.T @ x + y.T @ y) / 2)
    basis = vectors[:, -8:] / np.sqrt(values[-8:])
    moduli = np.maximum(np.abs(np.linalg.eigvals(basis.T @ x.T @ y @ basis)) - 0.5, 0) / 0.5
    assert len(x) == 32
    assert dispersion_from_lifted(lifted[:, :37], mask, "robust").values.item() == pytest.approx(
        np.var(moduli), abs=1e-9
    )


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_padding_order_and_chunks_change_nothing(states, mask, dictionary, estimator) -> None:
    plain = dynamic_spectral_dispersion(states, mask, dictionary, estimator)
    padded_states = torch.cat([torch.full((5, 7, 16), float("nan")), states, torch.full((5, 4, 16), 3.0)], 1)
    padded_mask = torch.nn.functional.pad(mask, (7, 4))
    padded = dynamic_spectral_dispersion(padded_states, padded_mask, dictionary, estimator, chunk_size=9)
    order = torch.tensor([3, 1, 4, 0, 2])
    permuted = dynamic_spectral_dispersion(states[order], mask[order], dictionary, estimator)
    torch.testing.assert_close(padded.values, plain.values, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(permuted.values, plain.values[order], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("estimator", ["paper", "singular"])
def test_sum_over_shards_is_the_whole(states, mask, dictionary, estimator) -> None:
    lifted, pairs = dictionary(states), snapshot_pairs(mask)
    shards = gram_statistics(lifted[:, :21], pairs[:, :20]) + gram_statistics(lifted[:, 20:], pairs[:, 20:])
    whole = dynamic_spectral_dispersion(states, mask, dictionary, estimator)
    torch.testing.assert_close(dispersion_from_gram(shards, estimator).values, whole.values, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_short_and_empty_completions_are_undefined_with_no_gradient(states, dictionary, estimator) -> None:
    # F = 12 observables: 12 pairs interpolate and are too few, one token and no token have no pair at all.
    lengths = torch.tensor([60, 13, 1, 0, 60])
    leaf = states.clone().requires_grad_()
    result = dynamic_spectral_dispersion(leaf, torch.arange(60) < lengths[:, None], dictionary, estimator)
    assert result.is_defined.tolist() == [True, False, False, False, True]
    assert result.values[1:4].eq(0).all()
    assert result.num_pairs.tolist() == [59, 12, 0, 0, 59]
    (gradient,) = torch.autograd.grad(result.values.sum(), leaf)
    assert torch.isfinite(gradient).all()
    assert gradient[1:4].eq(0).all()
    assert gradient[[0, 4]].flatten(1).norm(dim=1).gt(0).all()
    nothing = dynamic_spectral_dispersion(states[:, :1], torch.ones(5, 1, dtype=torch.bool), dictionary, estimator)
    assert not nothing.is_defined.any()


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_nonfinite_rows_are_excluded_counted_and_leave_their_neighbours_alone(
    states, mask, dictionary, estimator, bad
) -> None:
    spoiled = states.clone()
    spoiled[1, 20, 3] = bad
    spoiled.requires_grad_()
    result = dynamic_spectral_dispersion(spoiled, mask, dictionary, estimator)
    clean = dynamic_spectral_dispersion(states, mask, dictionary, estimator)
    assert result.num_nonfinite == 1
    assert result.is_defined.tolist() == [True, False, True, True, True]
    others = [0, 2, 3, 4]
    torch.testing.assert_close(result.values[others], clean.values[others], rtol=1e-9, atol=1e-12)
    (gradient,) = torch.autograd.grad(result.values.sum(), spoiled)
    assert torch.isfinite(gradient).all()
    assert gradient[1].eq(0).all()


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_bfloat16_and_autocast_stay_near_float32(states, mask, dictionary, estimator) -> None:
    plain = dynamic_spectral_dispersion(states, mask, dictionary, estimator).values
    assert plain.dtype == torch.float64
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(dynamic_spectral_dispersion(states, mask, dictionary, estimator).values, plain)
    rounded = dynamic_spectral_dispersion(states.bfloat16(), mask, dictionary, estimator).values
    torch.testing.assert_close(rounded, plain, rtol=0.1, atol=2e-3)


@pytest.mark.parametrize("estimator", ["paper", "singular"])
def test_gradient_is_that_of_the_value(linear_system, estimator) -> None:
    lifted = torch.sigmoid(linear_system(0.3, 12, 2, seed=3, H=4)).requires_grad_()
    mask = torch.ones(2, 12, dtype=torch.bool)
    mask[1, 10:] = False
    assert torch.autograd.gradcheck(
        lambda x: dispersion_from_lifted(x, mask, estimator).values, lifted, atol=1e-6, rtol=1e-4
    )


def test_robust_gradient_is_that_of_the_value_when_no_direction_is_left_out(linear_system) -> None:
    lifted = torch.sigmoid(linear_system(0.4, 34, 1, seed=3, H=4)).requires_grad_()
    mask = torch.ones(1, 34, dtype=torch.bool)
    assert dispersion_from_lifted(lifted, mask, "robust").values > 0.01
    assert torch.autograd.gradcheck(
        lambda x: dispersion_from_lifted(x, mask, "robust").values, lifted, atol=1e-6, rtol=1e-4
    )


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_constant_states_are_harmless(dictionary, estimator) -> None:
    leaf = torch.ones(2, 60, 16, requires_grad=True)
    result = dynamic_spectral_dispersion(leaf, torch.ones(2, 60, dtype=torch.bool), dictionary, estimator)
    (gradient,) = torch.autograd.grad(result.values.sum(), leaf)
    assert torch.isfinite(result.values).all()
    assert torch.isfinite(gradient).all()


def test_mistakes_are_named(states, mask, dictionary) -> None:
    with pytest.raises(ConfigError, match="Unknown estimator"):
        dynamic_spectral_dispersion(states, mask, dictionary, "nonsense")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="ridge"):
        dynamic_spectral_dispersion(states, mask, dictionary, "robust", ridge=0.1)
    with pytest.raises(ConfigError, match="window"):
        dynamic_spectral_dispersion(states, mask, dictionary, "robust", window=1)
    with pytest.raises(DataError, match="Hidden states must be"):
        dynamic_spectral_dispersion(states[0], mask, dictionary)
    with pytest.raises(DataError, match="bool"):
        dynamic_spectral_dispersion(states, mask.float(), dictionary)
    with pytest.raises(ConfigError, match="dispersion_from_lifted"):
        dispersion_from_gram(gram_statistics(states, snapshot_pairs(mask)), "robust")


def test_dictionary_width_is_checked(states, mask) -> None:
    with pytest.raises(DataError, match="width 3"):
        dynamic_spectral_dispersion(states, mask, KoopmanDictionary(torch.ones(3, 2)))


def test_gram_statistics_with_nothing_wrong_but_the_last_snapshot_are_left_out_and_counted() -> None:
    lifted = torch.randn(3, 40, 4, generator=torch.Generator().manual_seed(0))
    lifted[1, -1, 0] = float("nan")
    statistics = gram_statistics(lifted, snapshot_pairs(torch.ones(3, 40, dtype=torch.bool)))
    found = dispersion_from_gram(statistics, "paper")
    assert found.is_defined.tolist() == [True, False, True]
    assert int(found.num_nonfinite) == 1


@pytest.mark.parametrize("estimator", ["paper", "singular"])
def test_figures_that_nobody_reads_are_not_computed(estimator: Estimator, monkeypatch: pytest.MonkeyPatch) -> None:
    lifted = torch.rand((2, 40, 5), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    mask = torch.ones((2, 40), dtype=torch.bool)
    expected = dispersion_from_lifted(lifted, mask, estimator)

    def refused(*_: object) -> tuple[torch.Tensor, torch.Tensor]:
        raise AssertionError

    monkeypatch.setattr(estimators, "squared_residuals", refused)
    monkeypatch.setattr(estimators, "eigenpairs", refused)
    found = dispersion_from_lifted(lifted, mask, estimator)
    assert torch.equal(found.values, expected.values)
    with pytest.raises(AssertionError):
        _ = found.median_residual
