"""Hurt runs in every way that is known, and see that each ends equal to one that was not, or in one sentence.

    python scripts/soak.py                                  all parts, some 20 minutes on two idle cores
    python scripts/soak.py --parts moments --faults 100
    python scripts/soak.py --parts damage,disk --work /tmp/soak

- points: SIGKILL at named points: half a file, between two files, in a rotation, in a row of metrics.
- moments: SIGKILL and signals at random moments, over several passes over the prompts.
- damage: files of a stopped run that are missing, cut, flipped or edited.
- disk: a full disk, a quota, a file system that turns read-only.
- numbers: losses that are NaN, policies that cannot learn.
- eval, compare: kills and signals in the other commands.

A run is resumed as its user would, until it is done, and then compared with the uninterrupted one: tensors by
``torch.equal``, rows but for their times, completions by bytes, evaluations as JSON. What was found is kept in the work
folder as it is found: a soak that is stopped goes on. Exits with 1 when something went wrong.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from soak.commands import evaluation_words, survives_comparison, survives_evaluation
from soak.corruption import DAMAGES, survives_damage
from soak.disks import can_mount, survives_full_disk, survives_quota, survives_read_only
from soak.equality import run_differences
from soak.launch import run, warm_up
from soak.moments import resumed, survives_moments
from soak.numbers import NUMBERS, survives_numbers
from soak.points import POINTS, replace
from soak.records import Outcome, Records
from soak.settings import METHODS, write_configs

PARTS = ("points", "moments", "damage", "disk", "numbers", "eval", "compare")

Scenario = tuple[str, str, Callable[[], Outcome]]
"""Part, name, and what does it."""


class Soak:
    """A work folder with the runs that nothing happened to, and the scenarios that are held against them."""

    def __init__(self, folder: Path, num_faults: int, methods: tuple[str, ...]) -> None:
        self.folder = folder.resolve()
        self.folder.mkdir(parents=True, exist_ok=True)
        self.records = Records(self.folder / "outcomes.jsonl")
        self._configs = write_configs(self.folder)
        self._num_faults = num_faults
        self._methods = methods
        warm_up(self._configs[methods[0]], self.folder)

    def scenarios(self, parts: tuple[str, ...]) -> Iterator[Scenario]:
        """Those of the parts, in order; what they are compared with is made when it is first needed."""
        made: dict[str, Callable[[], Iterator[Scenario]]] = {
            "points": self._points,
            "moments": self._moments,
            "damage": self._damage,
            "disk": self._disk,
            "numbers": self._numbers,
            "eval": self._eval,
            "compare": self._compare,
        }
        for part in parts:
            yield from made[part]()

    def _reference(self, method: str) -> Path:
        return self._made(f"whole-{method}", ["train", str(self._configs[method])])

    def _made(self, name: str, words: list[str]) -> Path:
        place = self.folder / name
        if not (self.folder / f"{name}.done").exists():
            ended = run([*words, "--output", name, "--overwrite"], self.folder, self.folder / f"{name}.log")
            if ended.code != 0:
                raise SystemExit(f"{name} failed with nothing in its way: {ended.output}")
            (self.folder / f"{name}.done").touch()
        return place

    def _points(self) -> Iterator[Scenario]:
        for method in self._methods:
            for point in POINTS:
                if "dictionary" in point and method != "relax":
                    continue
                yield "points", f"{method}, {point}", partial(self._killed_at, method, point)

    def _killed_at(self, method: str, point: str) -> Outcome:
        reference, label = self._reference(method), f"{method}, {point}"
        name = "point-" + "".join(letter if letter.isalnum() else "-" for letter in label)
        start = ["train", str(self._configs[method]), "--output", name]
        shutil.rmtree(self.folder / name, ignore_errors=True)
        killed = run(start, self.folder, self.folder / f"{name}.log", POINTS[point])
        if killed.code != -signal.SIGKILL:
            return Outcome("points", label, "WRONG", f"not killed: exit code {killed.code}: {killed.last_line}")
        ended = resumed(name, start, self.folder)
        if ended.code != 0:
            return Outcome("points", label, "WRONG", f"exit code {ended.code}: {ended.last_line}", {"SIGKILL": 1})
        found = run_differences(reference, self.folder / name)
        return Outcome("points", label, "WRONG" if found else "equal", "; ".join(found), {"SIGKILL": 1})

    def _moments(self) -> Iterator[Scenario]:
        seed = 0
        while sum(sum(o.faults.values()) for o in self.records.outcomes if o.part == "moments") < self._num_faults:
            method, name = self._methods[seed % len(self._methods)], f"moments-{seed}"
            config, reference = self._configs[method], self._reference(method)
            yield "moments", name, partial(survives_moments, name, config, reference, self.folder, seed)
            seed += 1

    def _damage(self) -> Iterator[Scenario]:
        method = self._methods[0]
        reference, stopped = self._reference(method), self.folder / "stopped"
        if not stopped.exists():
            start = ["train", str(self._configs[method]), "--output", stopped.name]
            killed = replace("relax_rl.training.trl.trainer:RelaxTrainer.compute_loss", _die, 11)
            run(start, self.folder, self.folder / "stopped.log", killed)
        for name in DAMAGES:
            yield "damage", name, partial(survives_damage, name, stopped, reference, self.folder)

    def _disk(self) -> Iterator[Scenario]:
        method = self._methods[0]
        config, reference = self._configs[method], self._reference(method)
        for size in (20_000, 200_000, 1_000_000):
            name = f"quota-{size}"
            yield "disk", name, partial(survives_quota, name, config, reference, self.folder, size)
        if not can_mount(self.folder / "mount"):
            print("disk: no file system can be mounted here; full and read-only disks are left out", file=sys.stderr)
            return
        for kib in (4, 40, 400, 2_000, 6_000, 9_000, 12_000, 15_000, 18_000, 21_000):
            name = f"full-{kib}"
            yield "disk", name, partial(survives_full_disk, name, config, reference, self.folder, kib)
        yield "disk", "read-only", partial(survives_read_only, "read-only", config, reference, self.folder)

    def _numbers(self) -> Iterator[Scenario]:
        for name in NUMBERS:
            yield "numbers", name, partial(survives_numbers, name, self._configs[self._methods[0]], self.folder)

    def _eval(self) -> Iterator[Scenario]:
        words = evaluation_words("whole-eval")
        reference = self._made("whole-eval", words[:-2])
        for seed in range(4):
            name = f"eval-{seed}"
            yield "eval", name, partial(survives_evaluation, name, reference, self.folder, seed)

    def _compare(self) -> Iterator[Scenario]:
        config = self.folder / "compared.toml"
        text = self._configs["grpo"].read_text().replace('[objective]\nname = "grpo"\n', "")
        config.write_text(text)
        words = ["compare", str(config), "--methods", "grpo,relax", "--seeds", "1", "--jobs", "2"]
        reference = self._made("whole-compare", words)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL):
            name = f"compare-{number.name}"
            yield "compare", name, partial(survives_comparison, name, config, number, reference, self.folder)


def _die(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def main() -> int:
    """Run what is asked for and not done yet; print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", default=",".join(PARTS), help="with commas between (%(default)s)")
    parser.add_argument("--faults", type=int, default=60, help="at random moments, at least (%(default)s)")
    parser.add_argument("--methods", default=",".join(METHODS), help="(%(default)s)")
    parser.add_argument("--work", type=Path, default=Path("runs/soak"), help="folder (%(default)s)")
    arguments = parser.parse_args()
    parts = tuple(arguments.parts.split(","))
    if unknown := set(parts) - set(PARTS):
        parser.error(f"no part {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    soak = Soak(arguments.work, arguments.faults, tuple(arguments.methods.split(",")))
    for part, name, survive in soak.scenarios(parts):
        if soak.records.has(part, name):
            continue
        try:
            outcome = survive()
        except (TimeoutError, OSError) as error:
            outcome = Outcome(part, name, "WRONG", f"{type(error).__name__}: {error}")
        soak.records.add(outcome)
        print(f"{outcome.verdict:8} {part}: {name} {outcome.words}", file=sys.stderr, flush=True)
    print(soak.records.table())
    return 1 if soak.records.num_wrong else 0


if __name__ == "__main__":
    sys.exit(main())
