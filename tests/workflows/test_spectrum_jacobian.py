"""``relax spectrum --jacobian``: exponents beside fits, written as printed; what has no Jacobian exits with 2."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path

import pytest

from relax_rl.cli.main import main
from relax_rl.koopman.spectra.lyapunov import exponents_of_products
from relax_rl.latent.jacobian import token_jacobians
from relax_rl.reports.spectra.jacobian import verdicts
from relax_rl.spectra.jacobian import JacobianSettings, JacobianSpectrum
from relax_rl.statistics.intervals import Estimate
from relax_rl.training.models import load_model, load_tokenizer
from support.architectures import build

LINES = "7 3 5 -> 26: <think>7*3=21\n8 2 6 -> 10: <answer>8/2+6\n"


@pytest.fixture(autouse=True)
def lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("lines.txt").write_text(LINES)


def test_the_command_writes_the_exponents_that_it_prints(capsys: pytest.CaptureFixture[str]) -> None:
    command = ["spectrum", "tiny", "--jacobian", "--prompts", "lines.txt", "--text", "-o", "out"]
    assert main(command) == 0
    shown = capsys.readouterr().out
    found = json.loads(Path("out/jacobian.json").read_text())
    rows = list(csv.DictReader(Path("out/jacobian.csv").read_text(encoding="utf-8").splitlines()))
    assert len(rows) == len(found["exponents"]) == 4
    for row, exponent in zip(rows, found["exponents"], strict=True):
        assert float(row["exponent"]) == exponent["value"]
        assert f"{exponent['value']:+.2f}" in shown
    assert "The slowest mode by least squares" in shown
    page = Path("out/jacobian.html").read_text()
    assert (page.count("<img"), page.count("<script")) == (1, 2)

    model, tokenizer = load_model("tiny")[0], load_tokenizer("tiny")
    exact = [
        exponents_of_products((each.push for each in token_jacobians(model, ids)), 128, count=4, warm_up=4).mean(0)
        for ids in (tokenizer.encode(line) for line in LINES.splitlines())
    ]
    # In single precision: one rounding of the weights moves the last of these exponents by 2e-4, since the singular
    # values of the Jacobians span three decades.
    mean = sum(value.sort(descending=True).values for value in exact) / 2
    assert [row["value"] for row in found["exponents"]] == pytest.approx(mean.tolist(), abs=2e-3)

    assert main(command) == 2
    assert "replace it with --overwrite" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--temperature", "0"], "needs a temperature above 0"),
        (["--axis", "depth"], "does not read --axis"),
        (["--sites", "all"], "does not read --sites"),
        (["--compare", "tiny"], "does not read --compare"),
        (["--landscape"], "'relax spectrum --landscape' does not read --jacobian"),
    ],
)
def test_what_does_not_fit_is_one_sentence(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["spectrum", "tiny", "--jacobian", "--prompts", "lines.txt", "--text", "-o", "out", *words]) == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("relax: error: ")]
    assert len(errors) == 1
    assert message in errors[0]
    assert not Path("out").exists()


def test_a_model_with_an_operation_that_has_no_derivative_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    build("BLOOM", Path("bloom"))
    assert main(["spectrum", "bloom", "--jacobian", "--prompts", "lines.txt", "--text", "-o", "out"]) == 2
    assert "BloomForCausalLM has an operation without forward-mode derivatives" in capsys.readouterr().err
    assert not Path("out").exists()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["LFM2", "Qwen3.5", "Mixtral"])
def test_hybrid_caches_and_experts_are_measured(name: str) -> None:
    build(name, Path("model"))
    assert main(["spectrum", "model", "--jacobian", "--prompts", "lines.txt", "--text", "-o", "out"]) == 0
    exponents = json.loads(Path("out/jacobian.json").read_text())["exponents"]
    assert all(math.isfinite(each["value"]) for each in exponents)


@pytest.mark.parametrize(
    ("fit", "words"),
    [(-1.0, "agrees with the first exponent"), (-0.1, "the text carries it on"), (-2.0, "changes outlast it")],
)
def test_what_the_exponent_says_of_a_fit(fit: float, words: str) -> None:
    first = Estimate(-1.0, -1.2, -0.8, 3)
    found = JacobianSpectrum("m", JacobianSettings(), 3, 30, (first,), (), {"least_squares": (fit,)}, ("Remark.",))
    said = verdicts(found)
    assert words in said[0]
    assert said[1:] == ["Remark."]
