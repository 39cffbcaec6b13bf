"""Spectra of a real model's hidden states against numpy on transformers' own hidden states; stores; rulers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from relax_rl.errors import ConfigError, DataError
from relax_rl.koopman import KoopmanDictionary
from relax_rl.latent.store import LatentStore, merge_stores
from relax_rl.latent.trajectories import LatentTrajectory
from relax_rl.spectra.difference import prompt_means, spectra_differences
from relax_rl.spectra.measure import LatentText, Pseudospectrum, latent_spectra
from relax_rl.spectra.rulers import (
    OBSERVABLES,
    SiteRuler,
    SpectrumSettings,
    TrajectorySpectrum,
    fit_rulers,
    measure,
)

SITES = ("layer_0_out", "final_norm_out")
SETTINGS = SpectrumSettings(sites=SITES, num_observables=8, fit_steps=3, num_paths=2)


@pytest.fixture(scope="module")
def model() -> Any:
    from relax_rl.training.models import load_model

    torch.set_num_threads(1)
    return load_model("tiny")[0]


@pytest.fixture(scope="module")
def texts() -> list[LatentText]:
    """Six texts of 30 to 55 tokens, of which the first five are a prompt."""
    generator = torch.Generator().manual_seed(0)
    rows = [torch.randint(32, 127, (30 + 5 * index,), generator=generator).tolist() for index in range(6)]
    return [LatentText(f"prompt-{index}", tuple(row), 5) for index, row in enumerate(rows)]


@pytest.fixture(scope="module")
def spectra(model: Any, texts: list[LatentText]) -> Any:
    return latent_spectra(model, texts, SETTINGS, name="tiny")


class Refusing(torch.nn.Module):
    """A model that has sites and must not run."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.config, self.model = model.config, model

    def get_decoder(self) -> Any:
        return self.model.get_decoder()

    @property
    def base_model(self) -> Any:
        raise AssertionError("the model ran, although the store has what was asked for")


def assert_alike(found: Sequence[TrajectorySpectrum], expected: Sequence[TrajectorySpectrum]) -> None:
    """Equal but for the rounding that another batch brings to the states, which float32 carries on."""
    for ours, theirs in zip(found, expected, strict=True):
        assert (ours.id, ours.site, ours.num_tokens, ours.residual_kind) == (
            *(theirs.id, theirs.site, theirs.num_tokens, theirs.residual_kind),
        )
        for name in ("max_modulus", "residual_median", "effective_rank", "curvature"):
            assert getattr(ours, name) == pytest.approx(getattr(theirs, name), rel=1e-3)
        assert ours.dsd["paper"] == pytest.approx(theirs.dsd["paper"], rel=1e-2)
        assert (ours.dsd["robust"] is None) == (theirs.dsd["robust"] is None)
        assert dict(ours.by_length["paper"]) == pytest.approx(dict(theirs.by_length["paper"]), rel=1e-2)


def lifted(model: Any, text: LatentText, site: str, dictionary: KoopmanDictionary) -> np.ndarray:
    """transformers' own hidden states under the dictionary, in float64 numpy."""
    with torch.no_grad():
        states = model(torch.tensor([text.token_ids]), output_hidden_states=True).hidden_states
    chosen = states[{"layer_0_out": 1, "final_norm_out": -1}[site]][0, text.start :].double().numpy()
    return 1 / (1 + np.exp(-chosen @ dictionary.weight.double().numpy()))


