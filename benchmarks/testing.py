"""How long the tests take by the clock, from what the last `make test` and `make test-slow` wrote down.

python benchmarks/suite.py --only testing

Both write a file of JUnit's form to build/tests, which names every test and its seconds. Nothing is run here: the slow
suite alone takes longer than all other benchmarks. Without a file there is no row.
"""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from frame.rows import Effort, Row, row_of_limit

RECORDS = Path(__file__).parents[1] / "build" / "tests"
LIMITS = {"fast": 100.0, "slow": 480.0}
WORKERS = 2
NAMED = 5
"""Files that a missed row names, the longest ones."""


@dataclass(frozen=True)
class Record:
    """One run of a suite.

    Attributes:
        wall: seconds by the clock.
        tests: how many ran.
        files: seconds of the tests of each file, on the worker that ran them.
        longest: seconds of the longest test, below which more workers cannot bring the suite.
    """

    wall: float
    tests: int
    files: dict[str, float]
    longest: float

    @classmethod
    def read(cls, path: Path) -> Record:
        """The record of a JUnit file."""
        suite = ElementTree.parse(path).getroot().find("testsuite")
        assert suite is not None
        files, seconds = defaultdict[str, float](float), list[float]()
        for case in suite.iter("testcase"):
            # "tests.workflows.test_train" or, of a class, "tests.workflows.test_train.TestResume".
            words = case.attrib["classname"].split(".")
            last = max(number for number, word in enumerate(words) if word.startswith("test"))
            seconds.append(float(case.attrib["time"]))
            files["/".join(words[: last + 1])] += seconds[-1]
        return cls(float(suite.attrib["time"]), len(seconds), dict(files), max(seconds, default=0.0))

    @property
    def bound(self) -> str:
        """Where the seconds go."""
        total = sum(self.files.values())
        ranked = sorted(self.files.items(), key=lambda item: -item[1])
        named = ", ".join(f"{name.removeprefix('tests/')} {seconds:.0f} s" for name, seconds in ranked[:NAMED])
        return (
            f"{self.tests} tests take {total:.0f} s of the {WORKERS} workers together, the longest test "
            f"{self.longest:.0f} s; {len(ranked)} files, first of them {named}"
        )


def rows(effort: Effort) -> Iterator[Row]:
    """A row for each suite that left a record; none where it has to be quick."""
    for name, limit in {} if effort.is_quick else LIMITS.items():
        path = RECORDS / f"{name}.xml"
        if not path.is_file():
            continue
        record = Record.read(path)
        floor = sum(record.files.values()) / WORKERS / limit
        title = f"the {name} suite, {WORKERS} workers"
        yield row_of_limit(title, [record.wall], limit, bound=record.bound, floor=floor, clock="wall")
