"""vLLM's engine in TRL's trainer, and in the evaluations of a run, against a stand-in: what it is told, and when."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from trl.trainer import grpo_trainer

from relax_rl.evaluation.samplers.protocol import SamplingSettings
from relax_rl.evaluation.samplers.vllm import EngineSampler
from relax_rl.objectives import build_objective
from relax_rl.tasks.countdown import CountdownTask
from relax_rl.training import colocated, together
from relax_rl.training.colocated import ColocatedEngine, SharingEngine
from relax_rl.training.models import load_tokenizer
from relax_rl.training.trl.trainer import RelaxTrainer
from support.scripted import GROUP, make_trainer


class Generation:
    """In place of TRL's `VLLMGeneration`: completes a prompt with some tokens, and notes what happens."""

    def __init__(self, **given: Any) -> None:
        self.given, self.events = given, list[str]()
        self.generation_kwargs: dict[str, Any] = {}
        self.enable_sleep_mode = given.get("enable_sleep_mode", False)
        self.tensor_parallel_size = given.get("tensor_parallel_size", 1)
        self._llm_weights_sleeping = False
        info = {"model_config": {"logprobs_mode": "processed_logprobs"}}
        self.vllm_client = SimpleNamespace(get_server_info=lambda: info)
        self.llm = SimpleNamespace(
            wake_up=lambda tags: self.events.append(f"wakes up {tags}"),
            sleep=lambda level: self.events.append(f"sleeps {level}"),
            generate=self._requests,
        )

    def sync_weights(self) -> None:
        self.events.append("takes weights")

    def generate(self, prompts: list[list[int]], num_generations: int, **_: Any) -> Any:
        self.events.append(f"generates {len(prompts)}")
        ids = [[5 + (place * 7 + step) % 90 for step in range(20 + place)] for place in range(len(prompts))]
        return prompts, ids, [[[-4.0] for _ in row] for row in ids], None

    @staticmethod
    def _requests(prompts: list[Any], parameters: list[Any], use_tqdm: bool) -> list[Any]:
        return [
            SimpleNamespace(outputs=[SimpleNamespace(token_ids=[one.seed % 90 + 5], finish_reason="stop")])
            for one in parameters
        ]


@pytest.mark.parametrize("mode", ["server", "colocate"])
def test_settings_arrive_and_each_update_begins_with_its_weights(
    mode: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(grpo_trainer, "VLLMGeneration", Generation)
    settings = {
        "vllm_server_base_url": "http://somewhere:8000",
        "vllm_server_timeout": 7.0,
        "vllm_group_port": 4321,
        "vllm_gpu_memory_utilization": 0.4,
        "vllm_enable_sleep_mode": True,
        "vllm_max_model_length": 512,
    }
    trainer = make_trainer(
        build_objective("grpo"), tmp_path, trainer_class=RelaxTrainer, use_vllm=True, vllm_mode=mode, **settings
    )
    given = trainer.vllm_generation.given
    assert given["mode"] == mode
    for name, value in settings.items():
        assert given[name.removeprefix("vllm_")] == value
    assert (given["temperature"], given["max_completion_length"]) == (1.0, 32)
    assert trainer.vllm_generation.generation_kwargs["stop_token_ids"] == trainer.eos_token_ids
    assert (trainer.engine() is None) == (mode == "server")
    trainer.train()
    assert trainer.vllm_generation.events == ["takes weights", f"generates {4 * GROUP}"] * 2
    ratios = trainer._metrics["train"]["sampling/importance_sampling_ratio/mean"] or [
        row["sampling/importance_sampling_ratio/mean"] for row in trainer.state.log_history if "reward" in row
    ]
    assert all(ratio > 0 for ratio in ratios)


def test_an_engine_that_sleeps_has_the_weights_and_is_awake_for_an_evaluation() -> None:
    sleeping = Generation(enable_sleep_mode=True)
    with ColocatedEngine(sleeping).with_weights():
        sleeping.events.append("evaluates")
    assert sleeping.events == ["takes weights", "wakes up ['kv_cache']", "evaluates", "sleeps 2"]
    # So that TRL gives it the weights again.
    assert sleeping._llm_weights_sleeping
    awake = Generation()
    with ColocatedEngine(awake).with_weights():
        awake.events.append("evaluates")
    assert awake.events == ["takes weights", "evaluates"]


@pytest.mark.parametrize(("processes", "spread"), [(1, 1), (4, 1), (4, 2)])
def test_engines_share_out_the_samples_and_every_process_has_all(
    processes: int, spread: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = ModuleType("vllm")
    module.SamplingParams = SimpleNamespace  # pyright: ignore[reportAttributeAccessIssue]
    monkeypatch.setitem(sys.modules, "vllm", module)
    tokenizer, problems = load_tokenizer("tiny"), CountdownTask().problems("test", 3)
    settings = SamplingSettings(3, 9, seed=2)

    def drawn(rank: int, gathered: Any) -> list[Any]:
        state = SimpleNamespace(process_index=rank, num_processes=processes)
        monkeypatch.setattr(colocated, "PartialState", lambda: state)
        monkeypatch.setattr(colocated, "gather_object", gathered)
        monkeypatch.setattr(together, "gather_object", lambda failures: failures)
        engine = ColocatedEngine(Generation(tensor_parallel_size=spread))
        sampler = SharingEngine(EngineSampler(engine.llm, tokenizer, [1]), engine)
        return [draw for lot in sampler.sample(problems, settings) for draw in lot]

    own = [drawn(rank, lambda draws: draws) for rank in range(processes)]
    for first in range(0, processes, spread):
        assert all(draws == own[first] for draws in own[first : first + spread])
    everything = drawn(0, lambda draws: [draw for part in own for draw in part])
    assert [(draw.prompt, draw.index) for draw in everything] == [(p, i) for p in range(3) for i in range(3)]
    assert len(everything) == sum(map(len, own)) // spread
    assert torch.tensor([len(draws) for draws in own]).float().std(unbiased=False) < 1.0
