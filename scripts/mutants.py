"""Break the code one place at a time, and ask whether a test notices.

    python scripts/mutants.py                                        # a few hundred mutants of all folders
    python scripts/mutants.py --folders koopman=80 rewards/workers=20 --jobs 2
    python scripts/mutants.py --again                                # those that survived, once more
    python scripts/mutants.py --show

A mutant is one change of one place: a comparison at its boundary, + for -, and for or, 0 for 1, a keyword, a clamp or a
statement left out. Each runs in a fork that has torch imported already, on a copy of the package, against the tests
that run the block it is in. Outcomes are appended to results.jsonl in the work folder, so that an interrupted run goes
on. The sample depends on the seed and on the files alone.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
import tempfile
from collections import Counter
from itertools import islice, zip_longest
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

from mutants.coverage import Coverage, collect, test_files
from mutants.forks import preload
from mutants.operators import Mutant, mutants_of
from mutants.runner import Limits, run

ROOT = Path(__file__).resolve().parent.parent
FOLDERS: dict[str, tuple[str, ...]] = {
    "koopman": ("tests/koopman", "tests/estimators"),
    "objectives": ("tests/objectives", "tests/evidence/test_latent_signals.py"),
    "statistics": ("tests/statistics",),
    "rewards": ("tests/rewards", "tests/workflows/test_own_code.py"),
    "evaluation": (
        "tests/evaluation",
        "tests/workflows/test_evaluate.py",
        "tests/workflows/test_batches.py",
        "tests/workflows/test_model_contract.py",
        "tests/cli/test_eval_and_tasks.py",
    ),
    "training": (
        "tests/training",
        "tests/workflows/test_train.py",
        "tests/workflows/test_refusals.py",
        "tests/workflows/test_resume.py",
        "tests/workflows/test_model_contract.py",
        "tests/latent/test_model_contract.py",
        "tests/cli/test_train.py",
    ),
}
"""Folders of the package, and the tests that are to notice."""
COUNTS = {"koopman": 80, "objectives": 80, "statistics": 20, "rewards": 60, "evaluation": 50, "training": 50}


def main() -> int:
    """Run what was asked for, and print what survived; 1 if more than 5 % did."""
    arguments = _arguments()
    work: Path = arguments.work
    work.mkdir(parents=True, exist_ok=True)
    counts = dict(_count(text) for text in arguments.folders) if arguments.folders else COUNTS
    without = tuple(arguments.without)
    samples = {folder: chosen(folder, count, arguments.seed, without) for folder, count in counts.items()}
    sample = [mutant for found in samples.values() for mutant in found]
    results = work / "results.jsonl"
    done = read(results)
    if not arguments.show:
        missing = [mutant for mutant in sample if _is_due(done.get(mutant.key), arguments.again)]
        if missing:
            os.chdir(ROOT)
            preload()
            files = test_files(ROOT, dict.fromkeys(place for folder in counts for place in FOLDERS[_top(folder)]))
            collected = collect(ROOT, work, files, arguments.jobs, fresh=arguments.fresh, of=tuple(counts))
            coverage = Coverage(collected)

            def write(row: dict[str, Any]) -> None:
                with results.open("a") as file:
                    file.write(json.dumps(row) + "\n")
                print(f"{row['outcome']:9s} {row['seconds']:6.1f} s  {line_of(row)}  [{row['by']}]", flush=True)

            run(ROOT, work, missing, coverage, arguments.jobs, write, Limits(arguments.tests_seconds))
            done = read(results)
    return summary(samples, done)


def chosen(folder: str, count: int, seed: int, without: tuple[str, ...] = ()) -> list[Mutant]:
    """A sample of a folder's mutants, as many of each kind as there are, in the order of their places."""
    package = ROOT / "src" / "relax_rl"
    files = {str(file.relative_to(package)): file for file in sorted((package / folder).rglob("*.py"))}
    sources = {path: file.read_bytes() for path, file in files.items() if not path.startswith(without)}
    kinds: dict[str, list[Mutant]] = {}
    for path, source in sources.items():
        for mutant in mutants_of(path, source):
            kinds.setdefault(mutant.kind, []).append(mutant)
    for found in kinds.values():
        # By a digest of each, not by a shuffle of all: an edit of one file leaves the rest of the sample as it is.
        found.sort(key=lambda mutant: hashlib.sha256(f"{seed} {mutant.key}".encode()).digest())
    # One of each kind in turn, or two thirds would be constants and signs.
    turns = (mutant for turn in zip_longest(*(kinds[kind] for kind in sorted(kinds))) for mutant in turn)
    sound = (mutant for mutant in turns if mutant is not None and mutant.is_change(sources[mutant.path]))
    return sorted(islice(sound, count), key=lambda mutant: (mutant.path, mutant.start, mutant.end, mutant.after))


