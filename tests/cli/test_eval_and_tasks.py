"""``relax eval``, ``relax tasks`` and ``relax report``, with the embedded policy and real tasks."""

from __future__ import annotations

import json
import math
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


def test_a_table_with_intervals_and_everything_in_a_folder(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["eval", "tiny", "--task", "countdown", *SMALL, "--max-completion-length", "24", "-o", "out"]
    assert main(words) == 0
    shown = capsys.readouterr().out
    result = json.loads(Path("out/result.json").read_text())
    assert shown.endswith("out\n")
    assert all(name in shown for name in (*result["metrics"], "value", "low", "high", "tiny on countdown/test"))
    assert (result["num_problems"], result["num_samples"], result["max_completion_length"]) == (2, 2, 24)
    assert {"mean@1", "pass@2", "maj@2", "truncated", "no_answer"} <= result["metrics"].keys()
    assert (result["model"], result["backend"], len(result["pass_at_k"])) == ("tiny", "transformers", 2)
    assert result["prompt_digest"]
    assert result["grader"].startswith("countdown, relax-rl ")
    rows = [json.loads(line) for line in Path("out/samples.jsonl").read_text().splitlines()]
    assert [(row["problem_id"], row["index"]) for row in rows] == [
        (f"countdown-test-0-{problem}", index) for problem in range(2) for index in range(2)
    ]


def test_read_graded_again_and_compared_without_sampling(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["eval", "tiny", "--task", "countdown", "-k", "2", "--num-problems", "3", "--max-completion-length", "48"]
    assert main(words) == 0
    folder = Path("evaluations/tiny-countdown-k2-t1-seed0")
    assert main([*words, "--seed", "1", "-o", "other"]) == 0
    before = (folder / "result.json").read_bytes()
    capsys.readouterr()
    monkeypatch.setattr("relax_rl.evaluation.samplers.transformers.sample_blocks", None)
    assert main(words) == 0
    assert main(["eval", "--rescore", str(folder), "--against", "other"]) == 0
    shown = capsys.readouterr()
    assert "graded 6 samples again; 0 verdicts changed" in shown.err
    assert "tiny against tiny on countdown/test" in shown.out
    assert "the same 3 problems, paired" in " ".join(shown.out.split())
    assert (folder / "result.json").read_bytes() == before
    monkeypatch.setattr("relax_rl.rewards.countdown._computed", lambda expression: None)
    assert main(["eval", "--rescore", str(folder)]) == 0
    result = json.loads((folder / "result.json").read_text())
    assert result["metrics"]["mean@1"]["value"] == 0.0


def test_a_run_is_measured_by_its_last_checkpoint_on_its_own_task(
    finished_run: RunDirectory, capsys: pytest.CaptureFixture[str]
) -> None:
    finished_run.completions_path(1).parent.mkdir(exist_ok=True)
    finished_run.completions_path(1).write_text('{"problem_id": "a", "reward": 1.0, "mode": "1+2"}\n')
    assert main(["eval", "mine", *SMALL, "-o", "of_run"]) == 0
    printed = capsys.readouterr().out.partition("discovered in its rollouts")[2]
    assert [line.split()[3] for line in printed.splitlines() if line.startswith("│")] == ["1", "1", "1", "1"]
    assert main(["eval", "tiny", "--task", "countdown", *SMALL, "--max-completion-length", "20", "-o", "tiny"]) == 0
    of_run, tiny = (json.loads(Path(name, "result.json").read_text()) for name in ("of_run", "tiny"))
    assert (of_run.pop("model"), tiny.pop("model")) == ("mine", "tiny")
    assert of_run == tiny


def test_another_evaluation_in_the_folder(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["eval", "tiny", "--task", "countdown", *SMALL, "--max-completion-length", "20", "-o", "out"]
    assert main(words) == 0
    assert main([*words, "--temperature", "0.5"]) == 2
    error = capsys.readouterr().err
    assert "temperature is 1.0 there and 0.5 here" in error
    assert "-o DIR" in error
    assert main([*words, "--temperature", "0.5", "--overwrite"]) == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "name the model"),
        (["tiny"], "name the task with --task NAME"),
        (["tiny", "--task", "countdown", "--backend", "server"], "--backend server and --base-url URL go together"),
        (
            ["tiny", "--task", "countdown", "--base-url", "http://h/v1"],
            "--backend server and --base-url URL go together",
        ),
        (
            ["tiny", "--task", "countdown", "--backend", "vllm", "--dictionary", "d"],
            "--dictionary needs the hidden states",
        ),
        (["tiny", "--task", "countdown", "--against", "nowhere"], "nowhere"),
        (["tiny", "--task", "countdown", "--revision", "v2"], "the files of tiny are on this disk"),
        (
            ["a/b", "--task", "countdown", "--backend", "server", "--base-url", "http://h/v1", "--revision", "v2"],
            "--revision is of a model that is loaded here",
        ),
        (["tiny", "--task", "countdown", "--top-p", "0"], "top_p = 0.0 must lie in"),
        (["tiny", "--rescore", "nowhere"], "takes no MODEL"),
        (["--rescore", "nowhere", "-o", "other"], "'relax eval --rescore' does not read --output"),
        (["--rescore", "nowhere", "--temperature", "0"], "'relax eval --rescore' does not read --temperature"),
        (["--rescore", "nowhere"], "nowhere is no folder of an evaluation"),
        (["tiny", "--task", "aime24", "--data-dir", "nowhere"], "aime24.jsonl' cannot be read"),
    ],
)
def test_what_does_not_fit_is_one_sentence(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eval", *words]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert not Path("evaluations").exists()


def test_problems_of_a_set_are_all_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """No --num-problems: three problems of a file are three, countdown gives 128."""
    from relax_rl.evaluation.runner import Evaluation

    asked = []
    monkeypatch.setattr(Evaluation, "run", lambda self, folder, **_: asked.append(self) or 1 / 0)
    rows = [{"problem": f"{n}+1?", "answer": str(n + 1)} for n in range(3)]
    Path("aime24.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for words in (["--task", "aime24", "--data-dir", "."], ["--task", "countdown"]):
        with pytest.raises(ZeroDivisionError):
            main(["eval", "tiny", *words])
    assert [(e.num_problems, e.settings.max_completion_length) for e in asked] == [(None, 416), (128, 256)]


def test_a_run_without_checkpoint(capsys: pytest.CaptureFixture[str]) -> None:
    RunDirectory.new("mine").start(load_config("countdown"))
    assert main(["eval", "mine"]) == 2
    assert "no complete checkpoint to measure" in capsys.readouterr().err


@pytest.mark.parametrize(("output", "said"), [(".", "holds something else"), ("file/out", "is a file or forbids it")])
def test_an_output_that_cannot_be_written_is_told_at_once(
    output: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("file").write_text("")
    assert main(["eval", "tiny", "--task", "countdown", "-o", output]) == 2
    assert said in capsys.readouterr().err


def test_a_model_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eval", "./nowhere", "--task", "countdown"]) == 2
    assert "no model folder at ./nowhere" in capsys.readouterr().err


def test_the_list_of_tasks(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tasks"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert {"countdown", "math", "aime24", "relax_mix", "reasoning_gym:NAME"} <= {line.split()[0] for line in lines}
    assert any("test 30" in line and "HuggingFaceH4/aime_2024" in line for line in lines)


def test_problems_of_a_task(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tasks", "show", "countdown", "--num-problems", "2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if not line.startswith(" ")] == ["countdown-test-0-0", "countdown-test-0-1"]
    assert sum(line.startswith("  answer  ") for line in lines) == 2


def test_a_sound_task_proves_itself(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tasks", "validate", "countdown", "--num-problems", "20"]) == 0
    assert "20 gold solutions score 1" in capsys.readouterr().out


def test_an_unsound_task_is_exit_code_1_with_the_rows(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(
        "relax_rl.rewards.countdown.CountdownVerifier.score", lambda self, texts, golds: [1.0] * len(texts)
    )
    assert main(["tasks", "validate", "countdown", "--num-problems", "25"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert "25 accept a wrong answer" in lines[0]
    assert lines[1].startswith("  countdown-test-0-0: a wrong answer does not score 0; the gold answer is '")
    assert (len(lines), lines[-1]) == (22, "  and 5 more")


@pytest.mark.parametrize("score", [None, math.nan])
def test_a_task_whose_verifier_scores_nothing_does_not_prove_itself(
    score: float | None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(
        "relax_rl.rewards.countdown.CountdownVerifier.score", lambda self, texts, golds: [score] * len(texts)
    )
    assert main(["tasks", "validate", "countdown", "--num-problems", "3"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith("3 have completions without a score")
    assert "the gold solution does not score 1; a wrong answer does not score 0; a completion gets no score" in lines[1]


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
