"""Hallucination diagnostics on synthetic texts whose dynamics are known."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import ortho_group
from sklearn.metrics import roc_auc_score

from relax_rl.errors import ConfigError, DataError
from relax_rl.spectra.text import RegimeOperators, calibrate_threshold, text_modes, uncaptured_share

H = 40


def turning(angle: float, modulus: float) -> np.ndarray:
    return modulus * np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])


def texts(operator: np.ndarray, count: int, seed: int, *, noise: float = 0.1, sentences: int = 8) -> list[torch.Tensor]:
    """Texts whose sentences follow z' = z K + noise in a plane of H dimensions, around a common mean."""
    rng = np.random.default_rng(seed)
    plane = ortho_group.rvs(H, random_state=9)[: len(operator)]
    mean = np.random.default_rng(10).standard_normal(H) / math.sqrt(H)
    made = []
    for _ in range(count):
        states = [rng.standard_normal(len(operator))]
        for _ in range(sentences - 1):
            states.append(states[-1] @ operator + noise * rng.standard_normal(len(operator)))
        made.append(torch.from_numpy(mean + np.stack(states) @ plane + 0.02 * rng.standard_normal((sentences, H))))
    return made


@pytest.fixture(scope="module")
def regimes() -> RegimeOperators:
    return RegimeOperators.fit(texts(turning(0.5, 0.95), 40, 0), texts(turning(0.5, 0.3), 40, 1), rank=2)


# --- modes of one text -----------------------------------------------------------------------------------------------


def test_modes_of_a_text_have_the_rank_the_moduli_and_the_half_lives_it_was_made_with() -> None:
    powers = np.stack([0.9 ** np.arange(12), 0.5 ** np.arange(12)], 1)
    directions = ortho_group.rvs(H, random_state=1)[:2]
    text = torch.from_numpy(powers @ np.diag([2.0, 3.0]) @ directions)
    modes = text_modes(text, energy=1 - 1e-9)
    assert (modes.num_modes, modes.num_pairs, modes.is_interpolating) == (2, 11, False)
    np.testing.assert_allclose(modes.moduli, [0.9, 0.5], atol=1e-9)
    np.testing.assert_allclose(modes.half_lives, [math.log(2) / -math.log(0.9), 1.0], rtol=1e-8)
    np.testing.assert_allclose(modes.amplitudes, [2.0, 3.0], rtol=1e-8)


def test_a_text_that_dies_out_has_shorter_half_lives_and_one_that_grows_has_none() -> None:
    lasting, fading = (text_modes(texts(turning(0.5, m), 1, 2, noise=0.0)[0] * 1.0) for m in (0.95, 0.3))
    assert fading.half_lives.min() < 1.0 < lasting.half_lives.median()
    growing = text_modes(torch.from_numpy(1.5 ** np.arange(6)[:, None] * np.ones((1, 3))))
    assert growing.half_lives.tolist() == [math.inf]


def test_as_many_modes_as_pairs_are_called_what_they_are() -> None:
    noise = torch.from_numpy(np.random.default_rng(3).standard_normal((6, H)))
    assert text_modes(noise, energy=0.999999).is_interpolating


def test_half_of_a_reference_lies_outside_a_text_that_knows_half_of_its_directions() -> None:
    directions = torch.from_numpy(ortho_group.rvs(H, random_state=2))
    reference, generated = directions[:4], directions[:2]
    assert uncaptured_share(reference, generated) == pytest.approx(math.sqrt(0.5), rel=1e-12)
    assert uncaptured_share(generated, reference) == pytest.approx(0.0, abs=1e-12)
    assert uncaptured_share(reference, directions[4:6]) == pytest.approx(1.0, rel=1e-12)
    # What the modes may leave out of the generated text is lost on the reference, too.
    weighted = torch.diag(torch.tensor([1.0, 0.1], dtype=torch.float64)) @ directions[:2]
    assert uncaptured_share(generated, weighted, energy=0.9) == pytest.approx(math.sqrt(0.5), rel=1e-12)


# --- two operators ---------------------------------------------------------------------------------------------------


def test_each_operator_is_that_of_its_regime(regimes: RegimeOperators) -> None:
    for operator, modulus in ((regimes.faithful, 0.95), (regimes.hallucinated, 0.3)):
        found = np.sort_complex(np.linalg.eigvals(operator[1:].numpy()))
        np.testing.assert_allclose(found, np.sort_complex(np.linalg.eigvals(turning(0.5, modulus))), atol=0.05)


