"""Sampled completions of a policy and their hidden states: what study A looks at."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM

from relax_rl.evaluation.prompts import encode_prompt
from relax_rl.evaluation.samplers.transformers import Completion, sample_completions
from relax_rl.runs.files import write_whole
from relax_rl.tasks.base import Problem
from relax_rl.tasks.countdown import CountdownTask
from relax_rl.training.models import load_model, model_location

__all__ = ["Rollout", "load_policy", "sample"]


@dataclass(frozen=True)
class Rollout:
    """Completions of one policy: ``num_samples`` for each problem, one row each, problem by problem."""

    name: str
    model: Any
    problems: list[Problem]
    prompts: list[list[int]]
    completions: list[list[Completion]]
    correct: Tensor
    """(problems, samples) bool."""

    @property
    def rows(self) -> list[tuple[list[int], Completion]]:
        """(prompt ids, completion), problem by problem."""
        return [(prompt, one) for prompt, row in zip(self.prompts, self.completions, strict=True) for one in row]

    def states(self, layers: Sequence[int] = (-1,), batch: int = 64) -> tuple[list[dict[int, Tensor]], list[Tensor]]:
        """Hidden states (T_i, H) float32 of each row at each layer, and the entropy (T_i,) in nats of each token.

        Layers count as in ``hidden_states``: 0 is the embedding, -1 the last, after the final norm.
        """
        found: list[dict[int, Tensor]] = []
        entropies: list[Tensor] = []
        rows = self.rows
        for start in range(0, len(rows), batch):
            part = rows[start : start + batch]
            ids = [prompt + list(one.token_ids) for prompt, one in part]
            longest = max(map(len, ids))
            # Padding stands behind the completion, so that a causal model never sees it.
            padded = torch.tensor([row + [0] * (longest - len(row)) for row in ids])
            with torch.no_grad():
                output = self.model(input_ids=padded, output_hidden_states=True, use_cache=False)
            for row, (prompt, one) in enumerate(part):
                span = slice(len(prompt), len(prompt) + one.num_tokens)
                found.append({layer: output.hidden_states[layer][row, span].float() for layer in layers})
                logits = output.logits[row, len(prompt) - 1 : len(prompt) + one.num_tokens - 1].float()
                entropies.append(torch.special.entr(logits.softmax(-1)).sum(-1))
        return found, entropies


def load_policy(name: str, *, random_weights: bool = False, seed: int = 0) -> tuple[Any, Any]:
    """A model in evaluation mode and its tokenizer; with ``random_weights`` the same architecture untrained."""
    model, tokenizer = load_model(name)
    if random_weights:
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(model_location(name)))
    return model.eval(), tokenizer


def sample(
    name: str,
    num_problems: int,
    num_samples: int,
    length: int,
    *,
    seed: int,
    random_weights: bool = False,
    split: str = "test",
    batch_size: int = 256,
    kept: Path | None = None,
) -> Rollout:
    """Completions of countdown problems at temperature 1, by a policy named as for ``--model``.

    Args:
        kept: a file that holds the completions, or receives them; None: they are drawn each time.
    """
    model, tokenizer = load_policy(name, random_weights=random_weights)
    task = CountdownTask()
    problems = task.problems(split, num_problems)
    prompts = [list(encode_prompt(tokenizer, problem)) for problem in problems]
    if kept is not None and kept.is_file():
        completions = _read(kept)
    else:
        completions = sample_completions(
            model,
            tokenizer,
            prompts,
            num_samples,
            max_completion_length=length,
            batch_size=batch_size,
            seed=seed,
            keys=[problem.id for problem in problems],
        )
        if kept is not None:
            write_whole(kept, json.dumps([[asdict(one) for one in row] for row in completions]))
    texts = [one.text for row in completions for one in row]
    answers = [problem.answer for problem, row in zip(problems, completions, strict=True) for _ in row]
    scores = task.verifier.score(texts, answers)
    correct = torch.tensor([score == 1.0 for score in scores]).view(num_problems, num_samples)
    return Rollout(f"{name}{' (random)' if random_weights else ''}", model, problems, prompts, completions, correct)


def _read(path: Path) -> list[list[Completion]]:
    rows = json.loads(path.read_text("utf-8"))
    return [[Completion(**{**one, "token_ids": tuple(one["token_ids"])}) for one in row] for row in rows]
