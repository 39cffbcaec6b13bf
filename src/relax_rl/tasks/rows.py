"""Rows of named columns, from a JSON Lines file or a dataset on the Hugging Face Hub, each with its place in words."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from relax_rl.errors import DataError

__all__ = ["Row", "hub_rows", "json_lines"]


@dataclass(frozen=True)
class Row:
    """The columns of one row, and where it is, in words."""

    where: str
    columns: Mapping[str, Any]

    def text(self, column: str) -> str:
        """The column as text that is not blank; a whole number has no decimals, a list of texts is joined by commas.

        Raises:
            DataError: the column is missing or blank, or holds neither text nor a number.
        """
        if column not in self.columns:
            names = ", ".join(map(str, self.columns)) or "none"
            raise DataError(f"There is no column '{column}' in {self.where}; it has {names}.")
        value = self.columns[column]
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


def json_lines(path: str | Path) -> Iterator[Row]:
    """The rows of a UTF-8 file with one JSON object a line; blank lines are skipped.

    Raises:
        DataError: the file cannot be read, is not text, or has a line that is no JSON object.
    """
    try:
        with open(path, encoding="utf-8-sig") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    where = f"line {number} of '{path}'"
                    yield Row(where, _json_object(line, where))
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


def hub_rows(name: str, config: str | None, split: str) -> Iterator[Row]:
    """The rows of one split of a Hub dataset.

    Raises:
        DataError: there is no such dataset or split, or it is neither reachable nor in the local cache.
    """
    # Slow to import, and needed only here.
    from datasets import load_dataset

    try:
        rows = load_dataset(name, config, split=split)
    except (OSError, ValueError) as error:  # unknown name or split, no network, not in the local cache
        offline = " (HF_HUB_OFFLINE is set)" if os.environ.get("HF_HUB_OFFLINE", "0") not in {"", "0"} else ""
        words = (str(error).splitlines() or [type(error).__name__])[0]
        raise DataError(
            f"The split '{split}' of the dataset '{name}' cannot be read from the Hugging Face Hub{offline}: {words}; "
            "give a local JSONL file instead (a benchmark: the folder of its files, --data-dir), or load the dataset "
            "once while online."
        ) from error
    for index, columns in enumerate(rows):
        yield Row(f"row {index} of '{name}'", cast("dict[str, Any]", columns))
