"""The dictionary: what it computes, what fitting improves, what it must not touch, and its file."""

import hashlib
import json

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from relax_rl.errors import ConfigError, DataError
from relax_rl.koopman import KoopmanDictionary, load_dictionary
from relax_rl.koopman.dictionaries.fit import (
    condition_penalty,
    lift_batch,
    partition_trajectories,
    residual_loss,
    validation_residual,
)
from relax_rl.koopman.dictionaries.lifting import sigmoid_lift
from relax_rl.koopman.dictionaries.sigmoid import _batches


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
        (name, scale): float(
            residual_loss(lift_batch(double, lambda x, scale=scale: sigmoid_lift(x, weight.double() * scale)), name)
        )
        for name in ("relative_residual", "paper")
        for scale in (1.0, 0.01)
    }
    assert losses["relative_residual", 0.01] == pytest.approx(losses["relative_residual", 1.0], rel=0.05)
    assert losses["paper", 0.01] < 1e-3 * losses["paper", 1.0]


def test_observables_that_become_alike_are_penalised_and_their_units_are_not() -> None:
    # Two observables of correlation c: the correlation matrix has eigenvalues 1 + c and 1 - c.
    rng = np.random.default_rng(0)
    x, noise = (torch.from_numpy(rng.standard_normal(4000)) for _ in range(2))
    for small, units in ((1e-4, (1.0, 1.0)), (1e-4, (1e-3, 1e5)), (0.1, (1.0, 1.0))):
        states = torch.stack([x, x + small * noise], 1) * torch.tensor(units, dtype=torch.float64) + 3.0
        c = np.corrcoef(states[:-1].T.numpy())[0, 1]
        expected = 0.01 * max(0.5 * np.log((1 + c) / (1 - c)) - np.log(1e3), 0.0)
        assert float(condition_penalty(lift_batch([states], lambda s: s))) == pytest.approx(expected, rel=1e-3)
    assert expected == 0.0


def test_the_gradient_of_the_penalty_is_that_of_the_condition_number() -> None:
    rng = np.random.default_rng(1)
    states = torch.from_numpy(rng.standard_normal((50, 3)))
    mixing = torch.tensor([[1.0, 1.0, 0.0], [0.0, 1e-4, 1.0], [0.3, 0.3, 1e-2]], dtype=torch.float64)
    assert torch.autograd.gradcheck(
        lambda m: condition_penalty(lift_batch([states], lambda s: s @ m)), mixing.requires_grad_(), eps=1e-9, atol=1e-3
    )


def test_validation_holds_out_whole_trajectories_and_the_best_step_on_them_is_returned(trajectories) -> None:
    partition = partition_trajectories(trajectories, 8, 0.25, torch.Generator().manual_seed(0))
    assert len(partition.validation) == 3
    for held_out in partition.validation:
        assert any(torch.equal(held_out, trajectory) for trajectory in trajectories)
        assert not any(torch.equal(held_out, trajectory) for trajectory in partition.training)
    fitted = KoopmanDictionary.fit(trajectories, num_observables=8, steps=40, learning_rate=0.1, validation_share=0.25)
    report = fitted.report
    assert report is not None
    assert report.num_validation == 3
    assert report.best_step in range(0, 41, 4)
    assert report.validation_after <= report.validation_before  # pyright: ignore[reportOperatorIssue]
    held_out = partition_trajectories(trajectories, 8, 0.25, generator_after_start(16, 8))
    assert validation_residual(held_out, fitted) == pytest.approx(report.validation_after)


def generator_after_start(H: int, F: int) -> torch.Generator:
    generator = torch.Generator().manual_seed(0)
    torch.rand((H, F), generator=generator)
    return generator


def test_few_trajectories_are_all_fitted_on_and_published_objectives_hold_none_out(trajectories) -> None:
    for fitted in (
        KoopmanDictionary.fit(trajectories[:4], num_observables=8, steps=2),
        KoopmanDictionary.fit(trajectories, num_observables=8, steps=2, objective="paper"),
    ):
        assert fitted.report is not None
        assert fitted.report.num_validation == 0
        assert fitted.report.validation_after is None
        assert fitted.report.best_step is None


