"""Sampling against generate, against the model's own probabilities, and against itself in other batches."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from scipy import stats

from relax_rl.errors import ConfigError, DataError
from relax_rl.evaluation.prompts import encode_prompt, render_prompt
from relax_rl.evaluation.samplers import transformers as sampling
from relax_rl.evaluation.samplers.transformers import TransformersSampler, sample_completions
from relax_rl.tasks.base import Problem

PROMPTS = [[2, 3, 4], [5], [6, 7, 8, 9, 10], [3, 3]]


@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_greedy_is_what_generate_decodes_one_prompt_at_a_time(model, tokenizer, batch_size: int) -> None:
    ours = sample_completions(
        model, tokenizer, PROMPTS, 1, max_completion_length=20, temperature=0.0, batch_size=batch_size
    )
    for prompt, (completion,) in zip(PROMPTS, ours, strict=True):
        ids = torch.tensor([prompt])
        reference = model.generate(
            ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=20, pad_token_id=0
        )
        assert list(completion.token_ids) == reference[0, len(prompt) :].tolist()


@pytest.mark.usefixtures("either_way")
def test_samples_do_not_depend_on_batch_size_or_order(model, tokenizer) -> None:
    def draw(order: list[int], batch_size: int) -> dict[str, list[tuple[int, ...]]]:
        rows = sample_completions(
            model,
            tokenizer,
            [PROMPTS[i] for i in order],
            5,
            max_completion_length=24,
            batch_size=batch_size,
            seed=3,
            keys=[f"p{i}" for i in order],
        )
        return {f"p{i}": [c.token_ids for c in row] for i, row in zip(order, rows, strict=True)}

    whole = draw([0, 1, 2, 3], 64)
    assert draw([3, 1, 0, 2], 2) == whole
    assert draw([0, 1, 2, 3], 7) == whole
    assert len({ids for rows in whole.values() for ids in rows}) > 10


@pytest.fixture(params=[True, False], ids=["race", "inverse"])
def either_way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tokens are drawn as for large vocabularies, then as for small ones."""
    monkeypatch.setattr(sampling, "_RACE_ABOVE", 0 if request.param else 10**6)


@pytest.mark.usefixtures("either_way")
@pytest.mark.parametrize(("temperature", "top_p"), [(1.0, 1.0), (0.5, 1.0), (1.0, 0.7)])
def test_first_tokens_follow_the_models_distribution(model, tokenizer, temperature: float, top_p: float) -> None:
    prompt = [2, 3, 4]
    num_samples = 4000
    (rows,) = sample_completions(
        model,
        tokenizer,
        [prompt],
        num_samples,
        max_completion_length=1,
        temperature=temperature,
        top_p=top_p,
        batch_size=1000,
    )
    with torch.no_grad():
        expected = torch.softmax(model(torch.tensor([prompt])).logits[0, -1].double() / temperature, dim=-1).numpy()
    nucleus, mass = [], 0.0
    for token in (-expected).argsort():
        nucleus.append(int(token))
        mass += expected[token]
        if mass >= top_p:
            break
    counts = [sum(c.token_ids[0] == token for c in rows) for token in nucleus]
    assert sum(counts) == num_samples  # nothing outside the nucleus
    large = [i for i, token in enumerate(nucleus) if expected[token] * num_samples > 10]
    observed = [counts[i] for i in large] + [num_samples - sum(counts[i] for i in large)]
    shares = [expected[nucleus[i]] / mass for i in large]
    predicted = [*(s * num_samples for s in shares), (1 - sum(shares)) * num_samples]
    if predicted[-1] < 1e-6:
        assert observed.pop() == 0
        predicted.pop()
    assert stats.chisquare(observed, predicted, sum_check=False).pvalue > 1e-3


