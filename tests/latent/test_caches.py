"""Every kind of cache against a model that reads everything again, without cache and without padding."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from transformers import DynamicCache
from transformers.cache_utils import DYNAMIC_LAYER_TYPE_MAPPING

import relax_rl
from relax_rl.errors import DataError, ModelError
from relax_rl.evaluation.prompts import left_pad
from relax_rl.evaluation.samplers.transformers import sample_completions
from relax_rl.latent.caches import cache_kind, cache_plan, repeat_rows, select_rows
from relax_rl.latent.padding import right_padded
from relax_rl.latent.trajectories import capture_generation, capture_inputs
from relax_rl.training.models import load_tokenizer
from support.architectures import ARCHITECTURES, MORE, config_of, model_of

PROMPTS = [[2, 3, 4], [5], [6, 7, 8, 9, 10, 40, 41, 42, 43, 44, 45], [30, 31, 32]]
KINDS = {
    "Llama": "attention",
    "DeepSeek-V3": "attention",
    "BLOOM": "attention",
    "DeepSeek-V4": "sliding",
    "Mistral": "sliding",
    "Gemma-2": "sliding",
    "gpt-oss": "sliding",
    "Llama-4 text": "sliding",
    "Mamba": "recurrent",
    "Mamba-2": "recurrent",
    "FalconMamba": "recurrent",
    "RWKV": "recurrent",
    "Qwen3.5": "hybrid",
    "Qwen3-Next": "hybrid",
    "Granite-4 hybrid": "hybrid",
    "LFM2": "hybrid",
    "Bamba": "hybrid",
    "Falcon-H1": "hybrid",
    "Jamba": "hybrid",
    "Nemotron-H": "hybrid",
    "RecurrentGemma": "hybrid",
    "Zamba-2": "hybrid",
}
FAST = ["Qwen3-Next", "Mamba", "RecurrentGemma"]
"""A hybrid, a recurrent one, and one that keeps its state in its layers and takes in padding."""
SAMPLED = [name for name in ARCHITECTURES | MORE if name != "RWKV"]


def slow_but(names: list[str], fast: list[str]) -> list[Any]:
    return [pytest.param(name, marks=() if name in fast else pytest.mark.slow, id=name) for name in names]


@pytest.mark.parametrize(("name", "kind"), KINDS.items())
def test_the_kind_is_read_from_the_configuration(name: str, kind: str) -> None:
    assert cache_kind(config_of(name)) == kind


@pytest.mark.parametrize("name", slow_but(SAMPLED, FAST))
def test_greedy_samples_are_those_of_a_model_that_reads_everything_again(name: str) -> None:
    model, tokenizer = model_of(name), load_tokenizer("tiny")
    # Some rows end early, so that rows are dropped from the cache.
    model.generation_config.eos_token_id = list(range(100, 140))
    settings: dict[str, Any] = {"max_completion_length": 12, "temperature": 0.0}
    # Three samples of each prompt, so that rows are repeated.
    drawn = sample_completions(model, tokenizer, PROMPTS, 3, **settings)
    for prompt, completions in zip(PROMPTS, drawn, strict=True):
        expected = _greedy(model, prompt, 12)
        for completion in completions:
            assert list(completion.token_ids) == expected


@torch.no_grad()
def _greedy(model: Any, prompt: list[int], length: int) -> list[int]:
    ids = list(prompt)
    while len(ids) < len(prompt) + length:
        ids.append(int(model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1].argmax()))
        if ids[-1] in (*model.generation_config.eos_token_id, 257):
            break
    return ids[len(prompt) :]


@pytest.mark.parametrize("name", slow_but(SAMPLED, FAST))
def test_samples_do_not_depend_on_the_batch(name: str) -> None:
    model, tokenizer = model_of(name), load_tokenizer("tiny")

    def draw(batch_size: int) -> list[list[tuple[int, ...]]]:
        rows = sample_completions(model, tokenizer, PROMPTS, 2, max_completion_length=12, batch_size=batch_size, seed=4)
        return [[completion.token_ids for completion in row] for row in rows]

    together = draw(8)
    assert together == draw(1)
    assert len({ids for row in together for ids in row}) == 8


@pytest.mark.parametrize("name", slow_but(SAMPLED, [*FAST, "GPT-2"]))
def test_padding_on_the_left_changes_nothing_in_a_forward(name: str) -> None:
    model = model_of(name)
    ids = torch.tensor([[11, 12, 13, 14, 15, 16, 17, 18, 19, 20]])
    padding = torch.zeros(1, 6, dtype=torch.long)
    padded = {
        "input_ids": torch.cat([padding, ids], dim=1),
        "attention_mask": torch.cat([padding, torch.ones_like(ids)], dim=1),
    }
    with torch.no_grad(), right_padded(model):
        alone = model(input_ids=ids, use_cache=False).logits
        for given in ({}, {"position_ids": (padded["attention_mask"].cumsum(dim=1) - 1).clamp(min=0)}):
            found = model(**padded, **given, use_cache=False).logits[:, 6:]
            torch.testing.assert_close(found.log_softmax(-1), alone.log_softmax(-1), rtol=0, atol=1e-5)


# OPT's own forward goes around its backbone, and Llama-4 does not name one.
@pytest.mark.parametrize("name", [*FAST, "OPT", "Llama-4 text"])
def test_log_probs_of_a_batch_are_those_of_its_rows(name: str) -> None:
    model, tokenizer = model_of(name), load_tokenizer("tiny")
    completions = [[50, 51, 52, 53], [60, 61], [70, 71, 72], [80]]
    with torch.no_grad():
        batch = relax_rl.rollout_batch(model, tokenizer, PROMPTS, [[ids] for ids in completions], [[0.0]] * 4)
        for row, (prompt, completion) in enumerate(zip(PROMPTS, completions, strict=True)):
            alone = relax_rl.rollout_batch(model, tokenizer, [prompt], [[completion]], [[0.0]])
            found = batch.log_probs[row, 0, : len(completion)]
            torch.testing.assert_close(found, alone.log_probs[0, 0], rtol=0, atol=2e-6)


def test_every_layer_of_a_cache_can_be_repeated_and_selected() -> None:
    for kind, layer_class in DYNAMIC_LAYER_TYPE_MAPPING.items():
        if kind in ("heavily_compressed_attention", "compressed_sparse_attention", "dummy"):
            # Made from a configuration; sampled above, as DeepSeek-V4.
            continue
        layer: Any = layer_class(sliding_window=8) if "sliding" in kind or "chunked" in kind else layer_class()
        given: dict[str, torch.Tensor] = {}
        if hasattr(layer, "update"):
            given |= {"keys": torch.randn(3, 2, 5, 4), "values": torch.randn(3, 2, 5, 4)}
            layer.update(given["keys"], given["values"])
        if hasattr(layer, "update_conv_state"):
            given["conv_states"] = torch.randn(3, 6, 4)
            layer.update_conv_state(given["conv_states"])
        if hasattr(layer, "update_recurrent_state"):
            given["recurrent_states"] = torch.randn(3, 2, 4, 4)
            layer.update_recurrent_state(given["recurrent_states"])
        assert given, kind
        cache = DynamicCache()
        cache.layers = [layer]
        repeat_rows(cache, 2, 3, torch.device("cpu"))
        select_rows(cache, torch.tensor([5, 0, 2]))
        for name, values in given.items():
            kept = getattr(layer, name)
            assert torch.equal(kept[0] if isinstance(kept, dict) else kept, values[[2, 0, 1]]), (kind, name)


@pytest.mark.parametrize("model_type", ["rwkv", "xlstm", "minimax", "openai-gpt"])
def test_a_cache_that_is_none_of_transformers_is_refused(model_type: str) -> None:
    from transformers import AutoConfig

    with pytest.raises(ModelError, match=f"type '{model_type}'.*choose a model"):
        cache_plan(AutoConfig.for_model(model_type))


def test_a_state_of_an_unknown_type_is_never_padded() -> None:
    config = config_of("Qwen3-Next")
    plan = cache_plan(config)
    assert plan.pads_prompts
    config.model_type = "not_seen_yet"
    assert cache_plan(config) == replace(plan, pads_prompts=False)


def test_states_of_padded_texts_are_those_of_the_texts_alone() -> None:
    for name in ("GPT-2", "RecurrentGemma", "Mamba"):
        model = model_of(name)
        ids = torch.tensor([[0, 0, 0, 5, 6, 7], [9, 10, 11, 12, 13, 14]])
        mask = torch.tensor([[0, 0, 0, 1, 1, 1], [1, 1, 1, 1, 1, 1]])
        padded = capture_inputs(model, {"input_ids": ids, "attention_mask": mask}, ["layer_0_out", "final_norm_out"])
        (alone,) = capture_inputs(model, {"input_ids": ids[:1, 3:]}, ["layer_0_out", "final_norm_out"])
        assert padded[0].token_ids == (5, 6, 7)
        for site, states in alone.states.items():
            torch.testing.assert_close(padded[0].states[site], states, rtol=0, atol=1e-5)


def test_generation_with_padded_prompts_is_refused_where_padding_enters_the_state() -> None:
    inputs = {"input_ids": torch.tensor([[0, 5], [6, 7]]), "attention_mask": torch.tensor([[0, 1], [1, 1]])}
    with pytest.raises(DataError, match="prompts of one length"):
        capture_generation(model_of("RecurrentGemma"), inputs, ["final_norm_out"], max_new_tokens=4)


@pytest.mark.parametrize("name", slow_but(SAMPLED, ["Granite-4 hybrid"]))
def test_rollouts_of_transformers_are_those_of_a_model_that_reads_everything_again(name: str) -> None:
    model = model_of(name)
    model.generation_config.eos_token_id = [257]
    plan = cache_plan(model.config)
    batches = [PROMPTS] if plan.pads_prompts else [[prompt] for prompt in PROMPTS]
    for kind in ("dynamic", "static") if plan.fits_static else ("dynamic",):
        drawn: list[list[int]] = []
        for prompts in batches:
            ids, mask = left_pad(prompts, torch.device("cpu"))
            sequences = model.generate(
                input_ids=ids,
                attention_mask=mask,
                max_new_tokens=10,
                do_sample=False,
                pad_token_id=256,
                cache_implementation=kind,
                disable_compile=True,
            )
            drawn += sequences[:, ids.shape[1] :].tolist()
        for prompt, found in zip(PROMPTS, drawn, strict=True):
            expected = _greedy(model, prompt, 10)
            assert found[: len(expected)] == expected, (kind, prompt)
