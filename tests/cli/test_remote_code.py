"""Models that bring Python files: they run if the user said so on the command line, and never otherwise."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from relax_rl.cli.main import main
from relax_rl.config import load_config
from relax_rl.errors import ConfigError, ModelError
from relax_rl.remote_code import is_trusted, trusting_remote_code
from relax_rl.training.models import load_model, load_tokenizer
from relax_rl.workflows.compare.jobs import job_of
from relax_rl.workflows.compare.plan import parse_methods, plan_runs

CONFIGURATION = """
import pathlib
from transformers import LlamaConfig
pathlib.Path("RAN").touch()
class OwnConfig(LlamaConfig):
    model_type = "own_llama_of_this_test"
"""
MODELING = """
from transformers import LlamaForCausalLM
from .configuration_own import OwnConfig
class OwnForCausalLM(LlamaForCausalLM):
    config_class = OwnConfig
"""


@pytest.fixture(autouse=True)
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    # Where transformers copies a model's files, to import them.
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr("builtins.input", lambda *given: "y")  # whoever asks on the terminal gets a yes
    yield
    for name in [name for name in sys.modules if name.startswith("transformers_modules")]:
        sys.modules.pop(name)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """The embedded policy as a model of code of its own."""
    from relax_rl.training.models import model_location

    folder = tmp_path / "theirs"
    folder.mkdir()
    for file in Path(model_location("tiny")).iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    config = json.loads((folder / "config.json").read_text())
    config["model_type"] = "own_llama_of_this_test"
    config["auto_map"] = {
        "AutoConfig": "configuration_own.OwnConfig",
        "AutoModelForCausalLM": "modeling_own.OwnForCausalLM",
    }
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "configuration_own.py").write_text(CONFIGURATION)
    (folder / "modeling_own.py").write_text(MODELING)
    return folder


EVAL = ["eval", "theirs", "--task", "countdown", "-k", "1", "-n", "1", "--max-completion-length", "4", "-o", "out"]
VERBS = {
    "train": ["train", "countdown", "--model", "theirs", "--dry-run"],
    "eval": EVAL,
    "compare": ["compare", "countdown", "--methods", "grpo,relax", "--model", "theirs", "--dry-run"],
    "spectrum": ["spectrum", "theirs", "-n", "1", "--max-completion-length", "8", "-o", "out"],
    "model": ["model", "theirs"],
}


@pytest.mark.parametrize("verb", VERBS)
def test_a_model_s_own_code_does_not_run_unasked(verb: str, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(VERBS[verb]) == 2
    said = capsys.readouterr().err
    assert said.startswith("relax: error: ")
    assert said.count("\n") == 1
    assert "theirs: it brings Python code of its own" in said
    assert "--trust-remote-code" in said
    assert not Path("RAN").exists()
    assert not Path("out").exists()


@pytest.mark.parametrize("verb", ["train", "eval", "model"])
def test_it_runs_with_the_flag_which_the_header_says(
    verb: str, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*VERBS[verb], "--trust-remote-code"]) == 0
    assert "code      that comes with the model may run (--trust-remote-code)\n" in capsys.readouterr().err
    assert Path("RAN").exists()
    assert not is_trusted()


def test_a_tokenizer_s_code_is_no_other(model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "words"
    folder.mkdir()
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "Own", "auto_map": {"AutoTokenizer": ["own.Own", None]}})
    )
    (folder / "config.json").write_text((model / "config.json").read_text().replace("own_llama_of_this_test", "llama"))
    (folder / "own.py").write_text("import pathlib\npathlib.Path('RAN').touch()\nclass Own: ...\n")
    with pytest.raises(ModelError):
        load_tokenizer(str(folder))
    assert not Path("RAN").exists()


def test_weights_in_a_pickle_run_nothing(model: Path) -> None:
    class Harmful:
        def __reduce__(self):
            return Path.touch, (Path("RAN"),)

    config = json.loads((model / "config.json").read_text())
    del config["auto_map"]
    config["model_type"] = "llama"
    (model / "config.json").write_text(json.dumps(config))
    (model / "model.safetensors").unlink()
    torch.save({"lm_head.weight": Harmful()}, model / "pytorch_model.bin")
    with pytest.raises(ModelError) as caught:
        load_model(str(model))
    assert "\n" not in str(caught.value)
    assert not Path("RAN").exists()


def test_a_program_says_so_for_a_while(model: Path) -> None:
    with trusting_remote_code():
        loaded, _ = load_model(str(model))
    assert type(loaded).__name__ == "OwnForCausalLM"
    assert not is_trusted()


@pytest.mark.parametrize(
    "trainer", [{"trust_remote_code": True}, {"model_init_kwargs": {"trust_remote_code": True}}], ids=str
)
def test_no_file_can_say_it(trainer: dict, tmp_path: Path) -> None:
    path = tmp_path / "own.json"
    path.write_text(json.dumps({"trainer": trainer}))
    with pytest.raises(ConfigError, match="which no file can give"):
        load_config(path)


def test_a_comparison_hands_it_to_its_runs() -> None:
    runs = plan_runs("countdown", [], parse_methods("grpo"), [0], Path("out"))
    assert "--trust-remote-code" not in job_of(runs[0], Path("out"), overwrite=True).words
    with trusting_remote_code():
        assert "--trust-remote-code" in job_of(runs[0], Path("out"), overwrite=True).words
