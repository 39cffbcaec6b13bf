"""What rollouts refuse together, before anything is sampled."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from relax_rl.errors import ConfigError
from relax_rl.training.trl import rollouts
from relax_rl.training.trl.branching import Branching
from relax_rl.training.trl.guarded import GuardedTrainer
from relax_rl.training.trl.rollouts import RolloutTrainer


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes rollouts of a trainer that has some attributes and does nothing else."""

    def make(given: dict[str, Any], columns: Any = ("prompt",), *, pads: bool = True, **attributes: Any) -> Any:
        usual: dict[str, Any] = {
            "is_fsdp_enabled": False,
            "is_deepspeed_enabled": False,
            "use_vllm": False,
            "reward_funcs": [],
            "args": SimpleNamespace(seed=3),
            "model": SimpleNamespace(config=None),
            "accelerator": SimpleNamespace(unwrap_model=lambda model: model, device=torch.device("cpu")),
            "_guard": SimpleNamespace(limits=SimpleNamespace(max_unscored=0.5)),
        }

        def init(self: Any, **named: Any) -> None:
            vars(self).update(usual | attributes)

        monkeypatch.setattr(GuardedTrainer, "__init__", init)
        monkeypatch.setattr(rollouts, "check_architecture", lambda *_: SimpleNamespace(pads_prompts=pads))
        monkeypatch.setattr(rollouts, "check_strategy", lambda *_: None)
        return RolloutTrainer(reward_funcs=[], train_dataset=SimpleNamespace(column_names=columns), **given)

    return make


BRANCHING, SAMPLER = {"branching": Branching(4, 2)}, {"group_sampler": object()}


@pytest.mark.parametrize(
    ("given", "more", "words"),
    [
        ({}, {"pads": False, "is_fsdp_enabled": True}, "takes padding into its state"),
        ({}, {"pads": False, "is_deepspeed_enabled": True}, "takes padding into its state"),
        (BRANCHING, {"use_vllm": True}, "leave trainer.use_vllm out"),
        (BRANCHING, {"columns": ["images"]}, "sampling.trunks does not take prompts with images"),
        ({"max_batches": 2}, {"columns": ["images"]}, "sampling.max_batches above 1 does not take"),
        (SAMPLER, {"columns": ["images"]}, "sampling.engine = relax does not take"),
    ],
)
def test_what_does_not_go_together(made: Any, given: dict[str, Any], more: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        made(given, **more)


@pytest.mark.parametrize(
    ("given", "more"),
    [
        ({}, {}),
        ({}, {"columns": None}),
        ({}, {"pads": False}),
        ({}, {"is_fsdp_enabled": True}),
        ({}, {"use_vllm": True}),
        ({}, {"columns": ["images"]}),
        ({"max_batches": 1}, {"columns": ["images"]}),
        (BRANCHING, {"is_deepspeed_enabled": True}),
        (SAMPLER, {}),
        (SAMPLER, {"is_fsdp_enabled": True}),
    ],
)
def test_what_goes_together(made: Any, given: dict[str, Any], more: dict[str, Any]) -> None:
    trainer = made(given, **more)
    assert trainer._sampling is None
    assert (trainer._branching, trainer._group_sampler) == (given.get("branching"), given.get("group_sampler"))


def test_dynamic_sampling_has_a_budget_of_more_than_one_batch(made: Any) -> None:
    assert made({"max_batches": 2})._sampling.max_batches == 2
