"""What a resume refuses and what it says, by the commands a user would give."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from relax_rl.cli.main import main
from relax_rl.comparison.contents import Contents
from relax_rl.errors import ConfigError, RelaxError, RunError
from relax_rl.runs import RunDirectory
from relax_rl.runs.manifest import MANIFEST_FILE
from relax_rl.runs.resumption import resumption_of
from relax_rl.training import measurement
from relax_rl.workflows.compare import prepare_comparison
from relax_rl.workflows.compare.jobs import job_of
from relax_rl.workflows.progress import Progress
from relax_rl.workflows.train import prepare, train

SMALL = {
    "objective": "grpo",
    "monitor": False,
    "trainer.max_steps": 4,
    "trainer.save_steps": 1,
    "trainer.save_total_limit": None,
    "trainer.num_generations": 4,
    "trainer.per_device_train_batch_size": 8,
    "trainer.gradient_accumulation_steps": 2,
    "trainer.max_completion_length": 16,
    "train_problems": 9,
    "evaluation.num_problems": 2,
    "evaluation.num_samples": 2,
    "dictionary.num_observables": 4,
    "dictionary.steps": 2,
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of 2 passes over 9 problems."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measurement, "_NUM_PROMPTS", 2)
        patch.setattr(measurement, "_NUM_SAMPLES", 4)
        train("countdown", overrides=SMALL | {"output": str(folder)})
    return folder


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    """A copy of it as it was after the second update."""
    shutil.copytree(finished, tmp_path / "copy")
    for step in (3, 4):
        shutil.rmtree(tmp_path / "copy" / "checkpoints" / f"checkpoint-{step}")
    (tmp_path / "copy" / "evaluations" / "after.json").unlink()
    RunDirectory(tmp_path / "copy").rewind(2)
    return tmp_path / "copy"


def edit(path: Path, **values: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def edit_manifest(run: Path, section: str, **values: object) -> None:
    path = run / "checkpoints" / "checkpoint-2" / MANIFEST_FILE
    manifest = json.loads(path.read_text())
    edit(path, **{section: manifest[section] | values})


def resume(run: Path, **overrides: object) -> list[str]:
    seen: list[Progress] = []
    train(overrides={"output": str(run)} | overrides, resume=True, on_progress=seen.append)
    return [event.message for event in seen if event.stage == "notice"]


@pytest.mark.slow
def test_a_copy_resumed_from_a_damaged_newest_checkpoint_ends_as_the_run_did(run: Path, finished: Path) -> None:
    (run / "checkpoints" / "checkpoint-2" / "optimizer.pt").unlink()
    said = resume(run)
    assert [sentence for sentence in said if "optimizer.pt is missing" in sentence] == [
        "the run is resumed from checkpoint-1, because checkpoint-2 is damaged: optimizer.pt is missing"
    ]
    ours, theirs = RunDirectory(run), RunDirectory(finished)
    for name in ("model.safetensors", "optimizer.pt", "rng_state.pth"):
        last = f"checkpoint-4/{name}"
        assert (ours.checkpoints / last).read_bytes() == (theirs.checkpoints / last).read_bytes()
    clock = ("step_time", "time/rollout", "time/reward", "time/dsd", "time/update")
    rows = [[row | dict.fromkeys(clock, 0) for row in one.read_metrics()] for one in (ours, theirs)]
    assert rows[0] == rows[1]
    assert ours.read_evaluations() == theirs.read_evaluations()
    for step in range(1, 5):
        assert ours.read_completions(step) == theirs.read_completions(step)


def lose_rows(run: Path) -> None:
    path = run / "metrics.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:1]))


def test_lost_rows_mean_a_checkpoint_before_the_hole(run: Path) -> None:
    lose_rows(run)
    found = resumption_of(RunDirectory.open(run))
    assert found.checkpoint.step == 1
    assert "checkpoint-2 belongs to 2 rows of metrics.jsonl, where there are 1" in found.notices[0]


REFUSED: dict[str, tuple[Callable[[Path], object], str]] = {
    "no rows": (
        lambda run: (run / "metrics.jsonl").unlink(),
        r"no complete checkpoint to resume from \(checkpoint-2 belongs to 2 rows of metrics.jsonl, where there are 0;",
    ),
    "no dictionary": (
        lambda run: (run / "evaluations" / "dictionary.safetensors").unlink(),
        r"evaluations/dictionary\.safetensors is missing since checkpoint-2 was written",
    ),
    "another evaluation": (
        lambda run: edit(run / "evaluations" / "before.json", seed=9),
        r"evaluations/before\.json was changed",
    ),
    "an edited setting": (
        lambda run: edit(run / "config.json", seed=8),
        r"config\.json was edited after checkpoint-2 was written: seed was 0 and is now 8; put the values back",
    ),
    "other versions": (
        lambda run: edit_manifest(run, "versions", torch="1.0"),
        r"checkpoint-2 of .* was written by torch 1\.0 instead of .*--other-versions",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_differs_is_refused_before_a_model_is_loaded(what: str, run: Path) -> None:
    change, sentence = REFUSED[what]
    change(run)
    with pytest.raises(RunError, match=sentence):
        resumption_of(RunDirectory.open(run))


TRAINER: dict[str, tuple[dict[str, object], str]] = {
    "data": ({"data": "0123"}, "the training data is not that of checkpoint-2"),
    "order": ({"prompts": {"seed": 3}}, "the prompts come in another order than when checkpoint-2 was written"),
    "processes that cannot make the batch": (
        {"num_processes": 3, "completions_per_update": 20},
        "written by 3 processes with 20 completions an update, which 1 processes with micro-batches of 8 cannot make",
    ),
    "processes inside a rollout batch": (
        {"num_processes": 2, "updates_into_rollout": 1},
        "lies inside a rollout batch, of which each process kept its part; resume it with 2 processes",
    ),
}


@pytest.mark.parametrize("what", TRAINER)
def test_another_run_is_refused_by_the_rehearsal(what: str, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    values, sentence = TRAINER[what]
    edit_manifest(run, "training", **values)
    assert main(["train", "--resume", "--output", str(run), "--dry-run"]) == 2
    assert sentence in capsys.readouterr().err


def test_other_processes_make_the_same_batch_by_more_micro_batches(run: Path) -> None:
    """As 2 processes with one micro-batch each would have left it."""
    settings = json.loads((run / "config.json").read_text())
    settings["trainer"]["gradient_accumulation_steps"] = 1
    edit(run / "config.json", **settings)
    edit_manifest(run, "run", settings=settings)
    edit_manifest(run, "training", num_processes=2)
    assert (
        "resumed with 1 processes instead of 2: an update has 16 completions as before, but other random numbers than "
        "in an uninterrupted run"
    ) in resume(run)
    assert len(RunDirectory(run).read_completions(4)) == 16
    assert RunDirectory(run).read_config().trainer.gradient_accumulation_steps == 1


def test_other_versions_are_accepted_by_a_flag(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    edit_manifest(run, "versions", torch="1.0")
    assert main(["train", "--resume", "--other-versions", "--output", str(run), "--dry-run"]) == 0
    assert "the run may differ from an uninterrupted one" in capsys.readouterr().out


def test_other_versions_are_accepted_in_a_comparison_too(run: Path, tmp_path: Path) -> None:
    edit_manifest(run, "versions", torch="1.0")
    folder = tmp_path / "c"
    (folder / "grpo").mkdir(parents=True)
    run.rename(folder / "grpo" / "seed0")
    Contents("grpo", {"grpo": "grpo"}, [0]).write(folder)
    settings = {key: value for key, value in SMALL.items() if key != "objective"}
    with pytest.raises(ConfigError, match=r"'grpo': checkpoint-2 of .* accept it with --other-versions"):
        prepare_comparison("countdown", ["grpo"], [0], overrides=settings, output=folder)
    planned = prepare_comparison("countdown", ["grpo"], [0], overrides=settings, output=folder, other_versions=True)
    assert planned.notices[-1].startswith("grpo seed 0: checkpoint-2 was written by torch 1.0 instead of ")
    words = job_of(planned.owed[0], folder, other_versions=planned.other_versions).words
    assert {"--resume", "--other-versions"} <= set(words)


def test_a_run_of_an_earlier_version_is_resumed_with_a_sentence(run: Path) -> None:
    for path in run.rglob(MANIFEST_FILE):
        path.unlink()
    assert "checkpoint-2 was written by a version of relax-rl that wrote no manifest" in resume(run)[0]


def test_more_updates_say_what_the_learning_rate_does_and_fewer_are_refused(run: Path) -> None:
    with pytest.raises(RunError, match=r"trainer\.max_steps = 3, fewer than the 4 it was started with"):
        prepare(overrides={"output": str(run), "trainer.max_steps": 3}, resume=True)
    longer = prepare(overrides={"output": str(run), "trainer.max_steps": 6}, resume=True)
    assert longer.directory.notices == ["the run goes on to 6 updates instead of 4; the learning rate stays 0.0002"]


def test_a_method_whose_schedule_ends_with_the_run_is_not_prolonged(run: Path) -> None:
    edit(run / "config.json", objective={"name": "scheduled_entropy_bonus", "start": 1.0})
    with pytest.raises(RunError, match="the schedule of 'scheduled_entropy_bonus' depends on it"):
        prepare(overrides={"output": str(run), "trainer.max_steps": 6}, resume=True)


def test_the_model_alone_is_said_at_the_start() -> None:
    prepared = prepare("countdown", overrides=SMALL | {"trainer.save_only_model": True, "output": "nowhere"})
    assert "this run cannot be resumed" in prepared.notices[0]


class TestDoctor:
    def test_a_healthy_run(self, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
        before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
        assert main(["doctor", str(run), "--checkpoints"]) == 0
        said = capsys.readouterr().out
        assert "checkpoint 2: whole (every byte of " in said
        assert "resume     from checkpoint-2" in said
        assert "at work    nobody" in said
        assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before

    def test_a_damaged_one(self, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
        path = run / "checkpoints" / "checkpoint-1" / "model.safetensors"
        content = bytearray(path.read_bytes())
        content[-1] ^= 1
        path.write_bytes(content)
        assert main(["doctor", str(run)]) == 0
        assert main(["doctor", str(run), "--checkpoints"]) == 2
        said = capsys.readouterr().out
        assert "checkpoint 1: DAMAGED: model.safetensors was changed" in said
        assert "resume     from checkpoint-2" in said

    def test_one_that_cannot_be_resumed_and_one_at_work(self, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
        shutil.rmtree(run / "checkpoints")
        with RunDirectory.new(run, overwrite=True).held():
            assert main(["doctor", str(run)]) == 2
        said = capsys.readouterr().out
        assert "resume     not possible" in said
        assert "at work    process " in said

    def test_no_run(self, tmp_path: Path) -> None:
        assert main(["doctor", str(tmp_path)]) == 2


def test_two_runs_in_one_folder(run: Path, tmp_path: Path) -> None:
    """The second `relax train --resume`, and one with --overwrite, while the first trains."""
    refused: list[str] = []

    def meanwhile(progress: Progress) -> None:
        if progress.stage == "training" and progress.done == 3:
            for resume in (True, False):
                with pytest.raises(RelaxError, match="is at work on the run") as caught:
                    train(overrides={"output": str(run)}, resume=resume, overwrite=not resume)
                refused.append(str(caught.value))

    train(overrides={"output": str(run)}, resume=True, on_progress=meanwhile)
    assert len(refused) == 2
    assert [row["step"] for row in RunDirectory(run).read_metrics()] == [1, 2, 3, 4]
    assert not (run / ".lock").exists()
