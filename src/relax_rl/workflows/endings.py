"""How a training ends before its time: by a request, by a disk, by any other exception; and what is said of it then."""

from __future__ import annotations

import contextlib
from collections.abc import Generator

from relax_rl.errors import RunError, note_what_is_kept
from relax_rl.ranks import is_first_process
from relax_rl.runs import RunDirectory
from relax_rl.runs.checkpoints import step_of
from relax_rl.stopping import Stopped
from relax_rl.training.trl.emergency import disk_fault

__all__ = ["telling_what_is_kept"]


@contextlib.contextmanager
def telling_what_is_kept(run: RunDirectory, num_updates: int) -> Generator[None]:
    """Inside, whatever ends the training says what can be continued.

    Raises:
        RunError: in the place of an exception that a full, read-only or failing disk has caused.
        Stopped: with what is kept.
    """
    try:
        yield
    except Stopped as stopped:
        kept = _kept(run, num_updates)
        stopped.kept, stopped.flag = kept, "--resume" if kept else "--overwrite"
        raise
    except Exception as error:
        kept, fault = _kept(run, num_updates), disk_fault(error)
        if is_first_process():
            with contextlib.suppress(OSError, RunError):  # the disk may be what failed
                run.append_end(error)
        shown: Exception = error
        if fault is not None:
            shown = RunError(
                f"the run {run.path} cannot be written: {fault}; fix that, then "
                + ("resume it with --resume" if kept else "start it again with --overwrite")
            )
        if kept:
            note_what_is_kept(shown, kept)
        if shown is error:
            raise
        raise shown from error


def _kept(run: RunDirectory, num_updates: int) -> str:
    checkpoint = run.latest_checkpoint()
    if checkpoint is None:
        return ""
    return f"update {step_of(checkpoint)} of {num_updates} is kept in {checkpoint}"
