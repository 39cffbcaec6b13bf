"""Data for trackers beside TRL's numbers: settings, one identity over resumes, completions, and spectra."""

from __future__ import annotations

import importlib
import io
import json
import os
import uuid
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import numpy as np
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.integrations import TensorBoardCallback

from relax_rl.evaluation.result import PooledSpectrum
from relax_rl.evaluation.snapshot import Snapshot
from relax_rl.redaction import without_secrets
from relax_rl.runs import RunDirectory, write_whole
from relax_rl.runs.files import json_lines
from relax_rl.training.trl.trackers import Harmless

__all__ = ["CompletionsForTrackers", "SpectraForTrackers", "WhatIsTracked", "track", "track_spectra"]

_FILE = "tracker.json"
_COLUMNS = ("problem_id", "prompt", "completion", "answer", "reward", "advantage", "num_tokens", "truncated", "dsd")
_MOST_ROWS = 32


def track(trainer: Any, run: RunDirectory) -> None:
    """Have the trackers of a trainer know the run: call it once, before the training; without trackers it does nothing.

    A resumed run goes by the same identity, kept in ``tracker.json``: W&B and trackio continue its curves, TensorBoard
    writes into the same folder.

    Args:
        trainer: a `RelaxTrainer`, whose ``args.run_name`` is set where it is empty.
    """
    names = _trackers(trainer)
    if not names:
        return
    identity = _identity(run)
    if trainer.args.run_name is None:
        trainer.args.run_name = f"{run.path.absolute().name}-{identity[:6]}"
    tensorboard = _tensorboard_of(trainer)
    if tensorboard is not None and tensorboard.logging_dir is None:
        tensorboard.logging_dir = str(run.path / "tensorboard")
    own = (WhatIsTracked(run, identity, names), CompletionsForTrackers(run, names, tensorboard))
    for callback in own:
        Harmless(callback, trainer.notices)
    # Before W&B's own callback, which takes over a run that is there; after the others, which make theirs.
    trainer.callback_handler.callbacks.insert(0, own[0])
    trainer.add_callback(own[1])


def track_spectra(trainer: Any, run: RunDirectory, draw: Callable[[PooledSpectrum, str], bytes]) -> None:
    """Have the trackers receive the spectrum of each snapshot as an image; without trackers it does nothing.

    Call it after the callback that writes the snapshots was added.

    Args:
        draw: spectrum and title to a PNG.
    """
    names = _trackers(trainer)
    if names:
        callback = SpectraForTrackers(run, names, _tensorboard_of(trainer), draw)
        Harmless(callback, trainer.notices)
        trainer.add_callback(callback)


def _trackers(trainer: Any) -> list[str]:
    """Those of the trainer that we know how to tell something."""
    names = trainer.args.report_to
    names = [names] if isinstance(names, str) else list(names)
    return [name for name in names if name in ("wandb", "trackio", "tensorboard")]


def _tensorboard_of(trainer: Any) -> TensorBoardCallback | None:
    found = [each for each in trainer.callback_handler.callbacks if isinstance(each, TensorBoardCallback)]
    return found[0] if found else None


def _identity(run: RunDirectory) -> str:
    """That of the run's file, or a new one; a run that is overwritten is another run."""
    try:
        return str(json.loads((run.path / _FILE).read_text("utf-8"))["id"])
    except (OSError, ValueError, KeyError, TypeError):
        return uuid.uuid4().hex


def _settings(run: RunDirectory) -> Mapping[str, Any]:
    return without_secrets(json.loads(run.config_path.read_text("utf-8")))


