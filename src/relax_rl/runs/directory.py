"""The run directory: the rules for creating, resuming and overwriting a run, its writers and its readers.

Files are written whole or not at all (a temporary file, then ``os.replace``). Only ``metrics.jsonl``, ``starts.jsonl``
and ``ends.jsonl`` grow, one write a row: readers skip a last row that a killed process left half-written, and a resume
cuts it off. `relax_rl.runs.layout` says which file holds what.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from relax_rl.config import TrainConfig
from relax_rl.config.loading import is_resolved, read_settings
from relax_rl.errors import ConfigError, RunError
from relax_rl.ranks import is_first_process
from relax_rl.runs.checkpoints import checkpoints_in, remove_leftovers
from relax_rl.runs.files import (
    append_line,
    json_line,
    json_lines,
    plain,
    read_rows,
    remove_temporaries,
    write_whole,
)
from relax_rl.runs.layout import RunLayout
from relax_rl.runs.lock import LOCK_FILE, FolderLock, is_unstarted
from relax_rl.runs.manifest import digest_of
from relax_rl.runs.settings import refuse_changes

__all__ = ["RunDirectory"]

_MOST_WORDS = 500


class RunDirectory(RunLayout):
    """The writers and readers of one run.

    ``new`` and ``resume`` only look, so that a run that cannot start leaves nothing behind; ``start`` is the first to
    write. With several processes (``RANK`` in the environment) the first one looks and writes for all.

    Attributes:
        notices: notices on a run that is resumed, in sentences.
    """

    def __init__(self, path: str | Path, *, overwrite: bool = False) -> None:
        super().__init__(path)
        self.notices: list[str] = []
        self._overwrite = overwrite
        self._is_resumed = False
        self._lock = FolderLock(self.path)
        self._settings: TrainConfig | None = None
        self._steps_written: set[int] = set()

    @classmethod
    def new(cls, path: str | Path, *, overwrite: bool = False) -> RunDirectory:
        """A run yet to be started, in a folder that does not exist or is empty.

        Raises:
            RunError: The folder holds a run and ``overwrite`` is false; it holds anything else; it cannot be written.
        """
        run = cls(path, overwrite=overwrite)
        if is_first_process():
            run._lock.check_free()
            run._check_new()
        return run

    @classmethod
    def resume(cls, path: str | Path, config: TrainConfig | None = None) -> RunDirectory:
        """A run with a complete checkpoint, to be continued under the settings it was started with.

        Args:
            path: The run directory, or a link to one such as ``runs/latest``.
            config: The settings asked for now, compared with those of the run; ``None`` takes the run's own.

        Raises:
            RunError: No run there, no complete checkpoint, or settings that differ (each is named).
        """
        run = cls.open(path)
        run._is_resumed = True
        if config is not None:
            run.notices += refuse_changes(run.read_config(), config, str(run.path))
        else:
            run.read_config()
        if is_first_process():
            run._lock.check_free()
        if run.latest_checkpoint() is None:
            raise RunError(
                f"the run {run.path} has no complete checkpoint to resume from; start it again with --overwrite"
            )
        _check_writable(run.path)
        return run

    @classmethod
    def open(cls, path: str | Path) -> RunDirectory:
        """An existing run, for reading. Raises ``RunError`` where there is none."""
        path = Path(path)
        run = cls(path.parent / path.readlink() if path.is_symlink() else path)
        if not run.is_run():
            raise RunError(f"there is no run in {run.path}: it has no config.json written by 'relax train'")
        return run

    def start(self, config: TrainConfig) -> None:
        """Make the folder (after removing the run there, if that was asked for), write ``config.json``, set ``latest``.

        Call it once everything that can be checked has been. For a resumed run it records settings that may change, and
        removes what a killed process left half done.
        """
        self._settings = config
        if not is_first_process():
            return
        try:
            if self._overwrite and self.is_run():
                self._clear()
            self.path.mkdir(parents=True, exist_ok=True)
            write_whole(self.config_path, config.to_json())
            self.checkpoints.mkdir(exist_ok=True)
            for folder in (self.path, self.completions, self.evaluations, self.dynamics, self.checkpoints):
                remove_temporaries(folder)
            remove_leftovers(self.checkpoints)
        except OSError as error:
            raise RunError(f"cannot write the run directory {self.path}: {error}") from error
        self._link_latest()

    @contextlib.contextmanager
    def held(self) -> Generator[None]:
        """Inside, no other process trains in the folder. Call `start` inside.

        Raises:
            RunError: one does already, or the folder cannot be made.
        """
        if not is_first_process():
            yield
            return
        with self._lock.held() as gone:
            if gone is not None:
                self.notices.append(f"the run was taken over from {gone}, which gives no sign of life")
            if not self._is_resumed:
                # Another process may have begun and ended a run here since the look.
                self._check_new()
            yield

    @contextlib.contextmanager
    def left_as_it_is(self) -> Iterator[None]:
        """Takes back empty folders that are made inside, by TRL's constructor: `start` alone writes a run."""
        folders = (self.checkpoints, *self.checkpoints.parents)
        missing = [folder for folder in folders if not folder.exists()]
        try:
            yield
        finally:
            if is_first_process():
                for folder in missing:
                    if folder.is_dir() and not any(folder.iterdir()):
                        folder.rmdir()

    def is_run(self) -> bool:
        """Whether ``config.json`` is ours. A Hugging Face model folder has a file of that name too, and is no run."""
        try:
            settings = json.loads(self.config_path.read_text("utf-8"))
        except (OSError, ValueError):
            return False
        return is_resolved(settings)

    def read_config(self) -> TrainConfig:
        """The settings of the run, to be looked at. Raises ``RunError`` if this version cannot read them.

        A run's folder may come from anybody: use `load_config`, which checks the code it names, to build from it.
        """
        try:
            return read_settings(self.config_path)
        except ConfigError as error:
            raise RunError(f"the settings of the run {self.path} cannot be read: {error}") from error

    def append_metrics(self, step: int, metrics: Mapping[str, Any]) -> None:
        """Add one row. Scalars of torch and numpy become numbers; what is not finite becomes null.

        Raises:
            RunError: another process took the folder, or the row cannot be written; then nothing of it is.
        """
        row = json_line({"step": step, **metrics})
        self._lock.check_held()
        append_line(self.metrics_path, row)

    def read_metrics(self) -> list[dict[str, Any]]:
        """All rows in order, without a half-written last one; empty before the first.

        Raises:
            RunError: A row other than the last is broken.
        """
        return list(read_rows(self.metrics_path))

    def append_start(self, start: Mapping[str, Any]) -> None:
        """Note what runs, as training starts at the update ``start["update"]``. For errors, see `append_metrics`."""
        self._lock.check_held()
        append_line(self.starts_path, json_line(start))

    def read_starts(self) -> list[dict[str, Any]]:
        """Starts of the run's training, a row each; empty for runs of earlier versions."""
        return list(read_rows(self.starts_path))

    def append_end(self, error: BaseException) -> None:
        """Note the exception that ends the training. For errors, see `append_metrics`."""
        self._lock.check_held()
        words = " ".join(str(error).split())[:_MOST_WORDS]
        row = {"start": len(self.read_starts()), "update": self.last_step(), "error": type(error).__name__}
        append_line(self.ends_path, json_line(row | {"message": words}))

    def read_end(self) -> dict[str, Any] | None:
        """The exception that ended the training; None where nothing did since it was started last."""
        rows = list(read_rows(self.ends_path))
        return rows[-1] if rows and rows[-1].get("start") == len(self.read_starts()) else None

    def last_step(self) -> int:
        """Step of the last logged row; 0 where there is none."""
        rows = self.read_metrics() if self.is_run() else []
        return int(rows[-1]["step"]) if rows else 0

    def truncate_metrics(self, step: int) -> None:
        """Drop the rows after ``step`` and a half-written last one: a resumed run appends where it continues."""
        rows = [row for row in self.read_metrics() if row["step"] <= step]
        write_whole(self.metrics_path, json_lines(rows))

    def rewind(self, step: int) -> None:
        """Bring metrics and completions back to the state after update ``step``."""
        self.truncate_metrics(step)
        for later in [s for s in self.completion_steps() if s > step]:
            self.completions_path(later).unlink()
        for path in self.evaluations.glob("during/update_*.json"):
            if int(path.stem.removeprefix("update_")) > step:
                path.unlink()
        for update, path in self.snapshots().items():
            if update > step:
                path.unlink()

    def write_completions(self, step: int, rows: Iterable[Mapping[str, Any]]) -> Path:
        """Keep the rollout rows of a step. A second rollout batch of the same step joins the first one's rows."""
        self._lock.check_held()
        path = self.completions_path(step)
        before = list(read_rows(path)) if step in self._steps_written else []
        path.parent.mkdir(exist_ok=True)
        write_whole(path, json_lines([*before, *rows]))
        self._steps_written.add(step)
        return path

    def write_failed_rollout(self, update: int, process: int, rows: Iterable[Mapping[str, Any]]) -> Path:
        """Keep what a reward function failed on, beside the completions that were trained on."""
        self._lock.check_held()
        path = self.completions / f"failed_{update:06d}-{process}.jsonl"
        path.parent.mkdir(exist_ok=True)
        # Columns of the user's data may hold dates and images; their words are enough for a look.
        write_whole(path, "".join(json.dumps(row, default=repr) + "\n" for row in rows))
        return path

    def completion_steps(self) -> list[int]:
        """Steps with completions on disk, ascending."""
        return sorted(int(path.stem.removeprefix("step_")) for path in self.completions.glob("step_*.jsonl"))

    def read_completions(self, step: int) -> list[dict[str, Any]]:
        """The rollout rows of a step; empty if none were kept."""
        return list(read_rows(self.completions_path(step)))

    def write_evaluation(self, name: str, evaluation: Mapping[str, Any]) -> Path:
        """Keep what was measured under a name, such as ``before`` or ``after``."""
        path = self.evaluations / f"{name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, json.dumps(plain(evaluation), indent=2, ensure_ascii=False, allow_nan=False) + "\n")
        return path

    def read_evaluations(self) -> dict[str, dict[str, Any]]:
        """All evaluations by name."""
        return {path.stem: json.loads(path.read_text("utf-8")) for path in sorted(self.evaluations.glob("*.json"))}

    def write_snapshot(self, update: int, snapshot: Mapping[str, Any]) -> Path:
        """Keep the latent dynamics after an update (`relax_rl.evaluation.snapshot`)."""
        self._lock.check_held()
        path = self.dynamics / f"update_{update:06d}.json"
        path.parent.mkdir(exist_ok=True)
        write_whole(path, json.dumps(plain(snapshot), allow_nan=False) + "\n")
        return path

    def snapshots(self) -> dict[int, Path]:
        """The files of `write_snapshot` by update, ascending."""
        found = {int(path.stem.removeprefix("update_")): path for path in self.dynamics.glob("update_*.json")}
        return dict(sorted(found.items()))

    def is_evaluated(self, name: str) -> bool:
        """Whether there is a run, measured under this name."""
        return self.is_run() and (self.evaluations / f"{name}.json").is_file()

    def facts(self) -> dict[str, Any]:
        """State that a resume must find again, for a checkpoint's manifest: settings, rows of metrics, evaluations.

        Raises:
            RunError: another process took the folder.
        """
        self._lock.check_held()
        rows = 0
        if self.metrics_path.exists():
            with self.metrics_path.open("rb") as file:
                rows = sum(1 for _ in file)
                # They were not written through yet, and the checkpoint will be.
                os.fsync(file.fileno())
        settings = self._settings or self.read_config()
        return {
            "settings": json.loads(settings.to_json()),
            "metrics_rows": rows,
            "evaluations": {path.name: digest_of(path) for path in self._evaluation_files()},
        }

    def missing_since(self, facts: Mapping[str, Any]) -> list[str]:
        """In words, each evaluation that `facts` knew and that is gone or another one by now."""
        now = {path.name: digest_of(path) for path in self._evaluation_files()}
        before: Mapping[str, str] = facts.get("evaluations", {})
        return [
            f"evaluations/{name} {'was changed' if name in now else 'is missing'}"
            for name, digest in before.items()
            if now.get(name) != digest
        ]

    def latest_checkpoint(self, also: Sequence[str] = ()) -> Path | None:
        """The last checkpoint whose files are all there with their sizes; None where there is none.

        Args:
            also: Further files without which a checkpoint is not complete.
        """
        for checkpoint in checkpoints_in(self.checkpoints):
            is_complete = checkpoint.state in ("whole", "unverified")
            if is_complete and all((checkpoint.path / name).is_file() for name in also):
                return checkpoint.path
        return None

    def _evaluation_files(self) -> list[Path]:
        return sorted(path for path in self.evaluations.glob("[!.]*") if path.is_file())

    def _check_new(self) -> None:
        if self.path.is_symlink():
            raise RunError(f"{self.path} is a link; name the run directory itself with --output DIR")
        if self.path.is_dir() and not is_unstarted(self.path):
            if not self.is_run():
                raise RunError(f"{self.path} is not empty and not a run; choose another folder with --output DIR")
            if not self._overwrite:
                raise RunError(
                    f"there is a run in {self.path} already; continue it with --resume, replace it with --overwrite, "
                    "or choose another folder with --output DIR"
                )
        _check_writable(self.path)

    def _clear(self) -> None:
        """Remove the run, but not the lock: the folder stays taken."""
        # Without its settings it is no run any more: a process killed here leaves a folder to start again in.
        for path in sorted(self.path.iterdir(), key=lambda path: path != self.config_path):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            elif path.name != LOCK_FILE:
                path.unlink()

    def _link_latest(self) -> None:
        link = self.path.parent / "latest"
        if self.path.parent.name != "runs" or self.path == link or (link.exists() and not link.is_symlink()):
            return
        temporary = link.with_name(f".latest.{os.getpid()}")
        # A convenience: a file system without links is no reason to stop a run.
        with contextlib.suppress(OSError):
            temporary.symlink_to(self.path.name)
            os.replace(temporary, link)


def _check_writable(path: Path) -> None:
    """Raise before a run, and without writing, what ``start`` would find."""
    existing = next(folder for folder in (path, *path.absolute().parents) if folder.exists())
    if not existing.is_dir():
        raise RunError(f"cannot make the run directory {path}: {existing} is a file; choose another with --output DIR")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise RunError(
            f"cannot write the run directory {path}: no permission in {existing}; choose another with --output DIR"
        )
