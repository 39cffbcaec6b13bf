"""Each mutant in a fork of its own, several at once, and its outcome on the disk as soon as it is known."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mutants.coverage import Coverage
from mutants.forks import Job, start
from mutants.operators import Mutant
from mutants.shadow import Shadow

__all__ = ["Limits", "run"]


@dataclass(frozen=True)
class Limits:
    """How much a mutant may cost."""

    tests_seconds: float = 20.0
    """Of tests, as they cost on the code as it is."""

    def wall_seconds(self, expected: float) -> float:
        """A mutant that takes so long waits for what never comes, also on a busy machine."""
        return 60.0 + 15.0 * expected

    def cpu_seconds(self, expected: float) -> float:
        """A mutant that takes so long is in a loop."""
        return 30.0 + 5.0 * expected


class _FirstFailure:
    """Keeps the name of the test that noticed."""

    def __init__(self) -> None:
        self._failed: str | None = None
        self._passed = 0

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.failed and self._failed is None:
            self._failed = report.nodeid
        self._passed += report.when == "call" and report.passed

    def report(self) -> dict[str, Any]:
        """What the runner reads."""
        return {"failed": self._failed, "passed": self._passed}


def run(
    root: Path,
    work: Path,
    mutants: Sequence[Mutant],
    coverage: Coverage,
    jobs: int,
    write: Callable[[dict[str, Any]], None],
    limits: Limits,
) -> None:
    """Run the mutants, and `write` a row for each as it is done."""
    shadows = [Shadow(work / f"shadow_{number}", root / "src") for number in range(jobs)]
    waiting = list(reversed(mutants))
    running: dict[int, tuple[Job, Mutant, Any, float]] = {}
    while waiting or running:
        for number, shadow in enumerate(shadows):
            if number in running or not waiting:
                continue
            mutant = waiting.pop()
            tests = coverage.tests(mutant.path, mutant.block, limits.tests_seconds)
            if not tests:
                write(_row(mutant, "survived", "no test runs it", 0.0))
                continue
            text = mutant.applied((root / "src" / "relax_rl" / mutant.path).read_bytes())
            before = shadow.write(mutant.path, text)
            expected = sum(test.seconds for test in tests)
            job = start(
                shadow.path,
                ["-x", *(test.node for test in tests)],
                work / f"result_{number}.json",
                cpu_seconds=limits.cpu_seconds(expected),
                wall_seconds=limits.wall_seconds(expected),
                plugin=_FirstFailure,
            )
            running[number] = (job, mutant, before, time.monotonic())
        for number, (job, mutant, before, started) in list(running.items()):
            result = job.poll()
            if result is None:
                continue
            del running[number]
            shadows[number].restore(mutant.path, before)
            write(_row(mutant, *_outcome(result), time.monotonic() - started))
        time.sleep(0.02)


def _outcome(result: dict[str, Any]) -> tuple[str, str]:
    if "died" in result:
        return ("timed out", "") if result["died"] == "time" else ("killed", result["died"])
    if result["exit"] == 0:
        return "survived", f"{result['passed']} tests passed"
    if result["exit"] == 5:
        return "survived", "no test was collected"
    return "killed", result["failed"] or "on import"


def _row(mutant: Mutant, outcome: str, by: str, seconds: float) -> dict[str, Any]:
    row = {"key": mutant.key, "outcome": outcome, "by": by, "seconds": round(seconds, 1)} | asdict(mutant)
    return json.loads(json.dumps(row))
