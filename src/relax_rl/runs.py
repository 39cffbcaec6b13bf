"""The run directory: what a run leaves behind, and the rules for creating, resuming and overwriting one.

    config.json             every setting, resolved; re-runs the run
    metrics.jsonl           one row a logged step: {"step": 3, "reward": 0.4, ...}; NaN and infinity are null
    completions/            step_000003.jsonl: a row a completion, with scores and advantage
    evaluations/            <name>.json: what was measured of the policy
    checkpoints/            checkpoint-50, ...: Hugging Face layout, and what a resume needs
    ../latest               link to the run started last, in a folder called ``runs``

Files are written whole or not at all (a temporary file, then ``os.replace``). Only ``metrics.jsonl`` grows, one write
a row: readers skip a last row that a killed process left half-written, and a resume cuts it off.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from relax_rl.config import TrainConfig
from relax_rl.config.loading import is_resolved, read_settings
from relax_rl.errors import ConfigError, RunError

__all__ = ["RunDirectory", "differing_keys", "is_first_process", "write_whole"]

MAY_CHANGE = frozenset(
    {
        "output",
        "trainer.save_total_limit",
        "trainer.report_to",
        "guard.max_consecutive",
        "guard.max_share",
        "guard.warn_after",
    }
)
"""Settings that take no part in what a run has computed so far."""


class RunDirectory:
    """The paths, writers and readers of one run.

    ``new`` and ``resume`` only look, so that a run that cannot start leaves nothing behind; ``start`` is the first to
    write. With several processes (``RANK`` in the environment) the first one looks and writes for all.
    """

    def __init__(self, path: str | Path, *, overwrite: bool = False) -> None:
        self.path = Path(path)
        self._overwrite = overwrite
        self._steps_written: set[int] = set()

    @classmethod
    def new(cls, path: str | Path, *, overwrite: bool = False) -> RunDirectory:
        """A run yet to be started, in a folder that does not exist or is empty.

        Raises:
            RunError: The folder holds a run and ``overwrite`` is false; it holds anything else; it cannot be written.
        """
        run = cls(path, overwrite=overwrite)
        if is_first_process():
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
        saved = run.read_config()
        different = [] if config is None else _kept_from_changing(saved, config)
        if different:
            changes = ", ".join(f"{key} was {before!r} and is now {now!r}" for key, before, now in different)
            raise RunError(
                f"cannot resume {run.path} with other settings: {changes}; resume with the run's own (--resume "
                f"--output {run.path}, no config file), or start a new one with --output DIR"
            )
        run.checkpoint_to_resume()
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

        Call it once everything that can be checked has been. For a resumed run it records settings that may change.
        """
        if not is_first_process():
            return
        try:
            if self._overwrite and self.is_run():
                shutil.rmtree(self.path)
            self.checkpoints.mkdir(parents=True, exist_ok=True)
            write_whole(self.config_path, config.to_json())
        except OSError as error:
            raise RunError(f"cannot write the run directory {self.path}: {error}") from error
        self._link_latest()

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

    @property
    def config_path(self) -> Path:
        """Every setting, resolved."""
        return self.path / "config.json"

    @property
    def metrics_path(self) -> Path:
        """One row a logged step."""
        return self.path / "metrics.jsonl"

    @property
    def checkpoints(self) -> Path:
        """Folder of ``checkpoint-<step>`` folders; TRL's ``output_dir``."""
        return self.path / "checkpoints"

    @property
    def completions(self) -> Path:
        """Folder of ``step_<step>.jsonl`` files."""
        return self.path / "completions"

    @property
    def evaluations(self) -> Path:
        """Folder of ``<name>.json`` files."""
        return self.path / "evaluations"

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
        """Add one row. Scalars of torch and numpy become numbers; what is not finite becomes null."""
        row = json.dumps(_plain({"step": step, **metrics}), ensure_ascii=False, allow_nan=False)
        with self.metrics_path.open("a", encoding="utf-8") as file:
            file.write(row + "\n")

    def read_metrics(self) -> list[dict[str, Any]]:
        """All rows in order, without a half-written last one; empty before the first.

        Raises:
            RunError: A row other than the last is broken.
        """
        return list(_read_rows(self.metrics_path))

    def last_step(self) -> int:
        """Step of the last logged row; 0 where there is none."""
        rows = self.read_metrics() if self.is_run() else []
        return int(rows[-1]["step"]) if rows else 0

    def truncate_metrics(self, step: int) -> None:
        """Drop the rows after ``step`` and a half-written last one: a resumed run appends where it continues."""
        rows = [row for row in self.read_metrics() if row["step"] <= step]
        write_whole(self.metrics_path, _json_lines(rows))

    def rewind(self, step: int) -> None:
        """Bring metrics and completions back to the state after update ``step``."""
        self.truncate_metrics(step)
        for later in [s for s in self.completion_steps() if s > step]:
            self._completions_path(later).unlink()

    def write_completions(self, step: int, rows: Iterable[Mapping[str, Any]]) -> Path:
        """Keep the rollout rows of a step. A second rollout batch of the same step joins the first one's rows."""
        path = self._completions_path(step)
        before = list(_read_rows(path)) if step in self._steps_written else []
        path.parent.mkdir(exist_ok=True)
        write_whole(path, _json_lines([*before, *rows]))
        self._steps_written.add(step)
        return path

    def completion_steps(self) -> list[int]:
        """Steps with completions on disk, ascending."""
        return sorted(int(path.stem.removeprefix("step_")) for path in self.completions.glob("step_*.jsonl"))

    def read_completions(self, step: int) -> list[dict[str, Any]]:
        """The rollout rows of a step; empty if none were kept."""
        return list(_read_rows(self._completions_path(step)))

    def write_evaluation(self, name: str, evaluation: Mapping[str, Any]) -> Path:
        """Keep what was measured under a name, such as ``before`` or ``after``."""
        self.evaluations.mkdir(exist_ok=True)
        path = self.evaluations / f"{name}.json"
        write_whole(path, json.dumps(_plain(evaluation), indent=2, ensure_ascii=False, allow_nan=False) + "\n")
        return path

    def read_evaluations(self) -> dict[str, dict[str, Any]]:
        """All evaluations by name."""
        return {path.stem: json.loads(path.read_text("utf-8")) for path in sorted(self.evaluations.glob("*.json"))}

    def is_evaluated(self, name: str) -> bool:
        """Whether there is a run, measured under this name."""
        return self.is_run() and (self.evaluations / f"{name}.json").is_file()

    def latest_checkpoint(self, also: Sequence[str] = ()) -> Path | None:
        """The last complete checkpoint. ``trainer_state.json`` is what the trainer writes last.

        Args:
            also: Further files without which a checkpoint is not complete.
        """
        numbered = []
        for folder in self.checkpoints.glob("checkpoint-*"):
            number = folder.name.removeprefix("checkpoint-")
            if number.isdecimal() and _is_complete(folder) and all((folder / name).is_file() for name in also):
                numbered.append((int(number), folder))
        return max(numbered)[1] if numbered else None

    def checkpoint_to_resume(self, also: Sequence[str] = ()) -> Path:
        """As `latest_checkpoint`. Raises ``RunError`` where there is none."""
        checkpoint = self.latest_checkpoint(also)
        if checkpoint is None:
            raise RunError(
                f"the run {self.path} has no complete checkpoint to resume from; start it again with --overwrite"
            )
        return checkpoint

    def _completions_path(self, step: int) -> Path:
        return self.completions / f"step_{step:06d}.jsonl"

    def _check_new(self) -> None:
        if self.path.is_symlink():
            raise RunError(f"{self.path} is a link; name the run directory itself with --output DIR")
        if self.path.is_dir() and any(self.path.iterdir()):
            if not self.is_run():
                raise RunError(f"{self.path} is not empty and not a run; choose another folder with --output DIR")
            if not self._overwrite:
                raise RunError(
                    f"there is a run in {self.path} already; continue it with --resume, replace it with --overwrite, "
                    "or choose another folder with --output DIR"
                )
        _check_writable(self.path)

    def _link_latest(self) -> None:
        link = self.path.parent / "latest"
        if self.path.parent.name != "runs" or self.path == link or (link.exists() and not link.is_symlink()):
            return
        temporary = link.with_name(f".latest.{os.getpid()}")
        # A convenience: a file system without links is no reason to stop a run.
        with contextlib.suppress(OSError):
            temporary.symlink_to(self.path.name)
            os.replace(temporary, link)


