"""Pieces of an evaluation by themselves: prompts as tensors, lots of a replay, records, defaults."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from relax_rl.errors import DataError, ModelError
from relax_rl.evaluation import EvaluationResult, evaluate
from relax_rl.evaluation import replay as replay_module
from relax_rl.evaluation.folder import EvaluationFolder
from relax_rl.evaluation.prompts import (
    ProcessedPrompt,
    PromptForm,
    encode_prompt,
    left_pad,
    position_ids,
    prompt_inputs,
    prompt_words,
    without_image_token,
)
from relax_rl.evaluation.records import Sample, sample_of
from relax_rl.evaluation.replay import replay
from relax_rl.evaluation.result import SampleRecord
from relax_rl.evaluation.runner import Evaluation
from relax_rl.evaluation.samplers import exchange, server
from relax_rl.evaluation.samplers.exchange import Exchange
from relax_rl.evaluation.samplers.protocol import Completion, Draw, SamplingSettings
from relax_rl.evaluation.samplers.server import ServerSampler
from relax_rl.evaluation.samplers.transformers import TransformersSampler
from relax_rl.latent.images.look import Look
from relax_rl.statistics.intervals import Estimate
from relax_rl.tasks.base import Problem

CPU = torch.device("cpu")
SETTING = SamplingSettings(2, 3, seed=7)


# Prompts ----------------------------------------------------------------------------------------------------------


def test_prompts_are_padded_on_the_left_and_counted_from_their_first_token() -> None:
    ids, mask = left_pad([[5], [6, 7, 8]], CPU)
    assert ids.tolist() == [[0, 0, 5], [6, 7, 8]]
    assert mask.tolist() == [[0, 0, 1], [1, 1, 1]]
    assert position_ids(mask).tolist() == [[0, 0, 0], [0, 1, 2]]


@pytest.mark.parametrize(("model_type", "after"), [("qwen2_vl", 0), ("paligemma", 1)])
def test_a_completion_follows_its_prompt_as_text(model_type: str, after: int) -> None:
    """PaliGemma reads tokens of type 0 in both directions, so that a completion of that type would see its end."""
    model = SimpleNamespace(device=CPU, config=SimpleNamespace(model_type=model_type))
    looks = [
        Look([1], {"mm_token_type_ids": torch.tensor([1])}, {"image_grid_thw": torch.tensor([[1, 2, 3]])}),
        Look([1, 2], {"mm_token_type_ids": torch.tensor([1, 0])}, {}),
    ]
    completions = torch.tensor([[3, 4], [5, 0]]), torch.tensor([[1, 1], [1, 0]])
    joined = prompt_inputs(model, [look.token_ids for look in looks], looks, completions)
    assert joined["input_ids"].tolist() == [[0, 1, 3, 4], [1, 2, 5, 0]]
    assert joined["attention_mask"].tolist() == [[0, 1, 1, 1], [1, 1, 1, 0]]
    assert joined["mm_token_type_ids"].tolist() == [[0, 1, after, after], [1, 0, after, after]]
    # Pixels come by way of `shown`; what positions are counted from is an input.
    assert joined["image_grid_thw"].tolist() == [[1, 2, 3]]
    assert prompt_inputs(model, [[5], [6, 7]], []).keys() == {"input_ids", "attention_mask"}


def test_an_image_token_is_impossible_where_the_model_has_one() -> None:
    logits = torch.zeros(1, 3)
    assert without_image_token(SimpleNamespace(config=SimpleNamespace()), logits) is logits
    found = without_image_token(SimpleNamespace(config=SimpleNamespace(image_token_id=0)), logits)
    assert found.tolist() == [[-math.inf, 0.0, 0.0]]


class Asked:
    """A tokenizer that gives a token a letter, and keeps what it was asked."""

    def __init__(self, chat_template: str | None = None) -> None:
        self.chat_template = chat_template
        self.options: list[dict[str, Any]] = []

    def __call__(self, text: str, **options: Any) -> dict[str, list[int]]:
        self.options.append(options)
        return {"input_ids": [ord(letter) for letter in text]}

    def apply_chat_template(self, messages: list[dict[str, str]], **options: Any) -> str:
        self.options.append(options)
        return "".join(message["content"] for message in messages) + "!"


def test_a_template_brings_its_own_special_tokens_and_a_plain_prompt_does_not() -> None:
    problem = Problem("a", "xyz", "")
    plain = Asked()
    assert list(encode_prompt(plain, problem)) == [120, 121, 122]
    assert plain.options == [{"add_special_tokens": True, "verbose": False}]
    assert prompt_words(plain, problem) == "xyz"
    for form, expected in ((PromptForm(switches={"deep": True}), "xyz!"), (PromptForm(plain=True), "xyz")):
        chat = Asked("template")
        assert "".join(map(chr, encode_prompt(chat, problem, form))) == expected
        if form.plain:
            assert chat.options == [{"add_special_tokens": True, "verbose": False}]
            assert prompt_words(chat, problem, form) == "xyz"
            continue
        rendering, encoding = chat.options
        assert rendering == {"tokenize": False, "add_generation_prompt": True, "deep": True}
        assert encoding == {"add_special_tokens": False, "verbose": False}
        assert prompt_words(chat, problem, form) == problem.messages
    assert "".join(map(chr, encode_prompt(Asked(), problem, PromptForm(most_tokens=2)))) == "yz"
    assert len(encode_prompt(Asked(), problem, PromptForm(most_tokens=9))) == 3


def test_the_switches_of_a_template_reach_the_processor_of_images() -> None:
    asked: list[dict[str, Any]] = []

    def apply_chat_template(conversations: list[Any], **options: Any) -> dict[str, Any]:
        asked.append(options)
        return {"input_ids": [[7, 8]]}

    processor = SimpleNamespace(apply_chat_template=apply_chat_template)
    usual = {"add_generation_prompt": True, "tokenize": True, "return_dict": True, "return_tensors": "pt"}
    for switches in ({"deep": True}, None):
        prompt = ProcessedPrompt(processor, [{"role": "user", "content": []}], switches)
        assert (list(prompt), len(prompt), prompt[-1]) == ([7, 8], 2, 8)
        assert asked.pop() == usual | (switches or {})


# Replays ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("logits", "tokens", "expected"), [(100, 1000, 5), (99, 1000, 4), (1000, 30, 5), (1000, 29, 4), (1, 1000, 1)]
)
def test_a_lot_is_bounded_by_its_logits_and_by_its_tokens(
    logits: int, tokens: int, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """3 tokens and the place before them, by a vocabulary of 5; with a prompt of 2, 6 positions."""
    monkeypatch.setattr(replay_module, "_LOGITS_PER_BATCH", logits)
    monkeypatch.setattr(replay_module, "_TOKENS_PER_BATCH", tokens)
    model = SimpleNamespace(get_output_embeddings=lambda: SimpleNamespace(weight=torch.zeros(5, 2)))
    assert replay_module._rows_that_fit(model, [[1, 2]], [[3, 4, 5]], 0) == expected


def test_a_replay_keeps_what_it_needs_and_leaves_the_model_as_it_was(model) -> None:
    prompts = [[2, 3], [4], [5, 6, 7, 8], [9], [3]] * 8
    completions = [[3, 4, 5, 1], [6, 7], [8], [8], [9, 9]] * 8
    heads: list[tuple[int, ...]] = []
    asked: list[Any] = []
    hooks = [
        model.lm_head.register_forward_pre_hook(lambda _, inputs: heads.append(tuple(inputs[0].shape))),
        model.register_forward_pre_hook(lambda _, __, named: asked.append(named), with_kwargs=True),
    ]
    before = sum(len(module._forward_hooks) for module in model.modules())
    batches = list(replay(model, prompts, completions))
    for hook in hooks:
        hook.remove()
    assert sum(len(module._forward_hooks) for module in model.modules()) == before
    # Longest completion first, then longest prompt; all in one forward, whose head sees the completions alone.
    (batch,) = batches
    assert [(len(completions[row]), len(prompts[row])) for row in batch.rows] == sorted(
        ((len(completion), len(prompt)) for completion, prompt in zip(completions, prompts, strict=True)), reverse=True
    )
    assert [shape[1] for shape in heads] == [5]
    assert asked[0]["use_cache"] is False
    # Prompts are padded on the left, and count from their first token.
    assert torch.equal(asked[0]["position_ids"], position_ids(asked[0]["attention_mask"]))
    assert (batch.entropy[~batch.mask] == 0).all()
    assert (batch.entropy[batch.mask] > 0).all()
    assert batch.mask.sum(1).tolist() == [len(completions[row]) for row in batch.rows]
    (greedy,) = replay(model, prompts, completions, temperature=0.0)
    torch.testing.assert_close(greedy.entropy, batch.entropy)
    (cold,) = replay(model, prompts, completions, temperature=0.5)
    assert cold.entropy.sum() < batch.entropy.sum()


# Servers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("plain", [True, False])
def test_a_slash_at_the_end_of_an_address_is_none_of_it(plain: bool) -> None:
    samplers = [ServerSampler(f"http://host:8000/v1{end}", "it", plain=plain) for end in ("", "/")]
    assert {sampler.fingerprint for sampler in samplers} == {"http://host:8000/v1"}
    end = "completions" if plain else "chat/completions"
    assert {sampler._exchange(SETTING).url for sampler in samplers} == {f"http://host:8000/v1/{end}"}
    assert samplers[0]._exchange(SETTING).max_bytes == 2**22 + 3 * 2**10


def reply_of(content: Any, num_tokens: Any = 3, **choice: Any) -> Any:
    usual = {"message": {"content": content}, "finish_reason": "stop"}
    return {"choices": [usual | choice], "usage": {"completion_tokens": num_tokens}}


def test_what_a_server_replies_becomes_a_completion_or_is_refused() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "refusal"}, {"type": "text", "text": "b"}]
    for content, text in (("ab", "ab"), (None, ""), ("", ""), (parts, "ab"), ([], "")):
        assert server._completion(reply_of(content), "url") == Completion(text, (), 3, False)
    assert server._completion(reply_of("a", 0, finish_reason="length"), "url") == Completion("a", (), 0, True)
    assert server._completion(reply_of("a", 2**31 - 1), "url").num_tokens == 2**31 - 1
    for content in (5, ["a"], [parts, 5], {"type": "text", "text": "a"}):
        with pytest.raises(ModelError, match="neither text nor a list of parts"):
            server._completion(reply_of(content), "url")
    with pytest.raises(ModelError, match="a text that is none"):
        server._completion(reply_of([{"type": "text", "text": 5}]), "url")
    for count in (-1, 2**31, True, 3.0, "3"):
        with pytest.raises(ModelError, match="completion_tokens is no count"):
            server._completion(reply_of("a", count), "url")


@pytest.mark.parametrize(
    ("status", "words"),
    [(300, "redirects to there"), (399, "redirects"), (400, "refused"), (404, "refused"), (429, "")],
)
def test_what_a_server_refuses_is_told_from_a_redirect_and_from_what_may_pass(status: int, words: str) -> None:
    post = Exchange("http://host/v1", None, 1.0, 100, 0)
    reply = exchange._Reply(status, {"Location": "there"}, b"so it is")
    if not words:
        assert post._refusal(reply) == f"HTTP {status}: so it is"
        return
    with pytest.raises(ModelError, match=words):
        post._refusal(reply)


# Records ----------------------------------------------------------------------------------------------------------


def test_a_record_of_a_sample_is_read_as_it_was_written_or_refused() -> None:
    draw = Draw(1, 3, Completion("text", (4, 5), 2, True, 0.5))
    sample = sample_of(draw, [Problem("a", "", ""), Problem("b", "", "gold")])
    assert sample == Sample("b", 3, "text", (4, 5), 2, True, "gold", entropy=0.5)
    assert Sample.from_json(sample.to_json()) == sample
    row = json.loads(sample.to_json())
    assert Sample.from_json(json.dumps({**row, "later": 1})) == sample
    for changes in ({"index": "3"}, {"truncated": 1}, {"num_tokens": True}, {"answer": None}, {"token_ids": 3}):
        with pytest.raises(DataError, match="no record of a sample"):
            Sample.from_json(json.dumps(row | changes))
    del row["index"]
    with pytest.raises(DataError, match="no record of a sample"):
        Sample.from_json(json.dumps(row))
    with pytest.raises(ValueError, match="JSON"):
        replace(sample, score=math.nan).to_json()
    assert replace(sample, score=0.0, reason="too long").is_ungradable
    assert not replace(sample, score=None, reason="too long").is_ungradable
    assert not replace(sample, score=0.0).is_ungradable


def test_a_result_shows_no_completions_and_no_number_that_json_lacks(tmp_path: Path) -> None:
    record = SampleRecord("p", "a prompt", "words of the policy", "", 1.0, 3, None)
    result = EvaluationResult("t", "s", 1, 1, 1.0, 1.0, 9, 0, {"mean@1": Estimate(1.0, 1.0, 1.0, 1)}, samples=(record,))
    assert "words of the policy" not in repr(result)
    assert (result.problem_seed, result.reasons, result.per_problem, result.pass_at_k) == (0, {}, (), ())
    for _ in range(2):  # into a folder that is made, and again into one that is there
        assert EvaluationResult.load(result.save(tmp_path / "a" / "b" / "result.json")) == result
    assert "reasons" not in json.loads(result.to_json())
    told = replace(result, reasons={"timeout": 1})
    assert EvaluationResult.from_json(told.to_json()) == told
    with pytest.raises(ValueError, match="JSON"):
        replace(result, metrics={"mean@1": Estimate(math.nan, 0.0, 0.0)}).to_json()


# Defaults ---------------------------------------------------------------------------------------------------------


def test_what_is_measured_where_nothing_is_said(model, tokenizer, task, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[Any] = []
    monkeypatch.setattr(Evaluation, "run", lambda self, folder, **named: given.append((self, folder, named)))
    evaluate(model, tokenizer, task)
    evaluation, folder, named = given[0]
    assert evaluation.settings == SamplingSettings(16, 256, temperature=1.0, top_p=1.0, seed=0)
    assert (evaluation.split, evaluation.num_problems, evaluation.problem_seed, evaluation.name) == (
        "test",
        None,
        0,
        "",
    )
    assert (evaluation.replay, evaluation.measured_by) == (None, None)
    assert (folder, named) == (None, {"overwrite": False, "on_progress": None})
    bare = Evaluation(TransformersSampler(model, tokenizer), task, SETTING)
    assert (bare.split, bare.num_problems, bare.problem_seed, bare.task_options) == ("test", None, 0, None)


@pytest.mark.parametrize("options", [None, {"level": 3}])
def test_the_folder_of_an_evaluation_names_all_that_decides_its_samples(
    model, tokenizer, task, options: Any, tmp_path: Path
) -> None:
    sampler = TransformersSampler(model, tokenizer, batch_size=5)
    evaluation = Evaluation(sampler, task, SETTING, num_problems=2, problem_seed=4, name="it", task_options=options)
    folder = EvaluationFolder(tmp_path / "e")
    result = evaluation.run(folder)
    assert (result.problem_seed, result.seed, result.num_problems, result.model) == (4, 7, 2, "it")
    settings = folder.read_settings()
    assert settings.pop("fingerprint") == sampler.fingerprint
    assert settings.pop("prompt_digest") == result.prompt_digest
    assert settings == {
        "model": "it",
        "backend": "transformers",
        "task": "letters",
        "task_options": options or {},
        "split": "test",
        "num_problems": 2,
        "problem_seed": 4,
        "measured_by": None,
        "num_samples": 2,
        "max_completion_length": 3,
        "temperature": 1.0,
        "top_p": 1.0,
        "seed": 7,
    }
    assert len(result.samples) == 4
    assert [sample.problem_id for sample in result.samples] == [problem.id for problem in task.problems("test", 2)] * 2
