"""Which tests run which blocks, collected once a test file."""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

from mutants.blocks import HITS_MODULE, MODULE
from mutants.forks import Job, start
from mutants.shadow import PACKAGE, Shadow

__all__ = ["Coverage", "collect", "test_files"]


MOST_TESTS = 2000
"""Tests of one mutant."""


@dataclass(frozen=True)
class Test:
    """A test that passes, and what it costs in processor time."""

    node: str
    seconds: float
    blocks: int
    """How many blocks it runs of the file in question."""


class Coverage:
    """Tests by block, from the records that `collect` yields."""

    def __init__(self, records: Iterable[dict[str, Any]]) -> None:
        self._tests: dict[tuple[str, int], list[Test]] = {}
        for record in records:
            everywhere = {tuple(place) for place in record["by_processes"]}
            for node, found in record["tests"].items():
                own = {tuple(place) for place in found["blocks"]}
                counts = Counter(path for path, _ in own)
                places = own | everywhere
                for path, block in places | {(path, MODULE) for path, _ in places}:
                    test = Test(node, found["seconds"], counts[path])
                    self._tests.setdefault((path, block), []).append(test)

    def tests(self, path: str, block: int, budget: float) -> list[Test]:
        """The tests that run a block, as many as cost `budget` seconds of processor time.

        A third of the time goes to the cheapest, the rest to each test file in turn, since the tests of one file check
        much the same. Within a file those that run most of the broken one for their cost come first: a test that breaks
        something on purpose runs what others do not.
        """
        found = self._tests.get((path, block), [])
        files: dict[str, list[Test]] = {}
        by_yield = sorted(found, key=lambda test: ((test.seconds + 0.3) / (1 + test.blocks), test.node))
        for test in by_yield:
            files.setdefault(test.node.partition("::")[0], []).append(test)
        turns = zip_longest(*sorted(files.values(), key=lambda tests: (tests[0].seconds, tests[0].node)))
        in_turn = [test for turn in turns for test in turn if test is not None]
        cheap = sorted(found, key=lambda test: (test.seconds, test.node))
        chosen: dict[str, Test] = {}
        spent = 0.0
        for order, limit in ((cheap, budget / 3), (in_turn, budget)):
            for test in order:
                # At least one, whatever it costs.
                fits = spent + test.seconds <= limit or not chosen
                if fits and test.node not in chosen and len(chosen) < MOST_TESTS:
                    chosen[test.node] = test
                    spent += test.seconds
        return sorted(chosen.values(), key=lambda test: ((test.seconds + 0.01) / (1 + test.blocks), test.node))


class _Collector:
    """Takes down what each test ran."""

    def __init__(self, hits: Path) -> None:
        self._hits = hits
        self._tests: dict[str, dict[str, Any]] = {}
        self._failed: set[str] = set()

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self._started = _processor_time()
        _seen().clear()

    def pytest_runtest_logreport(self, report: Any) -> None:
        if not report.passed:
            self._failed.add(report.nodeid)

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        blocks = sorted(_seen())
        self._tests[nodeid] = {"seconds": round(_processor_time() - self._started, 3), "blocks": blocks}

    def report(self) -> dict[str, Any]:
        """As `Coverage` reads it."""
        lines = self._hits.read_text().split("\n") if self._hits.exists() else []
        by_processes = sorted({(path, int(block)) for path, block in (line.split() for line in lines if line)})
        tests = {node: found for node, found in self._tests.items() if node not in self._failed}
        return {"tests": tests, "by_processes": by_processes}


def _processor_time() -> float:
    """Of this process and of those of its own that have ended, in seconds."""
    return time.process_time() + sum(os.times()[2:4])


def _seen() -> set[tuple[str, int]]:
    return importlib.import_module(HITS_MODULE).seen


def test_files(root: Path, places: Iterable[str]) -> list[str]:
    """Test files in some folders, relative to the project."""
    found: set[str] = set()
    for place in places:
        path = root / place
        found |= {str(file.relative_to(root)) for file in ([path] if path.is_file() else path.rglob("test_*.py"))}
    return sorted(found)


def collect(
    root: Path, work: Path, files: list[str], jobs: int, *, fresh: bool, of: tuple[str, ...] = ("",)
) -> Iterator[dict[str, Any]]:
    """The records of all test files, collected where one has changed since, or a file of the package that it runs.

    Args:
        of: folders of the package whose changes matter, since nothing else is broken.
    """
    folder = work / "coverage"
    folder.mkdir(parents=True, exist_ok=True)
    sources = _sources(root)
    missing, kept = [], []
    for file in files:
        key = hashlib.sha256(file.encode() + (root / file).read_bytes()).hexdigest()[:16]
        target = folder / f"{key}.json"
        kept.append(target)
        if fresh or not _is_valid(target, sources, of):
            missing.append((file, target))
    if missing:
        _run(root, work, missing, jobs)
    for target in kept:
        if target.is_file():
            yield json.loads(target.read_text())


def _sources(root: Path) -> dict[str, str]:
    package = root / "src" / PACKAGE
    files = sorted(package.rglob("*.py"))
    return {str(file.relative_to(package)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def _is_valid(target: Path, sources: dict[str, str], of: tuple[str, ...]) -> bool:
    if not target.is_file():
        return False
    then = json.loads(target.read_text())["sources"]
    return all(sources.get(path) == digest for path, digest in then.items() if path.startswith(of))


def _run(root: Path, work: Path, missing: list[tuple[str, Path]], jobs: int) -> None:
    shadow = Shadow(work / "instrumented", root / "src", is_instrumented=True)
    sources = _sources(root)
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
            places = [
                *result["by_processes"],
                *(place for found in result["tests"].values() for place in found["blocks"]),
            ]
            result["sources"] = {path: sources[path] for path in sorted({path for path, _ in places})}
            part = target.with_suffix(".part")
            part.write_text(json.dumps(result))
            os.replace(part, target)
            print(f"{file}: {len(result['tests'])} tests", flush=True)
        time.sleep(0.05)
