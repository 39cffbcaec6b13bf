"""Which tests run which blocks, collected once a test file."""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mutants.blocks import HITS_MODULE, MODULE
from mutants.forks import Job, start
from mutants.shadow import PACKAGE, Shadow

__all__ = ["Coverage", "collect", "test_files"]


MOST_TESTS = 150
"""Tests of one mutant."""


@dataclass(frozen=True)
class Test:
    """A test that passes, and what it costs."""

    node: str
    seconds: float


class Coverage:
    """Tests by block, from the files that `collect` wrote."""

    def __init__(self, records: Iterable[dict[str, Any]]) -> None:
        self._tests: dict[tuple[str, int], list[Test]] = {}
        for record in records:
            everywhere = [tuple(place) for place in record["by_processes"]]
            for node, found in record["tests"].items():
                test = Test(node, found["seconds"])
                places = {tuple(place) for place in found["blocks"]} | set(everywhere)
                files = {(path, MODULE) for path, _ in places}
                for place in places | files:
                    self._tests.setdefault(place, []).append(test)

    def tests(self, path: str, block: int, budget: float) -> list[Test]:
        """The tests that run a block: those of the folder's own files first, then cheap ones, up to some seconds."""
        folder = path.split("/")[0]
        stem = Path(path).stem
        found = sorted(
            self._tests.get((path, block), []),
            key=lambda test: (f"/{folder}/" not in test.node, stem not in test.node, test.seconds, test.node),
        )
        chosen, spent = [], 0.0
        # What a process of its own runs counts for all tests of a file, and its cost is not seen.
        for test in found[:MOST_TESTS]:
            if spent + test.seconds <= budget or not chosen:
                chosen.append(test)
                spent += test.seconds
        return chosen


class _Collector:
    """Takes down what each test ran."""

    def __init__(self, hits: Path) -> None:
        self._hits = hits
        self._tests: dict[str, dict[str, Any]] = {}
        self._failed: set[str] = set()

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self._started = time.process_time()
        _seen().clear()

    def pytest_runtest_logreport(self, report: Any) -> None:
        if not report.passed:
            self._failed.add(report.nodeid)

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        blocks = sorted(_seen())
        self._tests[nodeid] = {"seconds": round(time.process_time() - self._started, 3), "blocks": blocks}

    def report(self) -> dict[str, Any]:
        """As `Coverage` reads it."""
        lines = self._hits.read_text().split("\n") if self._hits.exists() else []
        by_processes = sorted({(path, int(block)) for path, block in (line.split() for line in lines if line)})
        tests = {node: found for node, found in self._tests.items() if node not in self._failed}
        return {"tests": tests, "by_processes": by_processes}


def _seen() -> set[tuple[str, int]]:
    return importlib.import_module(HITS_MODULE).seen


def test_files(root: Path, places: Iterable[str]) -> list[str]:
    """Test files in some folders, relative to the project."""
    found: set[str] = set()
    for place in places:
        path = root / place
        found |= {str(file.relative_to(root)) for file in ([path] if path.is_file() else path.rglob("test_*.py"))}
    return sorted(found)


def collect(root: Path, work: Path, files: list[str], jobs: int, *, fresh: bool) -> Iterator[dict[str, Any]]:
    """The records of all test files, collected where a file, or the package, has changed since."""
    folder = work / "coverage"
    folder.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256()
    for file in sorted((root / "src" / PACKAGE).rglob("*.py")):
        digest.update(file.read_bytes())
    missing, kept = [], []
    for file in files:
        key = hashlib.sha256(file.encode() + (root / file).read_bytes() + digest.digest()).hexdigest()[:16]
        target = folder / f"{key}.json"
        kept.append(target)
        if fresh or not target.is_file():
            missing.append((file, target))
    if missing:
        _run(root, work, missing, jobs)
    for target in kept:
        if target.is_file():
            yield json.loads(target.read_text())


def _run(root: Path, work: Path, missing: list[tuple[str, Path]], jobs: int) -> None:
    shadow = Shadow(work / "instrumented", root / "src", is_instrumented=True)
    waiting = sorted(missing, reverse=True)
    running: list[tuple[Job, str, Path, Path]] = []
    while waiting or running:
        while waiting and len(running) < jobs:
            file, target = waiting.pop()
            hits = target.with_suffix(".hits")
            hits.unlink(missing_ok=True)
            job = start(
                shadow.path,
                [str(root / file)],
                target.with_suffix(".result"),
                cpu_seconds=900,
                wall_seconds=3000,
                plugin=lambda hits=hits: _Collector(hits),
                environment={"MUTANTS_HITS": str(hits)},
            )
            running.append((job, file, target, hits))
        for entry in list(running):
            job, file, target, hits = entry
            result = job.poll()
            if result is None:
                continue
            running.remove(entry)
            hits.unlink(missing_ok=True)
            if "tests" not in result:
                print(f"{file}: no coverage ({result})", flush=True)
                continue
            part = target.with_suffix(".part")
            part.write_text(json.dumps(result))
            os.replace(part, target)
            print(f"{file}: {len(result['tests'])} tests", flush=True)
        time.sleep(0.05)
