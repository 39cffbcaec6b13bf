"""``relax spectrum --states``: the same numbers as of the model's own states, with its norm or a word about it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from relax_rl.cli.main import main
from relax_rl.errors import ConfigError, DataError
from relax_rl.latent.final_norm import final_norm_of
from relax_rl.latent.repeats import capture_depth
from relax_rl.latent.trajectories import capture_inputs
from relax_rl.spectra.measure import latent_spectra
from relax_rl.spectra.rulers import SpectrumSettings
from relax_rl.training.models import load_model
from relax_rl.workflows.spectrum_states import spectrum_of_states

ROWS = [list(range(40 + row, 80 + 2 * row)) for row in range(3)]


@pytest.fixture(scope="module")
def model() -> Any:
    torch.set_num_threads(1)
    return load_model("tiny")


@pytest.fixture
def recorded(model: Any, tmp_path: Path) -> Path:
    """As vLLM writes layers 1 and 4 of a model of four."""
    for number, row in enumerate(ROWS):
        ids = torch.tensor([row])
        states = capture_depth(model[0], {"input_ids": ids})[:, [1, 4]].contiguous()
        save_file({"hidden_states": states, "token_ids": ids[0]}, tmp_path / f"{number}.safetensors")
    return tmp_path


def test_the_spectrum_is_that_of_the_model(model: Any, recorded: Path) -> None:
    sites = ("layer_0_out", "layer_3_out", "final_norm_out")
    expected = latent_spectra(model[0], ROWS, SpectrumSettings(sites=sites, num_observables=6, fit_steps=2))
    found = spectrum_of_states(
        recorded, model=model[0], tokenizer=model[1], layer_ids=[1, 4], num_observables=6, fit_steps=2
    ).spectra
    assert [site.site for site in found.sites] == list(sites)
    for site in sites:
        np.testing.assert_allclose(found[site].moduli, expected[site].moduli, rtol=1e-3, atol=1e-4)
        assert found[site].num_pairs == expected[site].num_pairs


def test_the_norm_is_that_of_transformers(model: Any) -> None:
    ids = {"input_ids": torch.tensor([ROWS[0]])}
    before = capture_depth(model[0], ids)[:, -1]
    after = capture_inputs(model[0], ids, ["final_norm_out"])[0].states["final_norm_out"]
    torch.testing.assert_close(final_norm_of(model[0])(before), after)


def test_a_store_is_filled_once_and_grows(recorded: Path, model: Any) -> None:
    def measured() -> Any:
        said: list[str] = []
        found = spectrum_of_states(
            recorded,
            layer_ids=[1, 4],
            num_observables=6,
            fit_steps=1,
            store=recorded.parent / "store",
            statistics_only=True,
            on_progress=lambda progress: said.append(progress.message or ""),
        )
        return found.spectra, said

    first, said = measured()
    assert "name the model to have its norm applied" in said[-1]
    again, _ = measured()
    assert first["layer_3_out"].eigenvalues == again["layer_3_out"].eigenvalues
    save_file({"hidden_states": torch.randn(30, 2, 128), "token_ids": torch.arange(30)}, recorded / "3.safetensors")
    more, _ = measured()
    assert more["layer_3_out"].num_pairs == first["layer_3_out"].num_pairs + 28
    assert more["layer_3_out"].dictionary_digest == first["layer_3_out"].dictionary_digest


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"sites": ["final_norm_out"], "layer_ids": [1, 4]}, "written without the final norm"),
        ({"sites": ["layer_7_out"], "layer_ids": [1, 4]}, "no site 'layer_7_out'"),
        ({"skip": -1, "layer_ids": [1, 4]}, "--skip is -1"),
    ],
)
def test_a_site_that_is_not_there_is_refused(recorded: Path, arguments: Any, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        spectrum_of_states(recorded, **arguments)


def test_the_norm_needs_the_last_layer_and_the_right_model(recorded: Path, model: Any) -> None:
    given: dict[str, Any] = {"model": model[0], "tokenizer": model[1]}
    with pytest.raises(ConfigError, match="record the last layer too"):
        spectrum_of_states(recorded, sites=["final_norm_out"], layer_ids=[1, 3], **given)
    np.save(recorded / "other.npy", np.zeros((9, 5)))
    with pytest.raises(DataError, match="width 5"):
        spectrum_of_states(recorded / "other.npy", **given)


def test_the_command_line_measures_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        "relax_rl.workflows.spectrum_folder.write_spectrum_page", lambda page, output: output.write_text("")
    )
    np.save("walk.npy", np.random.default_rng(0).standard_normal((3, 60, 5)).cumsum(1))
    small = ["--observables", "4", "--fit-steps", "1", "--skip", "0"]
    assert main(["spectrum", "--states", "walk.npy", *small]) == 0
    assert "walk.npy:2" in capsys.readouterr().out
    found = json.loads(Path("spectra/walk.npy/spectrum.json").read_text())
    assert found["models"][0]["sites"][0]["num_pairs"] == 3 * 59
    for words in ([], ["--states", "walk.npy", "--text"], ["tiny", "--skip", "2"], ["--states", "none"]):
        assert main(["spectrum", *words]) == 2
        assert capsys.readouterr().err.count("relax: error:") == 1
