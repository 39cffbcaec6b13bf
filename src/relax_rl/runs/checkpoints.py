"""The checkpoints of a run: which are whole, which one to resume from, which ones to delete."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from relax_rl.errors import RunError
from relax_rl.runs.manifest import Manifest, is_unfinished

__all__ = ["Checkpoint", "Choice", "checkpoints_in", "choose", "remove_leftovers", "rotate", "step_of"]

State = Literal["whole", "damaged", "unfinished", "unverified"]
"""``unverified``: complete as far as can be said of one without a manifest, from a version that wrote none."""

_PREFIX = "checkpoint-"
_DELETED = ".deleted-"
_WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "adapter_model.safetensors", "pytorch_model.bin")
_OPTIMIZER = ("optimizer.pt", "optimizer.bin")


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint as it was found.

    Attributes:
        path: its folder.
        step: updates done, by the folder's name.
        state: see `State`.
        faults: faults of a damaged one, in words.
        manifest: None for one without, or with one that cannot be read.
    """

    path: Path
    step: int
    state: State
    faults: tuple[str, ...] = ()
    manifest: Manifest | None = None

    @classmethod
    def inspect(cls, path: Path, *, digests: bool = False) -> Checkpoint:
        """Look at a checkpoint without loading it.

        Args:
            path: named ``checkpoint-<step>``.
            digests: read every byte; otherwise sizes alone are compared with the manifest.
        """
        step = step_of(path)
        try:
            manifest = Manifest.read(path)
        except ValueError as error:
            return cls(path, step, "damaged", (str(error),))
        if manifest is not None:
            faults = tuple(manifest.faults(path, digests=digests))
            return cls(path, step, "damaged" if faults else "whole", faults, manifest)
        is_complete = not is_unfinished(path) and _has_trainer_state(path)
        return cls(path, step, "unverified" if is_complete else "unfinished")

    @property
    def has_optimizer(self) -> bool:
        """Whether training can go on from it: ``save_only_model`` leaves this out."""
        if self.manifest is not None and self.manifest.training:
            return bool(self.manifest.training.get("has_optimizer"))
        return any((self.path / name).exists() for name in _OPTIMIZER)

    def missing(self, also: Sequence[str]) -> list[str]:
        """Files that a resume needs and that are not there; the trainer's own only where no manifest lists them."""
        absent = [name for name in also if not (self.path / name).is_file()]
        if self.state == "unverified":
            groups = (_WEIGHTS, _OPTIMIZER, ("scheduler.pt",), ("rng_state.pth", "rng_state_0.pth"))
            absent += [names[0] for names in groups if not any((self.path / name).exists() for name in names)]
        return absent


@dataclass(frozen=True)
class Choice:
    """The checkpoint to resume from, and why none of the later ones, each in a few words."""

    checkpoint: Checkpoint
    passed_over: tuple[str, ...]

    def notices(self) -> list[str]:
        """The state in sentences."""
        name, said = self.checkpoint.path.name, []
        if self.passed_over:
            said.append(f"the run is resumed from {name}, because {'; '.join(self.passed_over)}")
        if self.checkpoint.state == "unverified":
            said.append(f"{name} was written by a version of relax-rl that wrote no manifest, so it cannot be verified")
        return said


def step_of(path: Path) -> int:
    """Updates done in a checkpoint, by the name of its folder."""
    return int(_number(path))


def checkpoints_in(folder: Path, *, digests: bool = False) -> Iterator[Checkpoint]:
    """Every checkpoint in a folder, by number, the last first. Each is looked at as it is asked for."""
    found = [path for path in folder.glob(f"{_PREFIX}*") if path.is_dir() and _number(path).isdecimal()]
    for path in sorted(found, key=step_of, reverse=True):
        yield Checkpoint.inspect(path, digests=digests)


def choose(
    folder: Path,
    where: str,
    *,
    also: Sequence[str] = (),
    objection: Callable[[Checkpoint], str | None] = lambda _: None,
) -> Choice:
    """The newest checkpoint of which every byte is as it was written.

    One without a manifest is taken only where no whole one has any.

    Args:
        folder: folder of the checkpoints.
        where: the run, for people.
        also: further files without which a checkpoint cannot be resumed from.
        objection: says of a whole checkpoint why the run cannot be resumed from it, if it cannot.

    Raises:
        RunError: there is none.
    """
    passed_over: list[str] = []
    unverified: list[Checkpoint] = []
    for checkpoint in checkpoints_in(folder, digests=True):
        why = _why_not(checkpoint, also) or objection(checkpoint)
        if why is None and checkpoint.state == "whole":
            return Choice(checkpoint, tuple(passed_over))
        if why is None:
            unverified.append(checkpoint)
        else:
            passed_over.append(f"{checkpoint.path.name} {why}")
    if unverified:
        return Choice(unverified[0], tuple(passed_over))
    reasons = f" ({'; '.join(passed_over)})" if passed_over else ""
    raise RunError(
        f"the run {where} has no complete checkpoint to resume from{reasons}; start it again with --overwrite"
    )


def _why_not(checkpoint: Checkpoint, also: Sequence[str]) -> str | None:
    if checkpoint.state == "unfinished":
        return "was never finished"
    if checkpoint.state == "damaged":
        return f"is damaged: {', '.join(checkpoint.faults)}"
    if not checkpoint.has_optimizer:
        return "holds the model alone (trainer.save_only_model), without the state that training goes on from"
    absent = checkpoint.missing(also)
    return f"lacks {', '.join(absent)}" if absent else None


def rotate(folder: Path, step: int, limit: int | None, protected: Path | None = None) -> None:
    """Delete what is older than the newest checkpoints, by number.

    Checkpoints above `step` are left alone: a run that was resumed before them writes them again. What was never
    finished does not count, and goes.

    Args:
        folder: folder of the checkpoints.
        step: step of the one that was just written.
        limit: how many to keep; None or 0 for all.
        protected: kept in any case, in place of the oldest of those kept.
    """
    if not limit:
        return
    past = [checkpoint for checkpoint in checkpoints_in(folder) if checkpoint.step <= step]
    good = [checkpoint.path for checkpoint in past if checkpoint.state in ("whole", "unverified")]
    kept = set(good[:limit])
    if protected is not None and protected in good and protected not in kept:
        kept = {*good[: max(1, limit - 1)], protected}
    for checkpoint in past[::-1]:
        if checkpoint.path not in kept:
            _delete(checkpoint.path)


def remove_leftovers(folder: Path) -> list[Path]:
    """Remove checkpoints that were never finished, and those that were being deleted. Nobody may be writing there."""
    unfinished = [one.path for one in checkpoints_in(folder) if one.state == "unfinished"]
    for path in unfinished:
        _delete(path)
    deleted = [path for path in folder.glob(f"{_DELETED}*") if path.is_dir()]
    for path in deleted:
        shutil.rmtree(path, ignore_errors=True)
    return [*unfinished, *deleted]


def _delete(path: Path) -> None:
    """Out of the way by one step first: a checkpoint that is half deleted must not be taken for one."""
    aside = path.with_name(f"{_DELETED}{path.name}")
    if aside.exists():
        shutil.rmtree(aside, ignore_errors=True)
    path.rename(aside)
    shutil.rmtree(aside, ignore_errors=True)


def _number(path: Path) -> str:
    return path.name.removeprefix(_PREFIX)


def _has_trainer_state(path: Path) -> bool:
    try:
        state = json.loads((path / "trainer_state.json").read_text("utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(state, dict) and "global_step" in state
