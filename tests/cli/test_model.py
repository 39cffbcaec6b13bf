"""`relax model`: the contract in words and as JSON."""

import json

from relax_rl.cli.main import main
from support.broken_models import FAULTS, copy_of_tiny


def test_the_embedded_policy(capsys):
    assert main(["model", "tiny"]) == 0
    lines = dict(line.split(None, 1) for line in capsys.readouterr().out.splitlines())
    assert lines["class"] == "LlamaForCausalLM (llama), text"
    assert lines["context"] == "512 tokens for prompt and completion"
    assert lines["cache"] == "attention"
    assert lines["head"] == "lm_head (Linear), tied to the embedding"
    assert lines["template"] == "none: prompts are plain text"


def test_json(capsys):
    assert main(["model", "tiny", "--json", "--headers-only"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["architecture"]["context"] == 512
    assert found["tokens"]["stop"] == [257]
    assert found["problems"] == []


def test_a_problem_is_printed_and_the_exit_code_is_2(capsys, tmp_path):
    damage, words = FAULTS["NaN"]
    folder = copy_of_tiny(tmp_path / "model")
    damage(folder)
    assert main(["model", str(folder)]) == 2
    out, err = capsys.readouterr()
    assert "LlamaForCausalLM" in out
    assert words in err
    assert main(["model", str(folder), "--headers-only"]) == 0


def test_no_model(capsys):
    assert main(["model", "./nowhere"]) == 2
    assert "no model folder at ./nowhere" in capsys.readouterr().err
