"""The dictionary: what it computes, what fitting improves, what it must not touch, and its file."""

import numpy as np
import pytest
import torch

from relax_rl.errors import ConfigError, DataError
from relax_rl.koopman import KoopmanDictionary
from relax_rl.koopman.dictionaries import _pooled_statistics, _residual_loss


@pytest.fixture(scope="module")
def trajectories(linear_system) -> list[torch.Tensor]:
    states = linear_system(0.3, 60, 12, seed=0).float()
    return [row[: 30 + 2 * i] for i, row in enumerate(states)]


def test_lift_is_the_printed_formula_in_float32(dictionary: KoopmanDictionary) -> None:
    states = np.random.default_rng(0).standard_normal((2, 5, 16)).astype(np.float32)
    lifted = dictionary(torch.from_numpy(states))
    expected = 1 / (1 + np.exp(-states.astype(np.float64) @ dictionary.weight.double().numpy()))
    np.testing.assert_allclose(lifted, expected, atol=1e-6)
    assert lifted.dtype == torch.float32
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(dictionary(torch.from_numpy(states)), lifted)
    assert dictionary(torch.from_numpy(states).bfloat16()).dtype == torch.float32
    with pytest.raises(DataError, match="width 16"):
        dictionary(torch.zeros(3, 4))


def test_fitting_lowers_the_relative_residual_without_collapse(trajectories: list[torch.Tensor]) -> None:
    report = KoopmanDictionary.fit(trajectories, num_observables=12, steps=60, learning_rate=1e-2).report
    assert report is not None
    assert report.loss_after < 0.95 * report.loss_before
    assert report.condition_after < 10 * report.condition_before
    assert report.num_pairs == sum(len(t) - 1 for t in trajectories)
    assert report.num_trajectories == 12


def test_the_printed_objective_collapses_and_says_so(trajectories: list[torch.Tensor]) -> None:
    with pytest.warns(RuntimeWarning, match="collapsed"):
        fitted = KoopmanDictionary.fit(
            trajectories, num_observables=12, steps=200, learning_rate=0.02, objective="paper", standardize=False
        )
    assert fitted.report is not None
    assert fitted.report.loss_after < 0.05 * fitted.report.loss_before
    assert fitted.report.condition_after > 10 * fitted.report.condition_before
    assert fitted.report.relative_residual_after > 0.9 * fitted.report.relative_residual_before


def test_scaling_the_weights_down_fools_the_printed_loss_only(trajectories: list[torch.Tensor]) -> None:
    weight = torch.rand((16, 12), generator=torch.Generator().manual_seed(1)) - 0.5
    double = [trajectory.double() for trajectory in trajectories]
    losses = {
        (name, scale): float(_residual_loss(_pooled_statistics(double, weight.double() * scale), name, 12))
        for name in ("relative_residual", "paper")
        for scale in (1.0, 0.01)
    }
    assert losses["relative_residual", 0.01] == pytest.approx(losses["relative_residual", 1.0], rel=0.05)
    assert losses["paper", 0.01] < 0.01 * losses["paper", 1.0]


def test_seeded_and_the_global_generator_is_left_alone(trajectories: list[torch.Tensor]) -> None:
    state = torch.random.get_rng_state()
    first = KoopmanDictionary.fit(trajectories, num_observables=8, steps=3, seed=1)
    assert torch.equal(torch.random.get_rng_state(), state)
    torch.manual_seed(99)
    assert KoopmanDictionary.fit(trajectories, num_observables=8, steps=3, seed=1).digest == first.digest
    assert KoopmanDictionary.fit(trajectories, num_observables=8, steps=3, seed=2).digest != first.digest
    with torch.no_grad():
        assert KoopmanDictionary.fit(trajectories, num_observables=8, steps=3, seed=1).digest == first.digest


def test_standardizing_makes_the_units_of_a_channel_irrelevant(trajectories: list[torch.Tensor]) -> None:
    units = torch.logspace(-3, 3, 16)
    plain = KoopmanDictionary.fit(trajectories, num_observables=8, steps=5)
    scaled = KoopmanDictionary.fit([t * units for t in trajectories], num_observables=8, steps=5)
    torch.testing.assert_close(scaled(trajectories[0] * units), plain(trajectories[0]), rtol=1e-4, atol=1e-5)


def test_nonfinite_trajectories_are_left_out_and_counted(trajectories: list[torch.Tensor]) -> None:
    spoiled = trajectories[0].clone()
    spoiled[3, 2] = float("nan")
    fitted = KoopmanDictionary.fit([spoiled, *trajectories[1:]], num_observables=8, steps=2)
    assert fitted.report is not None
    assert fitted.report.num_nonfinite == 1
    assert fitted.digest != KoopmanDictionary.fit(trajectories, num_observables=8, steps=2).digest


def test_mistakes_are_named(trajectories: list[torch.Tensor]) -> None:
    with pytest.raises(DataError, match="more than 50 snapshot pairs, but the 2 trajectories given hold 18"):
        KoopmanDictionary.fit([torch.randn(10, 4), torch.randn(10, 4)], num_observables=50)
    with pytest.raises(DataError, match="no trajectory"):
        KoopmanDictionary.fit([])
    with pytest.raises(DataError, match="1 were left out"):
        KoopmanDictionary.fit([torch.full((90, 4), float("inf"))], num_observables=4)
    with pytest.raises(ConfigError, match="objective"):
        KoopmanDictionary.fit(trajectories, objective="nonsense")
    with pytest.raises(ConfigError, match="steps"):
        KoopmanDictionary.fit(trajectories, steps=-1)


def test_save_and_load(tmp_path, trajectories: list[torch.Tensor]) -> None:
    fitted = KoopmanDictionary.fit(trajectories, num_observables=8, steps=2)
    path = tmp_path / "dictionary.safetensors"
    fitted.save(path)
    loaded = KoopmanDictionary.load(path)
    assert torch.equal(loaded.weight, fitted.weight)
    assert loaded.digest == fitted.digest
    assert loaded.report == fitted.report
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_a_save_that_fails_leaves_the_old_file(tmp_path, dictionary: KoopmanDictionary, monkeypatch) -> None:
    path = tmp_path / "dictionary.safetensors"
    dictionary.save(path)

    def fail(*_: object, **__: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("relax_rl.koopman.dictionaries.save_file", fail)
    with pytest.raises(OSError, match="disk full"):
        KoopmanDictionary(dictionary.weight * 2).save(path)
    assert KoopmanDictionary.load(path).digest == dictionary.digest
    assert len(list(tmp_path.iterdir())) == 1


def test_files_that_are_no_dictionary_are_refused(tmp_path) -> None:
    from safetensors.torch import save_file

    with pytest.raises(DataError, match="no dictionary file"):
        KoopmanDictionary.load(tmp_path / "missing")
    (tmp_path / "text").write_text("hello")
    with pytest.raises(DataError, match="readable"):
        KoopmanDictionary.load(tmp_path / "text")
    save_file({"weight": torch.zeros(2, 2)}, tmp_path / "other")
    with pytest.raises(DataError, match="not a Koopman dictionary"):
        KoopmanDictionary.load(tmp_path / "other")
    metadata = {"format": "relax-rl koopman dictionary 1", "digest": "0" * 64}
    save_file({"weight": torch.zeros(2, 2)}, tmp_path / "damaged", metadata=metadata)
    with pytest.raises(DataError, match="digest"):
        KoopmanDictionary.load(tmp_path / "damaged")
