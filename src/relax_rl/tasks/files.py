"""The rows of one file: JSON Lines, a JSON array, CSV, parquet or Arrow, recognised by its name and its first bytes."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

from relax_rl.errors import DataError
from relax_rl.tasks.images.tables import dataset_rows, parquet_rows
from relax_rl.tasks.rows import Row

__all__ = ["DATA_SUFFIXES", "file_rows", "json_lines", "numbered"]

DATA_SUFFIXES = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet", ".arrow")
"""Suffixes of the files that are taken for data in a folder."""
_BATCH = 1000


def file_rows(path: str | Path) -> Iterator[Row]:
    """The rows of a file in any of the formats; one of another name is taken for JSON Lines.

    Raises:
        DataError: the file cannot be read, or a row is not what the format promises; the sentence names file and row.
    """
    path = Path(path)
    suffix, head = path.suffix.lower(), _head(path)
    if head.startswith(b"PAR1") or suffix == ".parquet":
        return _parquet(path)
    if suffix == ".arrow":
        return _arrow(path)
    if suffix in (".csv", ".tsv"):
        return _csv(path)
    # A byte order mark and white space may stand before the array.
    if suffix == ".json" and head.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"["):
        return _json_array(path)
    return json_lines(path)


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
                    yield Row(where, _object(_json(line, where), where))
    except (OSError, UnicodeDecodeError) as error:
        raise _unreadable(path, error) from error


def _json_array(path: Path) -> Iterator[Row]:
    try:
        text = path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise _unreadable(path, error) from error
    for number, element in enumerate(cast("list[Any]", _json(text, f"the file '{path}'")), start=1):
        where = f"element {number} of '{path}'"
        yield Row(where, _object(element, where))


def _csv(path: Path) -> Iterator[Row]:
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            header = file.readline()
            file.seek(0)
            # Files from countries with a decimal comma are separated by semicolons.
            rows = csv.reader(file, delimiter=max(",;\t", key=header.count), strict=True)
            names = next(rows, [])
            if twice := next((name for name in names if names.count(name) > 1), None):
                raise DataError(f"The header of '{path}' has two columns '{twice}'; give one another name.")
            for fields in rows:
                where = f"line {rows.line_num} of '{path}'"
                if not fields:
                    continue
                if len(fields) != len(names):
                    raise DataError(
                        f"{where.capitalize()} has {len(fields)} fields, but the header has {len(names)}; put fields "
                        "with a separator or a line break between quotation marks."
                    )
                yield Row(where, dict(zip(names, fields, strict=True)))
    except csv.Error as error:
        raise DataError(f"The file '{path}' is not CSV: {error}; put such fields between quotation marks.") from error
    except (OSError, UnicodeDecodeError) as error:
        raise _unreadable(path, error) from error


def _parquet(path: Path) -> Iterator[Row]:
    import pyarrow as pa

    try:
        yield from numbered(parquet_rows(path, _BATCH), str(path))
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"The file '{path}' cannot be read as parquet: {_words(error)}.") from error


def _arrow(path: Path) -> Iterator[Row]:
    import pyarrow as pa
    from datasets import Dataset

    try:
        yield from numbered(dataset_rows(Dataset.from_file(str(path)), str(path)), str(path))
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"The file '{path}' cannot be read as Arrow: {_words(error)}.") from error


def numbered(rows: Iterator[Any], name: str) -> Iterator[Row]:
    """Rows with their number, from 0, as places."""
    for index, columns in enumerate(rows):
        yield Row(f"row {index} of '{name}'", cast("dict[str, Any]", columns))


def _head(path: Path) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(64)
    except OSError as error:
        raise _unreadable(path, error) from error


def _json(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where[0].upper()}{where[1:]} is not JSON: {error}.") from error


def _object(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise DataError(
            f"{where.capitalize()} is a JSON {type(value).__name__}; it must be an object with named columns."
        )
    return cast("dict[str, Any]", value)


def _unreadable(path: str | Path, error: OSError | UnicodeDecodeError) -> DataError:
    if isinstance(error, UnicodeDecodeError):
        return DataError(f"The file '{path}' is not UTF-8 text: {error.reason} at byte {error.start}.")
    return DataError(f"The file '{path}' cannot be read: {error.strerror or error}.")


def _words(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
