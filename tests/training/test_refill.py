"""Dynamic sampling: groups that teach nothing are replaced, within a budget that is counted."""

from __future__ import annotations

import functools
import json
import math
from typing import Any

import pytest
import torch

from relax_rl.config import load_config
from relax_rl.errors import ConfigError
from relax_rl.objectives import build_objective
from relax_rl.runs import RunDirectory
from relax_rl.training.inputs.prompt_keys import prompt_key
from relax_rl.training.trl.recorder import RolloutRecorder
from relax_rl.training.trl.refill import DynamicSampling, Rollout, _replace, is_informative
from support.scripted import GROUP, ScriptedTrainer, make_trainer


def flat_for(is_flat):
    """A reward that is 0 throughout for some prompts, and for the others 1 for every other completion."""

    def reward(prompts, completions, **_):
        return [0.0 if is_flat(prompt) else float(index % 2) for index, prompt in enumerate(prompts)]

    return reward


def every_other(prompt):
    return prompt_key(prompt) % 2 == 0


def trainer_with(monkeypatch, folder, is_flat, max_batches, **more):
    monkeypatch.setattr("support.scripted.parity_reward", flat_for(is_flat))
    recorder = more.pop("recorder", None)
    kind = functools.partial(ScriptedTrainer, max_batches=max_batches, recorder=recorder)
    return make_trainer(build_objective("dapo"), folder, trainer_class=kind, **more)


def rows_of(trainer, name):
    return [row[name] for row in trainer.state.log_history if name in row]


def test_flat_groups_are_those_without_a_difference_among_the_scored():
    rewards = torch.tensor([[1.0, 0.0], [1.0, 1.0], [math.nan, 1.0], [math.nan, math.nan]])
    assert is_informative(rewards).tolist() == [True, False, False, False]


def test_every_group_teaches_where_the_budget_allows(monkeypatch, tmp_path):
    run = RunDirectory.new(tmp_path / "run")
    run.start(load_config("countdown", []))
    trainer = trainer_with(monkeypatch, tmp_path, every_other, 8, recorder=RolloutRecorder(run))
    seen = []
    original = trainer._whole_groups
    trainer._whole_groups = lambda parts: seen.append(original(parts)) or seen[-1]
    trainer.train()
    assert rows_of(trainer, "sampling/informative") == [1.0, 1.0]
    for batches in seen:
        rewards = torch.cat([batch["rewards"] for batch in batches]).unflatten(0, (-1, GROUP))
        assert is_informative(rewards).all()
        for batch in batches:
            prompts = batch["prompt_ids"].unflatten(0, (-1, GROUP))
            assert (prompts == prompts[:, :1]).all()
            assert batch["prompt_mask"][:, -1].all()  # padded on the left
            assert batch["completion_mask"][:, 0].all()  # and on the right
            assert torch.equal(
                batch["completion_mask"], (batch["completion_ids"] != trainer._tokenizer.pad_token_id).long()
            )
    sampled = rows_of(trainer, "sampling/completions")
    assert all(count > 4 * GROUP for count in sampled)
    for step in (1, 2):
        recorded = [
            json.loads(line) for line in (run.path / f"completions/step_{step:06d}.jsonl").read_text().splitlines()
        ]
        assert [row["reward"] for row in recorded] == [0.0, 1.0] * 8
        assert not any(every_other(row["prompt"]) for row in recorded)
        advantages = [row["advantage"] for row in recorded]
        assert all((row["reward"] > 0) == (advantage > 0) for row, advantage in zip(recorded, advantages, strict=True))


