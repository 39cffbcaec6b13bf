"""A bank of correct traces: the folder of an evaluation, written without a model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from relax_rl.evaluation.prompts import PromptForm, render_prompt
from relax_rl.evaluation.records import Sample
from relax_rl.evaluation.runner import digest_of
from relax_rl.tasks.registry import build_task
from relax_rl.training.models import load_tokenizer


def write_bank(folder: Path, count: int = 6, **changes: Any) -> Path:
    """Problems of countdown, each with its own solution as a right sample and a wrong one beside it."""
    settings: dict[str, Any] = {
        "task": "countdown",
        "task_options": {},
        "split": "train",
        "num_problems": count,
        "problem_seed": 0,
    }
    tokenizer, problems = load_tokenizer("tiny"), build_task("countdown").problems("train", count)
    settings["prompt_digest"] = digest_of([render_prompt(tokenizer, problem, PromptForm()) for problem in problems])
    samples = []
    for problem in problems:
        for index, text in enumerate((problem.solution or "", problem.mistake or "")):
            ids: tuple[Any, ...] = (*tokenizer.encode(text), tokenizer.eos_token_id)
            samples.append(Sample(problem.id, index, text, ids, len(ids), False, problem.answer, 1.0 - index))
    folder.mkdir(parents=True)
    samples = changes.pop("samples", samples)
    (folder / "settings.json").write_text(json.dumps(settings | changes))
    (folder / "samples.jsonl").write_text("".join(f"{sample.to_json()}\n" for sample in samples))
    return folder
