"""Where the tokenizer calls the markers of a thought special: a thought is never paid, in training and evaluation."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from relax_rl.evaluation.samplers import transformers as sampler
from relax_rl.evaluation.samplers.protocol import SamplingSettings
from relax_rl.evaluation.texts import completion_texts, token_pieces
from relax_rl.objectives import build_objective
from relax_rl.rewards import MathVerifier
from relax_rl.rewards.reward_function import VerifierReward
from relax_rl.training.models import load_tokenizer
from relax_rl.training.trl.thought_marks import with_thought_marks
from support.scripted import ScriptedTrainer, make_trainer, tiny_llama

PAIRS = [
    ("<think>", "</think>"),
    ("[THINK]", "[/THINK]"),
    ("<|inner_prefix|>", "<|inner_suffix|>"),
    ("<|channel>", "<channel|>"),
]


def tokenizer_with(*marks: str) -> PreTrainedTokenizerFast:
    """The shipped tokenizer, in which two added tokens are special ones that mark a thought."""
    parts = json.loads(load_tokenizer("tiny").backend_tokenizer.to_str())
    for token, mark in zip(parts["added_tokens"][-2:], marks, strict=True):
        token |= {"content": mark, "special": True}
    backend = Tokenizer.from_str(json.dumps(parts))
    return PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="<|pad|>", eos_token="<|end|>")


def ids_of(tokenizer: Any, text: str) -> list[int]:
    return [*tokenizer(text, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]


@pytest.mark.parametrize(("opening", "closing"), PAIRS)
def test_the_markers_of_a_thought_stay_and_other_special_tokens_go(opening: str, closing: str) -> None:
    tokenizer = tokenizer_with(opening, closing)
    name = "thought\n" if opening == "<|channel>" else ""
    thought, closed = f"{opening}{name}The answer is \\boxed{{7}}.", f"{closing}I do not know."
    right = f"{closing}So it is \\boxed{{7}}."
    written = [thought, thought + closed, thought + right, "The answer is \\boxed{7}."]
    ids = [ids_of(tokenizer, text) for text in written]
    assert opening not in tokenizer.batch_decode(ids, skip_special_tokens=True)[1]
    texts = completion_texts(tokenizer, ids)
    assert texts == written
    assert MathVerifier().score(texts, ["7"] * 4) == [0.0, 0.0, 1.0, 1.0]


def test_without_special_markers_the_text_is_the_tokenizers_own() -> None:
    tokenizer = load_tokenizer("tiny")
    ids = [ids_of(tokenizer, "<think>3+4</think> <answer>7</answer> yes"), [], [tokenizer.pad_token_id] * 2]
    assert completion_texts(tokenizer, ids) == tokenizer.batch_decode(ids, skip_special_tokens=True)
    assert completion_texts(tokenizer, ids)[0] == "<think>3+4</think> <answer>7</answer> yes"


def test_an_evaluation_reads_the_markers(monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer, model = tokenizer_with("<think>", "</think>"), tiny_llama()
    ids = ids_of(tokenizer, "<think>\\boxed{7}</think>No.")
    monkeypatch.setattr(sampler._Decoder, "decode", lambda *_: ([ids], [0.5]))
    ((draw,),) = sampler.sample_blocks(model, tokenizer, [[5]], ["a"], SamplingSettings(1, 40))
    assert draw.completion.text == "<think>\\boxed{7}</think>No."


def test_training_pays_no_thought(tmp_path: Path) -> None:
    tokenizer = tokenizer_with("<think>", "</think>")
    texts = ["<think>\\boxed{7}", "<think>\\boxed{7}</think>No.", "<think>8</think>\\boxed{7}", "\\boxed{7}"]
    paid: list[list[float | None]] = []

    class Trainer(ScriptedTrainer):
        def _generate_single_turn(self, prompt_ids: Any, *args: Any, **kwargs: Any) -> tuple[list[list[int]], None]:
            return [ids_of(tokenizer, texts[index % 4]) for index in range(len(prompt_ids))], None

    verifier = VerifierReward(MathVerifier())

    def reward(completions: list[Any], **columns: Any) -> list[float | None]:
        columns["gold_answer"] = ["7"] * len(completions)
        paid.append(verifier(completions, **columns))
        return paid[-1]

    objective = build_objective("grpo")
    make_trainer(objective, tmp_path, trainer_class=Trainer, processor=tokenizer, reward=reward, max_steps=1).train()
    assert paid[-1] == [0.0, 0.0, 1.0, 1.0] * 4


def test_a_conversation_of_one_turn_is_read_and_what_a_parser_took_apart_is_not() -> None:
    tokenizer = tokenizer_with("<think>", "</think>")
    ids = ids_of(tokenizer, "<think>3</think>4")
    parsed = [{"role": "assistant", "content": "4", "reasoning_content": "3"}]
    turn, marked = [{"role": "assistant", "content": "34"}], [{"role": "assistant", "content": "<think>3</think>4"}]
    tools = [*turn, {"role": "tool", "content": "5"}]
    given = [parsed, turn, tools, "34", "other"]
    assert with_thought_marks(tokenizer, given, [ids] * 5) == [parsed, marked, tools, "<think>3</think>4", "other"]
    processor: Any = SimpleNamespace(batch_decode=tokenizer.batch_decode, decode=tokenizer.decode)
    assert completion_texts(processor, [ids]) == ["<think>3</think>4"]


def test_the_pieces_of_tokens_join_to_the_text() -> None:
    reader = load_tokenizer("tiny")
    ids = reader("1+2=3\n<answer>1+2</answer>")["input_ids"]
    assert "".join(token_pieces(reader, ids)) == reader.decode(ids)
    # A token alone would lose its space.
    backend = Tokenizer(models.WordLevel({"<unk>": 0, "▁Step": 1, "▁2": 2, "▁is": 3}, unk_token="<unk>"))
    backend.pre_tokenizer, backend.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    spaced = PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>")
    assert token_pieces(spaced, spaced("Step 2 is")["input_ids"]) == ["Step", " 2", " is"]
