"""The state of a run directory: its checkpoints, the process that works there, the faults of its training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from relax_rl.errors import RunError
from relax_rl.runs import RunDirectory
from relax_rl.runs.checkpoints import Checkpoint, checkpoints_in
from relax_rl.runs.lock import Owner
from relax_rl.runs.resumption import resumption_of
from relax_rl.workflows.symptoms import Ending, Symptom, symptoms_of

__all__ = ["Diagnosis", "diagnose"]


@dataclass(frozen=True)
class Diagnosis:
    """The findings on a run.

    Attributes:
        path: the run directory.
        owner: the process that works there, in words; empty when none does.
        checkpoints: the last first.
        num_rows: number of rows of ``metrics.jsonl``.
        starts: rows of ``starts.jsonl``: what ran each time that training was started.
        resumes_from: the checkpoint that ``--resume`` takes; None where it refuses.
        said: the sentences that come with a resume, or the one that refuses it.
        symptoms: faults of the training itself, by its log.
        ending: how the training ended before its last update; None where it did not, or was stopped on purpose.
    """

    path: Path
    owner: str
    checkpoints: tuple[Checkpoint, ...]
    num_rows: int
    starts: tuple[Mapping[str, Any], ...]
    resumes_from: Path | None
    said: tuple[str, ...]
    symptoms: tuple[Symptom, ...]
    ending: Ending | None = None

    @property
    def is_healthy(self) -> bool:
        """Whether the run can be resumed and no checkpoint is damaged."""
        return self.resumes_from is not None and all(one.state != "damaged" for one in self.checkpoints)


def diagnose(run: str | Path, *, checkpoints: bool = False) -> Diagnosis:
    """Look at a run without loading a model, and write nothing.

    Args:
        run: the run directory.
        checkpoints: read every byte of every checkpoint; otherwise sizes alone, and the bytes of the one to resume
            from.

    Raises:
        RunError: there is no run.
    """
    directory = RunDirectory.open(run)
    owner = Owner.of(directory.path)
    found = tuple(checkpoints_in(directory.checkpoints, digests=checkpoints))
    try:
        resumption = resumption_of(directory)
        resumes_from, said = resumption.checkpoint.path, resumption.notices
    except RunError as error:
        resumes_from, said = None, (str(error),)
    rows, config = directory.read_metrics(), directory.read_config()
    ending = _ending(directory, owner)
    return Diagnosis(
        path=directory.path,
        owner=str(owner) if owner is not None and owner.is_alive(directory.path) else "",
        checkpoints=found,
        num_rows=len(rows),
        starts=tuple(directory.read_starts()),
        resumes_from=resumes_from,
        said=said,
        symptoms=tuple(symptoms_of(config, rows, ending)),
        ending=ending,
    )


def _ending(run: RunDirectory, owner: Owner | None) -> Ending | None:
    """The exception that ended the training, or the process that left its lock behind."""
    update, end = run.last_step(), run.read_end()
    if end is not None:
        return Ending(update, str(end.get("error", "")), str(end.get("message", "")))
    # A process that ends by itself, with an error too, gives its lock back.
    if owner is None or owner.is_alive(run.path) or run.is_evaluated("after"):
        return None
    return Ending(update, process=str(owner))