def test_errors_are_those_of_the_prediction_written_out(regimes: RegimeOperators) -> None:
    text = texts(turning(0.5, 0.95), 1, 4)[0]
    states = text.numpy()
    mean, basis = regimes.mean.numpy(), regimes.basis.numpy()
    for errors, operator in zip(
        regimes.errors(text), (regimes.faithful.numpy(), regimes.hallucinated.numpy()), strict=True
    ):
        for t in range(len(states) - 1):
            coordinates = np.concatenate([[1.0], (states[t] - mean) @ basis])
            predicted = mean + coordinates @ operator @ basis.T
            expected = np.linalg.norm(states[t + 1] - predicted) / np.linalg.norm(states[t + 1])
            assert errors[t].item() == pytest.approx(expected, rel=1e-10)
    faithful, hallucinated = regimes.errors(text)
    assert regimes.score(text) == pytest.approx((hallucinated - faithful).mean().item())


def test_held_out_texts_are_told_apart(regimes: RegimeOperators) -> None:
    good, bad = texts(turning(0.5, 0.95), 60, 5), texts(turning(0.5, 0.3), 60, 6)
    scores = [regimes.score(text) for text in good + bad]
    assert roc_auc_score([1] * 60 + [0] * 60, scores) > 0.97
    detector = regimes.calibrated(good[:10] + bad[:10], [False] * 10 + [True] * 10)
    right = sum(not detector.is_hallucinated(text) for text in good[10:])
    right += sum(detector.is_hallucinated(text) for text in bad[10:])
    assert right >= 90


def test_regimes_that_do_not_differ_are_not_told_apart() -> None:
    same = turning(0.5, 0.8)
    null = RegimeOperators.fit(texts(same, 60, 7), texts(same, 60, 8), rank=2)
    scores = [null.score(text) for text in texts(same, 100, 9)]
    assert abs(np.mean(scores)) < 0.01
    assert 0.3 < roc_auc_score([1] * 50 + [0] * 50, scores) < 0.7


def test_exchanging_the_regimes_changes_the_sign() -> None:
    good, bad = texts(turning(0.5, 0.95), 20, 10), texts(turning(0.5, 0.3), 20, 11)
    text = texts(turning(0.5, 0.95), 1, 12)[0]
    forth, back = RegimeOperators.fit(good, bad, rank=2), RegimeOperators.fit(bad, good, rank=2)
    assert forth.score(text) == pytest.approx(-back.score(text), rel=1e-9)
    assert forth.score(text) > 0


def test_thresholds_follow_the_cost_of_a_miss() -> None:
    # Hallucinated at 0, 1, 2, 6; faithful at 3, 5, 7, 8.
    scores = torch.tensor([0.0, 1.0, 2.0, 6.0, 3.0, 5.0, 7.0, 8.0])
    labels = torch.tensor([True] * 4 + [False] * 4)
    assert calibrate_threshold(scores, labels) == 2.5
    assert calibrate_threshold(scores, labels, miss_cost=4.0) == 6.5
    assert calibrate_threshold(scores, labels, miss_cost=0.1) == 2.5
    assert calibrate_threshold(torch.tensor([0.0, 4.0]), torch.tensor([True, False])) == 2.0
    assert calibrate_threshold(torch.tensor([1.0, 1.0]), torch.tensor([True, False]), miss_cost=2.0) > 1.0


def test_texts_that_cannot_be_judged_are_refused_in_a_sentence(regimes: RegimeOperators) -> None:
    few = texts(turning(0.5, 0.9), 2, 13, sentences=3)
    with pytest.raises(DataError, match="faithful texts hold 4 pairs"):
        RegimeOperators.fit(few, few, rank=4)
    with pytest.raises(DataError, match="hallucinated texts hold 0 pairs"):
        RegimeOperators.fit(texts(turning(0.5, 0.9), 9, 13), [], rank=4)
    with pytest.raises(ConfigError, match="rank"):
        RegimeOperators.fit(few, few, rank=0)
    with pytest.raises(DataError, match="at least 2 sentences"):
        regimes.score(few[0][:1])
    with pytest.raises(DataError, match="width 3, where 40"):
        regimes.score(few[0][:, :3])
    with pytest.raises(DataError, match="NaN or Inf"):
        regimes.score(few[0] * math.nan)
    with pytest.raises(DataError, match="at least 3 sentences"):
        text_modes(few[0][:2])
    with pytest.raises(ConfigError, match="energy"):
        text_modes(few[0], energy=1.0)
    with pytest.raises(DataError, match="both kinds"):
        calibrate_threshold(torch.tensor([0.0, 1.0]), torch.tensor([True, True]))
    with pytest.raises(ConfigError, match="miss_cost"):
        calibrate_threshold(torch.tensor([0.0, 1.0]), torch.tensor([True, False]), miss_cost=0.0)
