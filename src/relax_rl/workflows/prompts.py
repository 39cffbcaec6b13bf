"""Prompts from a file: one a line, or a column of JSON Lines."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from relax_rl.errors import DataError
from relax_rl.tasks.base import Problem
from relax_rl.tasks.files import json_lines

__all__ = ["PROMPT_COLUMNS", "read_prompts"]

PROMPT_COLUMNS = ("prompt", "question", "problem", "instruction", "text")
_TEXT_COLUMNS = ("completion", "response", "solution", "answer")


def read_prompts(path: Path, count: int | None = None) -> list[Problem]:
    """The first `count` prompts of a file.

    Args:
        path: ``.jsonl`` or ``.json``: an object a line, whose prompt is the first there is of `PROMPT_COLUMNS`, and
            whose completion, if there is one, is taken for its ``solution``; ``id`` is its name. Anything else: text,
            a prompt a line, blank lines skipped.
        count: None takes all; if there are fewer, those that there are.

    Raises:
        DataError: a file that cannot be read or has no prompt, or a line without one.
    """
    if path.suffix in (".jsonl", ".json"):
        problems = []
        for row in json_lines(path):
            if len(problems) == count:
                break
            problems.append(_from_columns(row.columns, row.where, len(problems)))
    else:
        problems = [Problem(f"line-{number}", line, "") for number, line in _lines(path)][:count]
    if not problems:
        raise DataError(f"There is no prompt in '{path}'; write one a line.")
    identities = [problem.id for problem in problems]
    twice = next((identity for identity in identities if identities.count(identity) > 1), None)
    if twice is not None:
        raise DataError(f"Two prompts of '{path}' have the id '{twice}'; ids must differ, or be left out.")
    return problems


def _lines(path: Path) -> list[tuple[int, str]]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"The prompts in '{path}' cannot be read: {error}; name a UTF-8 text file.") from error
    return [(number, line) for number, line in enumerate(lines, start=1) if line.strip()]


def _from_columns(columns: Mapping[str, Any], where: str, position: int) -> Problem:
    prompt = next((columns[name] for name in PROMPT_COLUMNS if columns.get(name)), None)
    if not isinstance(prompt, str):
        raise DataError(
            f"There is no prompt in {where}: it needs a column of text named {' or '.join(PROMPT_COLUMNS)}."
        )
    solution = next((columns[name] for name in _TEXT_COLUMNS if isinstance(columns.get(name), str)), None)
    return Problem(str(columns.get("id", f"row-{position + 1}")), prompt, "", solution=solution)
