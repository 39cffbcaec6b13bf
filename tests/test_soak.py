"""The soak in miniature: a few kills and signals, a few damages, and that it sees a run that is not the same."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from soak.equality import half_lines, run_differences
from soak.records import Outcome, Records

SCRIPTS = Path(__file__).parent.parent / "scripts"


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_run_that_is_hit_at_random_moments_ends_as_one_that_is_not(tmp_path: Path) -> None:
    words = ["--work", str(tmp_path), "--parts", "moments", "--faults", "4", "--methods", "relax"]
    done = subprocess.run([sys.executable, SCRIPTS / "soak.py", *words], capture_output=True, text=True, timeout=800)
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    outcomes = Records(tmp_path / "outcomes.jsonl").outcomes
    assert {outcome.verdict for outcome in outcomes} == {"equal"}
    assert sum(sum(outcome.faults.values()) for outcome in outcomes) >= 4


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run directory of one update."""
    place = tmp_path / "run"
    checkpoint = place / "checkpoints" / "checkpoint-1"
    for folder in (checkpoint, place / "completions", place / "evaluations"):
        folder.mkdir(parents=True)
    save_file({"weight": torch.ones(3)}, checkpoint / "model.safetensors")
    (checkpoint / "manifest.json").write_text("{}")
    (place / "metrics.jsonl").write_text(json.dumps({"step": 1, "loss": 0.5, "step_time": 1.0}) + "\n")
    (place / "completions" / "step_000001.jsonl").write_text('{"completion": "1+1"}\n')
    (place / "evaluations" / "after.json").write_text('{"mean": 1.0}')
    return place


def test_the_clock_may_differ_and_nothing_else(run: Path, tmp_path: Path) -> None:
    other = shutil.copytree(run, tmp_path / "other")
    (other / "metrics.jsonl").write_text(json.dumps({"step": 1, "loss": 0.5, "step_time": 9.0}) + "\n")
    (other / "evaluations" / "after.json").write_text('{ "mean": 1.0 }')
    assert run_differences(run, other) == []


@pytest.mark.parametrize(
    ("path", "content", "found"),
    [
        ("metrics.jsonl", '{"step": 1, "loss": 0.25}\n', "metrics of update 1"),
        ("metrics.jsonl", '{"step": 1, "loss": 0.5}\n{"step": 1, "loss": 0.5}\n', "rows of metrics: [1, 1]"),
        ("completions/step_000001.jsonl", '{"completion": "1+2"}\n', "completions/step_000001.jsonl"),
        ("completions/step_000002.jsonl", "", "completions: ['step_000002.jsonl']"),
        ("evaluations/after.json", '{"mean": 0.5}', "evaluations/after.json"),
        ("completions/.step_000001.jsonl.77", "", "left over: completions/.step_000001.jsonl.77"),
    ],
)
def test_it_sees_what_differs(path: str, content: str, found: str, run: Path, tmp_path: Path) -> None:
    other = shutil.copytree(run, tmp_path / "other")
    (other / path).write_text(content)
    assert run_differences(run, other)[:1] == [found] or found in run_differences(run, other)


def test_it_sees_one_number_of_the_weights(run: Path, tmp_path: Path) -> None:
    other = shutil.copytree(run, tmp_path / "other")
    path = other / "checkpoints" / "checkpoint-1" / "model.safetensors"
    weights = load_file(path)
    weights["weight"][2] += 1e-7
    save_file(weights, path)
    assert run_differences(run, other) == ["checkpoint-1: 1 tensors, such as weight"]


def test_it_sees_another_state_of_the_optimiser_in_any_checkpoint_asked_for(run: Path, tmp_path: Path) -> None:
    (run / "checkpoints" / "checkpoint-1" / "optimizer.pt").write_bytes(b"moments")
    shutil.copytree(run / "checkpoints" / "checkpoint-1", run / "checkpoints" / "checkpoint-2")
    other = shutil.copytree(run, tmp_path / "other")
    (other / "checkpoints" / "checkpoint-1" / "optimizer.pt").write_bytes(b"other moments")
    assert run_differences(run, other) == []
    assert run_differences(run, other, every_checkpoint=True) == ["checkpoint-1/optimizer.pt"]


def test_it_sees_half_a_line(run: Path) -> None:
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"step": 2, "lo')
    assert [line.partition(":")[0] for line in half_lines(run)] == ["metrics.jsonl"]


def test_the_table_names_what_went_wrong(tmp_path: Path) -> None:
    records = Records(tmp_path / "outcomes.jsonl")
    records.add(Outcome("moments", "a", "equal", "", {"SIGKILL": 3, "SIGINT": 1}))
    records.add(Outcome("moments", "b", "WRONG", "metrics of update 3", {"SIGKILL": 2}))
    again = Records(tmp_path / "outcomes.jsonl")
    assert again.has("moments", "b")
    assert again.num_wrong == 1
    assert again.table().splitlines()[2:] == [
        "| moments | 2 | 1 SIGINT, 5 SIGKILL | 1 | 0 | 0 | 0 | 1 |",
        "WRONG moments, b: metrics of update 3",
    ]
