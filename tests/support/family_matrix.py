"""One family of image-text models through the whole package: trained, evaluated, its spectrum measured."""

from __future__ import annotations

import json
import logging
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from transformers import GenerationConfig

import relax_rl
from relax_rl.errors import RelaxError
from relax_rl.evaluation.prompts import encode_prompt, looks_of, prompt_inputs, prompt_positions
from relax_rl.evaluation.samplers.transformers import sample_completions
from relax_rl.latent.images.sharing import shown
from relax_rl.latent.padding import right_padded
from relax_rl.tasks.base import Problem
from relax_rl.training.models import load_model
from relax_rl.workflows.train import prepare
from support.families import SIDE, build
from support.images import EvenVerifier, read_together

__all__ = ["METHODS", "TASKS", "Row", "measure", "problems_of"]

_WORDS = ("where:", "which one of them is it:", "?", "how many are there here:")
_SIZES = ((SIDE, SIDE), (2 * SIDE, SIDE), (SIDE, 2 * SIDE), (SIDE + 13, SIDE + 5))


def _picture(seed: int, size: tuple[int, int]) -> Image.Image:
    pixels = torch.randint(0, 256, (size[1], size[0], 3), generator=torch.Generator().manual_seed(seed))
    return Image.fromarray(pixels.byte().numpy())


def problems_of(kind: str) -> list[Problem]:
    """Four problems: "one" image each, of one size; "ragged" in sizes and words; "two" images; "mixed" with none."""
    found: list[Problem] = []
    for index in range(4):
        size, words = (_SIZES[0], _WORDS[0]) if kind == "one" else (_SIZES[index], _WORDS[index])
        count = {"two": 2, "mixed": index % 3}.get(kind, 1)
        images = tuple(_picture(10 * index + each, size) for each in range(count))
        found.append(Problem(f"{kind}-{index}", words, str(index % 2), images=images))
    return found


@dataclass(frozen=True)
class _Pictures:
    kind: str
    name: str = "pictures"
    verifier: EvenVerifier = field(default_factory=EvenVerifier)

    def problems(self, split: str, count: int | None = None, seed: int = 0) -> list[Problem]:
        return problems_of(self.kind)[: 4 if count is None else count]


class One(_Pictures):
    def __init__(self) -> None:
        super().__init__("one")


class Ragged(_Pictures):
    def __init__(self) -> None:
        super().__init__("ragged")


class Two(_Pictures):
    def __init__(self) -> None:
        super().__init__("two")


class Mixed(_Pictures):
    def __init__(self) -> None:
        super().__init__("mixed")


TASKS = {"one": "One", "ragged": "Ragged", "two": "Two", "mixed": "Mixed"}
METHODS: dict[str, dict[str, Any]] = {
    "grpo": {"objective": "grpo", "objective.beta": 0.04},
    "relax": {"objective": "relax", "objective.xi": "quantile:0.5", "objective.beta": 0.04},
}
_SETTINGS: dict[str, Any] = {
    "trainer.max_steps": 1,
    "trainer.num_generations": 4,
    "trainer.per_device_train_batch_size": 8,
    "trainer.gradient_accumulation_steps": 2,
    "trainer.max_completion_length": 8,
    "dictionary.num_observables": 4,
    "dictionary.steps": 2,
    "evaluation.enabled": False,
}


@dataclass(frozen=True)
class Row:
    """What a family did; what is refused is not done.

    Attributes:
        trained: by task and method, "task/method": whether there was an update with a finite gradient, and KL 0.
        evaluated: by task, whether `relax eval` ran, with the figures of its states.
        as_generate: by task, how many greedy completions are those of `generate`, of 4.
        gradient: the largest difference of a gradient from rows alone with their own pixels, relative to the largest,
            over the tasks; vision part and projector included.
        spectra: whether `relax spectrum` measured words.
        refused: sentences, in order, each once.
    """

    trained: dict[str, bool] = field(default_factory=dict)
    evaluated: dict[str, bool] = field(default_factory=dict)
    as_generate: dict[str, int] = field(default_factory=dict)
    gradient: float | None = None
    spectra: bool = False
    refused: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def measure(name: str, folder: Path) -> Row:
    """Take a family through the package, in a folder of its own."""
    logging.disable(logging.WARNING)
    try:
        return _measured(str(build(name, folder / "model")), folder)
    finally:
        logging.disable(logging.NOTSET)