class WhatIsTracked(TrainerCallback):
    """Keeps the identity, and starts W&B's run under it, with the run's settings as its config."""

    _begun: ClassVar[set[str]] = set()
    """Runs of W&B that this process began: a second training must not go on in the first one's."""

    def __init__(self, run: RunDirectory, identity: str, names: list[str]) -> None:
        self._run, self._identity, self._names = run, identity, names

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if not state.is_world_process_zero:
            return
        write_whole(self._run.path / _FILE, json.dumps({"id": self._identity, "name": args.run_name}) + "\n")
        if "wandb" in self._names:
            wandb: Any = importlib.import_module("wandb")
            settings = {"relax": _settings(self._run)}
            if wandb.run is not None and wandb.run.id in self._begun - {self._identity}:
                wandb.finish()
            if wandb.run is None:
                project = os.environ.get("WANDB_PROJECT", args.project)
                wandb.init(project=project, name=args.run_name, id=self._identity, resume="allow", config=settings)
                self._begun.add(self._identity)
            else:
                wandb.config.update(settings, allow_val_change=True)


class CompletionsForTrackers(TrainerCallback):
    """Tells the trackers that have no config at their start the settings, and all of them the last completions."""

    def __init__(self, run: RunDirectory, names: list[str], tensorboard: TensorBoardCallback | None) -> None:
        self._run, self._names, self._tensorboard = run, names, tensorboard

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if not state.is_world_process_zero:
            return
        settings = _settings(self._run)
        if "trackio" in self._names:
            trackio: Any = importlib.import_module("trackio")
            trackio.config.update({"relax": settings}, allow_val_change=True)
        self._write("config", json.dumps(settings, indent=2), 0)

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if not state.is_world_process_zero:
            return
        steps = [step for step in self._run.completion_steps() if step <= state.global_step]
        rows = self._run.read_completions(steps[-1])[:_MOST_ROWS] if steps else []
        if not rows:
            return
        data = [[_plain(row.get(name)) for name in _COLUMNS] for row in rows]
        at = {"train/global_step": state.global_step}
        if "wandb" in self._names:
            wandb: Any = importlib.import_module("wandb")
            wandb.log({"completions": wandb.Table(columns=list(_COLUMNS), data=data), **at})
        if "trackio" in self._names:
            trackio: Any = importlib.import_module("trackio")
            frame = importlib.import_module("pandas").DataFrame(data, columns=list(_COLUMNS))
            # Named, or its own count of steps, which the scalars are under, would go on past the updates.
            trackio.log({"completions": trackio.Table(dataframe=frame), **at}, step=state.global_step)
        self._write("completions", json_lines(rows), state.global_step)

    def _write(self, name: str, text: str, step: int) -> None:
        """A text for TensorBoard, which reads Markdown: indented, it stays as it is."""
        writer: Any = self._tensorboard.tb_writer if self._tensorboard is not None else None
        if writer is not None:
            writer.add_text(f"relax/{name}", "\n".join(f"    {line}" for line in text.splitlines()), step)


class SpectraForTrackers(TrainerCallback):
    """Draws the newest snapshot's spectrum after each step that wrote one."""

    def __init__(
        self,
        run: RunDirectory,
        names: list[str],
        tensorboard: TensorBoardCallback | None,
        draw: Callable[[PooledSpectrum, str], bytes],
    ) -> None:
        self._run, self._names, self._tensorboard, self._draw = run, names, tensorboard, draw

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if not control.should_save:
            self._send(state)

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        self._send(state)

    def _send(self, state: TrainerState) -> None:
        path = self._run.snapshots().get(state.global_step) if state.is_world_process_zero else None
        if path is None:
            return
        spectrum = Snapshot.from_dict(json.loads(path.read_text("utf-8"))).spectrum
        if spectrum is None:
            return
        from PIL import Image

        image = Image.open(io.BytesIO(self._draw(spectrum, f"update {state.global_step}"))).convert("RGB")
        at = {"train/global_step": state.global_step}
        if "wandb" in self._names:
            wandb: Any = importlib.import_module("wandb")
            wandb.log({"spectrum": wandb.Image(image), **at})
        if "trackio" in self._names:
            trackio: Any = importlib.import_module("trackio")
            trackio.log({"spectrum": trackio.Image(image), **at}, step=state.global_step)
        writer: Any = self._tensorboard.tb_writer if self._tensorboard is not None else None
        if writer is not None:
            writer.add_image("relax/spectrum", np.asarray(image), state.global_step, dataformats="HWC")


def _plain(value: Any) -> Any:
    """A cell: a conversation as JSON text."""
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list | dict) else value
