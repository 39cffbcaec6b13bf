"""The adapter to vLLM against a stand-in of its offline interface; vLLM itself is not there where tests run."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from relax_rl.errors import DependencyError
from relax_rl.evaluation.prompts import encode_prompt
from relax_rl.evaluation.runner import Evaluation
from relax_rl.evaluation.samplers.protocol import SamplingSettings, request_seed
from relax_rl.evaluation.samplers.vllm import VllmSampler


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch, tokenizer) -> SimpleNamespace:
    """Records what it is asked, and completes with the letter that the seed chooses."""
    asked = SimpleNamespace(made=None, lots=[])

    class LLM:
        def __init__(self, **options: Any) -> None:
            asked.made = options

        def get_tokenizer(self) -> Any:
            return tokenizer

        def generate(self, prompts: list, sampling_params: list, use_tqdm: bool = True) -> list:
            assert not use_tqdm
            asked.lots.append(list(zip(prompts, sampling_params, strict=True)))
            return [SimpleNamespace(outputs=[_output(parameters)]) for parameters in sampling_params]

    def _output(parameters: Any) -> SimpleNamespace:
        letter = parameters.seed % 10
        stop = "length" if letter == 0 else "stop"
        return SimpleNamespace(text="abcdefghij"[letter], token_ids=[2 + letter, 1], finish_reason=stop)

    module = ModuleType("vllm")
    module.LLM = LLM  # pyright: ignore[reportAttributeAccessIssue]
    module.SamplingParams = SimpleNamespace  # pyright: ignore[reportAttributeAccessIssue]
    monkeypatch.setitem(sys.modules, "vllm", module)
    return asked


def test_every_sample_is_a_request_with_its_own_seed(engine, task, tokenizer) -> None:
    sampler = VllmSampler("folder", dtype="float32", batch_size=5)
    problems = task.problems("test", 3)
    settings = SamplingSettings(4, 9, temperature=0.7, top_p=0.8, seed=2)
    draws = [draw for lot in sampler.sample(problems, settings, done={(0, 1)}) for draw in lot]
    # generation_config "vllm" is none: the model's own file does not steer the sampling.
    options = {"enable_prefix_caching": True, "generation_config": "vllm", "trust_remote_code": False}
    assert engine.made == {"model": "folder", "dtype": "float32", "revision": None, **options}
    assert all(parameters.stop_token_ids == [tokenizer.eos_token_id] for lot in engine.lots for _, parameters in lot)
    assert [len(lot) for lot in engine.lots] == [5, 5, 1]
    requests = [request for lot in engine.lots for request in lot]
    assert (0, 1) not in {(draw.prompt, draw.index) for draw in draws}
    for draw, (prompt, parameters) in zip(draws, requests, strict=True):
        problem = problems[draw.prompt]
        assert prompt == {"prompt_token_ids": encode_prompt(tokenizer, problem)}
        assert (parameters.temperature, parameters.top_p, parameters.max_tokens) == (0.7, 0.8, 9)
        assert parameters.seed == request_seed(2, problem.id, draw.index)
        assert draw.completion.text == "abcdefghij"[parameters.seed % 10]
        assert draw.completion.is_truncated == (parameters.seed % 10 == 0)


def test_an_evaluation_through_it(engine, task) -> None:
    result = Evaluation(VllmSampler("folder"), task, SamplingSettings(8, 9), num_problems=5, name="folder").run()
    scores = [
        "abcdefghij"[request_seed(0, problem.id, index) % 10] == problem.answer
        for problem in task.problems("test", 5)
        for index in range(8)
    ]
    assert result.metrics["mean@1"].value == pytest.approx(sum(scores) / 40)
    assert result.backend == "vllm"


def test_without_vllm_the_sentence_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(DependencyError, match="--backend vllm needs the package vllm"):
        VllmSampler("folder")
