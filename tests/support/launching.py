"""Processes of their own: the environment of a test's commands, `relax`, and launches of several processes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

__all__ = ["ENVIRONMENT", "ROOT", "launched", "relax"]

ROOT = Path(__file__).parents[2]
ENVIRONMENT = os.environ | {
    "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT / "tests")]),
    "OMP_NUM_THREADS": "1",
    "HF_HUB_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
}


def relax(*words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """A command of this package, in one process."""
    done = subprocess.run(
        [sys.executable, "-m", "relax_rl.cli.main", *words],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0 or not check, done.stderr[-3000:]
    return done


def launched(
    words: Sequence[str],
    processes: int,
    *,
    python: str = sys.executable,
    environment: Mapping[str, str] = ENVIRONMENT,
    check: bool = True,
) -> subprocess.CompletedProcess[str]:
    """A script and its words, or ``-m`` and a module's, in as many processes; torchrun starts more than one."""
    launcher = [] if processes == 1 else ["-m", "torch.distributed.run", f"--nproc_per_node={processes}"]
    if processes > 1 and words[0] == "-m":
        words = ["-m", "--", *words[1:]]
    done = subprocess.run(
        [python, *launcher, *words], env=dict(environment), capture_output=True, text=True, timeout=900
    )
    # Enough for the words of every process: the one that failed first is not the last to speak.
    assert done.returncode == 0 or not check, done.stderr[-20000:]
    return done
