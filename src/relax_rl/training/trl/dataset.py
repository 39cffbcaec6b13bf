"""A task's problems in the shape that TRL trains on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any

from datasets import Dataset

from relax_rl.errors import DataError
from relax_rl.evaluation.prompts import PromptForm, check_images, prompt_words
from relax_rl.tasks.base import Problem

__all__ = ["dataset_digest", "prompt_dataset"]


def prompt_dataset(problems: Sequence[Problem], tokenizer: Any, form: PromptForm | None = None) -> Dataset:
    """Rows of `prompt`, `answer`, `problem_id` and, if any problem shows one, `images`, under TRL's own names.

    Args:
        problems: of a task.
        tokenizer: or the processor of an image-text model. A prompt is messages where it has a chat template, else
            plain text.
        form: how problems become prompts.

    Raises:
        DataError: when there is no problem at all.
        ConfigError: when a problem shows an image that the model cannot be given.
    """
    if not problems:
        raise DataError("The task has no training problems; check its split and its path.")
    form = form or PromptForm()
    for problem in problems:
        check_images(tokenizer, problem, form)
    rows: list[dict[str, Any]] = [
        {
            "prompt": prompt_words(tokenizer, problem, form),
            "answer": problem.answer,
            "problem_id": problem.id,
        }
        for problem in problems
    ]
    if any(problem.images for problem in problems):
        rows = [row | {"images": list(problem.images)} for row, problem in zip(rows, problems, strict=True)]
    return Dataset.from_list(rows)


def dataset_digest(dataset: Any) -> str | None:
    """Sixteen hexadecimal digits that stand for all rows of a data set, in order; None for one that is streamed."""
    if not isinstance(dataset, Dataset):
        return None
    digest = hashlib.sha256()
    # As Arrow has them: images stay the bytes that they are.
    for table in dataset.with_format("arrow").iter(batch_size=1000):
        for row in table.to_pylist():  # type: ignore[union-attr]
            digest.update(json.dumps(row, sort_keys=True, default=_as_text).encode())
    return digest.hexdigest()[:16]


def _as_text(value: Any) -> str:
    return hashlib.sha256(value).hexdigest() if isinstance(value, bytes) else repr(value)