def test_as_run_loss_worked_by_hand_and_in_numpy() -> None:
    # F = 1, X = (1, 2), Y = (2, 5): G = 5, A = 12, so K = 12 / 5.001 = s and Vh = +-1 (its sign drops out).
    snapshots = torch.tensor([[1.0], [2.0], [5.0]], dtype=torch.float64)
    by_hand = ((2 - 12 / 5.001) ** 2 + (5 - 24 / 5.001) ** 2) ** 0.5
    assert float(residual_loss(lift_batch([snapshots], lambda x: x), "as_run")) == pytest.approx(by_hand)

    rows = [np.random.default_rng(i).uniform(0.2, 0.8, (9, 3)) for i in range(2)]
    x, y = np.concatenate([row[:-1] for row in rows]), np.concatenate([row[1:] for row in rows])
    K = np.linalg.solve(x.T @ x + 1e-3 * np.eye(3), x.T @ y)
    _, s, vh = (factor.numpy() for factor in torch.linalg.svd(torch.from_numpy(K)))  # the loss depends on their signs
    batch = lift_batch([torch.from_numpy(row) for row in rows], lambda x: x)
    expected = np.linalg.norm(y @ vh - x @ vh @ np.diag(s))
    assert float(residual_loss(batch, "as_run")) == pytest.approx(expected, rel=1e-12)


def test_as_run_gradient_holds_the_singular_factors_fixed() -> None:
    states, weight = torch.randn((2, 12, 4), generator=torch.Generator().manual_seed(0)).double(), torch.ones(4, 3)
    weight = (weight / torch.arange(1, 13).view(4, 3)).double().requires_grad_()
    loss = residual_loss(lift_batch(list(states), lambda x: sigmoid_lift(x, weight)), "as_run")
    (gradient,) = torch.autograd.grad(loss, weight)
    x, y = torch.sigmoid(states[:, :-1] @ weight).flatten(0, 1), torch.sigmoid(states[:, 1:] @ weight).flatten(0, 1)
    K = np.linalg.solve((x.T @ x).detach().numpy() + 1e-3 * np.eye(3), (x.T @ y).detach().numpy())
    _, s, vh = torch.linalg.svd(torch.from_numpy(K))
    (expected,) = torch.autograd.grad(torch.linalg.matrix_norm(y @ vh - x @ vh * s), weight)
    torch.testing.assert_close(gradient, expected, rtol=1e-6, atol=1e-9)


def test_as_run_is_one_epoch_from_a_kaiming_start_without_standardizing(trajectories: list[torch.Tensor]) -> None:
    options = {"num_observables": 8, "objective": "as_run", "batch_size": 5}
    start = KoopmanDictionary.fit(trajectories, steps=0, **options)
    assert 0.95 * (6 / 16) ** 0.5 < start.weight.abs().max() <= (6 / 16) ** 0.5
    state = torch.random.get_rng_state()
    fitted = KoopmanDictionary.fit(trajectories, steps=None, **options)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert fitted.report is not None
    assert fitted.report.steps == 3  # 12 trajectories in batches of 5, 5 and 2
    assert fitted.report.loss_after < fitted.report.loss_before
    assert (fitted.weight - start.weight).abs().max() < 3.01e-3  # three Adam steps of 1e-3, in the units of W itself
    assert KoopmanDictionary.fit(trajectories, steps=None, **options).digest == fitted.digest


def test_many_steps_of_as_run_make_the_observables_alike_without_lowering_its_loss(trajectories) -> None:
    options = {"num_observables": 8, "objective": "as_run", "learning_rate": 0.02}
    with pytest.warns(RuntimeWarning, match="'as_run' collapsed"):
        report = KoopmanDictionary.fit(trajectories, steps=300, **options).report
    assert report is not None
    assert report.condition_after > 10 * report.condition_before
    assert report.loss_after > report.loss_before


def test_an_epoch_sees_every_trajectory_once() -> None:
    batches = _batches(10, 4, None, torch.Generator().manual_seed(0))
    assert [len(batch) for batch in batches] == [4, 4, 2]
    assert sorted(index for batch in batches for index in batch) == list(range(10))


