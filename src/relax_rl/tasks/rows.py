"""Rows of named columns, each with its place in words, and what their cells hold: texts, conversations, options."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from relax_rl.errors import DataError

__all__ = ["LETTERS", "Conversation", "Options", "Row"]

_ROLES = {"human": "user", "gpt": "assistant", "model": "assistant", "developer": "system"}
"""Other names of the roles, in ShareGPT's files and in vendors' interfaces."""
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
"""Letters of the options, in their order."""


@dataclass(frozen=True)
class Conversation:
    """A prompt: its system message, the turns before the question, and the question, the user's last turn."""

    question: str
    system: str | None = None
    turns: tuple[tuple[str, str], ...] = ()

    @property
    def plain(self) -> str:
        """The same for a model without a chat template; one turn is the question alone."""
        first = [] if self.system is None else [self.system]
        if not self.turns:
            return "\n\n".join([*first, self.question])
        spoken = [f"{role.capitalize()}: {text}" for role, text in (*self.turns, ("user", self.question))]
        return "\n\n".join([*first, *spoken, "Assistant:"])


@dataclass(frozen=True)
class Options:
    """The texts of a multiple-choice question, and the labels that its row gives them, if it does."""

    texts: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()

    def letter(self, gold: str) -> str | None:
        """A, B, ... of the option that has this label; None where no label is it, or the labels are the letters."""
        letters = tuple(LETTERS[: len(self.labels)])
        return letters[self.labels.index(gold)] if gold in self.labels and self.labels != letters else None

    def below(self, question: str) -> str:
        """The question with its options, unless it shows them already."""
        if all(text in question for text in self.texts):
            return question
        lines = [f"({letter}) {text}" for letter, text in zip(LETTERS, self.texts, strict=False)]
        return "\n".join([question, *lines])


@dataclass(frozen=True)
class Row:
    """The columns of one row, and where it is, in words."""

    where: str
    columns: Mapping[str, Any]

    def cell(self, column: str) -> Any:
        """Value of the column, or of the field of a nested one: ``reward_model.ground_truth``; None: nothing.

        Raises:
            DataError: there is no such column.
        """
        if not self.has(column):
            names = ", ".join(map(str, self.columns)) or "none"
            raise DataError(f"There is no column '{column}' in {self.where}; it has {names}.")
        return self._found(column)[0]

    def has(self, column: str) -> bool:
        """Whether there is such a column or nested field."""
        return bool(self._found(column))

    def _found(self, column: str) -> list[Any]:
        if column in self.columns:
            return [self.columns[column]]
        found: Any = self.columns
        for name in column.split("."):
            if not isinstance(found, Mapping) or name not in found:
                return []
            found = cast("Mapping[str, Any]", found)[name]
        return [found]

    def is_empty(self, column: str) -> bool:
        """Whether the column holds nothing: null, NaN, blank text, or a list of nothing."""
        value = self.cell(column)
        if isinstance(value, list):
            return not value
        return value is None or (isinstance(value, float) and math.isnan(value)) or not str(value).strip()

    def text(self, column: str) -> str:
        """The column as text that is not blank; a whole number has no decimals, a list of texts is joined by commas.

        Raises:
            DataError: the column is missing or blank, or holds neither text nor a number.
        """
        value = self.cell(column)
        if isinstance(value, list) and value and all(isinstance(part, str) for part in value):
            value = ", ".join(value)
        if isinstance(value, bool) or not isinstance(value, (str, int, float)):
            raise DataError(f"The column '{column}' in {self.where} holds {value!r:.60}; it must be text or a number.")
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        text = str(value).strip()
        if not text:
            raise DataError(f"The column '{column}' in {self.where} is empty.")
        return text

    def conversation(self, column: str) -> Conversation:
        """The column as a prompt: text, or messages as TRL, verl and ShareGPT have them (a cell of CSV: as JSON).

        Raises:
            DataError: the column is missing or blank, a message is none, an image is shown, or the last turn is not the
                user's.
        """
        value = _unpacked(self.cell(column))
        if not isinstance(value, list) or not value or not all(isinstance(turn, Mapping) for turn in value):
            return Conversation(self.text(column))
        spoken = [self._turn(turn, column) for turn in cast("list[Mapping[str, Any]]", value)]
        system = spoken.pop(0)[1] if spoken[0][0] == "system" else None
        if not spoken or spoken[-1][0] != "user":
            last = spoken[-1][0] if spoken else "system"
            raise DataError(
                f"The conversation in the column '{column}' of {self.where} ends with the turn of '{last}'; a prompt "
                "ends with the user's."
            )
        return Conversation(spoken[-1][1], system, tuple(spoken[:-1]))

    def _turn(self, turn: Mapping[str, Any], column: str) -> tuple[str, str]:
        role, content = turn.get("role", turn.get("from")), turn.get("content", turn.get("value"))
        role = _ROLES.get(str(role).lower(), str(role).lower())
        if role not in ("system", "user", "assistant"):
            raise DataError(
                f"The column '{column}' in {self.where} has a turn of '{role}'; a prompt has turns of system, user and "
                "assistant."
            )
        if isinstance(content, list):
            parts = cast("list[Any]", content)
            if not all(isinstance(part, Mapping) and isinstance(part.get("text"), str) for part in parts):
                raise DataError(
                    f"The column '{column}' in {self.where} shows more than text; write a task of your own for it."
                )
            content = "".join(part["text"] for part in parts)
        if not isinstance(content, str) or not content.strip():
            raise DataError(f"The column '{column}' in {self.where} has a turn of '{role}' without text.")
        return role, content.strip()

    def options(self, column: str) -> Options:
        """The column as options: a list of texts, a mapping of label to text, or ``text`` with ``label``.

        Raises:
            DataError: the column is missing, or holds something else.
        """
        value = _unpacked(self.cell(column))
        if value is None or value == "" or value == []:
            return Options()
        texts, labels = value, ()
        if isinstance(value, Mapping):
            given = cast("Mapping[str, Any]", value)
            labels, texts = given.get("label", tuple(given)), given.get("text", list(given.values()))
        if not isinstance(texts, Sequence) or isinstance(texts, str) or not 1 < len(texts) <= len(LETTERS):
            raise DataError(
                f"The column '{column}' in {self.where} holds {value!r:.60}; options are a list of 2 to "
                f"{len(LETTERS)} texts."
            )
        return Options(tuple(str(text).strip() for text in texts), tuple(map(str, labels)))


def _unpacked(value: Any) -> Any:
    """Value of a text cell that holds JSON, since CSV has no other place for a list; any other cell as it is."""
    if isinstance(value, str) and value.lstrip().startswith(("[{", '["', '{"')):
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return value
    return value