@pytest.mark.usefixtures("either_way")
def test_the_nucleus_is_the_smallest_that_reaches_its_mass(model, tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Four equal tokens at top_p 1/2: two reach it, and a third would be one too many."""
    logits = torch.full((12,), -math.inf)
    logits[[2, 5, 7, 9]] = 0.0
    monkeypatch.setattr(model.lm_head, "forward", lambda states: logits.expand(*states.shape[:-1], 12))
    (rows,) = sample_completions(model, tokenizer, [[2, 3]], 64, max_completion_length=1, top_p=0.5)
    assert len({completion.token_ids for completion in rows}) == 2


def test_ends_at_the_stop_token_or_at_the_limit(model, tokenizer) -> None:
    rows = sample_completions(model, tokenizer, PROMPTS, 16, max_completion_length=12, seed=1)
    completions = [completion for row in rows for completion in row]
    assert any(c.is_truncated for c in completions)
    assert any(not c.is_truncated for c in completions)
    for completion in completions:
        assert 1 not in completion.token_ids[:-1]
        assert completion.is_truncated == (completion.token_ids[-1] != 1)
        assert completion.num_tokens == 12 if completion.is_truncated else completion.num_tokens <= 12
        assert "<eos>" not in completion.text


@pytest.mark.usefixtures("either_way")
def test_other_seed_other_samples_and_the_global_state_is_left_alone(model, tokenizer) -> None:
    state = torch.random.get_rng_state()
    model.train()
    first = sample_completions(model, tokenizer, PROMPTS, 4, max_completion_length=16, seed=0)
    assert model.training
    model.eval()
    assert torch.equal(torch.random.get_rng_state(), state)
    assert sample_completions(model, tokenizer, PROMPTS, 4, max_completion_length=16, seed=0) == first
    assert sample_completions(model, tokenizer, PROMPTS, 4, max_completion_length=16, seed=1) != first


def test_prompt_is_plain_without_and_rendered_with_a_chat_template(tokenizer) -> None:
    problem = Problem("1", "abc", "a", system="be", instruction="add")
    assert render_prompt(tokenizer, problem) == "abc"
    assert encode_prompt(tokenizer, problem) == [2, 3, 4]
    tokenizer.chat_template = (
        "{% for m in messages %}{{ m.role[0] }}{{ m.content }}{% endfor %}{% if add_generation_prompt %}j{% endif %}"
    )
    try:
        assert render_prompt(tokenizer, problem) == "sbeuaddj"
    finally:
        tokenizer.chat_template = None


@pytest.mark.parametrize(
    "setting",
    [
        {"num_samples": 0},
        {"max_completion_length": 0},
        {"batch_size": 0},
        {"temperature": -1.0},
        {"temperature": math.nan},
        {"top_p": 0.0},
        {"top_p": 1.5},
    ],
)
def test_refuses_settings_out_of_range(model, tokenizer, setting: dict[str, Any]) -> None:
    settings: dict[str, Any] = {"num_samples": 1, "max_completion_length": 1} | setting
    with pytest.raises(ConfigError, match=next(iter(setting))):
        sample_completions(model, tokenizer, PROMPTS, **settings)


def test_refuses_empty_prompts_and_shared_keys(model, tokenizer) -> None:
    with pytest.raises(DataError, match="empty"):
        sample_completions(model, tokenizer, [[2], []], 1, max_completion_length=2)
    with pytest.raises(DataError, match="distinct"):
        sample_completions(model, tokenizer, [[2], [3]], 1, max_completion_length=2, keys=["a", "a"])


def test_no_forward_and_no_logits_more_than_are_drawn_from(model, tokenizer) -> None:
    forwards: list[tuple[int, ...]] = []

    def note(module: Any, inputs: tuple[torch.Tensor, ...]) -> None:
        forwards.append(tuple(inputs[0].shape[:2]))

    hook = model.lm_head.register_forward_pre_hook(note)
    try:
        for seed in range(9):
            forwards.clear()
            (row,) = sample_completions(model, tokenizer, [[2, 3, 4]], 2, max_completion_length=6, seed=seed)
            assert len(forwards) == max(completion.num_tokens for completion in row)
            # The prompt alone, then what is drawn from for each completion that goes on.
            assert forwards[0] == (1, 1)
            assert {num_tokens for _, num_tokens in forwards} == {1}
    finally:
        hook.remove()


def test_other_weights_have_another_fingerprint_and_another_file_of_the_same_has_not(model, tokenizer) -> None:
    def fingerprint(of: Any) -> str:
        return TransformersSampler(of, tokenizer).fingerprint

    known = fingerprint(model)
    assert fingerprint(copy.deepcopy(model)) == known
    assert fingerprint(copy.deepcopy(model).double()) == known
    for place in (0, -1):  # the ends are among the entries that are read
        for name in ("model.norm.weight", "lm_head.weight"):
            other = copy.deepcopy(model)
            other.get_parameter(name).data.view(-1)[place] += 1
            assert fingerprint(other) != known, (name, place)


def test_how_tokens_are_drawn_follows_from_the_vocabulary_and_not_from_the_rows(
    model, tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twelve tokens are more than eight, whether four rows are decoded together or sixteen."""

    def sampled(num_samples: int) -> list[tuple[int, ...]]:
        (rows,) = sample_completions(model, tokenizer, [[2, 3]], num_samples, max_completion_length=5, batch_size=16)
        return [row.token_ids for row in rows]

    apart = sampled(16)
    monkeypatch.setattr(sampling, "_RACE_ABOVE", 12)
    assert sampled(16) == apart
    monkeypatch.setattr(sampling, "_RACE_ABOVE", 11)
    assert sampled(16) != apart
    monkeypatch.setattr(sampling, "_RACE_ABOVE", 8)
    assert sampled(16) != apart
    assert sampled(4) == sampled(16)[:4]


def test_a_cache_whose_rows_cannot_move_gives_the_same_samples(
    model, tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def sampled() -> list[list[tuple[int, ...]]]:
        groups = sample_completions(model, tokenizer, [[2, 3], [4, 5]], 3, max_completion_length=5)
        return [[row.token_ids for row in rows] for rows in groups]

    usual = sampled()
    plan = replace(sampling.cache_plan(model.config), moves_rows=False)
    monkeypatch.setattr(sampling, "cache_plan", lambda config: plan)
    first: list[dict[str, Any]] = []
    handle = model.register_forward_pre_hook(lambda module, args, kwargs: first.append(kwargs), with_kwargs=True)
    assert sampled() == usual
    handle.remove()
    # What a layer still holds of the block before is let go by a forward without a cache.
    assert first[0]["use_cache"] is False
    assert first[0]["input_ids"].shape == (6, 1)
    assert first[1]["use_cache"] is True
    assert first[1]["input_ids"].shape == (6, 2)
