"""Data of the size of ViRL39K: memory grows with the words of the problems, and files are opened one by one."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from support.launching import ENVIRONMENT
from support.streaming import BYTES, PIXELS, write_mathvista, write_virl39k

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the peak of memory is read from /proc")

A_PROBLEM = 24_000
"""Bytes that a problem may take: its words and its row, some 12,000. Its image takes more, encoded or decoded."""


def measured(folder: Path, task: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "support.streaming", str(folder), task],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("task", "write", "few", "many"),
    [("virl39k", write_virl39k, 1_500, 38_870), ("mathvista", write_mathvista, 1_000, 3_000)],
)
def test_memory_does_not_grow_with_images(
    task: str, write: Callable[[Path, int], None], few: int, many: int, tmp_path: Path
) -> None:
    found = []
    for count in (few, many):
        write(tmp_path / str(count), count)
        found.append(measured(tmp_path / str(count), task))
    # The process may hold 128 files open.
    assert [(one["problems"], one["decoded"]) for one in found] == [(few, few), (many, many)]
    # An image would take more, encoded or decoded.
    assert min(BYTES, PIXELS) > A_PROBLEM
    small, large = ((one["peak"] - one["before"]) * 2**20 for one in found)
    assert large - small < A_PROBLEM * (many - few)
