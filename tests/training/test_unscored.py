"""A completion that could not be scored is not one that is worth 0: it stays out of its group."""

import functools
import json

import pytest
import torch

from relax_rl.config import GuardConfig, load_config
from relax_rl.errors import DataError
from relax_rl.objectives import build_objective
from relax_rl.rewards import MathVerifier, VerifierReward
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


def nothing(completions, **_):
    """Two completions are the trial before the run, which refuses a function that scores neither."""
    return [1.0] * 2 if len(completions) == 2 else [None] * len(completions)


def test_a_run_whose_completions_have_no_score_stops_with_one_sentence(tmp_path):
    trainer = make_trainer(build_objective("grpo"), tmp_path, max_steps=6, reward=nothing)
    with pytest.raises(DataError, match=r"rollouts of update 3: 48 of the 48 .* above guard.max_unscored = 0.5\."):
        trainer.train()
    assert [row["grading/unscored"] for row in trainer.state.log_history if "loss" in row] == [1.0, 1.0]


def test_half_of_them_may_have_none_and_the_limit_is_a_setting(tmp_path):
    trainer = make_trainer(build_objective("grpo"), tmp_path / "half", max_steps=3, reward=first_scores)
    trainer.train()
    assert [row["grading/unscored"] for row in trainer.state.log_history if "loss" in row] == [0.25] * 3
    strict = GuardConfig(max_unscored=0.2)
    trainer = make_trainer(build_objective("grpo"), tmp_path / "few", max_steps=3, reward=first_scores, guard=strict)
    with pytest.raises(DataError, match="update 3: 12 of the 48"):
        trainer.train()


def test_reasons_are_metrics():
    verifier = MathVerifier(timeout_s=0.6, num_workers=1)
    reward, logged = VerifierReward(verifier), {}
    boxes = ["\\boxed{4}", f"\\boxed{{{'x' * 3000}}}", "\\boxed{9^{9^{9^{9}}}}", "\\boxed{\\sqrt{2}}"]
    scores = reward(boxes, answer=["4", "4", "4", ""], log_metric=logged.__setitem__)
    assert scores == [1.0, 0.0, 0.0, None]
    assert logged == {
        "grading/ungradable": 0.5,
        "grading/reasons/too_long": 1.0,
        "grading/reasons/too_large": 1.0,
        "grading/reasons/gold_unreadable": 1.0,
    }
    logged.clear()
    reward(boxes[:1], answer=["4"], log_metric=logged.__setitem__)
    assert logged == {}
