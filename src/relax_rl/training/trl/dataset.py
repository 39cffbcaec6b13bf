"""A task's problems in the shape that TRL trains on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
from datasets import Dataset

from relax_rl.errors import DataError
from relax_rl.evaluation.prompts import PromptForm, check_images, prompt_words
from relax_rl.tasks.base import Problem
from relax_rl.training.trl.opening import OpensImages

__all__ = ["dataset_digest", "prompt_dataset"]

_TAKEN = frozenset(
    {
        *(
            "prompt",
            "prompts",
            "problem_id",
            "problem_options",
            "gold_answer",
            "image",
            "images",
            "image_names",
            "truncated",
            "opened_thought",
        ),
        *("completion", "completions", "completion_ids", "trainer_state", "log_extra", "log_metric"),
        *("environment", "environments"),
    }
)
"""Names that TRL or this package gives a value when it calls a reward function."""


def prompt_dataset(problems: Sequence[Problem], tokenizer: Any, form: PromptForm | None = None) -> Dataset:
    """Rows of `prompt`, `answer` and `problem_id`, under TRL's own names, with what else problems have.

    If any problem shows images, there is a column `images`, whose rows are decoded when they are read (a worker of the
    data loader reads its own), and `image_names`; if any has options, `problem_options`. The further columns of a row
    keep their names. A column `answer` of the row's own is one of them: reward functions get it as it is, and
    the gold answer that a verifier reads is in `gold_answer`.

    Args:
        problems: problems of a task.
        tokenizer: or the processor of an image-text model. A prompt is messages where it has a chat template, else
            plain text.
        form: form of the prompts.

    Raises:
        DataError: when there is no problem at all, or a further column holds values of several types.
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
    opens = OpensImages()
    if any(problem.images for problem in problems):
        rows = [row | opens.columns(problem) for row, problem in zip(rows, problems, strict=True)]
    if any(problem.options for problem in problems):
        rows = [row | {"problem_options": list(problem.options)} for row, problem in zip(rows, problems, strict=True)]
    if any(problem.columns for problem in problems):
        rows = _with_columns(rows, problems)
    if any(problem.interleaved for problem in problems):
        rows = [row | {"prompt": _in_parts(row["prompt"])} for row in rows]
    return Dataset.from_list(rows).with_transform(opens) if opens.is_needed else Dataset.from_list(rows)


def _in_parts(prompt: Any) -> Any:
    """Arrow has one type for a column: with one conversation in parts, all are."""
    return [
        turn if isinstance(turn["content"], list) else turn | {"content": [{"type": "text", "text": turn["content"]}]}
        for turn in prompt
    ]


def _with_columns(rows: list[dict[str, Any]], problems: Sequence[Problem]) -> list[dict[str, Any]]:
    names = list(dict.fromkeys(name for problem in problems for name in problem.columns))
    if clash := next((name for name in names if name in _TAKEN), None):
        raise DataError(f"A column of the problems is called '{clash}', a name that training gives a value; rename it.")
    for name in names:
        try:
            pa.array([problem.columns.get(name) for problem in problems])
        except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError) as error:
            raise DataError(
                f"The column '{name}' cannot be handed to reward functions, since its values have no common type "
                f"({' '.join(str(error).split())}); give it one type, or name the columns to hand on "
                "(--task.columns, '[]' for none)."
            ) from error
    own_answer = "answer" in names
    return [
        row
        | ({"gold_answer": problem.answer} if own_answer else {})
        | {name: problem.columns.get(name) for name in names}
        for row, problem in zip(rows, problems, strict=True)
    ]


def dataset_digest(dataset: Any) -> str | None:
    """Sixteen hexadecimal digits that stand for all rows of a data set, in order; None for one that is streamed."""
    if not isinstance(dataset, Dataset):
        return None
    digest = hashlib.sha256()
    # As Arrow has them: of an image, the digest of its content.
    for table in dataset.with_format("arrow").iter(batch_size=1000):
        for row in table.to_pylist():  # type: ignore[union-attr]
            digest.update(json.dumps(row, sort_keys=True, default=_as_text).encode())
    return digest.hexdigest()[:16]


def _as_text(value: Any) -> str:
    return hashlib.sha256(value).hexdigest() if isinstance(value, bytes) else repr(value)
