"""Tables of results as CSV, written whole or not at all."""

from __future__ import annotations

import csv
import os
from math import isnan
from pathlib import Path
from typing import Any

__all__ = ["Rows", "baseline_of", "methods_of", "read_table", "write_table"]

Rows = list[dict[str, Any]]


def write_table(path: Path, rows: Rows) -> None:
    """One line a row, numbers with six significant digits; the columns are those of the rows, in order of first use."""
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = list(dict.fromkeys(key for row in rows for key in row))
    temporary = path.with_name(f".{path.name}.partial")
    with temporary.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows({key: _cell(value) for key, value in row.items()} for row in rows)
    os.replace(temporary, path)
    print(f"{path}: {len(rows)} rows")


def read_table(path: Path) -> Rows:
    """Rows of a CSV, numbers as floats and empty cells as NaN where the rest of the column is numbers.

    The name of a method stays a text, whatever it looks like.
    """
    with path.open(newline="") as file:
        cells = list(csv.DictReader(file))
    columns = {name: [row[name] for row in cells] for name in (cells[0] if cells else ())}
    read = {name: texts if name == "method" else _column(texts) for name, texts in columns.items()}
    return [{name: values[place] for name, values in read.items()} for place in range(len(cells))]


def methods_of(rows: Rows) -> list[str]:
    """In order of appearance."""
    return list(dict.fromkeys(row["method"] for row in rows))


def baseline_of(rows: Rows) -> str:
    """The method of a comparison that the others are held against, which has no difference to itself."""
    return next(row["method"] for row in rows if row["metric"] == "mean@1" and isnan(row["difference"]))


def _cell(value: Any) -> Any:
    return f"{value:.6g}" if isinstance(value, float) else value


def _column(texts: list[str]) -> list[Any]:
    try:
        return [float(text) if text else float("nan") for text in texts]
    except ValueError:
        return list(texts)
