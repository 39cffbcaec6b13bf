"""``relax eval``, ``relax tasks`` and ``relax report``, with the embedded policy and real tasks."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from relax_rl.cli.main import main
from relax_rl.config import load_config
from relax_rl.runs import RunDirectory


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def finished_run(tmp_path: Path) -> RunDirectory:
    """A run whose last checkpoint is the embedded policy."""
    import relax_rl.assets

    run = RunDirectory.new("mine")
    run.start(load_config("countdown", ["--trainer.max_completion_length", "20"]))
    checkpoint = run.checkpoints / "checkpoint-7"
    checkpoint.mkdir()
    (checkpoint / "trainer_state.json").write_text('{"global_step": 7}')
    for file in (Path(next(iter(relax_rl.assets.__path__))) / "tiny").iterdir():
        (checkpoint / file.name).symlink_to(file)
    return run


SMALL = ["-k", "2", "--num-problems", "2"]


def test_a_table_with_intervals_and_the_whole_result_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["eval", "tiny", "--task", "countdown", *SMALL, "--max-completion-length", "24", "-o", "out/result.json"]
    assert main(words) == 0
    shown = capsys.readouterr().out
    result = json.loads(Path("out/result.json").read_text())
    assert shown.endswith("out/result.json\n")
    assert all(name in shown for name in (*result["metrics"], "value", "low", "high", "tiny on countdown/test"))
    assert (result["num_problems"], result["num_samples"], result["max_new_tokens"]) == (2, 2, 24)
    assert {"mean@1", "pass@2", "truncated"} <= result["metrics"].keys()


def test_a_run_is_measured_by_its_last_checkpoint_on_its_own_task(finished_run: RunDirectory) -> None:
    assert main(["eval", "mine", *SMALL, "-o", "of_run.json"]) == 0
    assert (
        main(["eval", "tiny", "--task", "countdown", *SMALL, "--max-completion-length", "20", "-o", "tiny.json"]) == 0
    )
    assert json.loads(Path("of_run.json").read_text()) == json.loads(Path("tiny.json").read_text())


def test_a_run_without_checkpoint(capsys: pytest.CaptureFixture[str]) -> None:
    RunDirectory.new("mine").start(load_config("countdown"))
    assert main(["eval", "mine"]) == 2
    assert "no complete checkpoint to measure" in capsys.readouterr().err


@pytest.mark.parametrize("output", [".", "file/result.json"])
def test_an_output_that_cannot_be_written_is_told_at_once(output: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("file").write_text("")
    assert main(["eval", "tiny", "--task", "countdown", "-o", output]) == 2
    assert f"--output {output}" in capsys.readouterr().err


def test_a_model_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eval", "./nowhere", "--task", "countdown"]) == 2
    assert "no model folder at ./nowhere" in capsys.readouterr().err


def test_the_list_of_tasks(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tasks"]) == 0
    assert {"countdown", "math"} <= set(capsys.readouterr().out.split())


def test_problems_of_a_task(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tasks", "show", "countdown", "--num-problems", "2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if not line.startswith(" ")] == ["countdown-test-0-0", "countdown-test-0-1"]
    assert sum(line.startswith("  answer  ") for line in lines) == 2


def test_a_sound_task_proves_itself(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tasks", "validate", "countdown", "--num-problems", "20"]) == 0
    assert "20 gold solutions score 1" in capsys.readouterr().out


def test_an_unsound_task_is_exit_code_1(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "relax_rl.rewards.countdown.CountdownVerifier.score", lambda self, texts, golds: [1.0] * len(texts)
    )
    assert main(["tasks", "validate", "countdown", "--num-problems", "5"]) == 1


def test_options_of_a_task(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"question": f"{n}+1?", "answer": str(n + 1)} for n in range(3)]
    Path("own.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert main(["tasks", "show", "math", "--task.path", "own.jsonl", "--split", "train", "--num-problems", "1"]) == 0
    assert "+1?" in capsys.readouterr().out


def test_a_report_goes_into_the_first_run(finished_run: RunDirectory, capsys: pytest.CaptureFixture[str]) -> None:
    finished_run.append_metrics(1, {"reward": 0.25, "entropy": 0.5})
    assert main(["report", "mine"]) == 0
    assert capsys.readouterr().out == "mine/report.html\n"
    assert "<html" in Path("mine/report.html").read_text()[:500].lower()