def differing_keys(before: TrainConfig, now: TrainConfig) -> list[tuple[str, Any, Any]]:
    """Dotted keys whose values differ, with both values; ``None`` stands for a key that is absent."""
    old, new = _flat(before.model_dump(mode="json")), _flat(now.model_dump(mode="json"))
    return [
        (key, old.get(key), new.get(key)) for key in [*old, *(new.keys() - old.keys())] if old.get(key) != new.get(key)
    ]


def _kept_from_changing(saved: TrainConfig, config: TrainConfig) -> list[tuple[str, Any, Any]]:
    """Differences that forbid a resume. A run at a constant learning rate may be prolonged: its past stays the same."""
    free = MAY_CHANGE | ({"trainer.max_steps"} if saved.trainer.lr_scheduler_type == "constant" else frozenset())
    return [difference for difference in differing_keys(saved, config) if difference[0] not in free]


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {prefix + key: value}
    return flat


def is_first_process() -> bool:
    """Whether this process looks, writes and speaks for all, by what ``torchrun`` set in the environment."""
    return os.environ.get("RANK", "0") == "0"


def _check_writable(path: Path) -> None:
    """Raise before a run, and without writing, what ``start`` would find."""
    existing = next(folder for folder in (path, *path.absolute().parents) if folder.exists())
    if not existing.is_dir():
        raise RunError(f"cannot make the run directory {path}: {existing} is a file; choose another with --output DIR")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise RunError(
            f"cannot write the run directory {path}: no permission in {existing}; choose another with --output DIR"
        )


def _is_complete(checkpoint: Path) -> bool:
    try:
        state = json.loads((checkpoint / "trainer_state.json").read_text("utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(state, dict) and "global_step" in state


def write_whole(path: Path, text: str) -> None:
    """Write a file or, when that fails, leave the one that was there."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _json_lines(rows: Iterable[Mapping[str, Any]]) -> str:
    return "".join(json.dumps(_plain(row), ensure_ascii=False, allow_nan=False) + "\n" for row in rows)


def _read_rows(path: Path) -> Iterator[dict[str, Any]]:
    if not path.exists():
        return
    lines = path.read_text("utf-8", errors="replace").split("\n")
    for number, line in enumerate(lines, start=1):
        try:
            if line:
                yield json.loads(line)
        except json.JSONDecodeError as error:
            if number < len(lines):
                raise RunError(f"row {number} of {path} is not JSON ({error.msg}); mend or remove that line") from error


def _plain(value: Any) -> Any:
    """Numbers, strings, lists and tables only; a number that is not finite becomes ``None``."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if hasattr(value, "tolist"):  # scalars and arrays of numpy and torch, neither of which is imported here
        return _plain(value.tolist())
    raise TypeError(f"a {type(value).__name__} cannot be written as JSON")
