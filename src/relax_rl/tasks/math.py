"""Mathematical problems with known answers, from JSON Lines files or from a dataset on the Hugging Face Hub."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from relax_rl.errors import ConfigError, DataError
from relax_rl.rewards.base import Verifier
from relax_rl.rewards.mathematics.extraction import extract_answer
from relax_rl.rewards.mathematics.verifier import MathVerifier
from relax_rl.tasks.base import BaseTask, Problem, digest, in_order
from relax_rl.tasks.rows import Row, hub_rows, json_lines

__all__ = ["PLAIN_PROMPT", "SYSTEM_PROMPT", "MathTask"]

SYSTEM_PROMPT = "Please reason step by step, and put your final answer within \\boxed{}."
"""The paper's, as system message of a chat model."""

PLAIN_PROMPT = f"{SYSTEM_PROMPT}\n\nProblem: {{problem}}\n\nSolution:"
"""For a model without a chat template; ``{problem}`` is replaced."""

_PROBLEM_COLUMNS = ("problem", "question")
_LAST_DIGIT = re.compile(r"\d(?=\D*$)", re.ASCII)


@dataclass(frozen=True)
class MathTask(BaseTask):
    """Problems from ``path`` or from ``hub``, graded by :class:`~relax_rl.rewards.mathematics.verifier.MathVerifier`.

    Splits. A mapping ``{"train": file, "test": file}`` gives each split its file; a Hub dataset has its own, which
    ``hub_splits`` may rename. One file alone is divided: a digest of the problem's text puts ``test_share`` of it into
    ``test``, the rest into ``train``, so that a problem that occurs twice is never in both; ``all`` is the whole file.

    Order. The file's for ``seed=0``; any other seed is another fixed order.

    Args:
        path: one JSON Lines file, or a mapping of split to file.
        hub: name of a dataset on the Hub, such as ``openai/gsm8k``.
        hub_config: its configuration, such as ``main``.
        hub_splits: our name of a split -> its name on the Hub; None: the same names.
        only: (column, text): the rows that have the text in this column, and no others.
        levels: the rows whose column ``level`` is one of these (``3`` or ``Level 3``), and no others.
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
    hub_splits: Mapping[str, str] | None = None
    only: tuple[str, str] | None = None
    levels: tuple[int, ...] | None = None
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
        return in_order(self._loaded[split], count, seed, source=self._source(split), split=split)

    def _source(self, split: str) -> str:
        if self.hub is not None:
            return f"The dataset '{self.hub}'"
        return f"The file '{self.path[split] if isinstance(self.path, Mapping) else self.path}'"

    def _load(self, split: str) -> list[Problem]:
        named = self.hub_splits if self.hub is not None else self.path if isinstance(self.path, Mapping) else None
        if named is not None and split not in named:
            raise DataError(f"The task '{self.name}' has no split '{split}'; it has {', '.join(named)}.")
        if self.hub is not None:
            rows = hub_rows(self.hub, self.hub_config, split if self.hub_splits is None else self.hub_splits[split])
            problems = self._problems(rows, split)
        elif isinstance(self.path, Mapping):
            problems = self._problems(json_lines(self.path[split]), split)
        else:
            assert self.path is not None
            if split not in {"train", "test", "all"}:
                raise DataError(f"A single file has the splits train, test and all; there is no '{split}'.")
            every = self._problems(json_lines(self.path), "row")
            problems = [problem for problem in every if split in {"all", self._half(problem)}]
        if not problems:
            chosen = "" if self.levels is None else f" of the levels {', '.join(map(str, self.levels))}"
            raise DataError(f"{self._source(split)} has no problem{chosen} in the split '{split}'.")
        return problems

    def _half(self, problem: Problem) -> str:
        share = digest("math", "split", " ".join(problem.question.split())) / 2**64
        return "test" if share < self.test_share else "train"

    def _problems(self, rows: Iterable[Row], split: str) -> list[Problem]:
        return [self._problem(row, index, split) for index, row in enumerate(rows) if self._is_wanted(row)]

    def _is_wanted(self, row: Row) -> bool:
        if self.only is not None and self.only[1] not in row.text(self.only[0]):
            return False
        if self.levels is None:
            return True
        level = re.fullmatch(r"(?:Level )?(\d)", str(row.columns.get("level", "")))
        return level is not None and int(level[1]) in self.levels

    def _problem(self, row: Row, index: int, split: str) -> Problem:
        columns = row.columns
        named = self.problem_column or next((name for name in _PROBLEM_COLUMNS if name in columns), _PROBLEM_COLUMNS[0])
        problem, answer = row.text(named), row.text(self.answer_column)
        solution = row.text(self.solution_column) if columns.get(self.solution_column) else ""
        if self.answer_after is not None:
            solution, mark, answer = answer, *answer.rpartition(self.answer_after)[1:]
            if not mark or not answer.strip():
                raise DataError(
                    f"There is no '{self.answer_after}' in the column '{self.answer_column}' of {row.where}."
                )
            answer = answer.replace(",", "").strip()
        # A reference solution in prose may state more than its last answer; a box of ours is then the last word.
        found = extract_answer(solution)
        if found.text is None or (self.answer_after is None and found.how != "boxed"):
            solution = f"{solution}\n\n\\boxed{{{answer}}}".strip()
        return Problem(
            id=str(columns.get("id") or columns.get("unique_id") or f"{self.name}-{split}-{index}"),
            prompt=self.prompt.replace("{problem}", problem),
            answer=answer,
            system=self.system,
            instruction=problem,
            solution=solution,
            mistake=f"\\boxed{{{_another(answer)}}}",
        )


def _another(answer: str) -> str:
    """An answer of the same form and another value: the last digit is moved on, or there was none to move."""
    digit = _LAST_DIGIT.search(answer)
    if digit is None:
        return "-98765.4321"
    return f"{answer[: digit.start()]}{(int(digit[0]) + 1) % 10}{answer[digit.end() :]}"
