"""``relax spectrum`` on models that keep a state or repeat their layers: what is measured was written."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from relax_rl.cli.main import main
from relax_rl.evaluation.prompts import encode_prompt
from relax_rl.latent.store import LatentStore
from relax_rl.tasks.registry import build_task
from relax_rl.training.models import load_model, load_tokenizer
from support.architectures import build

NAMES = [
    *("Bamba", "Falcon-H1", "FalconMamba", "Granite-4 hybrid", "HRM text", "Jamba", "Kimi-Linear", "LFM2", "LFM2-MoE"),
    *("Mamba", "Mamba-2", "Nemotron-H", "OLMo hybrid", "Qwen3-Next", "Qwen3.5", "Qwen3.5-MoE", "RecurrentGemma"),
    "Zamba-2",
]


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_the_states_are_those_of_reading_the_completion_again(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    place = "relax_rl.workflows.spectrum_folder.write_spectrum_page"
    monkeypatch.setattr(place, lambda page, output: output.write_text(""))
    folder = build(name, tmp_path / "model")
    asked = ["-n", "2", "--num-samples", "2", "--max-completion-length", "16", "--store", "states", "-o", "out"]
    assert main(["spectrum", str(folder), *asked, "--observables", "4", "--fit-steps", "0"]) == 0
    assert "final_norm_out" in capsys.readouterr().out
    model, tokenizer = load_model(str(folder))
    prompts = {each.id: encode_prompt(tokenizer, each) for each in build_task("countdown").problems("test", 2)}
    rows = list(LatentStore(tmp_path / "states"))
    assert len(rows) == 4
    for row in rows:
        prompt, drawn = prompts[row.columns["id"]], row.columns["token_ids"]
        with torch.no_grad():
            ids = torch.tensor([[*prompt, *drawn]])
            expected = model.get_decoder()(input_ids=ids, use_cache=False).last_hidden_state[0, len(prompt) :]
        torch.testing.assert_close(row.tensors["final_norm_out"], expected, atol=2e-5, rtol=1e-4)


def test_a_model_that_cannot_be_sampled_reads_texts_of_several_lengths(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        "relax_rl.workflows.spectrum_folder.write_spectrum_page", lambda page, output: output.write_text("")
    )
    folder = build("RWKV", tmp_path / "model")
    Path("lines.txt").write_text("1 2 3 = 6 and so on\n4 5 6 = 15 and so forth, to the end\n")
    asked = ["--text", "--prompts", "lines.txt", "--store", "states", "-o", "out", "--observables", "4"]
    assert main(["spectrum", str(folder), *asked, "--fit-steps", "0"]) == 0
    assert "final_norm_out" in capsys.readouterr().out
    model, tokenizer = load_model(str(folder), writes=False)[0], load_tokenizer("tiny")
    rows = {row.columns["id"]: row.tensors["final_norm_out"] for row in LatentStore(tmp_path / "states")}
    for place, line in enumerate(Path("lines.txt").read_text().splitlines(), start=1):
        with torch.no_grad():
            ids = torch.tensor([tokenizer.encode(line)])
            expected = model.get_decoder()(input_ids=ids, use_cache=False).last_hidden_state[0]
        found = rows[f"line-{place}"]
        torch.testing.assert_close(found, expected[-len(found) :], atol=2e-5, rtol=1e-4)
        assert len(found) >= len(expected) - 1
