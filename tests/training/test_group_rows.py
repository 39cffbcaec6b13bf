"""The sampler of groups by itself: how many completions of which prompt, and from which streams."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from relax_rl.errors import ConfigError
from relax_rl.evaluation.samplers.protocol import SamplingSettings
from relax_rl.evaluation.samplers.transformers import sample_completions
from relax_rl.training.models import load_tokenizer
from relax_rl.training.trl.group_sampler import GroupSampler, group_sampler
from support.scripted import tiny_llama

ARGS: dict[str, Any] = {
    "num_generations": 4,
    "max_completion_length": 6,
    "temperature": 0.9,
    "top_p": 0.8,
    "seed": 7,
    "use_vllm": False,
    "ds3_gather_for_generation": True,
}


def ids_of(groups: Any) -> list[list[int]]:
    return [list(completion.token_ids) for group in groups for completion in group]


def test_each_prompt_has_as_many_completions_as_it_stands_there_and_its_own_stream() -> None:
    model, tokenizer = tiny_llama(), load_tokenizer("tiny")
    sampler = GroupSampler(SamplingSettings(4, 6, temperature=0.9, top_p=0.8, seed=7))
    first, second = [5, 6], [7, 8, 9]
    found = sampler.completions(model, tokenizer, [first] * 4 + [second] * 4, ["a", "b"])
    expected = sample_completions(
        model, tokenizer, [first, second], 4, max_completion_length=6, temperature=0.9, top_p=0.8, seed=7,
        keys=["a", "b"],
    )  # fmt: skip
    assert found == ids_of(expected)
    assert len(found) == 8
    # Two of each: the first two of the four.
    pairs = sampler.completions(model, tokenizer, [first] * 2 + [second] * 2, ["a", "b"], 2)
    assert pairs == [*found[:2], *found[4:6]]
    assert sampler.completions(model, tokenizer, [first] * 4, ["c"]) != found[:4]


def test_occasions_name_the_problem_and_how_often_it_was_met() -> None:
    sampler = GroupSampler(SamplingSettings(2, 6))
    rows = [{"prompt": "p", "problem_id": name} for name in ("x", "x", "y", "y", "x", "x")]
    assert sampler.occasions(rows, "update 3") == ["update 3/0/x", "update 3/0/y", "update 3/1/x"]
    talk = {"prompt": [{"role": "user", "content": "q"}]}
    assert sampler.occasions([talk, talk], "u") == ['u/0/[{"content": "q", "role": "user"}]']


def test_a_run_samples_with_its_own_settings() -> None:
    from relax_rl.training.trl import group_sampler as module

    usual = {name: next(iter(values)) for name, values in module._ASKS_NOTHING.items()}
    found = group_sampler(SimpleNamespace(**usual | ARGS))
    assert found is not None
    assert found.settings == SamplingSettings(4, 6, 0.9, 0.8, 7)
    assert group_sampler(SimpleNamespace(**usual | ARGS), "generate") is None
    for change in ({"use_vllm": True}, {"ds3_gather_for_generation": False}, dict.fromkeys(usual, "other")):
        given = SimpleNamespace(**usual | ARGS | change)
        assert group_sampler(given, "auto") is None
        with pytest.raises(ConfigError, match=r"sampling\.engine = relax"):
            group_sampler(given, "relax")
