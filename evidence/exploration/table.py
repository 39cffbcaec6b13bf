"""The table of study I: a row for each finished run."""

from __future__ import annotations

from pathlib import Path

from evidence.tables.tables import Rows, read_table

__all__ = ["RUNS_TABLE", "read_runs"]

RUNS_TABLE = "i_runs.csv"


def read_runs(results: Path) -> Rows:
    """The rows there are, each without the cells that it has not."""
    path = results / RUNS_TABLE
    rows = read_table(path) if path.is_file() else []
    return [{name: value for name, value in row.items() if value == value and value != ""} for row in rows]
