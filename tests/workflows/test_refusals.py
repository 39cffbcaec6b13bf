"""What a run refuses, its rehearsal refuses with the same sentence, and neither writes anything."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from relax_rl.cli.main import main
from relax_rl.config import load_config
from relax_rl.runs import RunDirectory
from support.comparisons import SMALL

ROWS = [{"problem": f"What is {n} + 3?", "answer": str(n + 3)} for n in range(60)]

WRONG = {
    "split of the evaluation": (["--evaluation.split", "nosuch"], "nosuch"),
    "split of the training": (["--train_split", "nosuch"], "nosuch"),
    "task": (["--task", "countdwon"], "did you mean 'countdown'"),
    "option of the task": (["--task.nmubers", "3"], "no option 'nmubers'"),
    "file of the task": (["--task", "math", "--task.path", "nowhere.jsonl"], "nowhere.jsonl"),
    "too few problems to evaluate": (
        ["--task", "math", "--task.path", "rows.jsonl", "--train_problems", "32"],
        "problems in 'test'; 128 were asked for",
    ),
    "fewer problems than a batch": (["--train_problems", "4"], "has 4 problems, fewer than the 16 prompts"),
    "method": (["--objective", "relaks"], "did you mean 'relax'"),
    "method's module": (["--objective", "nowhere_at_all:method"], "nowhere_at_all:method"),
    "no method": (["--objective", "json:loads"], "json:loads"),
    "option of the method": (["--objective.alhpa", "1"], "did you mean 'alpha'"),
    "type of the option": (["--objective.alpha", "wide"], "objective.alpha"),
    "section of the dictionary": (["--objective.dictionary.steps", "3"], "dictionary.KEY"),
    "type of a setting": (["--trainer.max_steps", "ten"], "trainer.max_steps"),
    "key of a section": (["--evaluation.num_sample", "3"], "did you mean 'evaluation.num_samples'"),
    "key of TRL": (["--trainer.max_step", "1"], "did you mean 'trainer.max_steps'"),
    "option that is replaced": (["--trainer.loss_type", "dapo"], "set objective.name instead"),
    "value that TRL refuses": (["--trainer.optim", "nosuch"], "TRL refuses"),
    "what TRL's trainer refuses": (["--trainer.reward_weights", "[1.0,2.0]"], "TRL refuses"),
    "batch of broken groups": (["--trainer.per_device_train_batch_size", "18"], "is not a multiple of"),
    "group of one": (["--trainer.num_generations", "1"], "group of one"),
    "too many observables": (["--dictionary.num_observables", "95"], "num_observables = 95"),
    "too short completions": (["--trainer.max_completion_length", "12"], "num_observables"),
    "trunks": (["--sampling.trunks", "5"], "sampling.trunks = 5"),
    "cache of one precision": (
        ["--dtype", "mixed", "--trainer.cache_implementation", "static"],
        "cache_implementation dynamic",
    ),
    "model": (["--model", "./nowhere"], "no model folder at ./nowhere"),
    "folder that is no model": (["--model", "./empty"], "./empty"),
    "model that is not prepared": (["--model", "smollm2"], "make smollm2"),
    "verifier": (["--verifier", "nosuch"], "no verifier 'nosuch'"),
    "verifier's module": (["--verifier", "nowhere:nothing"], "'nowhere:nothing' cannot be loaded"),
    "tracker": (["--trainer.report_to", "nosuchtracker"], "no package of that name"),
    "vLLM": (["--trainer.use_vllm", "true"], "vLLM"),
    "former key": (["--run", "x"], "'--run' is now '--output'"),
    "resume and overwrite": (["--resume", "--overwrite"], "give one of them"),
    "existing run": (["--output", "there"], "there is a run in there already"),
    "folder with other things": (["--output", "empty/.."], "not empty and not a run"),
    "file in the way": (["--output", "rows.jsonl/run"], "is a file"),
    "folder without permission": (["--output", "locked/run"], "no permission"),
    "nothing to resume": (["--output", "nowhere", "--resume"], "there is no run in nowhere"),
    "no checkpoint to resume": (["--output", "there", "--resume"], "no complete checkpoint"),
    "resume with other settings": (["--output", "there", "--resume", "--seed", "9"], "seed was 0 and is now 9"),
}


@pytest.fixture(autouse=True)
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a run that has no checkpoint, a file of problems, and two folders of no use."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    (tmp_path / "empty").mkdir()
    (tmp_path / "locked").mkdir(mode=0o555)
    RunDirectory.new("there").start(load_config("countdown", ["--output", "there"]))
    return tmp_path


def refusal(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(list(words)) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("relax: error: ")
    assert captured.err.count("\n") == 1
    return captured.err


@pytest.mark.parametrize("case", WRONG)
def test_the_rehearsal_and_the_run_refuse_the_same_with_the_same_sentence(
    case: str, workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words, part = WRONG[case]
    if case == "folder without permission" and os.access(workplace / "locked", os.W_OK):
        pytest.skip("this user may write anywhere")
    before = sorted(workplace.rglob("*"))
    rehearsed = refusal(capsys, "train", "countdown", "--dry-run", *words)
    assert part in rehearsed
    assert refusal(capsys, "train", "countdown", *words) == rehearsed
    assert sorted(workplace.rglob("*")) == before


COMPARED = [
    "split of the evaluation",
    "method's module",
    "no method",
    "type of the option",
    "what TRL's trainer refuses",
    "folder that is no model",
    "vLLM",
]


@pytest.mark.parametrize("case", COMPARED)
def test_the_rehearsal_of_a_comparison_refuses_what_its_runs_would(
    case: str, workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words, _ = WRONG[case]
    refused = refusal(capsys, "train", "countdown", *SMALL, *words)
    methods, rest = "relax", [*words]
    if words[0].startswith("--objective"):
        methods = words[1] if words[0] == "--objective" else f"relax:{words[0].removeprefix('--objective.')}={words[1]}"
        rest = []
    before = sorted(workplace.rglob("*"))
    sentence = refused.removeprefix("relax: error: ").strip()
    told = refusal(capsys, "compare", "countdown", "--methods", methods, "--dry-run", "-o", "c", *SMALL, *rest)
    assert sentence in told
    assert refusal(capsys, "compare", "countdown", "--methods", methods, "-o", "c", *SMALL, *rest) == told
    assert sorted(workplace.rglob("*")) == before


def test_a_method_that_was_not_verified_is_compared_on_demand_alone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("relax_rl.objectives.is_verified", lambda name: name != "dapo")
    words = ["compare", "countdown", "--methods", "grpo,dapo", "--dry-run", "-o", "c", *SMALL]
    told = refusal(capsys, *words)
    assert "--methods: 'dapo': the formula of dapo was not read at its source" in told
    assert "--unverified" in told
    assert main([*words, "--unverified"]) == 0
