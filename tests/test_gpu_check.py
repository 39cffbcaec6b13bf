"""`make gpu-check` on the CPU: every figure is there, and no precision moves the dispersion."""

import json

import pytest

import gpu_check


@pytest.mark.slow
def test_the_dry_run_has_every_figure(tmp_path, capsys):
    assert gpu_check.main(["--dry-run", "--output", str(tmp_path / "figures.json")]) == 0
    kept = json.loads((tmp_path / "figures.json").read_text())
    figures = {figure["name"]: figure for figure in kept["figures"]}
    assert kept["hardware"] == "CPU, dry run"
    assert 0 < figures["share of the update"]["value"] < 1
    assert figures["dispersion, TF32 allowed"]["value"] == 0
    assert figures["dispersion, bfloat16 autocast"]["value"] == 0
    assert figures["SmolLM2 with vLLM, two updates"]["note"].startswith("not run")
    assert "share of the update" in capsys.readouterr().out


def test_without_a_gpu_it_says_so(capsys, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert gpu_check.main([]) == 2
    assert "there is no GPU that torch can use" in capsys.readouterr().err
