"""`spectrum` as a function: what the command does, nothing printed, and what is wrong is said before it is computed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from relax_rl.cli.main import main
from relax_rl.errors import ConfigError, DataError, ModelError
from relax_rl.tasks import CountdownTask
from relax_rl.workflows.progress import Progress
from relax_rl.workflows.spectrum import spectrum

SMALL: dict[str, Any] = {
    "num_problems": 3,
    "max_completion_length": 24,
    "sites": ("layer_1_out", "final_norm_out"),
    "num_observables": 6,
    "fit_steps": 1,
}


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_it_does_what_the_command_does(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    place = "relax_rl.workflows.spectrum_folder.write_spectrum_page"
    monkeypatch.setattr(place, lambda page, output: output.write_text(""))
    seen: list[Progress] = []
    found = spectrum("tiny", **SMALL, on_progress=seen.append)
    assert capfd.readouterr() == ("", "")
    assert (list(Path().iterdir()), found.page) == ([], None)
    assert seen[0].message == "tiny: generating from 3 prompts"
    words = ["-n", "3", "--max-completion-length", "24", "--sites", "layer_1_out,final_norm_out"]
    assert main(["spectrum", "tiny", *words, "--observables", "6", "--fit-steps", "1", "-o", "out"]) == 0
    kept = json.loads(Path("out/spectrum.json").read_text())["models"][0]
    ours = json.loads(json.dumps(found.spectra.to_dict()).replace("NaN", "null"))
    assert kept == ours
    assert spectrum("tiny", **SMALL, output="kept").page == Path("kept/spectrum.html")
    assert Path("kept/trajectories.csv").read_bytes() == Path("out/trajectories.csv").read_bytes()


def test_loaded_models_texts_and_a_task_object() -> None:
    from relax_rl.training.models import load_model

    model, tokenizer = load_model("tiny")
    by_name = spectrum("tiny", **SMALL).spectra
    found = spectrum(model, tokenizer=tokenizer, task=CountdownTask(), compare=model, **SMALL)
    assert found.models[0].sites == by_name.sites == found.models[1].sites
    assert {difference.test.p_value for difference in found.differences} == {1.0}
    texts = ["1 2 3 = 6 and so on", "4 5 6 = 15 and so forth"]
    read = spectrum("tiny", prompts=texts, text=True, **{**SMALL, "max_completion_length": None}).spectra
    assert [row.num_tokens for row in read.at("final_norm_out")] == [18, 22]


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"sites": ("layer_9_out",)}, ConfigError, "layer_0_out to layer_3_out"),
        ({"num_observables": 200}, DataError, "more than 200 snapshot pairs, but these texts hold at most 69"),
        ({"compare": "./nowhere"}, ModelError, "no model folder at ./nowhere"),
        ({"compare": "there"}, ModelError, "No language model could be loaded from there"),
        ({"dictionaries": {"final_norm_out": "absent"}}, DataError, "no dictionary file at absent"),
        ({"store": "file"}, Exception, "no latent store"),
    ],
)
def test_what_is_wrong_is_said_before_the_model_runs(
    options: dict[str, Any], error: type[Exception], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("there").mkdir()
    Path("file").write_text("")
    monkeypatch.setattr("relax_rl.evaluation.samplers.transformers.sample_completions", None)
    with pytest.raises(error, match=said):
        spectrum("tiny", **SMALL | options)


def test_too_few_tokens_of_given_texts_are_counted_before_the_model_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("relax_rl.latent.trajectories.capture_inputs", None)
    with pytest.raises(DataError, match="more than 20 snapshot pairs, but these texts hold at most 5"):
        spectrum("tiny", prompts=["1 2 3 4"], text=True, num_observables=20)


def test_a_compared_model_is_looked_for_before_the_first_one_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("relax_rl.training.models.load_model", None)
    with pytest.raises(ModelError, match=r"no model folder at \./nowhere"):
        spectrum("tiny", compare="./nowhere")
    with pytest.raises(ConfigError, match="layer_0_out to layer_3_out"):
        spectrum("tiny", compare="tiny", sites=("layer_4_out",))
