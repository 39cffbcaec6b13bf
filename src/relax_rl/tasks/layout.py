"""The columns of a data set: as the user names them, or by the names that published data sets have."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from relax_rl.errors import DataError
from relax_rl.tasks.rows import Row

__all__ = ["ANSWERS", "PROMPTS", "Layout", "Named", "layout_of"]

PROMPTS = ("prompt", "problem", "question", "messages", "conversations", "instruction", "query", "input")
"""Columns that a prompt is looked for in, in this order: TRL's and verl's ``prompt`` first."""
ANSWERS = (
    *("answer", "reward_model.ground_truth", "ground_truth", "final_answer", "expected_answer", "gold", "target"),
    *("answerKey", "label", "solution"),
)
"""Columns that a gold answer is looked for in. ``solution`` is last: beside an answer it is the way to it."""
_OPTIONS = ("options", "choices")
_IDS = ("id", "unique_id", "problem_id")
_SOLUTIONS = ("solution",)
_MARK = "####"
"""GSM8K's, before the gold answer at the end of a solution."""


@dataclass(frozen=True)
class Layout:
    """The columns of a data set by what they hold; None: there is no such column.

    Attributes:
        answer_after: the gold answer is what follows this mark in its column.
        guessed: columns that the user did not name: "the prompt" -> its column.
    """

    prompt: str
    answer: str | None
    solution: str | None
    options: str | None
    id: str | None
    answer_after: str | None
    guessed: tuple[tuple[str, str], ...] = ()

    @property
    def words(self) -> str:
        """The guesses in a line; "" for none."""
        found = [f"{what} from '{column}'" for what, column in self.guessed]
        return ", ".join(found)


@dataclass(frozen=True)
class Named:
    """The columns that the user names; None: guessed, ``""``: there is none."""

    prompt: str | None = None
    answer: str | None = None
    solution: str | None = None
    options: str | None = None
    identity: str | None = None
    answer_after: str | None = None


def layout_of(
    rows: Sequence[Row], named: Named, prompts: Sequence[str] = PROMPTS, answers: Sequence[str] = ANSWERS
) -> Layout:
    """The layout of some rows.

    Args:
        rows: at least one.
        named: columns that are not guessed; the mark is guessed where every gold answer has GSM8K's.
        prompts, answers: names to guess from.

    Raises:
        DataError: no column for the prompt or for the gold answer, or a named one that is not there.
    """
    prompt = _found(rows, named.prompt, prompts) or _required(rows, "the prompt", prompts[0])
    answer = None
    if named.answer != "":
        answer = _found(rows, named.answer, answers) or _required(rows, "the gold answer", answers[0])
    options = _found(rows, named.options, _OPTIONS)
    guessed = [("the prompt", prompt, named.prompt), ("the gold answer", answer, named.answer)]
    guessed += [("the options", options, named.options)]
    mark = named.answer_after
    if mark is None and answer is not None and _all_marked(rows, answer):
        mark = _MARK
        guessed.append((f"what follows '{_MARK}'", answer, None))
    return Layout(
        prompt,
        answer,
        _found(rows, named.solution, _SOLUTIONS),
        options,
        _found(rows, named.identity, _IDS),
        mark,
        tuple((what, column) for what, column, name in guessed if name is None and column is not None),
    )


def _found(rows: Sequence[Row], named: str | None, among: Sequence[str]) -> str | None:
    """The named column, or the first there is with something in it; None: no such column."""
    if named is not None:
        return named or None
    present = [name for name in among if any(row.has(name) for row in rows)]
    filled = (name for name in present if any(row.has(name) and not row.is_empty(name) for row in rows))
    return next(filled, present[0] if present else None)


def _required(rows: Sequence[Row], what: str, usual: str) -> str:
    names = ", ".join(map(str, rows[0].columns)) or "none"
    option = "prompt_column" if what == "the prompt" else "answer_column"
    raise DataError(
        f"There is no column '{usual}' in {rows[0].where}; it has {names}. Name the column of {what} (--task.{option})."
    )


def _all_marked(rows: Sequence[Row], column: str) -> bool:
    texts = [row.cell(column) for row in rows[:100] if row.has(column)]
    return bool(texts) and all(isinstance(text, str) and _MARK in text for text in texts)