def _measured(place: str, folder: Path) -> Row:
    refused: list[str] = []

    def tried(work: Any, *args: Any) -> Any:
        try:
            return work(*args)
        except RelaxError as error:
            refused.append(str(error).replace(place, "this model"))
            return None

    trained = {
        f"{task}/{method}": bool(tried(_train, place, folder / f"{task}-{method}", task, method))
        for task in TASKS
        for method in METHODS
    }
    evaluated = {task: bool(tried(_evaluate, place, folder / f"eval-{task}", task)) for task in TASKS}
    as_generate = {task: tried(_as_generate, place, task) or 0 for task in TASKS}
    gradients = [tried(_gradient, place, task) for task in TASKS]
    gradient = max((found for found in gradients if found is not None), default=None)
    spectra = bool(tried(_spectrum, place))
    return Row(trained, evaluated, as_generate, gradient, spectra, list(dict.fromkeys(refused)))


def _train(place: str, folder: Path, task: str, method: str) -> bool:
    task = f"support.family_matrix:{TASKS[task]}"
    overrides = _SETTINGS | METHODS[method] | {"output": str(folder), "model": place, "task": task}
    run = prepare(overrides=overrides)
    run.train()
    (row,) = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return 0 < row["grad_norm"] < float("inf") and row["kl"] == 0.0


def _evaluate(place: str, folder: Path, task: str) -> bool:
    result = relax_rl.evaluate(
        place,
        f"support.family_matrix:{TASKS[task]}",
        num_samples=4,
        max_completion_length=8,
        batch_size=8,
        output=folder,
    )
    return {"mean@1", "entropy"} <= result.metrics.keys()


def _as_generate(place: str, task: str) -> int:
    model, processor = load_model(place)
    model.eval()
    problems = problems_of(task)
    prompts = [encode_prompt(processor, problem) for problem in problems]
    drawn = sample_completions(model, processor, prompts, 1, max_completion_length=8, temperature=0.0)
    greedy = GenerationConfig(
        max_new_tokens=8,
        do_sample=False,
        eos_token_id=model.generation_config.eos_token_id,
        pad_token_id=model.generation_config.pad_token_id,
        suppress_tokens=[model.config.image_token_id],
    )
    found = 0
    for problem, prompt, (completion,) in zip(problems, prompts, drawn, strict=True):
        expected = model.generate(**_own_inputs(processor, problem), generation_config=greedy)[0, len(prompt) :]
        found += list(completion.token_ids) == expected.tolist()
    return found


def _own_inputs(processor: Any, problem: Problem) -> dict[str, Any]:
    made = {name: value for name, value in read_together(processor, [problem]).items() if name != "labels"}
    # Llama 4's processor makes bfloat16.
    return {name: value.float() if value.is_floating_point() else value for name, value in made.items()}


_COMPLETIONS = ([70, 71, 72, 73], [80], [90, 91, 92])
"""Of each prompt."""


def _gradient(place: str, task: str) -> float:
    """Rows of a batch that share their looks, against each row alone with its own pixels."""
    model, processor = load_model(place)
    problems = problems_of(task)
    prompts = [encode_prompt(processor, problem) for problem in problems for _ in _COMPLETIONS]
    # One object a prompt.
    prompts = [prompts[len(_COMPLETIONS) * (row // len(_COMPLETIONS))] for row in range(len(prompts))]
    completions = [list(ids) for _ in problems for ids in _COMPLETIONS]
    width = max(map(len, completions))
    ids = torch.tensor([row + [0] * (width - len(row)) for row in completions])
    mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in completions])
    model.zero_grad()
    looks = looks_of(prompts)
    inputs = prompt_inputs(model, prompts, looks, (ids, mask))
    with right_padded(model), shown(model, looks):
        output = model(**inputs, position_ids=prompt_positions(model, inputs), use_cache=False)
    _scored(output.logits[:, -width - 1 : -1], ids, mask).backward()
    shared = _taken(model)
    for row, completion in enumerate(completions):
        own = _own_inputs(processor, problems[row // len(_COMPLETIONS)])
        after = torch.tensor([completion])
        total = torch.cat([own["input_ids"], after], dim=1)
        own |= {"input_ids": total, "attention_mask": torch.ones_like(total)}
        for name in own:
            if name.endswith("token_type_ids"):
                kind = int(model.config.model_type == "paligemma")
                own[name] = torch.cat([own[name], torch.full_like(after, kind)], dim=1)
        logits = model(**own, use_cache=False).logits[:, -len(completion) - 1 : -1]
        _scored(logits, after, torch.ones_like(after)).backward()
    alone = _taken(model)
    largest = max(float(gradient.abs().max()) for gradient in alone.values())
    assert shared.keys() == alone.keys()
    return max(float((shared[name] - alone[name]).abs().max()) for name in alone) / largest


def _scored(logits: torch.Tensor, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    return (logits.log_softmax(-1).gather(-1, ids.unsqueeze(-1)).squeeze(-1) * mask).sum()


def _taken(model: Any) -> dict[str, torch.Tensor]:
    found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    return found


def _spectrum(place: str) -> bool:
    measured = relax_rl.spectrum(place, task="countdown", text=True, num_problems=2, fit_steps=0, num_observables=4)
    return len(measured.models) == 1