def test_the_budget_is_kept_and_counted(monkeypatch, tmp_path):
    sampled = []
    original = ScriptedTrainer._generate_single_turn

    def counting(self, prompt_ids, *args, **kwargs):
        sampled.append(len(prompt_ids))
        return original(self, prompt_ids, *args, **kwargs)

    monkeypatch.setattr(ScriptedTrainer, "_generate_single_turn", counting)
    trainer = trainer_with(monkeypatch, tmp_path, lambda prompt: True, 3, max_steps=1)
    trainer.train()
    assert sum(sampled) == 3 * 4 * GROUP
    assert rows_of(trainer, "sampling/completions") == [sum(sampled)]
    assert rows_of(trainer, "sampling/informative") == [0.0]
    sampled.clear()
    trainer_with(monkeypatch, tmp_path, lambda prompt: False, 3, max_steps=1).train()
    assert sum(sampled) == 4 * GROUP


class OneProcess:
    process_index, num_processes = 0, 1

    @staticmethod
    def gather(tensor):
        return tensor


@pytest.mark.parametrize("max_batches", [2, 3])
def test_the_last_lot_is_cut_to_what_the_budget_leaves(max_batches):
    """Three of four groups stay flat, so lots of three do not fill a budget in batches of four."""
    asked = []

    def sample(given):
        asked.append(len(given) // 2)
        return Rollout({"rewards": torch.zeros(len(given))}, [{} for _ in given])

    first = Rollout({"rewards": torch.tensor([0.0, 1.0, 0, 0, 0, 0, 0, 0])}, [{} for _ in range(8)])
    _, figures = DynamicSampling(max_batches, seed=0).refilled(first, sample, OneProcess(), range(100), 2, 0)
    assert sum(asked) == (max_batches - 1) * 4
    assert figures == {"sampling/completions": max_batches * 8.0, "sampling/informative": 0.25}


def test_a_resumed_run_draws_the_prompts_that_come_next(monkeypatch, tmp_path):
    def trained(folder, resume=None):
        trainer = trainer_with(monkeypatch, folder, every_other, 4, max_steps=4, save_strategy="steps", save_steps=2)
        trainer.train(resume_from_checkpoint=resume)
        return trainer

    whole = trained(tmp_path / "whole")
    resumed = trained(tmp_path / "resumed", resume=str(tmp_path / "whole" / "checkpoint-2"))
    assert resumed._sampling.draws == whole._sampling.draws > 0
    for ours, theirs in zip(resumed.model.parameters(), whole.model.parameters(), strict=True):
        assert torch.equal(ours, theirs)


class Processes:
    def __init__(self, index, number):
        self.process_index, self.num_processes = index, number


def test_processes_draw_apart_and_no_less_than_all():
    dataset = range(1000)
    alone = DynamicSampling(2, seed=3)
    together = [DynamicSampling(2, seed=3) for _ in range(2)]
    expected = alone.prompts(4, Processes(0, 1), dataset) + alone.prompts(2, Processes(0, 1), dataset)
    found = []
    for count in (2, 1):
        found += [sampling.prompts(count, Processes(rank, 2), dataset) for rank, sampling in enumerate(together)]
    assert [prompt for part in found for prompt in part] == expected
    assert {sampling.draws for sampling in (alone, *together)} == {6}
    assert DynamicSampling(2, seed=4).prompts(4, Processes(0, 1), dataset) != expected[:4]


def test_rows_of_other_widths_are_padded_on_their_side():
    old = {
        "prompt_ids": torch.tensor([[1, 2], [1, 2]]),
        "completion_ids": torch.tensor([[5], [6]]),
        "rewards": torch.zeros(2),
    }
    new = {"prompt_ids": torch.tensor([[7]]), "completion_ids": torch.tensor([[8, 9]]), "rewards": torch.ones(1)}
    rollout = Rollout(old, [{"row": 0}, {"row": 1}])
    _replace(rollout, Rollout(new, [{"row": "new"}]), [1], [0], 1, pad_token_id=99)
    assert rollout.tensors["prompt_ids"].tolist() == [[1, 2], [99, 7]]
    assert rollout.tensors["completion_ids"].tolist() == [[5, 99], [8, 9]]
    assert rollout.tensors["rewards"].tolist() == [0.0, 1.0]
    assert rollout.rows == [{"row": 0}, {"row": "new"}]
    with pytest.raises(ConfigError, match="rows of 'image'"):
        _replace(Rollout({"image": [1, 2]}, [{}, {}]), Rollout({"image": [3]}, [{}]), [1], [0], 1, 0)


def test_the_budget_is_a_setting_of_the_run():
    assert load_config("countdown", []).sampling.max_batches == 1
    assert load_config("countdown", ["--sampling.max_batches", "10"]).sampling.max_batches == 10
    with pytest.raises(ConfigError, match=r"sampling\.max_batches"):
        load_config("countdown", ["--sampling.max_batches", "0"])


def test_a_group_with_two_scores_and_one_without_teaches_if_the_two_differ() -> None:
    rewards = torch.tensor([[math.nan, 1.0, 0.0], [1.0, math.nan, 1.0], [0.0, 0.0, math.nan], [-1.0, -2.0, math.nan]])
    assert is_informative(rewards).tolist() == [True, False, False, True]


def test_a_refill_takes_the_groups_that_teach_and_counts_all_processes() -> None:
    class Two:
        process_index, num_processes = 1, 2

        @staticmethod
        def gather(tensor: torch.Tensor) -> torch.Tensor:
            return torch.cat([tensor, tensor])

    given: list[Any] = []

    def sample(rows: list[Any]) -> Rollout:
        given.append(rows)
        rewards = torch.tensor([5.0, 5.0, 0.0, 1.0] if len(given) == 1 else [2.0, 3.0])
        return Rollout(
            {"rewards": rewards, "scalar": torch.tensor(1)}, [{"row": f"{len(given)}-{i}"} for i in range(4)]
        )

    first = Rollout(
        {"rewards": torch.tensor([1.0, 1.0, 0.0, 1.0, 2.0, 2.0]), "scalar": torch.tensor(1)},
        [{"row": str(index)} for index in range(6)],
    )
    sampling = DynamicSampling(4, seed=0)
    rollout, figures = sampling.refilled(first, sample, Two(), range(100), 2, 0)
    assert rollout.tensors["rewards"].tolist() == [0.0, 1.0, 0.0, 1.0, 2.0, 3.0]
    assert [row["row"] for row in rollout.rows] == ["1-2", "1-3", "2", "3", "2-0", "2-1"]
    assert [len(rows) for rows in given] == [4, 2]
    assert given[0][0] == given[0][1] != given[0][2]
    assert figures == {"sampling/completions": (3 + 2 + 1) * 2 * 2.0, "sampling/informative": 1.0}
    assert sampling.draws == 2 * (2 + 1)
    with pytest.raises(ConfigError, match="at least 1, but is 0"):
        DynamicSampling(0, seed=0)
    assert DynamicSampling(1, seed=0).refilled(first, sample, Two(), range(9), 2, 0)[1]["sampling/completions"] == 12


def test_masks_are_filled_with_zeros_and_ids_with_padding_on_their_side() -> None:
    def rows(*values: list[list[int]]) -> dict[str, torch.Tensor]:
        names = ("prompt_ids", "prompt_mask", "completion_mask", "tool_mask")
        return dict(zip(names, map(torch.tensor, values), strict=True))

    old = Rollout(rows([[1], [2]], [[1], [1]], [[1], [1]], [[1], [1]]), [{}, {}])
    new = Rollout(rows([[7, 8]], [[1, 1]], [[1, 1]], [[1, 1]]), [{"new": True}])
    _replace(old, new, [0], [0], 1, pad_token_id=99)
    assert {key: value.tolist() for key, value in old.tensors.items()} == {
        "prompt_ids": [[7, 8], [99, 2]],
        "prompt_mask": [[1, 1], [0, 1]],
        "completion_mask": [[1, 1], [1, 0]],
        "tool_mask": [[1, 1], [1, 0]],
    }
