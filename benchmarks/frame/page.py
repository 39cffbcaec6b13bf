"""Rewrite the tables and figures of docs/research/benchmarks.md from the history; the prose between them stays.

Tables stand between ``<!-- rows: NAME -->`` and ``<!-- end -->``; machines, versions and the figure of all results
between ``<!-- machines -->`` and ``<!-- end -->``. A benchmark is shown as in the newest result that has it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from frame.charts import draw_growth, draw_history
from frame.history import ROOT, Result, histories
from frame.rows import Row

__all__ = ["PAGE", "filled", "rewrite"]

PAGE = ROOT / "docs" / "research" / "benchmarks.md"
IMAGES = ROOT / "docs" / "images"
_BLOCK = re.compile(r"<!-- (rows: (?P<name>\S+)|(?P<machines>machines)) -->\n.*?<!-- end -->", re.DOTALL)
_UNITS = {"s": "s", "s wall": "s by the clock", "MiB": "MiB", "exponent": ""}


def rewrite(page: Path = PAGE, images: Path = IMAGES) -> None:
    """Tables and figures anew, from all results."""
    results = histories()
    page.write_text(filled(page.read_text("utf-8"), results), encoding="utf-8")
    draw_history(results, images / "benchmarks-history.svg")
    draw_growth(results, images / "benchmarks-growth.svg")


def filled(text: str, results: Sequence[Result]) -> str:
    """The page with every block rewritten. Raises ValueError if a benchmark of the history has no block."""

    def block(found: re.Match[str]) -> str:
        lines = _machines(results) if found["machines"] else _table(found["name"], results)
        return "\n".join([f"<!-- {found[1]} -->", "", *lines, "", "<!-- end -->"])

    placed = {found["name"] for found in _BLOCK.finditer(text)}
    lost = {name for result in results for name in result.rows} - placed
    if lost:
        raise ValueError(f"{PAGE.name} has no block '<!-- rows: NAME -->' for: {', '.join(sorted(lost))}.")
    return _BLOCK.sub(block, text)


def newest(name: str, results: Sequence[Result]) -> Result | None:
    """The newest result that has this benchmark; a whole one counts before a quick one."""
    having = [result for result in results if name in result.rows]
    whole = [result for result in having if not result.is_quick]
    return (whole or having or [None])[-1]


def _table(name: str, results: Sequence[Result]) -> Iterator[str]:
    result = newest(name, results)
    if result is None:
        yield "Not measured yet."
        return
    yield "| | ratio | of a round | target | ours | against |"
    yield "|---|---|---|---|---|---|"
    rows = result.rows[name]
    for row in rows:
        yield "| " + " | ".join(_cells(row)) + " |"
    missed = [row for row in rows if row.is_met is False]
    if missed:
        yield ""
        yield from (_reason(row) for row in missed)
    if name in result.skipped:
        yield ""
        yield f"Not all of it could be measured: {result.skipped[name]}."
    yield ""
    yield f"Measured {result.date[:10]} at revision `{result.revision}`."


def _reason(row: Row) -> str:
    floor = "" if row.floor is None else f" (at least {row.floor:.3g})"
    return f"- **{row.name}** misses its target: {row.bound or 'not explained yet'}{floor}."


def _cells(row: Row) -> Iterator[str]:
    yield row.name + (f" ({row.note})" if row.note else "")
    yield f"**{row.ratio:.3f}**" if row.is_met else f"{row.ratio:.3f}"
    yield "" if row.low is None or row.high is None else f"{row.low:.3f} to {row.high:.3f}"
    yield "" if row.target is None else f"{row.target:.3g}" + ("" if row.is_met else f", {row.verdict}")
    yield "" if row.unit == "exponent" else f"{_figure(row.ours)} {_UNITS[row.unit]}"
    yield row.against if row.unit == "exponent" else f"{row.against}, {_figure(row.theirs)} {_UNITS[row.unit]}"


def _figure(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def _machines(results: Sequence[Result]) -> Iterator[str]:
    if not results:
        yield "Nothing was measured yet."
        return
    yield "| result | revision | processor | cores | load before | versions |"
    yield "|---|---|---|---|---|---|"
    for result in results:
        machine = result.hardware
        libraries = ", ".join(f"{name} {number}" for name, number in result.versions.items())
        kind = ", quick" if result.is_quick else ""
        yield (
            f"| {result.date}{kind} | `{result.revision}` | {machine['processor']} ({machine['instructions']}) "
            f"| {machine['cores']} | {machine['load']} | {libraries} |"
        )
    yield ""
    yield "![Ratios of all results](../images/benchmarks-history.svg)"
