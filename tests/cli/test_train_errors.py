"""What can be wrong with a run: one sentence, exit code 2, and no run directory left behind."""

import json

import pytest

from relax_rl.cli.main import main

GOOD = {"problem": "What is 2 + 3?", "answer": "5"}


def refused(capsys, tmp_path, *words: str) -> str:
    run = tmp_path / "run"
    assert main(["train", *words, "--output", str(run)]) == 2
    error = capsys.readouterr().err
    assert error.count("relax: error:") == 1
    assert "Traceback" not in error
    assert not run.exists()
    return error


def write_rows(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_an_empty_dataset(capsys, tmp_path):
    path = write_rows(tmp_path / "empty.jsonl", [])
    assert "empty.jsonl" in refused(capsys, tmp_path, "--task", "math", f"--task.path={path}")


def test_a_missing_column_comes_with_those_there_are(capsys, tmp_path):
    path = write_rows(tmp_path / "rows.jsonl", [{"frage": "2 + 3", "answer": "5"}] * 40)
    error = refused(capsys, tmp_path, "--task", "math", f"--task.path={path}")
    assert "problem" in error
    assert "frage" in error


def test_a_file_that_is_not_there(capsys, tmp_path):
    assert "nowhere.jsonl" in refused(capsys, tmp_path, "--task", "math", f"--task.path={tmp_path}/nowhere.jsonl")


def test_too_few_problems_for_one_rollout(capsys, tmp_path):
    path = write_rows(tmp_path / "few.jsonl", [GOOD] * 3)
    error = refused(
        capsys, tmp_path, "--task", "math", f"--task.path={path}", "--train_split=all", "--evaluation.enabled=false"
    )
    assert "3" in error


def test_a_model_path_that_does_not_exist(capsys, tmp_path):
    assert "no model folder" in refused(capsys, tmp_path, "countdown", "--model", f"{tmp_path}/nowhere")


def test_a_folder_that_is_no_model(capsys, tmp_path):
    (tmp_path / "folder").mkdir()
    assert "folder" in refused(capsys, tmp_path, "countdown", "--model", f"{tmp_path}/folder")


def test_smollm2_before_it_was_prepared(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "make smollm2" in refused(capsys, tmp_path, "countdown", "--model", "smollm2")


def test_a_folder_that_cannot_be_made(capsys, tmp_path):
    (tmp_path / "file").write_text("in the way")
    assert main(["train", "countdown", "--output", str(tmp_path / "file" / "run")]) == 2
    assert "is a file" in capsys.readouterr().err


def test_a_group_of_one(capsys, tmp_path):
    assert "group of one" in refused(capsys, tmp_path, "countdown", "--trainer.num_generations=1")


@pytest.mark.parametrize("method", ["relax", "grpo"])
def test_more_observables_than_the_completions_allow(capsys, tmp_path, method):
    words = ["countdown", "--objective", method, "--dictionary.num_observables=95"]
    assert "max_completion_length" in refused(capsys, tmp_path, *words)
    # Also where the number is the method's own.
    words = ["--task", "countdown", "--objective", method, "--trainer.max_completion_length=40"]
    assert "num_observables" in refused(capsys, tmp_path, *words)


def test_the_dictionary_has_its_own_section(capsys, tmp_path):
    assert "dictionary.KEY" in refused(capsys, tmp_path, "countdown", "--objective.dictionary.steps=3")


def test_a_tracker_that_is_not_installed(capsys, tmp_path):
    assert "no package of that name" in refused(capsys, tmp_path, "countdown", "--trainer.report_to=wandb")


def test_an_option_of_trl_that_the_objective_replaces(capsys, tmp_path):
    assert "objective.name" in refused(capsys, tmp_path, "countdown", "--trainer.loss_type=dapo")


@pytest.mark.parametrize(
    ("option", "said"),
    [("--trainer.reward_weights=[1.0,2.0]", "reward"), ("--trainer.use_vllm=true", "vLLM")],
)
def test_what_trl_refuses_costs_no_run(capsys, tmp_path, option, said):
    assert said in refused(capsys, tmp_path, "countdown", option)
    run = tmp_path / "run"
    (run / "checkpoints").mkdir(parents=True)
    (run / "config.json").write_text("{}")
    (run / "metrics.jsonl").write_text('{"step": 1}\n')
    assert main(["train", "countdown", "--output", str(run), "--overwrite", option]) == 2
    assert (run / "metrics.jsonl").read_text() == '{"step": 1}\n'
