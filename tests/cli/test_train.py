"""``relax train``: what is settled before the first update, and what reaches the training function."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from relax_rl.cli.main import main
from relax_rl.config import BatchPlan, TrainConfig, batch_arithmetic, load_config
from relax_rl.runs import RunDirectory
from relax_rl.workflows.train_result import TrainResult


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[TrainConfig, RunDirectory, bool]]:
    """What the build was called with; its run starts and leaves a checkpoint, as the real one does."""
    seen = []

    @dataclass
    class Run:
        settings: TrainConfig
        directory: RunDirectory

        @property
        def plan(self) -> BatchPlan:
            return batch_arithmetic(self.settings)

        def train(self, on_progress: object) -> TrainResult:
            run = self.directory
            run.start(self.settings)
            (run.checkpoints / "checkpoint-50").mkdir(exist_ok=True)
            (run.checkpoints / "checkpoint-50" / "trainer_state.json").write_text('{"global_step": 50}')
            return TrainResult(run.path, None, None, {}, 50)

    def build_run(config: TrainConfig, run: RunDirectory, *_: object, resume: bool, **__: object) -> Run:
        seen.append((config, run, resume))
        return Run(config, run)

    monkeypatch.setattr("relax_rl.workflows.build.build_run", build_run)
    return seen


def error_of(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(["train", *words]) == 2
    message = capsys.readouterr().err.splitlines()[-1]
    assert message.startswith("relax: error: ")
    return message


class TestDryRun:
    def test_it_shows_the_settings_and_the_arithmetic_and_writes_nothing(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        words = ["--dry-run", "--seed", "3", "--objective.alpha", "0.3", "--trainer.max_steps", "7"]
        assert main(["train", "countdown", *words]) == 0
        shown = capsys.readouterr().out
        settings, _ = json.JSONDecoder().raw_decode(shown)
        assert TrainConfig(**settings) == load_config("countdown", words[1:]).sampled_by("relax")
        assert "rollout   16 prompts x 16 completions = 256 completions, for 1 update\n" in shown
        assert "in all    1,792 completions sampled\n" in shown
        assert "problems  4,096 in split 'train', each sampled 0.0273 times on average\n" in shown
        assert "directory runs/countdown-relax-seed3 (no run yet)\n" in shown
        assert list(tmp_path.iterdir()) == []

    def test_what_it_prints_runs_again(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        main(["train", "countdown", "--dry-run", "--objective", "grpo"])
        settings, _ = json.JSONDecoder().raw_decode(capsys.readouterr().out)
        (tmp_path / "again.json").write_text(json.dumps(settings))
        assert main(["train", "again.json", "--dry-run"]) == 0
        assert json.JSONDecoder().raw_decode(capsys.readouterr().out)[0] == settings

    @pytest.mark.parametrize(
        ("words", "part"),
        [
            (["--objective.alhpa", "1"], "did you mean 'alpha'?"),
            (["--objective", "relaks"], "did you mean 'relax'?"),
            (["--task", "countdwon"], "did you mean 'countdown'?"),
            (["--task.nmubers", "3"], "no option 'nmubers'"),
            (["--trainer.max_step", "1"], "did you mean 'trainer.max_steps'?"),
            (["--trainer.loss_type", "dapo"], "set objective.name instead"),
            (["--verifier", "nowhere:nothing"], "The verifier 'nowhere:nothing' cannot be loaded"),
            (["--model", "./nowhere"], "no model folder at ./nowhere"),
            (["--model_revision", "v2"], "the files of tiny are on this disk"),
            (["--train_split", "nowhere"], "nowhere"),
            (["--task", "math", "--task.path", "nowhere.jsonl"], "nowhere.jsonl"),
            (["--trainer.max_completion_length", "12"], "dictionary.num_observables"),
        ],
    )
    def test_what_the_other_layers_refuse(
        self, words: list[str], part: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert part in error_of(capsys, "countdown", "--dry-run", *words)
        assert list(tmp_path.iterdir()) == []

    def test_an_own_verifier_in_the_current_folder_is_found(self, tmp_path: Path) -> None:
        (tmp_path / "own_rewards_of_this_test.py").write_text(
            "def always(completions, answers):\n    return [1.0] * len(completions)\n"
        )
        assert main(["train", "countdown", "--dry-run", "--verifier", "own_rewards_of_this_test:always"]) == 0


class TestRunDirectory:
    def test_the_config_and_a_run_yet_unwritten_reach_training(
        self, calls: list[Any], capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(["train", "countdown", "--output", "mine", "--objective", "grpo"]) == 0
        ((config, run, resume),) = calls
        assert (config.objective.name, run.path, resume) == ("grpo", Path("mine"), False)
        captured = capsys.readouterr()
        assert captured.out == "mine\n"
        assert captured.err.startswith("rollout   16 prompts x 16 completions")

    def test_an_existing_run_is_refused(self, calls: list[Any], capsys: pytest.CaptureFixture[str]) -> None:
        main(["train", "countdown"])
        message = error_of(capsys, "countdown")
        assert "runs/countdown-relax-seed0 already" in message
        assert "--resume" in message
        assert "--overwrite" in message
        assert len(calls) == 1

    def test_overwriting_replaces_it(self, calls: list[Any], tmp_path: Path) -> None:
        main(["train", "countdown", "--output", "mine"])
        (tmp_path / "mine" / "metrics.jsonl").write_text('{"step": 1}\n')
        assert main(["train", "countdown", "--output", "mine", "--overwrite", "--trainer.max_steps", "3"]) == 0
        assert not (tmp_path / "mine" / "metrics.jsonl").exists()
        assert RunDirectory.open("mine").read_config().trainer.max_steps == 3

    def test_resuming_without_a_config_takes_the_runs_own(self, calls: list[Any]) -> None:
        main(["train", "countdown", "--output", "mine", "--objective.alpha", "0.3"])
        assert main(["train", "--resume", "--output", "mine", "--trainer.max_steps", "200"]) == 0
        config, run, resume = calls[-1]
        assert resume
        assert run.path == Path("mine")
        assert (config.objective.options, config.trainer.max_steps) == ({"xi": "quantile:0.9", "alpha": 0.3}, 200)
        assert config.dictionary.num_observables == 16

    def test_resuming_by_the_default_name_and_by_the_link(self, calls: list[Any]) -> None:
        main(["train", "countdown"])
        assert main(["train", "--resume"]) == 0
        assert main(["train", "--resume", "--output", "runs/latest"]) == 0
        assert {call[1].path for call in calls} == {Path("runs/countdown-relax-seed0")}

    def test_resuming_with_the_same_config(self, calls: list[Any]) -> None:
        main(["train", "countdown"])
        assert main(["train", "countdown", "--resume"]) == 0
        assert calls[-1][2]

    def test_resuming_with_other_settings(self, calls: list[Any], capsys: pytest.CaptureFixture[str]) -> None:
        main(["train", "countdown"])
        message = error_of(capsys, "countdown", "--resume", "--trainer.learning_rate", "1")
        assert "trainer.learning_rate was 0.0002 and is now 1.0" in message
        assert len(calls) == 1

    def test_resuming_nothing(self, calls: list[Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert "there is no run in nothing" in error_of(capsys, "--resume", "--output", "nothing")
        assert "there is no run in runs/countdown-relax-seed0" in error_of(capsys, "countdown", "--resume")
        assert list(tmp_path.iterdir()) == []

    def test_resuming_and_overwriting_exclude_each_other(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert "give one of them" in error_of(capsys, "--resume", "--overwrite")

    def test_a_file_in_the_way(self, calls: list[Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        (tmp_path / "runs").write_text("")
        assert "is a file; choose another with --output DIR" in error_of(capsys, "countdown")
        assert calls == []

    def test_a_model_that_is_not_there_leaves_nothing_behind(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert "no model folder at ./nowhere" in error_of(capsys, "countdown", "--model", "./nowhere")
        assert list(tmp_path.iterdir()) == []

    def test_only_the_first_process_speaks(
        self, calls: list[Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        RunDirectory.new("mine").start(load_config("countdown"))
        monkeypatch.setenv("RANK", "1")
        (Path("mine") / "checkpoints" / "checkpoint-50").mkdir()
        assert main(["train", "countdown", "--output", "mine"]) == 0
        assert capsys.readouterr() == ("", "")
