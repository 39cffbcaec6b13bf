"""Mathematical problems with known answers: `DataTask` in the paper's words, from columns of the usual names."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from relax_rl.tasks.base import Problem, digest
from relax_rl.tasks.data import DataTask
from relax_rl.tasks.layout import Named
from relax_rl.tasks.rows import Row

__all__ = ["PLAIN_PROMPT", "SYSTEM_PROMPT", "MathTask"]

SYSTEM_PROMPT = "Please reason step by step, and put your final answer within \\boxed{}."
"""The paper's, as system message of a chat model."""

PLAIN_PROMPT = f"{SYSTEM_PROMPT}\n\nProblem: {{problem}}\n\nSolution:"
"""For a model without a chat template; ``{problem}`` is replaced."""


@dataclass(frozen=True)
class MathTask(DataTask):
    """`DataTask` for problems and answers in columns of these names, in the paper's words.

    Args:
        levels: the rows whose column ``level`` is one of these (``3`` or ``Level 3``), and no others.
        problem_column: another name of ``prompt_column``; default: ``problem``, or else ``question``.
        columns: none are given to reward functions, unless they are named.
    """

    PROMPTS: ClassVar[Sequence[str]] = ("problem", "question", "prompt", "messages")
    ANSWERS: ClassVar[Sequence[str]] = ("answer", "reward_model.ground_truth", "ground_truth", "final_answer")
    USUAL: ClassVar[Collection[str]] = ("problem", "question", "answer")
    LEAVES_OUT_EMPTY: ClassVar[bool] = False

    columns: Sequence[str] | None = ()
    system: str | None = SYSTEM_PROMPT
    prompt: str = PLAIN_PROMPT
    name: str = "math"
    is_known: bool = field(default=True, compare=False)
    levels: tuple[int, ...] | None = None
    problem_column: str | None = None

    @property
    def _named(self) -> Named:
        named = super()._named
        return Named(**{**vars(named), "prompt": self.problem_column or named.prompt})

    @property
    def _wanted_words(self) -> str:
        return "" if self.levels is None else f" of the levels {', '.join(map(str, self.levels))}"

    def _is_wanted(self, row: Row) -> bool:
        if not super()._is_wanted(row):
            return False
        if self.levels is None:
            return True
        level = re.fullmatch(r"(?:Level )?(\d)", str(row.columns.get("level", "")))
        return level is not None and int(level[1]) in self.levels

    def _share(self, problem: Problem) -> int:
        return digest("math", "split", " ".join(problem.question.split()))
