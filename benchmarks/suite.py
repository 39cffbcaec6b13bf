"""All benchmarks in one table: name, ratio, target, and what it is measured against.

python benchmarks/suite.py                     all of them; a new file in benchmarks/history, and the page is redrawn
python benchmarks/suite.py --quick             the five-minute subset; prints regressions, writes nothing
python benchmarks/suite.py --only dispersion   one or several of them; writes nothing unless you add --save
python benchmarks/suite.py --page              docs/research/benchmarks.md from the history, nothing measured

A ratio is ours over theirs within a round, its median over rounds: smaller is better, and it depends little on how fast
the machine is. Seconds are processor time of one thread unless a row says otherwise. Every benchmark runs in a process
of its own. A benchmark is a function of one of these modules that takes an `Effort` and yields rows; add it to
`BENCHMARKS`.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from frame.history import Result, histories, regressions, save
from frame.rows import FULL, QUICK, Effort, Row
from frame.timing import ApartError, stream_apart

BENCHMARKS = {
    "dispersion": "dispersion:rows",
    "wide": "wide:rows",
    "similarity": "similarity:rows",
    "landscape": "landscape:rows",
    "capture": "capture:rows",
    "rollouts": "rollouts:rows",
    "update": "update:rows",
    "looks": "looks:rows",
    "steps": "steps:rows",
    "verifier": "verifier:rows",
    "startup": "startup:rows",
    "demo": "demo:rows",
    "growth": "growth:rows",
    "terms": "terms:rows",
    "runs": "runs:rows",
    "testing": "testing:rows",
}
"""Every benchmark: a function that takes an `Effort` and yields rows, as ``module:name``."""

QUICK_SECONDS = 300.0
"""All of the subset; what has not begun by then is left out, and said."""


def measured(place: str, effort: Effort) -> Iterator[Row]:
    """The rows of one benchmark, in this process."""
    module, _, name = place.partition(":")
    yield from getattr(importlib.import_module(module), name)(effort)


def collect(names: Sequence[str], effort: Effort) -> tuple[dict[str, list[Row]], dict[str, str]]:
    """Measure one benchmark after the other and print every row as it comes: rows, and what was skipped and why."""
    rows: dict[str, list[Row]] = {}
    skipped: dict[str, str] = {}
    start = time.monotonic()
    for name in names:
        begun = time.monotonic()
        limit = QUICK_SECONDS - (begun - start) if effort.is_quick else 3600.0
        rows[name] = []
        try:
            if limit < 5:
                raise ApartError("no time is left of the five minutes")
            for row in stream_apart(measured, BENCHMARKS[name], effort, limit=limit):
                rows[name].append(row)
                print(line(name, row), flush=True)
        except ApartError as error:
            skipped[name] = str(error).strip().splitlines()[-1]
            print(f"{name}: skipped: {error}", file=sys.stderr, flush=True)
        print(f"{name}: took {time.monotonic() - begun:.0f} s", file=sys.stderr, flush=True)
    return {name: found for name, found in rows.items() if found}, skipped


def line(name: str, row: Row) -> str:
    """One line of the table."""
    target = "" if row.target is None else f"<= {row.target:.3g}"
    mark = row.verdict.replace("missed", "MISSED")
    figures = f"{row.ours:.4g} / {row.theirs:.4g} {row.unit}"
    return f"{name:11} {row.name:52} {row.ratio:7.3f}  {target:8} {mark:15}  {figures:28} {row.against}"


def header() -> str:
    """The first line of the table."""
    return f"{'benchmark':11} {'name':52} {'ratio':>7}  {'target':8} {'':15}  {'ours / theirs':28} against"


def print_missed(rows: Mapping[str, Sequence[Row]]) -> None:
    """What bounds the rows that miss their target."""
    missed = [(name, row) for name, found in rows.items() for row in found if row.is_met is False]
    for name, row in missed:
        print(f"{name}: {row.name} misses {row.target:.3g} ({row.ratio:.3f}): {row.bound or 'not explained yet'}")


def main() -> None:
    """Measure, print, save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=BENCHMARKS, metavar="NAME", help=f"of {', '.join(BENCHMARKS)}")
    parser.add_argument("--quick", action="store_true", help="the five-minute subset")
    parser.add_argument("--rounds", type=int, help="instead of 5, or 3 with --quick")
    parser.add_argument("--save", action="store_true", help="keep the result where it would not be kept")
    parser.add_argument("--page", action="store_true", help="only redraw docs/research/benchmarks.md")
    arguments = parser.parse_args()
    # Before torch is imported, here and in the processes that are started.
    os.environ.update(OMP_NUM_THREADS="1", HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false")
    if not arguments.page:
        chosen = QUICK if arguments.quick else FULL
        effort = Effort(arguments.rounds or chosen.rounds, chosen.is_quick)
        print(header(), flush=True)
        rows, skipped = collect(arguments.only or list(BENCHMARKS), effort)
        print()
        print_missed(rows)
        found = list(regressions(rows, histories()))
        print(f"{len(found)} ratios are more than 15 % above the history", *found, sep="\n  ")
        if not arguments.save and (arguments.quick or arguments.only):
            return
        path = save(Result.now(rows, skipped, is_quick=effort.is_quick))
        print(f"written: {path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path.name}")
    from frame.page import rewrite

    rewrite()


if __name__ == "__main__":
    main()
