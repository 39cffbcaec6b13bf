"""The size of an update in the log, and methods at steps of one size."""

from __future__ import annotations

import math
from collections import defaultdict
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from relax_rl.errors import ConfigError
from relax_rl.objectives import build_objective
from relax_rl.training.trl.update_size import UpdateSize, sampled_weights
from relax_rl.workflows.compare import prepare_comparison
from support.scripted import make_trainer


def one_in_four(completions: list[Any], **_: Any) -> list[float]:
    return [float(index % 4 == 1) for index in range(len(completions))]


def rows_of(trainer: Any) -> list[dict[str, float]]:
    trainer.train()
    return [row for row in trainer.state.log_history if "grad_norm" in row]


def test_the_log_has_the_size_of_the_advantages_and_of_the_step(tmp_path: Any) -> None:
    trainer = make_trainer(build_objective("maxrl"), tmp_path, reward=one_in_four, optim="sgd", max_grad_norm=1e9)
    before = torch.cat([parameter.detach().flatten() for parameter in trainer.model.parameters()])
    rows = rows_of(trainer)
    # MaxRL of one right of four: 3, -1, -1, -1.
    assert [row["advantage/rms"] for row in rows] == pytest.approx([math.sqrt(3)] * 2, rel=1e-5)
    assert all(row["update/rms"] > 0 for row in rows)
    trainer = make_trainer(
        build_objective("maxrl"), tmp_path / "one", reward=one_in_four, optim="sgd", max_grad_norm=1e9, max_steps=1
    )
    (row,) = rows_of(trainer)
    after = torch.cat([parameter.detach().flatten() for parameter in trainer.model.parameters()])
    change = float((after - before).double().square().mean().sqrt())
    assert before.numel() < 65_536  # so that the sample is all of them
    assert row["update/rms"] == pytest.approx(change, rel=1e-4)


def test_a_large_model_is_sampled() -> None:
    parameters = [torch.nn.Parameter(torch.arange(200_000.0)), torch.nn.Parameter(torch.ones(10))]
    parameters.append(torch.nn.Parameter(torch.ones(9), requires_grad=False))
    found = sampled_weights(parameters)
    assert found.tolist()[:3] == [0.0, 4.0, 8.0]
    assert len(found) == 50_000 + 3


@pytest.mark.parametrize("shards", ["", "is_fsdp_enabled", "is_deepspeed_enabled"])
def test_nothing_is_told_of_weights_that_lie_in_shards(shards: str) -> None:
    weight = torch.nn.Parameter(torch.tensor([1.0, 2.0]))
    trainer: Any = SimpleNamespace(
        is_fsdp_enabled=False, is_deepspeed_enabled=False, _metrics={"train": defaultdict(list)},
        policy=SimpleNamespace(parameters=lambda: [weight]),
    )  # fmt: skip
    callback, told = UpdateSize(trainer), trainer._metrics["train"]
    if shards:
        setattr(trainer, shards, True)
    arguments: Any = (None, None, None)
    callback.on_pre_optimizer_step(*arguments)
    weight.data += torch.tensor([3.0, 4.0])
    callback.on_optimizer_step(*arguments)
    assert told["update/rms"] == ([] if shards else [pytest.approx(math.sqrt(12.5))])
    callback.on_optimizer_step(*arguments)  # without a beginning, as after an update that was skipped
    assert len(told["update/rms"]) == (not shards)


def test_matched_methods_train_with_advantages_of_one_size(tmp_path: Any) -> None:
    sizes = {}
    for method in ("grpo", "maxrl"):
        trainer = make_trainer(build_objective(method, match_rms=True), tmp_path / method, reward=one_in_four)
        sizes[method] = [row["advantage/rms"] for row in rows_of(trainer)]
    assert sizes["maxrl"] == pytest.approx(sizes["grpo"], rel=1e-4)


def test_match_step_is_for_all_methods_and_refused_where_it_cannot_be(tmp_path: Any) -> None:
    small = {"trainer.max_steps": 1, "evaluation.num_problems": 4, "evaluation.num_samples": 2}
    planned = prepare_comparison("countdown", "grpo,maxrl", 1, overrides=small, output=tmp_path / "c", match_step=True)
    assert [run.config.objective.options for run in planned.runs] == [{"match_rms": True}] * 2
    with pytest.raises(ConfigError, match=r"'rep_exp': objective\.match_rms scales"):
        prepare_comparison("countdown", "grpo,rep_exp", 1, overrides=small, output=tmp_path / "c", match_step=True)