def test_seeded_and_the_global_generator_is_left_alone(trajectories: list[torch.Tensor]) -> None:
    state = torch.random.get_rng_state()
    first = KoopmanDictionary.fit(trajectories, num_observables=8, steps=3, seed=1)
    assert torch.equal(torch.random.get_rng_state(), state)
    torch.manual_seed(99)
    assert KoopmanDictionary.fit(trajectories, num_observables=8, steps=3, seed=1).digest == first.digest
    assert KoopmanDictionary.fit(trajectories, num_observables=8, steps=3, seed=2).digest != first.digest
    with torch.no_grad():
        assert KoopmanDictionary.fit(trajectories, num_observables=8, steps=3, seed=1).digest == first.digest


def test_the_address_of_the_states_changes_no_bit(trajectories: list[torch.Tensor]) -> None:
    moved = [torch.cat([torch.zeros(i % 5), t.flatten()])[i % 5 :].view(t.shape) for i, t in enumerate(trajectories)]
    assert len({t.data_ptr() % 64 for t in moved}) == 5
    for objective in ("relative_residual", "paper", "as_run"):
        fits = [
            KoopmanDictionary.fit(t, num_observables=8, steps=5, objective=objective) for t in (trajectories, moved)
        ]
        assert fits[0].digest == fits[1].digest


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
        KoopmanDictionary.fit(trajectories, objective="nonsense")  # pyright: ignore[reportArgumentType]
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


def test_a_file_of_the_first_format_still_loads_with_its_digest_and_its_report(tmp_path) -> None:
    weight = torch.arange(6.0).view(3, 2) / 7
    digest = hashlib.sha256(b"(3, 2)" + weight.numpy().tobytes()).hexdigest()
    report = {"objective": "paper", "steps": 3, "num_trajectories": 2, "num_pairs": 9, "num_nonfinite": 0}
    report |= dict.fromkeys(
        ["loss_before", "loss_after", "relative_residual_before", "relative_residual_after"], 1.5
    ) | dict.fromkeys(["condition_before", "condition_after"], 2.0)
    metadata = {"format": "relax-rl koopman dictionary 1", "digest": digest, "report": json.dumps(report)}
    save_file({"weight": weight}, tmp_path / "old", metadata=metadata)
    for loaded in (KoopmanDictionary.load(tmp_path / "old"), load_dictionary(tmp_path / "old")):
        assert isinstance(loaded, KoopmanDictionary)
        assert loaded.digest == digest
        assert loaded.report is not None
        assert loaded.report.condition_after == 2.0
        assert loaded.report.num_validation == 0
    loaded.save(tmp_path / "new")
    with safe_open(tmp_path / "new", framework="pt") as file:
        assert file.metadata()["digest"] == digest


def test_a_save_that_fails_leaves_the_old_file(tmp_path, dictionary: KoopmanDictionary, monkeypatch) -> None:
    path = tmp_path / "dictionary.safetensors"
    dictionary.save(path)

    def fail(*_: object, **__: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("relax_rl.koopman.dictionaries.protocol.save_file", fail)
    with pytest.raises(OSError, match="disk full"):
        KoopmanDictionary(dictionary.weight * 2).save(path)
    assert KoopmanDictionary.load(path).digest == dictionary.digest
    assert len(list(tmp_path.iterdir())) == 1


def test_files_that_are_no_dictionary_are_refused(tmp_path) -> None:
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


@pytest.mark.parametrize("validation_share", [None, 0.0])
@pytest.mark.parametrize("learning_rate", [3.0, 10.0, 30.0])
def test_observables_that_die_do_not_end_a_fit(learning_rate: float, validation_share: float | None) -> None:
    """Steps that saturate the sigmoid at zero leave eigenvectors whose norm is rounding alone."""
    generator = torch.Generator().manual_seed(0)
    table = torch.randn(12, 8, generator=generator) * 3
    texts = [table[torch.randint(12, (20,), generator=generator)] for _ in range(16)]
    found = KoopmanDictionary.fit(
        texts,
        num_observables=12,
        steps=40,
        learning_rate=learning_rate,
        batch_size=8,
        validation_share=validation_share,
    )
    assert found.weight.isfinite().all()
    assert not torch.equal(found.weight, KoopmanDictionary.fit(texts, num_observables=12, steps=0).weight)
