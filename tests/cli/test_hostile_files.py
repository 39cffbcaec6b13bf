"""Pickles and tagged YAML in place of the files that the package reads: refused or unread, and never run."""

from __future__ import annotations

import contextlib
import hashlib
import json
import pickle
import shutil
from pathlib import Path

import pytest
import torch

from relax_rl.cli.main import main


class Harmful:
    """Leaves a file when it is unpickled without care."""

    def __reduce__(self):
        return Path.touch, (Path("RAN"),)


@pytest.fixture(autouse=True)
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    pickle.loads(pickle.dumps(Harmful()))
    assert Path("RAN").exists()  # it works where pickles are read
    Path("RAN").unlink()


def as_pickle(path: Path | str) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_bytes(pickle.dumps(Harmful()))


def as_torch(path: Path | str) -> None:
    torch.save(Harmful(), path)


TAGS = [
    "!!python/object/apply:os.system ['touch RAN']",
    "!!python/object/new:os.system ['touch RAN']",
    "task: !!python/object/apply:subprocess.run [['touch', 'RAN']]",
    "task: !!python/name:os.system ''",
    "task: !!python/module:os ''",
]


@pytest.mark.parametrize("text", TAGS)
def test_yaml_makes_no_objects(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("own.yaml").write_text(text)
    assert main(["train", "own.yaml", "--dry-run"]) == 2
    assert "is not valid YAML" in capsys.readouterr().err
    assert not Path("RAN").exists()


EVAL = ["eval", "tiny", "--task", "countdown", "-k", "1", "-n", "1", "--max-completion-length", "4"]
SPECTRUM = ["spectrum", "tiny", "-n", "1", "--max-completion-length", "4"]
READ = {
    "config.toml": ["train", "config.toml", "--dry-run"],
    "config.yaml": ["train", "config.yaml", "--dry-run"],
    "config.json": ["train", "config.json", "--dry-run"],
    "run/config.json": ["train", "run", "--dry-run"],
    "there/config.json": ["report", "there"],
    "methods.toml": ["compare", "countdown", "--methods", "methods.toml", "--dry-run"],
    "problems.jsonl": ["tasks", "show", "math", "--task.path", "problems.jsonl"],
    "prompts.txt": ["spectrum", "tiny", "--prompts", "prompts.txt"],
    "prompts.jsonl": ["spectrum", "tiny", "--prompts", "prompts.jsonl"],
    "ruler.safetensors": [*EVAL, "--dictionary", "ruler.safetensors"],
    "ruler.pt": [*SPECTRUM, "--dictionary", "ruler.pt"],
    "evaluation/settings.json": ["eval", "--rescore", "evaluation"],
    "evaluation/result.json": [*EVAL, "--against", "evaluation"],
}


@pytest.mark.parametrize("save", [as_pickle, as_torch])
@pytest.mark.parametrize("name", READ)
def test_a_pickle_in_place_of_a_file_is_one_sentence(name: str, save, capsys: pytest.CaptureFixture[str]) -> None:
    Path(name).parent.mkdir(exist_ok=True)
    save(name)
    assert main(READ[name]) == 2
    said = capsys.readouterr().err
    assert "relax: error: " in said
    assert not Path("RAN").exists()


SMALL = [
    *("--trainer.max_steps=2", "--trainer.save_steps=1", "--trainer.num_generations=4"),
    *("--trainer.per_device_train_batch_size=8", "--trainer.gradient_accumulation_steps=1"),
    *("--trainer.max_completion_length=24", "--dictionary.num_observables=4", "--evaluation.enabled=false"),
]


def resealed(checkpoint: Path) -> None:
    """Whoever can change a checkpoint can change its manifest, too."""
    place = checkpoint / "manifest.json"
    if not place.is_file():
        return
    manifest = json.loads(place.read_text())
    for name, record in manifest["files"].items():
        data = (checkpoint / name).read_bytes()
        record.update(size=len(data), sha256=hashlib.sha256(data).hexdigest())
    place.write_text(json.dumps(manifest))


@pytest.mark.slow  # trains
def test_no_file_of_a_checkpoint_runs_code(tmp_path: Path) -> None:
    assert main(["train", "countdown", "--output", "run", *SMALL]) == 0
    shutil.rmtree("run/checkpoints/checkpoint-2")
    shutil.copytree("run", "whole")
    files = [path for path in Path("run/checkpoints/checkpoint-1").rglob("*") if path.is_file()]
    assert {"optimizer.pt", "scheduler.pt", "rng_state.pth", "training_args.bin"} <= {path.name for path in files}
    for file in files:
        if file.name == "manifest.json":
            continue
        for save in (as_pickle, as_torch):
            shutil.rmtree("run")
            shutil.copytree("whole", "run")
            save(file)
            resealed(file.parent)
            with contextlib.suppress(Exception):  # refused in whatever words
                main(["train", "--resume", "--output", "run"])
            assert not Path("RAN").exists(), file
