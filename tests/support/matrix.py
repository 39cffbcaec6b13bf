"""One architecture through the whole package: trained, evaluated in two batch sizes, its spectrum measured."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch

import relax_rl
from relax_rl.errors import ModelError
from relax_rl.latent.caches import cache_kind
from relax_rl.latent.capture import StateCapture
from relax_rl.training import measurement
from relax_rl.training.models import load_tokenizer
from relax_rl.workflows.train import prepare
from support.architectures import build, config_of

__all__ = ["Row", "measure"]

NUM_UPDATES = 2
SETTINGS = {
    "train_problems": 16,
    "trainer.max_steps": NUM_UPDATES,
    "trainer.num_generations": 4,
    "trainer.per_device_train_batch_size": 8,
    "trainer.gradient_accumulation_steps": 1,
    "trainer.max_completion_length": 12,
    "evaluation.num_problems": 2,
    "evaluation.num_samples": 2,
    "dictionary.num_observables": 4,
    "dictionary.steps": 2,
    "objective": "grpo",
    "objective.beta": 0.04,
}
PROMPTS = ["3 4 5", "Use 3, 7 and 25 to make 46.", "The numbers are 10 and 12 and 2."]
"""Of several lengths, so that they are padded."""


@dataclass(frozen=True)
class Row:
    """What an architecture did.

    Attributes:
        cache: kind of its cache.
        refused: the sentence by which it was refused; None if it was not. What follows is then None.
        num_updates: that were made, with a gradient that is finite and not zero.
        kl: to the reference model, at the first update.
        same_samples: how many samples are equal at batch size 8 and 1, of `num_samples`.
        padding: the largest change of a completion's log-probability by padding of its prompt, in any forward.
        heads: the largest difference between the log-probabilities of training and those of the model's own head.
        last_state: whether the final norm's states are the last hidden states of transformers.
        spectra: that were measured, of a text that was read and of one that was generated.
    """

    cache: str
    refused: str | None = None
    num_updates: int | None = None
    kl: float | None = None
    same_samples: int | None = None
    num_samples: int | None = None
    padding: float | None = None
    heads: float | None = None
    last_state: bool | None = None
    spectra: int | None = None

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def measure(name: str, folder: Path) -> Row:
    """Take an architecture through the package, in a folder of its own."""
    place, cache = str(build(name, folder / "model")), cache_kind(config_of(name))
    try:
        run = _run(place, folder)
    except ModelError as error:
        return Row(cache, refused=str(error))
    padding, heads = _padding(run)
    last_state = _is_last_state(run.model)
    with patch.multiple(measurement, _NUM_PROMPTS=2, _NUM_SAMPLES=2):
        run.train()
    rows = [json.loads(line) for line in (folder / "run" / "metrics.jsonl").read_text().splitlines()]
    wide, narrow = (_samples(place, folder / f"batch-{size}", size) for size in (8, 1))
    return Row(
        cache=cache,
        num_updates=sum(0 < row["grad_norm"] < float("inf") for row in rows),
        kl=rows[0]["kl"],
        same_samples=sum(one == other for one, other in zip(wide, narrow, strict=True)),
        num_samples=len(wide),
        padding=padding,
        heads=heads,
        last_state=last_state,
        spectra=sum(_num_spectra(place, text=text) for text in (True, False)),
    )


def _run(place: str, folder: Path) -> Any:
    def odd_length(completions: Sequence[str], answers: Sequence[str]) -> list[float]:
        return [float(len(completion) % 2) for completion in completions]

    overrides = SETTINGS | {"output": str(folder / "run"), "model": place}
    return prepare("countdown", overrides=overrides, verifier=odd_length)


def _padding(run: Any) -> tuple[float, float]:
    """See `Row.padding` and `Row.heads`; in training and in evaluation, each prompt with others and alone."""
    tokenizer, model = load_tokenizer("tiny"), run.model
    prompts = [tokenizer(text)["input_ids"] for text in PROMPTS]
    completions = [tokenizer(text[::-1])["input_ids"][:8] for text in PROMPTS]
    longest = max(map(len, prompts))
    rewards = [[0.0]] * len(prompts)
    with torch.no_grad():
        together = relax_rl.rollout_batch(model, tokenizer, prompts, [[ids] for ids in completions], rewards)
        alone = [
            relax_rl.rollout_batch(model, tokenizer, [prompt], [[completion]], [[0.0]]).log_probs[0, 0]
            for prompt, completion in zip(prompts, completions, strict=True)
        ]
        # As TRL calls it: prompts padded on the left, completions on the right, and no positions.
        width = max(map(len, completions))
        ids = torch.zeros(len(prompts), longest + width, dtype=torch.long)
        mask = torch.zeros_like(ids)
        for row, (prompt, completion) in enumerate(zip(prompts, completions, strict=True)):
            filled = slice(longest - len(prompt), longest + len(completion))
            ids[row, filled], mask[row, filled] = torch.tensor(prompt + completion), 1
        run.trainer.model.train()
        trained = run.trainer._get_per_token_logps_and_entropies(model, ids, mask, width)[0] * run.trainer.temperature
        singly = [
            run.trainer._get_per_token_logps_and_entropies(
                model,
                torch.tensor([prompt + completion]),
                torch.ones(1, len(prompt + completion)).long(),
                len(completion),
            )[0][0]
            for prompt, completion in zip(prompts, completions, strict=True)
        ]
    in_evaluation, in_training, heads = 0.0, 0.0, 0.0
    for row, own in enumerate(alone):
        in_evaluation = max(in_evaluation, _most(together.log_probs[row, 0, : len(own)], own))
        in_training = max(in_training, _most(trained[row, : len(own)], singly[row]))
        heads = max(heads, _most(singly[row], own))
    return max(in_evaluation, in_training), heads


def _most(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one - other).abs().max())


def _is_last_state(model: Any) -> bool:
    ids = torch.arange(3, 20)[None]
    model.eval()
    with torch.no_grad(), StateCapture(model, ["final_norm_out"]) as capture, capture.armed():
        given = model(input_ids=ids, use_cache=False, output_hidden_states=True).hidden_states[-1]
    return torch.equal(capture.take(1)["final_norm_out"], given)


def _samples(place: str, folder: Path, batch_size: int) -> list[str]:
    relax_rl.evaluate(
        place,
        "countdown",
        num_samples=4,
        num_problems=2,
        max_completion_length=12,
        batch_size=batch_size,
        output=folder,
    )
    return sorted(json.loads(line)["completion"] for line in (folder / "samples.jsonl").read_text().splitlines())


def _num_spectra(place: str, *, text: bool) -> int:
    measured = relax_rl.spectrum(
        place,
        task="countdown",
        text=text,
        num_problems=2,
        max_completion_length=None if text else 12,
        fit_steps=0,
        num_observables=4,
    )
    return len(measured.models)
