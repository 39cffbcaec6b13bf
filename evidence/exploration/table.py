"""The table of a study: a row for each run, finished or failed."""

from __future__ import annotations

from pathlib import Path

from evidence.exploration.design import RUNS_TABLE
from evidence.tables.tables import Rows, read_table

__all__ = ["FAILED", "finished", "read_runs"]

FAILED = "failed"
"""Column with the error of a run that could not be made; such a row has no figures."""


def read_runs(results: Path, table: str = RUNS_TABLE) -> Rows:
    """All rows, each without the cells that it has not."""
    path = results / table
    rows = read_table(path) if path.is_file() else []
    return [{name: value for name, value in row.items() if value == value and value != ""} for row in rows]


def finished(rows: Rows) -> Rows:
    """The rows that have figures."""
    return [row for row in rows if FAILED not in row]
