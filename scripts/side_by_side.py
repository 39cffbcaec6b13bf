"""Run two revisions of this project on one machine and compare what they compute, to the last bit.

    python scripts/side_by_side.py --reference 1c15099
    python scripts/side_by_side.py --reference main~3 --candidate main --parts losses --methods grpo,relax

- losses: loss, gradients and metrics of every method on fixed batches, over two updates.
- train: a short run of every method on the embedded policy: metrics, completions, evaluations, weights.
- eval, compare, spectrum: one of each.
- resume: runs that the reference saved halfway, resumed by the candidate, beside those that the reference finished.

A revision is unpacked in the work folder. The code of a folder is copied there, so that you can go on editing. Each
runs in processes of its own, with the interpreter that runs this script. Results are kept in the work folder, so that
the reference is computed once; you can delete it at any time. Exits with 1 when something differs that is not listed
in EXPECTED. Names that differ between revisions are listed in side_by_side/dialect.py.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from side_by_side import parts
from side_by_side.commands import compared
from side_by_side.differences import Check
from side_by_side.losses import losses
from side_by_side.revisions import ROOT, Revision, SideBySideError

KL_BOUND = "The k3 estimate of the KL is bounded, as in verl: 10 nats a token."
KEYED_DROPOUT = "The dropout of the log Z head follows from the prompt and the update, whatever the micro-batches."
EXPECTED: dict[tuple[str, str], str] = {
    ("losses", "*, far reference"): KL_BOUND,
    ("train", "grpo, KL far from the reference"): KL_BOUND,
    ("train", "flow_rl"): KEYED_DROPOUT,
    ("resume", "flow_rl"): KEYED_DROPOUT,
    ("train", "dr_grpo"): "The constant of the loss is the run's longest completion, no longer 3000.",
}
"""Differences that are meant, by part and name of the check, and why; * stands for any text. They are printed apart
and do not fail."""

SHOWN = 2
"""Values that are printed at the end of each stated difference."""

PARTS = ("losses", "train", "eval", "compare", "spectrum", "resume")


def checks(arguments: argparse.Namespace, reference: Revision, candidate: Revision) -> Iterator[Check]:
    """All that was asked for, as it is computed."""
    methods, updates = _methods(arguments.methods, reference), arguments.updates
    both = (reference, candidate)
    if "losses" in arguments.parts:
        yield from losses(*both, methods, arguments.fresh)
    pairs = {
        "train": lambda: parts.training(*both, methods, updates),
        "eval": lambda: parts.evaluation(*both),
        "compare": lambda: parts.comparison(*both, updates),
        "spectrum": lambda: parts.spectrum(*both),
        "resume": lambda: parts.resumes(*both, methods, updates),
    }
    for part in arguments.parts:
        if part in pairs:
            yield from compared(pairs[part](), arguments.jobs, arguments.fresh)


def _methods(given: str | None, reference: Revision) -> list[str]:
    known = list(reference.methods)
    chosen = known if given is None else given.split(",")
    unknown = [name for name in chosen if name not in known]
    if unknown:
        raise SideBySideError(f"The reference has no method {unknown[0]!r}; it has {', '.join(known)}.")
    return chosen


def reason(check: Check) -> str | None:
    """Why a check may differ; None where it may not."""
    found = (why for (part, name), why in EXPECTED.items() if part == check.part and fnmatchcase(check.name, name))
    return next(found, None)


def report(found: Sequence[Check]) -> int:
    """Print the differences that are meant, and a summary. The exit code."""
    stated = [check for check in found if not check.is_equal and reason(check)]
    failed = [check for check in found if not check.is_equal and not reason(check)]
    gone = [check for check in found if check.is_equal and reason(check)]
    if stated:
        print("\nstated differences:")
    for check in stated:
        print(f"{check.part} {check.name}: {reason(check)}")
        for text in check.found[:SHOWN]:
            print(f"    {text}")
        if len(check.found) > SHOWN:
            print(f"    and {len(check.found) - SHOWN} more")
    if gone:
        print(
            "\nequal, although EXPECTED lists a difference:", ", ".join(f"{check.part} {check.name}" for check in gone)
        )
    if failed:
        print("\ndifferences:", ", ".join(f"{check.part} {check.name}" for check in failed))
    equal = len(found) - len(stated) - len(failed)
    print(f"\n{len(found)} checks: {equal} equal, {len(stated)} stated differences, {len(failed)} differences")
    return 1 if failed else 0


def main(argv: Sequence[str] | None = None) -> int:
    """Compare, and give the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reference", required=True, metavar="REV|DIR", help="what the candidate must equal")
    parser.add_argument("--candidate", default=str(ROOT), metavar="REV|DIR", help="(the working tree)")
    parser.add_argument("--parts", default=",".join(PARTS), metavar="LIST", help="(%(default)s)")
    parser.add_argument("--methods", metavar="LIST", help="only these, of losses, train and resume (all)")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="runs at once (%(default)s)")
    parser.add_argument("--work", type=Path, default=Path("runs/side_by_side"), metavar="DIR", help="(%(default)s)")
    parser.add_argument("--updates", type=int, default=20, metavar="N", help="of a training run (%(default)s)")
    parser.add_argument("--fresh", action="store_true", help="compute the candidate again, even where results are kept")
    arguments = parser.parse_args(argv)
    arguments.parts = arguments.parts.split(",")
    work = arguments.work.resolve()
    try:
        unknown = [part for part in arguments.parts if part not in PARTS]
        if unknown:
            raise SideBySideError(f"There is no part {unknown[0]!r}; there are {', '.join(PARTS)}.")
        (work / "trees").mkdir(parents=True, exist_ok=True)
        reference = Revision.of(arguments.reference, "reference", work)
        candidate = Revision.of(arguments.candidate, "candidate", work).beside(reference)
        for revision in (reference, candidate):
            revision.check()
        found = []
        for check in checks(arguments, reference, candidate):
            print(check.line() if check.is_equal or not reason(check) else check.line("stated difference"), flush=True)
            found.append(check)
    except SideBySideError as error:
        print(f"side_by_side: {error}", file=sys.stderr)
        return 2
    return report(found)


if __name__ == "__main__":
    sys.exit(main())
