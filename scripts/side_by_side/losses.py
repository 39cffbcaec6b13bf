"""The part `losses`: loss, gradients and metrics of every method on fixed batches."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from side_by_side.differences import Check, differences
from side_by_side.revisions import SCRIPTS, Revision, settings_digest
from side_by_side.settings import APART

__all__ = ["losses"]

_SENTENCE = " | sentence"
_PROBE = ("probe.py", "tensors.py", "cases.py", "dialect.py")


def losses(reference: Revision, candidate: Revision, methods: Sequence[str], fresh: bool) -> Iterator[Check]:
    """One check for each method, and one for each sequence apart. `fresh`: compute the candidate's again."""
    before = _measured(reference, methods, fresh=False)
    after = _measured(candidate, methods, fresh)
    for method in methods:
        sides = [_read(folder / f"{method}.npz") for folder in (before, after)]
        for apart in (None, *APART):
            left, right = ({name: v for name, v in side.items() if _sequence_apart(name) == apart} for side in sides)
            found = (*_new_errors(left, right), *differences(_figures(left), _figures(right)))
            yield Check("losses", f"{method}, {apart}" if apart else method, _counts(left), found)


def _sequence_apart(name: str) -> str | None:
    sequence = name.split(" | ")[1]
    return sequence if sequence in APART else None


def _measured(revision: Revision, methods: Sequence[str], fresh: bool) -> Path:
    """The folder with a file for each method. What is kept there already is not computed again."""
    sources = [(SCRIPTS / "side_by_side" / name).read_text() for name in _PROBE]
    folder = revision.results / f"losses-{settings_digest(sources)}"
    folder.mkdir(parents=True, exist_ok=True)
    owed = [name for name in methods if fresh or not (folder / f"{name}.npz").is_file()]
    known = [name for name in owed if name in revision.methods]
    if known:
        print(f"{revision.label}: losses of {len(known)} methods", flush=True)
        revision.probe("losses", folder, known)
    return folder


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    with np.load(path) as file:
        return {name: file[name] for name in file.files}


def _figures(values: Mapping[str, Any]) -> dict[str, Any]:
    """All but the sentences of errors, which may be reworded; the type of an error must stay."""
    return {name: value for name, value in values.items() if not name.endswith(_SENTENCE)}


def _new_errors(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """What the candidate alone refuses; it says more than the figures that are missing."""
    return [
        f"{name.removesuffix(_SENTENCE)}: the candidate says {str(value)!r}"
        for name, value in after.items()
        if name.endswith(_SENTENCE) and name not in before
    ]


def _counts(values: dict[str, Any]) -> str:
    kinds = Counter(name.rpartition(" | ")[2].partition(" ")[0] for name in values)
    words = {
        "loss": ("loss", "losses"),
        "gradient": ("gradient", "gradients"),
        "metric": ("metric", "metrics"),
        "record": ("record of the completions", "records of the completions"),
        "state": ("state", "states"),
        "error": ("refusal", "refusals"),
    }
    return ", ".join(f"{kinds[kind]} {pair[kinds[kind] > 1]}" for kind, pair in words.items() if kinds[kind])
