"""How long a command takes until it does what was asked for: processor time of a process, from its start.

python benchmarks/suite.py --only startup

The ratio is to a limit that a person does not notice, or to the one that the issue set; Python itself, which starts
before any of ours, is measured beside it.
"""

from __future__ import annotations

import os
import re
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median

from frame.rows import Effort, Row, row_of_limit

UPDATES = """
import os, sys, time
import relax_rl
def note(progress):
    if progress.stage == "training" and progress.metrics:
        print("processor seconds:", time.process_time(), flush=True)
        if progress.done == 2:
            os._exit(0)
relax_rl.train("countdown", overrides={"output": sys.argv[1], "evaluation.enabled": False, "trainer.max_steps": 2},
               on_progress=note)
"""
TRL = "from trl import GRPOTrainer"
HELP = "import sys; from relax_rl.cli.main import main; sys.argv = ['relax', '--help']; sys.exit(main())"
CASES = (
    ("import relax_rl", ("-c", "import relax_rl"), 0.3),
    ("relax --help", ("-c", HELP), 0.3),
)


def processor_seconds(words: Sequence[str], cwd: str) -> float:
    """Of one Python process and those that it waited for."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *words], check=True, capture_output=True, cwd=cwd, env=dict(os.environ))
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def rows(effort: Effort) -> Iterator[Row]:
    """Imports and help every time; the first update of a training run, which takes longer, once or twice."""
    with tempfile.TemporaryDirectory() as folder:
        bare = median(processor_seconds(("-c", "pass"), folder) for _ in range(effort.rounds))
        for name, words, limit in CASES:
            seconds = [processor_seconds(words, folder) for _ in range(effort.rounds)]
            yield row_of_limit(name, seconds, limit, note=f"of it Python alone {bare:.3f} s")
        yield row_of_first_update(1 if effort.is_quick else 3, folder)


def row_of_first_update(rounds: int, folder: str) -> Row:
    """The first update of a training run; what bounds it is TRL's import and an ordinary update, such as the second."""
    name, limit = "relax train countdown, to the first update", 10.0
    firsts, seconds, imports = list[float](), list[float](), list[float]()
    for number in range(rounds):
        words = [sys.executable, "-c", UPDATES, str(Path(folder) / f"run{number}")]
        done = subprocess.run(words, check=True, capture_output=True, text=True, cwd=folder, env=dict(os.environ))
        first, second = (float(found) for found in re.findall(r"processor seconds: (\S+)", done.stdout))
        firsts.append(first)
        seconds.append(second - first)
        imports.append(processor_seconds(("-c", TRL), folder))
    trl, update = median(imports), median(seconds)
    bound = (
        f"the import of TRL alone takes {trl:.1f} s and an ordinary update {update:.1f} s; the first one also fits the "
        "dictionary"
    )
    return row_of_limit(name, firsts, limit, bound=bound, floor=(trl + update) / limit)
