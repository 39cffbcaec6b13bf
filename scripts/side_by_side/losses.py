"""The part `losses`: loss, gradients and metrics of every method on fixed batches."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from side_by_side.differences import Check, differences
from side_by_side.revisions import SCRIPTS, Revision, settings_digest

__all__ = ["losses"]

_PROBE = ("probe.py", "tensors.py", "cases.py", "dialect.py")


def losses(reference: Revision, candidate: Revision, methods: Sequence[str], fresh: bool) -> Iterator[Check]:
    """One check for each method. `fresh`: compute the candidate's again, even where they are kept."""
    before = _measured(reference, methods, fresh=False)
    after = _measured(candidate, methods, fresh)
    for method in methods:
        left, right = _read(before / f"{method}.npz"), _read(after / f"{method}.npz")
        yield Check("losses", method, _counts(left), differences(left, right))


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
        # The sentence of an error may be reworded; its type must stay.
        return {name: file[name] for name in file.files if not name.endswith(" | sentence")}


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
