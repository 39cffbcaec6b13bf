"""What moves from one update to the next is kept with the checkpoints, and the early warning of collapse."""

import json
import math
from typing import Any, cast

import pytest
import torch

from relax_rl.objectives import build_objective
from relax_rl.objectives.updates import UpdateReport
from relax_rl.training.entropy_forecast import EntropyForecast
from relax_rl.training.inputs.prompt_keys import prompt_key
from support.scripted import make_trainer

NOVELTY = "evidence.latent_signals.signal_methods:spectral_novelty"
MOVING = {
    "adaptive_entropy_bonus": {"target": 100.0, "delta": 0.5},
    "scheduled_entropy_bonus": {"start": 1.0},
    "entrocraft": {"low_start": 20.0, "high_start": 21.0, "low_end": 0.0, "high_end": 0.1},
    "dcpo": {},
    NOVELTY: {"xi": 1.0, "dictionary": {"num_observables": 4, "steps": 3}},
}


@pytest.mark.parametrize("method", MOVING)
def test_a_resumed_run_is_the_uninterrupted_one(method, tmp_path):
    def trained(folder, **more):
        return make_trainer(build_objective(method, **MOVING[method]), folder, max_steps=4, save_steps=2, **more)

    whole = trained(tmp_path / "whole", save_strategy="steps")
    start = whole.objective
    whole.train()
    resumed = trained(tmp_path / "resumed")
    resumed.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-2"))
    for ours, theirs in zip(resumed.model.parameters(), whole.model.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    assert resumed.objective.state() == whole.objective.state()
    assert whole.objective.state() != start.state()
    assert resumed._forecast == whole._forecast
    assert whole._forecast.entropy is not None


def test_the_memory_of_prompts_holds_every_prompt_of_the_run(tmp_path):
    trainer = make_trainer(build_objective("dcpo"), tmp_path, max_steps=3)
    trainer.train()
    entries = trainer.objective.advantage.memory.entries
    assert len(entries) == 3 * 4
    prompts = {prompt_key(row["prompt"]) for row in cast(Any, trainer.train_dataset)}
    assert set(entries) <= prompts


def test_each_correct_completion_is_remembered_once_when_its_rollout_batch_is_used_up(tmp_path):
    def remembered(max_steps, num_iterations):
        objective = build_objective(NOVELTY, **MOVING[NOVELTY])
        folder = tmp_path / f"{max_steps}-{num_iterations}"
        trainer = make_trainer(objective, folder, max_steps=max_steps, num_iterations=num_iterations)
        trainer.train()
        return trainer.objective.signal.memory.entries

    once = remembered(1, 1)
    assert 0 < len(once) < 16
    assert remembered(1, 2) == ()
    assert len(remembered(2, 2)) == len(once)
    assert remembered(2, 1)[: len(once)] == once


def test_a_prompt_key_is_the_same_everywhere():
    # sha256("a") begins with ca978112ca1bbdca.
    assert prompt_key("a") == 0xCA978112CA1BBDCA >> 1
    assert 0 <= prompt_key([{"role": "user", "content": "a"}]) < 2**63
    assert prompt_key("a") != prompt_key("b")


def reports(entropies, covariances):
    return [
        UpdateReport(step=index + 1, num_steps=100, entropy=entropy, covariance=covariance)
        for index, (entropy, covariance) in enumerate(zip(entropies, covariances, strict=True))
    ]


def test_the_forecast_recovers_the_law_it_assumes():
    covariances = [0.5, 0.2, 0.4, 0.3, 0.1]
    entropies = [2.0]
    for covariance in covariances:
        entropies.append(entropies[-1] - 0.7 * covariance)
    forecast = EntropyForecast()
    assert forecast.metrics == {"entropy/covariance": 0.0}
    predicted = []
    for report in reports(entropies[:-1], covariances):
        forecast = forecast.after(report)
        predicted.append(forecast.predicted_change)
    assert predicted[0] is None
    assert predicted[1:] == pytest.approx([-0.7 * covariance for covariance in covariances[1:]])
    slope = -0.14
    for change in (-0.28, -0.21, -0.07):
        slope = 0.9 * slope + 0.1 * change
    assert forecast.steps_to_floor == pytest.approx((entropies[-2] - 0.2) / -slope)
    assert EntropyForecast.restored(json.loads(json.dumps(forecast.state()))) == forecast


def test_the_forecast_is_silent_where_nothing_falls_and_zero_below_the_floor():
    rising = EntropyForecast()
    for report in reports([1.0, 1.2, 1.4], [0.5, 0.5, 0.5]):
        rising = rising.after(report)
    assert rising.predicted_change == 0.0
    assert "entropy/steps_to_floor" not in rising.metrics
    fallen = EntropyForecast()
    for report in reports([1.0, 0.5, 0.05], [0.5, 0.5, 0.5]):
        fallen = fallen.after(report)
    assert fallen.metrics["entropy/steps_to_floor"] == 0.0
    assert fallen.after(UpdateReport(step=4, num_steps=9, entropy=math.nan)) == fallen


def test_the_log_has_the_covariance_of_the_update_whatever_its_cut(tmp_path):
    rows = []
    for micro_batches in (1, 2):
        trainer = make_trainer(
            build_objective("grpo"),
            tmp_path / str(micro_batches),
            per_device_train_batch_size=16 // micro_batches,
            gradient_accumulation_steps=micro_batches,
            max_steps=3,
            optim="sgd",
            max_grad_norm=0.0,
        )
        trainer.train()
        rows.append([row for row in trainer.state.log_history if "reward" in row])
    for whole, cut in zip(*rows, strict=True):
        assert cut["entropy/covariance"] == pytest.approx(whole["entropy/covariance"], rel=1e-4, abs=1e-7)
    assert "entropy/predicted_change" not in rows[0][0]
    assert "entropy/predicted_change" in rows[0][1]
