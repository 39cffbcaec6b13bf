"""A completion that could not be scored is not one that is worth 0: it stays out of its group."""

import functools
import json

import pytest
import torch

from relax_rl.config import load_config
from relax_rl.objectives import build_objective
from relax_rl.runs import RunDirectory
from relax_rl.training.trl.recorder import RolloutRecorder
from support.scripted import GROUP, ScriptedTrainer, make_trainer

SCORES = (1.0, 0.5, None, 0.0)


def first_scores(completions, **_):
    return [SCORES[index % GROUP] for index in range(len(completions))]


def recorded(monkeypatch, folder, reward):
    """The completions of one update by this reward function."""
    run = RunDirectory.new(folder / "run")
    run.start(load_config("countdown", []))
    monkeypatch.setattr("support.scripted.parity_reward", reward)
    kind = functools.partial(ScriptedTrainer, recorder=RolloutRecorder(run))
    make_trainer(build_objective("grpo"), folder, trainer_class=kind, max_steps=1).train()
    return [json.loads(line) for line in (run.path / "completions/step_000001.jsonl").read_text().splitlines()]


def test_its_advantage_is_0_and_the_others_are_compared_among_themselves(monkeypatch, tmp_path):
    rows = recorded(monkeypatch, tmp_path, first_scores)
    assert len(rows) == 4 * GROUP
    scored = torch.tensor([1.0, 0.5, 0.0])
    first, second, last = ((scored - scored.mean()) / scored.std()).tolist()
    for start in range(0, len(rows), GROUP):
        group = rows[start : start + GROUP]
        assert [row["reward"] for row in group] == list(SCORES)
        assert [row["advantage"] for row in group] == pytest.approx([first, second, 0.0, last], abs=1e-3)
