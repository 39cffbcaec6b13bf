"""A run that was interrupted and resumed is the run that was not, bit by bit: parameters, rows, completions."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from relax_rl.runs import RunDirectory
from relax_rl.training.trl.branching import Branching
from relax_rl.training.trl.resuming import ResumableTrainer
from soak.equality import run_differences
from support.resumes import COMBINATIONS, make, train_in_pieces, train_whole

# 3 passes over the prompts; odd updates lie inside a rollout batch where it serves two.
SAMPLE = [
    ("relax", "one update", [1, 4], {}),
    ("kl_cov", "two times", [5, 8], {}),
    ("grpo", "two updates", [4, 7], {"max_batches": 3}),
    ("grpo", "two updates", [5], {"branching": Branching(4, 2, 2, 10)}),
    ("dcpo", "two updates", [2, 7], {"settings": {"logging_steps": 3}}),
]


def both(folder: Path, method: str, uses: str, stops=None, **more):
    train_whole(folder / "whole", method, uses, **more)
    train_in_pieces(folder / "pieces", method, uses, stops, **more)
    assert len(RunDirectory(folder / "whole").completion_steps()) > 4
    return run_differences(folder / "whole", folder / "pieces", every_checkpoint=True)


def test_resumed_in_a_later_pass_and_inside_a_rollout_batch(tmp_path):
    assert both(tmp_path, "grpo", "two updates", [3, 8]) == []


@pytest.mark.slow
@pytest.mark.parametrize(("method", "uses", "stops", "more"), SAMPLE)
def test_resumed_with_everything_that_has_a_state(method, uses, stops, more, tmp_path):
    assert both(tmp_path, method, uses, stops, **more) == []


@pytest.mark.slow
def test_without_the_state_in_memory_the_comparison_would_notice(tmp_path, monkeypatch):
    monkeypatch.setattr(ResumableTrainer, "_restore", lambda self, state: None)
    differences = both(tmp_path, "grpo", "two updates", [7])
    assert any(difference.startswith("metrics of update") for difference in differences)


@pytest.mark.slow
@pytest.mark.parametrize(("method", "uses"), COMBINATIONS)
def test_resumed_after_every_update(method, uses, tmp_path):
    assert both(tmp_path, method, uses) == []


@pytest.mark.distributed
@pytest.mark.timeout(900)
def test_resumed_after_every_update_by_two_processes(tmp_path):
    script = Path(__file__).parents[1] / "support" / "resumes.py"
    path = os.pathsep.join([str(script.parents[1]), *sys.path])
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", str(script), str(tmp_path)],
        env=os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads((tmp_path / "differences.json").read_text())
    assert len(found) == len(COMBINATIONS)
    assert [name for name, differing in found.items() if differing] == []


@pytest.mark.parametrize(
    "place", ["compute_loss", *(pytest.param(name, marks=pytest.mark.slow) for name in ("_sample", "training_step"))]
)
@pytest.mark.slow
def test_an_interruption_inside_an_update_is_saved_as_after_the_last_one(place, tmp_path):
    trainer = make(tmp_path / "broken", "grpo", "two updates", settings={"save_strategy": "no"})
    method = getattr(trainer, place)

    def broken(*args, **kwargs):
        result = method(*args, **kwargs)
        if trainer.state.global_step == 6:
            raise ZeroDivisionError
        return result

    setattr(trainer, place, broken)
    with pytest.raises(ZeroDivisionError):
        trainer.train()
    directory = RunDirectory(tmp_path / "broken")
    assert trainer.save_last_update() == directory.checkpoints / "checkpoint-6"
    directory.rewind(6)
    make(tmp_path / "broken", "grpo", "two updates").train(resume_from_checkpoint=True)
    train_whole(tmp_path / "whole", "grpo", "two updates")
    for early in range(1, 6):
        shutil.rmtree(tmp_path / f"whole/checkpoints/checkpoint-{early}")
    assert run_differences(tmp_path / "whole", tmp_path / "broken", every_checkpoint=True) == []


def test_where_there_is_no_finished_update_nothing_is_saved(tmp_path):
    trainer = make(tmp_path / "first", "grpo", "one update")
    assert trainer.save_last_update() is None
    trainer = make(tmp_path / "stepping", "grpo", "one update", settings={"save_strategy": "no"})
    step, optimizer = [], trainer.create_optimizer()

    def half(*args, **kwargs):
        step.append(1)
        if len(step) == 3:
            raise ZeroDivisionError

    optimizer.register_step_post_hook(half)
    with pytest.raises(ZeroDivisionError):
        trainer.train()
    assert trainer.save_last_update() is None
    assert list((tmp_path / "stepping").rglob("checkpoint-*")) == []
