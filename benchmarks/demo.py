"""How long `make demo` takes by the clock, reckoned from a shorter one.

python benchmarks/suite.py --only demo

A demo of a few updates runs as a person would start it: both runs at once, a core each, with both evaluations and the
page. The updates that it is short of are reckoned from the median update of its slower run.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median

from frame.rows import Effort, Row, row_of_limit
from relax_rl.runs import RunDirectory

DEMO = "import sys; from relax_rl.cli.main import main; sys.argv[0] = 'relax'; sys.exit(main())"
UPDATES, SHORT = 50, 6
LIMIT = 240.0


def rows(effort: Effort) -> Iterator[Row]:
    """One row; nothing where it has to be quick."""
    if effort.is_quick:
        return
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "demo"
        words = [sys.executable, "-c", DEMO, "demo", "--steps", str(SHORT), "--output", str(output)]
        # The runs choose their own number of threads.
        environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
        start = time.perf_counter()
        subprocess.run(words, check=True, capture_output=True, cwd=folder, env=environment)
        seconds = time.perf_counter() - start
        updates = {path.parent.name: _update(path) for path in sorted(output.glob("*/seed*"))}
    slower = max(updates, key=lambda name: updates[name])
    each = updates[slower]
    whole = seconds + each * (UPDATES - SHORT)
    bound = (
        f"{UPDATES} updates of {slower}, {each:.2f} s each on a core of its own, take {UPDATES * each:.0f} s; "
        f"start-up, both evaluations and the page take the other {whole - UPDATES * each:.0f} s"
    )
    name = f"relax demo, {UPDATES} updates ({UPDATES - SHORT} of them reckoned)"
    yield row_of_limit(name, [whole], LIMIT, bound=bound, floor=UPDATES * each / LIMIT, clock="wall")


def _update(run: Path) -> float:
    """Median seconds of an update by the clock; the first one fits the dictionary."""
    return median(row["step_time"] for row in RunDirectory.open(str(run)).read_metrics()[1:])
