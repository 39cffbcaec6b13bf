"""The parts that run the command line: what each runs in either revision."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from side_by_side.commands import Command, Pair
from side_by_side.revisions import Revision
from side_by_side.settings import (
    COMPARE,
    EVAL,
    RESUMED,
    RESUMED_BY_BOTH,
    SPECTRUM,
    compare_words,
    halfway,
    train_runs,
    train_words,
)

__all__ = ["comparison", "evaluation", "resumes", "spectrum", "training"]


def training(reference: Revision, candidate: Revision, methods: Sequence[str], updates: int) -> list[Pair]:
    """One run of every method, and some more."""
    runs = train_runs(methods).items()
    return [Pair(*(_training(side, name, run, updates) for side in (reference, candidate))) for name, run in runs]


def evaluation(reference: Revision, candidate: Revision) -> list[Pair]:
    """One evaluation of the embedded policy."""
    name = " ".join(EVAL[:3])
    return [Pair(*(Command(side, "eval", name, "eval", EVAL, "--output") for side in (reference, candidate)))]


def comparison(reference: Revision, candidate: Revision, updates: int) -> list[Pair]:
    """Two methods with two seeds."""
    words = tuple(compare_words(updates))
    name = f"{COMPARE[2]} x {COMPARE[4]} seeds"
    return [Pair(*(Command(side, "compare", name, "compare", words, "--run") for side in (reference, candidate)))]


def spectrum(reference: Revision, candidate: Revision) -> list[Pair]:
    """The spectra of the embedded policy, after generating and of given texts."""
    runs = {SPECTRUM[0]: SPECTRUM, "text": (*SPECTRUM[:3], "--text", *SPECTRUM[5:])}
    return [
        Pair(*(Command(side, "spectrum", name, "spectrum", words, "--output") for side in (reference, candidate)))
        for name, words in runs.items()
    ]


def resumes(reference: Revision, candidate: Revision, methods: Sequence[str], updates: int) -> list[Pair]:
    """Runs that the reference saved halfway, resumed by the candidate, beside those that the reference finished."""
    pairs = []
    for name, run in train_runs(methods).items():
        if name in RESUMED:
            whole = _training(reference, name, run, updates)
            expected = _resuming(reference, whole) if name in RESUMED_BY_BOTH else whole
            pairs.append(Pair(expected, _resuming(candidate, whole)))
    return pairs


def _resuming(side: Revision, whole: Command) -> Command:
    words = ("--resume",)
    return Command(side, "resume", whole.name, "train", words, "--run", begin=_interrupted, follows=whole)


def _training(side: Revision, name: str, run: tuple[str, dict[str, str]], updates: int) -> Command:
    words = train_words(*run, updates, side.methods)
    kept = halfway(updates) if name in RESUMED and side.role == "reference" else None
    return Command(side, "train", name, "train", tuple(words), "--run", kept=kept)


def _interrupted(whole: Path, place: Path) -> None:
    """A copy of a finished run as it was when its first checkpoint had been saved, or a little later."""
    shutil.copytree(whole, place)
    *_, last = sorted((place / "checkpoints").glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    shutil.rmtree(last)
    (place / "evaluations" / "after.json").unlink()
