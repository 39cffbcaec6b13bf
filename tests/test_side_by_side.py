"""The comparison of two revisions sees what differs, and nothing else."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

SCRIPTS = Path(__file__).parent.parent / "scripts"
sys.path.append(str(SCRIPTS))

from side_by_side.differences import Check, differences, flattened  # noqa: E402
from side_by_side.outputs import counts_in, prune, values_in  # noqa: E402
from side_by_side.words import Speller  # noqa: E402


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("side_by_side_script", SCRIPTS / "side_by_side.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("value", [np.array([1.0, np.nan]), 0.1, "text", None, 3, np.array(["a"])])
def test_a_value_equals_itself(value):
    assert differences({"x": value}, {"x": value}) == ()


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        (np.array([1.0, 1.0]), np.array([1.0, np.nextafter(1.0, 2.0)]), "x: 1 of 2 values, such as [1] 1.0 before"),
        (0.0, -0.0, "x: 0.0 before, -0.0 after"),
        (1.0, float("nan"), "x: 1.0 before, nan after"),
        (np.zeros(2), np.zeros(2, np.float32), "x: float64 (2,) before, float32 (2,) after"),
        (np.zeros(2), np.zeros(3), "x: float64 (2,) before, float64 (3,) after"),
        (1, 1.0, "x: 1 before, 1.0 after"),
        (2.0, None, "x: 2.0 before, None after"),
        ("a" * 50 + "b", "a" * 50 + "c", "x: 'aaaaaaaaaaaaaaaaaaaab' before, 'aaaaaaaaaaaaaaaaaaaac' after"),
    ],
)
def test_one_bit_is_a_difference(before, after, said):
    (found,) = differences({"x": before}, {"x": after})
    assert found.startswith(said)


def test_the_size_of_a_difference_is_the_largest():
    (found,) = differences({"x": np.array([1.0, 10.0, 4.0])}, {"x": np.array([2.0, 15.0, 4.0])})
    assert found.endswith("(by 5, relative 1)")


def test_names_of_one_side_are_differences():
    found = differences({"both": 1, "old": 2}, {"both": 1, "new": 3})
    assert found == ("old: only in the reference", "new: only in the candidate")


def test_nested_results_are_named_by_their_place():
    assert flattened({"a": [1, {"b": None}], "c": []}) == {"a.0": 1, "a.1.b": None, "c size": 0}


def _run(folder: Path, *, seconds: float = 1.0, reward: float = 0.5, order: str = "ab") -> Path:
    checkpoint = folder / "checkpoints" / "checkpoint-4"
    checkpoint.mkdir(parents=True)
    (folder / "metrics.jsonl").write_text(json.dumps({"step": 1, "reward": reward, "step_time": seconds}) + "\n")
    (folder / "config.json").write_text(json.dumps({"run": str(folder)}))
    (checkpoint / "objective.json").write_text("{}")
    (checkpoint / "optimizer.pt").write_text("large")
    save_file({"w": torch.arange(3.0)}, checkpoint / "model.safetensors", metadata=dict.fromkeys(order, "x"))
    return folder


def test_times_places_and_the_order_of_a_header_make_no_difference(tmp_path):
    first, second = _run(tmp_path / "a"), _run(tmp_path / "b", seconds=2.0, order="ba")
    for folder in (first, second):
        prune(folder)
    assert differences(values_in(first), values_in(second)) == ()
    assert counts_in(first) == "1 update, 1 objective state, 1 weight digest"
    kept = {path.name for path in (first / "checkpoints" / "checkpoint-4").iterdir()}
    assert kept == {"objective.json", "weights.json"}


def test_a_figure_and_a_weight_make_a_difference(tmp_path):
    first, second = _run(tmp_path / "a"), _run(tmp_path / "b", reward=0.25)
    save_file({"w": torch.ones(3)}, second / "checkpoints" / "checkpoint-4" / "model.safetensors")
    for folder in (first, second):
        prune(folder, kept=4)
    figure, weight = differences(values_in(first), values_in(second))
    assert figure.startswith("metrics.jsonl row 1 reward: 0.5 before, 0.25 after")
    assert weight.startswith("checkpoints/checkpoint-4/weights.json model.safetensors")
    assert (first / "checkpoints" / "checkpoint-4" / "optimizer.pt").is_file()


@pytest.mark.parametrize(
    ("help_text", "spelled"),
    [
        ("  --run VALUE  the place\n", ["train", "countdown", "--run", "here"]),
        ("  -o VALUE, --output VALUE\n", ["train", "countdown", "--output", "here"]),
        ("  --trainer.\n      output 3\n  --output-all\n", ["train", "countdown", "--run", "here"]),
    ],
)
def test_an_option_has_the_name_that_the_help_shows(help_text, spelled):
    assert Speller(lambda verb: help_text).spelled("train", ["countdown", "--run", "here"]) == spelled


def test_differences_fail_unless_they_are_stated(script, monkeypatch, capsys):
    monkeypatch.setattr(script, "EXPECTED", {("train", "dr_*"): "The constant is another."})
    equal = Check("train", "grpo", "1 update")
    stated = Check("train", "dr_grpo", "1 update", ("loss: 1.0 before, 2.0 after",))
    assert script.report([equal, stated]) == 0
    out = capsys.readouterr().out
    assert "The constant is another." in out
    assert "loss: 1.0 before, 2.0 after" in out
    assert script.report([equal, Check("train", "gspo", "1 update", ("loss: 1.0 before, 2.0 after",))]) == 1
    assert "differences: train gspo" in capsys.readouterr().out
