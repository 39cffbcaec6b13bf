"""The table of a study: a row for each finished run."""

from __future__ import annotations

from pathlib import Path

from evidence.exploration.design import RUNS_TABLE
from evidence.tables.tables import Rows, read_table

__all__ = ["read_runs"]


def read_runs(results: Path, table: str = RUNS_TABLE) -> Rows:
    """The rows there are, each without the cells that it has not."""
    path = results / table
    rows = read_table(path) if path.is_file() else []
    return [{name: value for name, value in row.items() if value == value and value != ""} for row in rows]