def moduli(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return np.sort(np.abs(np.linalg.eigvals(np.linalg.lstsq(first, second, rcond=None)[0])))[::-1]


@pytest.mark.parametrize("site", SITES)
def test_pooled_and_single_spectra_are_numpys(model: Any, texts: list[LatentText], spectra: Any, site: str) -> None:
    snapshots = [lifted(model, text, site, spectra.rulers[site].dictionary) for text in texts]
    pooled = moduli(np.concatenate([s[:-1] for s in snapshots]), np.concatenate([s[1:] for s in snapshots]))
    np.testing.assert_allclose(spectra[site].moduli, pooled, rtol=2e-3, atol=2e-4)
    assert spectra[site].num_pairs == sum(len(s) - 1 for s in snapshots)
    for row, states in zip(spectra.at(site), snapshots, strict=True):
        alone = moduli(states[:-1], states[1:])
        assert row.num_tokens == len(states)
        assert row.max_modulus == pytest.approx(alone[0], rel=5e-3)
        assert row.dsd["paper"] == pytest.approx(np.var(alone), rel=2e-2)


def test_a_residual_is_that_of_the_eigenpair(model: Any, texts: list[LatentText], spectra: Any) -> None:
    site = "final_norm_out"
    snapshots = [lifted(model, text, site, spectra.rulers[site].dictionary) for text in texts]
    x, y = np.concatenate([s[:-1] for s in snapshots]), np.concatenate([s[1:] for s in snapshots])
    values, vectors = np.linalg.eig(np.linalg.lstsq(x, y, rcond=None)[0])
    order = np.argsort(-np.abs(values))
    expected = np.linalg.norm(y @ vectors - (x @ vectors) * values, axis=0) / np.linalg.norm(x @ vectors, axis=0)
    assert spectra[site].residual_kind == "primal"
    np.testing.assert_allclose(spectra[site].residuals, expected[order], rtol=2e-3, atol=1e-4)
    grid = spectra[site].pseudospectrum
    assert isinstance(grid, Pseudospectrum)
    z = complex(grid.real[30], grid.imaginary[10])
    inverse_root = np.linalg.inv(np.linalg.cholesky(x.T @ x))
    form = y.T @ y - z * (y.T @ x) - z.conjugate() * (x.T @ y) + abs(z) ** 2 * (x.T @ x)
    smallest = np.linalg.eigvalsh(inverse_root @ form @ inverse_root.T)[0]
    assert grid.values[10][30] == pytest.approx(smallest**0.5, rel=1e-2)


def test_the_length_curve_is_the_dispersion_of_shorter_texts(model: Any, texts: list[LatentText], spectra: Any) -> None:
    row = spectra.at("final_norm_out")[-1]
    assert [n for n, _ in row.by_length["paper"]] == [13, 17, 25, 33, 49]
    dictionaries = {site: ruler.dictionary for site, ruler in spectra.rulers.items()}
    for length, value in row.by_length["paper"]:
        cut = LatentText("cut", texts[-1].token_ids[: 5 + length], 5)
        (alone,) = latent_spectra(model, [cut], SETTINGS, dictionaries=dictionaries).at("final_norm_out")
        assert alone.dsd["paper"] == pytest.approx(value, rel=1e-3)


@pytest.mark.parametrize("is_statistics", [False, True])
def test_a_store_changes_nothing_and_saves_the_model(
    model: Any, texts: list[LatentText], spectra: Any, tmp_path: Path, is_statistics: bool
) -> None:
    def run(reader: Any, chosen: list[LatentText]) -> Any:
        store = LatentStore.create(tmp_path / "store", {"model": "tiny"}, shard_bytes=20_000)
        return latent_spectra(
            reader,
            chosen,
            SETTINGS,
            name="tiny",
            store=store,
            keep_statistics_only=is_statistics,
            dictionaries={site: ruler.dictionary for site, ruler in spectra.rulers.items()},
        )

    part = run(model, texts[:4])
    assert len(LatentStore(tmp_path / "store")) == 4
    assert_alike(part.trajectories, spectra.trajectories[:8])
    whole = run(model, texts)
    assert len(LatentStore(tmp_path / "store")) == 6
    again = run(Refusing(model), texts)
    for found in (whole, again):
        assert_alike(found.trajectories, spectra.trajectories)
        for site in SITES:
            np.testing.assert_allclose(found[site].moduli, spectra[site].moduli, rtol=1e-3, atol=1e-4)
        assert [path.id for path in found.paths] == [path.id for path in spectra.paths]
    (row, *_) = LatentStore(tmp_path / "store")
    assert ("final_norm_out" in row.tensors) is not is_statistics
    assert ("final_norm_out/gram" in row.tensors) is is_statistics
    assert whole.num_state_bytes == sum(len(text.token_ids) - 5 for text in texts) * 128 * 4 * 2
    assert whole.num_statistics_bytes == 6 * 2 * 3 * 8 * 8 * 8


def test_statistics_of_two_processes_merge(model: Any, texts: list[LatentText], spectra: Any, tmp_path: Path) -> None:
    for name, chosen in (("a", texts[:3]), ("b", texts[3:])):
        store = LatentStore.create(tmp_path / name, {"model": "tiny"})
        for ruler in spectra.rulers.values():
            ruler.save(tmp_path / name / "rulers")
        latent_spectra(model, chosen, SETTINGS, store=store, keep_statistics_only=True)
    merged = merge_stores([tmp_path / "b", tmp_path / "a"], tmp_path / "both")
    found = latent_spectra(Refusing(model), texts, SETTINGS, store=merged, keep_statistics_only=True)
    for site in SITES:
        np.testing.assert_allclose(found[site].moduli, spectra[site].moduli, rtol=1e-3, atol=1e-4)
        assert found[site].dictionary_digest == spectra[site].dictionary_digest
    other = {"final_norm_out": KoopmanDictionary(torch.randn((128, 8)))}
    with pytest.raises(DataError, match="made with another dictionary"):
        latent_spectra(model, texts, SETTINGS, store=merged, keep_statistics_only=True, dictionaries=other)
    foreign = LatentStore.create(tmp_path / "c", {"model": "tiny"})
    latent_spectra(model, texts[:2], SETTINGS, store=foreign, keep_statistics_only=True)
    with pytest.raises(DataError, match="differ"):
        merge_stores([tmp_path / "a", tmp_path / "c"], tmp_path / "mixed")


def test_batches_do_not_change_the_values(model: Any, texts: list[LatentText], spectra: Any) -> None:
    alone = latent_spectra(model, texts, SETTINGS, name="tiny", tokens_per_batch=1)
    assert_alike(alone.trajectories, spectra.trajectories)


def ruler_for(width: int = 6, num_observables: int = 4) -> SiteRuler:
    generator = torch.Generator().manual_seed(0)
    trajectory = LatentTrajectory(0, {"embed": torch.randn((40, width), generator=generator)}, tuple(range(40)))
    return fit_rulers([trajectory], SpectrumSettings(num_observables=num_observables, fit_steps=0))["embed"]


def test_what_cannot_be_measured_has_no_value() -> None:
    ruler = ruler_for()
    states = torch.randn((40, 6), generator=torch.Generator().manual_seed(1))
    broken = states.clone()
    broken[3, 2] = torch.nan
    found, statistics, _ = measure(broken, ruler, "a", ["paper"])
    assert (found.is_finite, statistics, found.dsd) == (False, None, {})
    found, statistics, _ = measure(states[:1], ruler, "a", ["paper"])
    assert (found.is_finite, statistics, found.residual_kind) == (True, None, "vacuous")
    found, _, _ = measure(states[:5], ruler, "a", ["paper"])  # four pairs of four observables: the fit interpolates
    assert found.dsd == {"paper": None}
    assert (found.residual_kind, found.residual_median, found.spurious_share) == ("vacuous", None, None)
    found, _, _ = measure(states, ruler, "a", ["paper", "robust"])
    assert found.residual_kind == "primal"
    assert found.dsd["robust"] is not None


def test_the_plane_holds_the_two_directions_of_largest_variance() -> None:
    generator = torch.Generator().manual_seed(0)
    basis = torch.linalg.qr(torch.randn((12, 12), generator=generator)).Q
    states = torch.randn((300, 12), generator=generator) * torch.tensor([9.0, 4.0, *[0.3] * 10]) @ basis.T + 5.0
    plane = fit_rulers(
        [LatentTrajectory(0, {"embed": states}, tuple(range(300)))], SpectrumSettings(num_observables=4, fit_steps=0)
    )["embed"]
    torch.testing.assert_close(plane.plane.T @ plane.plane, torch.eye(2), atol=1e-4, rtol=0)
    assert float((plane.plane[:, 0] @ basis[:, 0]).abs()) > 0.99
    assert float((plane.plane[:, 1] @ basis[:, 1]).abs()) > 0.99
    torch.testing.assert_close(plane.center, states.mean(0), atol=1e-4, rtol=0)


def test_a_ruler_comes_back_from_its_folder(tmp_path: Path) -> None:
    ruler = ruler_for()
    ruler.save(tmp_path)
    again = SiteRuler.load(tmp_path, "embed")
    assert again.dictionary.digest == ruler.dictionary.digest
    assert torch.equal(again.plane, ruler.plane)
    with pytest.raises(DataError, match="no dictionary file"):
        SiteRuler.load(tmp_path, "final_norm_out")


def test_a_row_survives_json(spectra: Any) -> None:
    import json

    for row in spectra.trajectories:
        assert TrajectorySpectrum.from_dict(json.loads(json.dumps(row.to_dict()))) == row


def test_the_default_dictionary_fits_the_texts(model: Any, texts: list[LatentText]) -> None:
    found = latent_spectra(model, texts, SpectrumSettings(sites=("embed",), fit_steps=0))
    assert found.settings.num_observables == 13  # a third of the median, 40 tokens
    assert found.settings.sites == ("embed",)


def test_a_model_differs_from_another_and_not_from_itself(model: Any, texts: list[LatentText], spectra: Any) -> None:
    same = spectra_differences(spectra, spectra)
    assert {d.test.p_value for d in same} == {1.0}
    assert all(d.is_of_models for d in same)
    other = type(model)(model.config)
    dictionaries = {site: ruler.dictionary for site, ruler in spectra.rulers.items()}
    random = latent_spectra(other, texts, SETTINGS, name="random", dictionaries=dictionaries)
    found = {(d.site, d.quantity): d for d in spectra_differences(spectra, random)}
    rank = found["final_norm_out", "effective_rank"]
    assert rank.test.p_value == pytest.approx(2 / 2**6)
    assert rank.test.num_pairs == 6
    ours, theirs = (prompt_means(s, "final_norm_out", "effective_rank") for s in (spectra, random))
    assert rank.test.value == pytest.approx(np.mean([theirs[k] - ours[k] for k in ours]))
    fitted_anew = latent_spectra(other, texts, SETTINGS, name="random")
    assert not any(d.is_of_models for d in spectra_differences(spectra, fitted_anew) if d.quantity == "dsd/paper")


@pytest.mark.parametrize("kind", OBSERVABLES)
def test_every_kind_of_observables_measures(model: Any, texts: list[LatentText], kind: Any, tmp_path: Path) -> None:
    settings = SpectrumSettings(sites=("embed",), observables=kind, num_observables=6, fit_steps=1)
    found = latent_spectra(model, texts, settings)
    assert found["embed"].num_observables == 6
    assert found["embed"].residual_kind == "primal"
    found.rulers["embed"].save(tmp_path)
    assert SiteRuler.load(tmp_path, "embed").dictionary.digest == found["embed"].dictionary_digest


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"observables": "best"}, "no observables 'best'"),
        ({"num_observables": 0}, "num_observables"),
        ({"fit_steps": -1}, "fit_steps"),
        ({"estimators": ()}, "estimator"),
    ],
)
def test_settings_out_of_range(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        SpectrumSettings(**options)


def test_nothing_to_read(model: Any) -> None:
    with pytest.raises(DataError, match="no text to read"):
        latent_spectra(model, [])
    with pytest.raises(DataError, match="more than 8 snapshot pairs"):
        latent_spectra(model, [[40, 41, 42]], SETTINGS)
