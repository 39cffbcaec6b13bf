"""A task's problems in the shape that TRL trains on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any

from datasets import Dataset
from transformers import PreTrainedTokenizerBase

from relax_rl.errors import DataError
from relax_rl.tasks.base import Problem

__all__ = ["prompt_dataset", "prompt_key"]


def prompt_dataset(problems: Sequence[Problem], tokenizer: PreTrainedTokenizerBase) -> Dataset:
    """Rows of `prompt` (messages for a tokenizer with a chat template, else plain text), `answer` and `problem_id`.

    Raises:
        DataError: when there is no problem at all.
    """
    if not problems:
        raise DataError("The task has no training problems; check its split and its path.")
    is_chat = tokenizer.chat_template is not None
    return Dataset.from_list(
        [
            {
                "prompt": problem.messages if is_chat else problem.prompt,
                "answer": problem.answer,
                "problem_id": problem.id,
            }
            for problem in problems
        ]
    )


def prompt_key(prompt: Any) -> int:
    """A number below 2^63 that stands for a prompt, the same in every process and every run."""
    text = prompt if isinstance(prompt, str) else json.dumps(prompt, sort_keys=True)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]) >> 1
