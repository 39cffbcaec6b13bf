"""``relax spectrum A B --landscape``: models of other dynamics are apart, those of one system are not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from relax_rl.cli.main import main
from relax_rl.errors import DataError
from relax_rl.spectra.landscape import METHODS, model_landscapes


def walks(decay: float, width: int, seed: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    found = []
    for _ in range(8):
        states = [torch.randn(width, generator=generator)]
        for _ in range(150):
            states.append(decay * states[-1] + torch.randn(width, generator=generator))
        found.append(torch.stack(states))
    return found


def test_models_of_other_dynamics_are_apart_and_equal_ones_are_not() -> None:
    apart = model_landscapes({"slow": walks(0.97, 6, 0), "fast": walks(0.3, 8, 1)}, num_shuffles=99)
    same = model_landscapes({"one": walks(0.8, 6, 2), "two": walks(0.8, 6, 3)}, num_shuffles=99)
    assert [each.method for each in apart] == list(METHODS)
    for far, near in zip(apart, same, strict=True):
        assert far.silhouette > 0.5 > near.silhouette
        assert far.p_value < 0.05 < near.p_value
        assert far.coherence["slow"].high < 1
        assert near.coherence["one"].low < 1.05
        assert len(set(far.clusters["slow"])) == 1
        assert far.between[0][1] == pytest.approx(far.between[1][0])


@pytest.mark.parametrize(
    "given",
    [{"one": walks(0.5, 3, 0)}, {"one": walks(0.5, 3, 0), "two": walks(0.5, 3, 1)[:3]}],
)
def test_one_model_or_other_prompts_are_refused(given: Any) -> None:
    with pytest.raises(DataError, match="two models or more"):
        model_landscapes(given)
    with pytest.raises(DataError, match="at least 48"):
        model_landscapes({name: [x[:20] for x in walks(0.5, 3, 0)] for name in "ab"})


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["tiny"], "two different models"),
        (["tiny", "tiny"], "two different models"),
        (["tiny", "other", "--sites", "all"], "name one"),
        (["tiny", "other", "--axis", "depth"], "does not read --axis"),
        (["tiny", "other", "--num-samples", "2"], "one text a prompt"),
        (["tiny", "other", "--skip", "1"], "does not read --skip"),
    ],
)
def test_what_makes_no_landscape_is_one_sentence(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["spectrum", *words, "--landscape"]) == 2
    assert said in capsys.readouterr().err
    assert main(["spectrum", "tiny", "other"]) == 2


@pytest.mark.slow
def test_the_command_writes_a_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from relax_rl.training.models import load_model

    model, tokenizer = load_model("tiny")
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(1.3)
    model.save_pretrained(tmp_path / "other")
    tokenizer.save_pretrained(tmp_path / "other")
    lines = [f"{i} {i + 1} {i + 2} and a line that is long enough for a landscape of states" for i in range(4)]
    (tmp_path / "lines.txt").write_text("\n".join(lines))
    text = ["--text", "--prompts", str(tmp_path / "lines.txt"), "-o", str(tmp_path / "out")]
    assert main(["spectrum", "tiny", str(tmp_path / "other"), "--landscape", *text]) == 0
    assert "delay Wasserstein" in capsys.readouterr().out
    page = (tmp_path / "out" / "landscape.html").read_text()
    assert page.count("<img") == 4
    found = json.loads((tmp_path / "out" / "landscape.json").read_text())
    assert found["models"][0] == "tiny"
    assert len(found["prompts"]) == 4
