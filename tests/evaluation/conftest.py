"""A random policy of a few thousand parameters with a character tokenizer, and a task it can solve by luck."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from relax_rl.rewards.base import Verdict
from relax_rl.tasks.base import Problem

LETTERS = "abcdefghij"


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    vocabulary = {token: index for index, token in enumerate(["<pad>", "<eos>", *LETTERS])}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="<pad>"))
    backend.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    return PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="<pad>", eos_token="<eos>")


@pytest.fixture(scope="session")
def model() -> LlamaForCausalLM:
    torch.set_num_threads(1)  # more threads only wait for each other on matrices this small
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = LlamaConfig(
            vocab_size=12,
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=1,
            max_position_embeddings=128,
            pad_token_id=0,
            eos_token_id=1,
            bos_token_id=None,
            initializer_range=0.4,  # wide, so that the random policy has opinions
        )
        return LlamaForCausalLM(config).eval()


@dataclass(frozen=True)
class LetterVerifier:
    """Right if the answer's letter occurs; cannot score a completion that holds ``unscorable``."""

    name: str = "letter"
    unscorable: str = "?"

    def score(self, completions: Sequence[str], answers: Sequence[str]) -> list[float | None]:
        return [verdict.score for verdict in self.grade(completions, answers)]

    def grade(self, completions: Sequence[str], answers: Sequence[str]) -> list[Verdict]:
        return [self._verdict(*pair) for pair in zip(completions, answers, strict=True)]

    def _verdict(self, completion: str, answer: str) -> Verdict:
        score = None if self.unscorable in completion else float(answer in completion)
        first = completion.strip()[:1] or None
        return Verdict(score, first, "no answer" if first is None else "first letter")


@dataclass(frozen=True)
class LetterTask:
    """Prompts of different lengths."""

    name: str = "letters"
    verifier: LetterVerifier = field(default_factory=LetterVerifier)

    def problems(self, split: str, count: int | None = None, seed: int = 0) -> list[Problem]:
        if split == "empty":
            return []
        rows = [Problem(f"{split}/{i}", LETTERS[: 1 + i % 5], LETTERS[i % 10]) for i in range(count or 10)]
        return rows


@pytest.fixture
def task() -> LetterTask:
    return LetterTask()