def read(path: Path) -> dict[str, dict[str, Any]]:
    """Outcomes by mutant, the last one of each; a last line that is cut is none."""
    rows: dict[str, dict[str, Any]] = {}
    for line in path.read_text().splitlines() if path.is_file() else []:
        try:
            row = json.loads(line)
        except ValueError:
            continue
        rows[row["key"]] = row
    return rows


def summary(samples: dict[str, list[Mutant]], done: dict[str, dict[str, Any]]) -> int:
    """Print counts by folder and the survivors; 1 if more than 5 % of those that ran survived."""
    outcomes = {
        folder: Counter(done.get(mutant.key, {}).get("outcome", "missing") for mutant in sample)
        for folder, sample in samples.items()
    }
    print("\n| Folder | Mutants | Killed | Timed out | Survived | Missing |\n|---|---|---|---|---|---|")
    for folder, found in [*outcomes.items(), ("all", sum(outcomes.values(), Counter[str]()))]:
        numbers = (found.total(), found["killed"], found["timed out"], found["survived"], found["missing"])
        print(f"| {folder} | {' | '.join(str(number) for number in numbers)} |")
    ran = [done[mutant.key] for sample in samples.values() for mutant in sample if mutant.key in done]
    survivors = [row for row in ran if row["outcome"] == "survived"]
    print(*(f"{line_of(row)}  [{row['by']}]" for row in survivors), sep="\n")
    return int(len(survivors) > 0.05 * len(ran))


def line_of(row: dict[str, Any]) -> str:
    """A mutant in a line."""
    before, after = (" ".join(row[name].split())[:70] for name in ("before", "after"))
    return f"{row['path']}:{row['line']} {row['kind']}: {before} -> {after}"


def _is_due(row: dict[str, Any] | None, again: bool) -> bool:
    return row is None or (again and row["outcome"] == "survived")


def _count(text: str) -> tuple[str, int]:
    folder, _, count = text.partition("=")
    if _top(folder) not in FOLDERS:
        raise SystemExit(f"There is no folder {folder!r}; choose among {', '.join(FOLDERS)}.")
    return folder, int(count) if count else COUNTS[_top(folder)]


def _top(folder: str) -> str:
    return folder.partition("/")[0]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folders", nargs="+", metavar="NAME[=COUNT]", help=f"default: all of {', '.join(FOLDERS)}")
    parser.add_argument("--without", nargs="+", default=[], metavar="PATH", help="below the package, of no mutant")
    parser.add_argument("--seed", type=int, default=0, help="of the sample")
    parser.add_argument("--jobs", type=int, default=2, help="mutants at once")
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "relax-mutants", help="work folder")
    parser.add_argument("--tests-seconds", type=float, default=20.0, help="of tests for a mutant")
    parser.add_argument("--again", action="store_true", help="run those that survived once more")
    parser.add_argument("--fresh", action="store_true", help="ask again which tests run what")
    parser.add_argument("--show", action="store_true", help="print what is known, and run nothing")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
