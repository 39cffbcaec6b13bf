"""What a rehearsal finds out about the world around a run."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch

from relax_rl.cli.main import main
from relax_rl.config import batch_arithmetic, load_config
from relax_rl.errors import ConfigError
from relax_rl.workflows.surroundings import bytes_of_run, check_hub, check_trackers


class Usage(NamedTuple):
    total: int
    used: int
    free: int


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def error_of(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    capsys.readouterr()
    assert main([*words]) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("relax: error: ")]
    return line


@pytest.mark.parametrize("words", [["train", "countdown"], ["compare", "countdown", "--methods", "grpo,relax"]])
def test_a_disk_without_room_is_found_by_the_rehearsal(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda place: Usage(2**30, 2**30 - 2**20, 2**20))
    said = error_of(capsys, *words, "--dry-run", "-o", "run")
    assert "the run may write " in said
    assert "1.0 MiB are free for run" in said
    assert list(tmp_path.iterdir()) == []


def test_what_a_run_writes_is_counted() -> None:
    frozen, trained = torch.nn.Parameter(torch.zeros(10), requires_grad=False), torch.nn.Parameter(torch.zeros(100))
    words = ["--trainer.max_steps=200", "--trainer.save_steps=10", "--trainer.max_completion_length=80"]

    def of(*more: str) -> tuple[int, int]:
        config = load_config("countdown", [*words, *more])
        return bytes_of_run([frozen, trained], config.trainer, batch_arithmetic(config))

    completions = 200 * 256 * (1000 + 5 * 80)
    assert of() == (440 + 800, 3 * 1240 + completions)  # two are kept, and one is written before the oldest goes
    assert of("--trainer.save_total_limit=null") == (1240, 20 * 1240 + completions)
    assert of("--trainer.save_only_model=true") == (440, 3 * 440 + completions)


def test_room_that_the_run_itself_takes_is_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda place: Usage(2**40, 2**40, 0))
    (Path("run") / "checkpoints").mkdir(parents=True)
    with (Path("run") / "checkpoints" / "old").open("wb") as file:
        file.truncate(2**36)  # a hole, that takes no room
    (Path("run") / "config.json").write_text(load_config("countdown").to_json())
    assert main(["train", "countdown", "--dry-run", "--overwrite", "-o", "run"]) == 0


def test_a_tracker_without_a_key(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    check_trackers(["none", "tensorboard"])
    with pytest.raises(ConfigError, match="names 'wandb', of which no key is known here; wandb login"):
        check_trackers(["tensorboard", "wandb"])
    (tmp_path / ".netrc").write_text("machine api.wandb.ai login user password 0123456789\n")
    (tmp_path / ".netrc").chmod(0o600)
    check_trackers("wandb")
    (tmp_path / ".netrc").unlink()
    monkeypatch.setenv("WANDB_MODE", "offline")
    check_trackers("wandb")
    monkeypatch.delenv("WANDB_MODE")
    monkeypatch.setenv("WANDB_API_KEY", "0123456789")
    check_trackers("wandb")


@pytest.mark.parametrize(
    ("known", "part"),
    [
        (ValueError("no token"), "the Hub does not know you"),
        (OSError("401"), "the Hub does not know you"),
        ({"name": "me", "auth": {"accessToken": {"role": "read"}}}, "the token may only read"),
        ({"name": "me", "orgs": [{"name": "ours"}]}, "who is no member of 'theirs'; name one of me, ours"),
    ],
)
def test_the_hub_is_asked_before_the_training(known: Any, part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def whoami(token: str | None = None) -> Any:
        if isinstance(known, Exception):
            raise known
        return known

    monkeypatch.setattr("huggingface_hub.whoami", whoami)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    words = ["--trainer.push_to_hub=true", "--trainer.hub_model_id=theirs/model"]
    with pytest.raises(ConfigError, match=part):
        check_hub(load_config("countdown", words).trainer)


def test_a_rehearsal_makes_no_repository(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["train", "countdown", "--trainer.push_to_hub=true", "--dry-run"]
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert "HF_HUB_OFFLINE keeps this process off the Hub" in error_of(capsys, *words)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.whoami", lambda token=None: {"name": "me"})
    made: list[Any] = []
    monkeypatch.setattr("transformers.trainer.Trainer.init_hf_repo", lambda trainer: made.append(trainer))
    assert main(words) == 0
    assert made == []


@pytest.mark.parametrize(
    "words",
    [
        ["train", "countdown", "--seed", "4294967296", "--dry-run"],
        ["demo", "--seed", "4294967296"],
        ["compare", "countdown", "--methods", "grpo,relax", "--seeds", "4294967296,", "--dry-run"],
    ],
)
def test_a_seed_that_no_generator_takes(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert "less than 4294967296" in error_of(capsys, *words)
    assert list(Path().iterdir()) == []


def test_sites_are_known_before_weights_are_read(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def load(*_: object, **__: object) -> None:
        raise AssertionError("the weights were read")

    monkeypatch.setattr("relax_rl.workflows.loading.load_quietly", load)
    assert "'layer_99_out' is no site" in error_of(capsys, "spectrum", "tiny", "--sites", "layer_99_out")
