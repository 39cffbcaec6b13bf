"""The order of the prompts: TRL's for a run that is not interrupted, and the same one wherever a run is resumed."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from trl.trainer.utils import RepeatSampler

from relax_rl.objectives import build_objective
from relax_rl.training.trl.sampler import PromptSampler
from support.scripted import make_trainer

SHAPES = [
    # prompts, group, prompts a rollout batch, micro-batches, updates
    (8, 4, 2, 2, 1),
    (13, 2, 3, 4, 2),
    (32, 4, 32, 6, 3),
]


def sampler(shape, done, shuffle=True, seed=7):
    prompts, group, per_rollout, repeats, updates = shape
    return PromptSampler(
        prompts,
        group_size=group,
        prompts_per_rollout=per_rollout,
        repeats=repeats,
        updates_per_rollout=updates,
        updates_done=lambda: done[0],
        seed=seed,
        shuffle=shuffle,
    )


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("shape", SHAPES)
def test_every_pass_is_trls(shape, shuffle):
    prompts, group, per_rollout, repeats, updates = shape
    theirs = RepeatSampler(range(prompts), group, per_rollout, repeats, shuffle=shuffle, seed=7)
    done = [0]
    ours = sampler(shape, done, shuffle=shuffle)
    assert len(ours) == len(theirs)
    for _ in range(4):
        assert list(ours) == list(theirs)
        done[0] += prompts // per_rollout * updates


def test_a_pass_does_not_depend_on_those_that_were_asked_for_before():
    shape = SHAPES[1]
    passes = []
    for done in range(0, 40, 8):
        passes.append(list(sampler(shape, [done])))
    again = sampler(shape, done := [32])
    assert list(again) == passes[4]
    done[0] = 11
    assert list(again) == passes[1]
    assert len({tuple(one) for one in passes}) == 5


def test_the_position_names_pass_update_and_order():
    ours = sampler(SHAPES[1], [0])
    position = ours.position(19)
    assert (position.pass_index, position.update, position.seed, position.num_prompts) == (2, 3, 7, 13)
    assert position.digest == ours.position(16).digest != ours.position(15).digest
    assert position.digest != sampler(SHAPES[1], [0], seed=8).position(19).digest


@pytest.mark.parametrize("num_iterations", [1, 2])
@pytest.mark.slow
def test_a_run_resumed_in_a_later_pass_sees_the_prompts_that_come_next(num_iterations, tmp_path):
    # 8 of 32 prompts a rollout batch: 4 rollout batches a pass.
    settings = {"num_iterations": num_iterations, "max_steps": 10 * num_iterations, "per_device_train_batch_size": 16}

    def trained(folder, checkpoint=None, **saving):
        trainer = make_trainer(build_objective("grpo"), folder, **settings, **saving)
        prompts, score = [], trainer._calculate_rewards

        def watched(inputs, *args):
            prompts.append([row["problem_id"] for row in inputs[::4]])
            return score(inputs, *args)

        trainer._calculate_rewards = watched
        trainer.train(resume_from_checkpoint=checkpoint)
        return trainer, prompts

    whole, seen = trained(tmp_path / "whole", save_strategy="steps", save_steps=num_iterations)
    assert seen[4] != seen[0]
    for rollouts in (3, 4, 7, 9):
        checkpoint = tmp_path / "whole" / f"checkpoint-{rollouts * num_iterations}"
        resumed, later = trained(tmp_path / f"{rollouts}", str(checkpoint))
        assert later == seen[rollouts:]
        for ours, theirs in zip(resumed.model.parameters(), whole.model.parameters(), strict=True):
            assert torch.equal(ours, theirs)


def test_a_training_set_smaller_than_a_rollout_batch_has_no_pass() -> None:
    def sampler(num_prompts: int, **more: Any) -> PromptSampler:
        sizes: Any = {"group_size": 2, "prompts_per_rollout": 4, "repeats": 1, "updates_per_rollout": 1}
        return PromptSampler(num_prompts, **sizes, updates_done=lambda: 0, seed=0, **more)

    assert (len(sampler(3)), list(sampler(3))) == (0, [])
    assert sampler(3).position(2).pass_index == 2
    assert list(sampler(4, shuffle=False)) == [0, 0, 1, 1, 2, 2, 3, 3]
    assert list(sampler(4)) != list(sampler(4, shuffle=False))
