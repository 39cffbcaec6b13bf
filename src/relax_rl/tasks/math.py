"""Mathematical problems with known answers, from JSON Lines files or from a dataset on the Hugging Face Hub."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from relax_rl.errors import ConfigError, DataError
from relax_rl.rewards.base import Verifier
from relax_rl.rewards.extraction import extract_answer
from relax_rl.rewards.math import MathVerifier
from relax_rl.tasks.base import Problem

__all__ = ["PLAIN_PROMPT", "SYSTEM_PROMPT", "MathTask"]

SYSTEM_PROMPT = "Please reason step by step, and put your final answer within \\boxed{}."
"""The paper's, as system message of a chat model."""

PLAIN_PROMPT = f"{SYSTEM_PROMPT}\n\nProblem: {{problem}}\n\nSolution:"
"""For a model without a chat template; ``{problem}`` is replaced."""

_PROBLEM_COLUMNS = ("problem", "question")
_Row = tuple[str, Mapping[str, Any]]  # (where, for messages; columns)


@dataclass(frozen=True)
class MathTask:
    """Problems from ``path`` or from ``hub``, graded by :class:`~relax_rl.rewards.math.MathVerifier`.

    Splits. A mapping ``{"train": file, "test": file}`` gives each split its file; a Hub dataset has its own. One file
    alone is divided: a digest of the problem's text puts ``test_share`` of it into ``test``, the rest into ``train``,
    so that a problem that occurs twice is never in both; ``all`` is the whole file.

    Order. The file's for ``seed=0``; any other seed is another fixed order.

    Args:
        path: one JSON Lines file, or a mapping of split to file.
        hub: name of a dataset on the Hub, such as ``openai/gsm8k``.
        hub_config: its configuration, such as ``main``.
        problem_column: default: ``problem``, or else ``question``.
        answer_column: the gold answer.
        solution_column: a reference solution; rows may lack it.
        answer_after: the gold answer is what follows this mark in its column (``####`` in GSM8K, thousands commas
            dropped); the whole column is then the reference solution.
        test_share: of a single file, from 0 to 1.
        system: system message of a chat model; None for none.
        prompt: template of the prompt for a model without a chat template.

    Raises:
        ConfigError: neither or both of ``path`` and ``hub``, a ``test_share`` out of range, or a prompt without
            ``{problem}``.
    """

    path: str | Path | Mapping[str, str | Path] | None = None
    hub: str | None = None
    hub_config: str | None = None
    problem_column: str | None = None
    answer_column: str = "answer"
    solution_column: str = "solution"
    answer_after: str | None = None
    test_share: float = 0.1
    system: str | None = SYSTEM_PROMPT
    prompt: str = PLAIN_PROMPT
    name: str = "math"
    verifier: Verifier = field(default_factory=MathVerifier, compare=False, repr=False)
    _loaded: dict[str, list[Problem]] = field(default_factory=dict, init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        if (self.path is None) == (self.hub is None):
            raise ConfigError(f"The task '{self.name}' needs either path= (a JSONL file) or hub= (a dataset's name).")
        if not 0 <= self.test_share <= 1:
            raise ConfigError(f"test_share is {self.test_share}; it is a share, from 0 to 1.")
        if "{problem}" not in self.prompt:
            raise ConfigError("The prompt template has no '{problem}', so every problem would get the same prompt.")

    def problems(self, split: str, count: int | None = None, seed: int = 0) -> list[Problem]:
        """The first ``count`` problems of ``split`` in the order of ``seed``; None: all.

        Raises:
            DataError: a file, line, column or split that is not there or not readable, or fewer problems than asked.
        """
        if split not in self._loaded:
            self._loaded[split] = self._load(split)
        problems = self._loaded[split]
        if count is not None and count > len(problems):
            raise DataError(f"{self._source(split)} has {len(problems)} problems in '{split}'; {count} were asked for.")
        if seed != 0:
            problems = sorted(problems, key=lambda problem: _digest(str(seed), problem.id))
        return list(problems[:count])

    def _source(self, split: str) -> str:
        if self.hub is not None:
            return f"The dataset '{self.hub}'"
        return f"The file '{self.path[split] if isinstance(self.path, Mapping) else self.path}'"

    def _load(self, split: str) -> list[Problem]:
        if self.hub is not None:
            rows = _hub_rows(self.hub, self.hub_config, split)
            problems = [self._problem(row, index, split) for index, row in enumerate(rows)]
        elif isinstance(self.path, Mapping):
            if split not in self.path:
                raise DataError(f"The task '{self.name}' has no split '{split}'; it has {', '.join(self.path)}.")
            problems = [self._problem(row, index, split) for index, row in enumerate(_json_lines(self.path[split]))]
        else:
            assert self.path is not None
            if split not in {"train", "test", "all"}:
                raise DataError(f"A single file has the splits train, test and all; there is no '{split}'.")
            every = [self._problem(row, index, "row") for index, row in enumerate(_json_lines(self.path))]
            problems = [problem for problem in every if split in {"all", self._half(problem)}]
        if not problems:
            raise DataError(f"{self._source(split)} has no problem in the split '{split}'.")
        return problems

    def _half(self, problem: Problem) -> str:
        share = _digest("split", " ".join(problem.question.split())) / 2**64
        return "test" if share < self.test_share else "train"

    def _problem(self, row: _Row, index: int, split: str) -> Problem:
        where, columns = row
        named = self.problem_column or next((name for name in _PROBLEM_COLUMNS if name in columns), _PROBLEM_COLUMNS[0])
        problem, answer = _text(columns, named, where), _text(columns, self.answer_column, where)
        solution = _text(columns, self.solution_column, where) if columns.get(self.solution_column) else ""
        if self.answer_after is not None:
            solution, found, answer = answer, *answer.rpartition(self.answer_after)[1:]
            if not found or not answer.strip():
                raise DataError(f"There is no '{self.answer_after}' in the column '{self.answer_column}' of {where}.")
            answer = answer.replace(",", "").strip()
        if extract_answer(solution).text is None:
            solution = f"{solution}\n\n\\boxed{{{answer}}}".strip()
        return Problem(
            id=str(columns.get("id") or f"{self.name}-{split}-{index}"),
            prompt=self.prompt.replace("{problem}", problem),
            answer=answer,
            system=self.system,
            instruction=problem,
            solution=solution,
        )


def _hub_rows(name: str, config: str | None, split: str) -> Iterable[_Row]:
    # Slow to import, and needed only here.
    from datasets import load_dataset

    try:
        rows = load_dataset(name, config, split=split)
    except (OSError, ValueError) as error:  # unknown name or split, no network, not in the local cache
        offline = " (HF_HUB_OFFLINE is set)" if os.environ.get("HF_HUB_OFFLINE", "0") not in {"", "0"} else ""
        words = (str(error).splitlines() or [type(error).__name__])[0]
        raise DataError(
            f"The split '{split}' of the dataset '{name}' cannot be read from the Hugging Face Hub{offline}: {words}; "
            "give a local JSONL file instead, or load the dataset once while online."
        ) from error
    for index, row in enumerate(rows):
        yield f"row {index} of '{name}'", cast("dict[str, Any]", row)


def _json_lines(path: str | Path) -> Iterable[_Row]:
    try:
        with open(path, encoding="utf-8-sig") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    where = f"line {number} of '{path}'"
                    yield where, _json_object(line, where)
    except OSError as error:
        raise DataError(f"The file '{path}' cannot be read: {error.strerror or error}.") from error
    except UnicodeDecodeError as error:
        raise DataError(f"The file '{path}' is not UTF-8 text: {error.reason} at byte {error.start}.") from error


def _json_object(line: str, where: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except (json.JSONDecodeError, RecursionError) as error:
        raise DataError(f"{where.capitalize()} is not JSON: {error}.") from error
    if not isinstance(row, dict):
        raise DataError(
            f"{where.capitalize()} is a JSON {type(row).__name__}; it must be an object with named columns."
        )
    return row


def _text(columns: Mapping[str, Any], name: str, where: str) -> str:
    if name not in columns:
        raise DataError(f"There is no column '{name}' in {where}; it has {', '.join(map(str, columns)) or 'none'}.")
    value = columns[name]
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise DataError(f"The column '{name}' in {where} holds {value!r:.60}; it must be text or a number.")
    text = str(value).strip()
    if not text:
        raise DataError(f"The column '{name}' in {where} is empty.")
    return text


def _digest(*parts: str) -> int:
    """64 bits of blake2b over the parts."""
    return int.from_bytes(hashlib.blake2b("\x1f".join(("math", *parts)).encode(), digest_size=8).digest(), "big")
