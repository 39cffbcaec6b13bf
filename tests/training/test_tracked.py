"""Trackers know a run by its own settings and under one identity, however often it is resumed."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from transformers import TrainerCallback

from relax_rl.reports.spectra.image import spectrum_image
from relax_rl.runs import RunDirectory
from relax_rl.training.trl.tracked import SpectraForTrackers, track, track_spectra
from support.runs import make_run, synthetic_snapshot  # noqa: F401


class Wandb:
    """As much of W&B as is asked of it."""

    def __init__(self) -> None:
        self.run: SimpleNamespace | None = None
        self.started: list[dict[str, Any]] = []
        self.logged: list[dict[str, Any]] = []
        self.config: dict[str, Any] = {}

    def init(self, **words: Any) -> None:
        self.started.append(words)
        self.run = SimpleNamespace(id=words["id"])

    def finish(self) -> None:
        self.run = None

    def Table(self, columns: list[str], data: list[list[Any]]) -> tuple[list[str], list[list[Any]]]:  # noqa: N802
        return columns, data

    def Image(self, image: Any) -> Any:  # noqa: N802
        return image

    def log(self, words: dict[str, Any]) -> None:
        self.logged.append(words)


class Config(dict[str, Any]):
    """That of a run that has begun."""

    def update(self, *given: Any, allow_val_change: bool, **more: Any) -> None:
        super().update(*given, **more)


class Trackio:
    """As much of trackio as is asked of it."""

    def __init__(self) -> None:
        self.config = Config()
        self.logged: list[tuple[int | None, dict[str, Any]]] = []

    def Table(self, dataframe: Any) -> Any:  # noqa: N802
        return dataframe

    def Image(self, image: Any) -> Any:  # noqa: N802
        return image

    def log(self, words: dict[str, Any], step: int | None = None) -> None:
        self.logged.append((step, words))


@pytest.fixture
def wandb(monkeypatch: pytest.MonkeyPatch) -> Wandb:
    fake = Wandb()
    monkeypatch.setitem(sys.modules, "wandb", fake)  # type: ignore[arg-type]
    monkeypatch.delenv("WANDB_PROJECT", raising=False)
    return fake


def train(path: Path, report_to: str | list[str] = "wandb", said: list[str] | None = None) -> SimpleNamespace:
    """The events of a training that is tracked, of two updates and a checkpoint."""
    callbacks: list[TrainerCallback] = []
    args: Any = SimpleNamespace(report_to=report_to, run_name=None, project="huggingface")
    handler = SimpleNamespace(callbacks=callbacks)
    notices = (said if said is not None else []).append
    trainer = SimpleNamespace(args=args, callback_handler=handler, add_callback=callbacks.append, notices=notices)
    track(trainer, RunDirectory(path))
    state: Any = SimpleNamespace(is_world_process_zero=True, global_step=100)
    for event in ("on_train_begin", "on_save"):
        for callback in callbacks:
            getattr(callback, event)(args, state, None)
    return args


def test_the_settings_of_the_run_and_one_identity_over_resumes(
    make_run: Callable[..., Path],  # noqa: F811
    wandb: Wandb,
) -> None:
    run = make_run("mine", "relax", seed=4)
    first = train(run)
    wandb.finish()
    second = train(run)
    assert [start["id"] for start in wandb.started] == [json.loads((run / "tracker.json").read_text())["id"]] * 2
    assert all(start["resume"] == "allow" for start in wandb.started)
    assert wandb.started[0]["config"]["relax"]["objective"] == {"name": "relax", "alpha": 0.1}
    assert wandb.started[0]["config"]["relax"]["seed"] == 4
    assert first.run_name == second.run_name
    assert first.run_name.startswith("mine-")


def test_another_run_of_the_same_process_is_another_run(make_run: Callable[..., Path], wandb: Wandb) -> None:  # noqa: F811
    for name in ("a", "b"):
        train(make_run(name))
    assert len({start["id"] for start in wandb.started}) == 2


def test_a_run_that_the_user_began_is_kept(make_run: Callable[..., Path], wandb: Wandb) -> None:  # noqa: F811
    wandb.run = SimpleNamespace(id="theirs")
    wandb.config = Config()
    train(make_run("a", "relax"))
    assert wandb.started == []
    assert wandb.config["relax"]["objective"]["name"] == "relax"


def test_completions_are_a_table(make_run: Callable[..., Path], wandb: Wandb) -> None:  # noqa: F811
    train(make_run("a", completion="the words"))
    columns, data = wandb.logged[0]["completions"]
    assert dict(zip(columns, data[0], strict=True))["completion"] == "the words"
    assert wandb.logged[0]["train/global_step"] == 100


def test_trackio_counts_no_step_of_its_own(make_run: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    fake = Trackio()
    monkeypatch.setitem(sys.modules, "trackio", fake)  # type: ignore[arg-type]
    run = make_run("a", "relax", completion="the words", snapshots=[synthetic_snapshot(100)])
    train(run, "trackio")
    state: Any = SimpleNamespace(is_world_process_zero=True, global_step=100)
    nothing: Any = None
    SpectraForTrackers(RunDirectory(run), ["trackio"], None, spectrum_image).on_save(nothing, state, nothing)
    (step, table), (later, image) = fake.logged
    assert (step, later) == (100, 100)
    assert table["completions"]["completion"][0] == "the words"
    assert image["spectrum"].mode == "RGB"
    assert fake.config["relax"]["objective"]["name"] == "relax"


class Written(list[tuple[str, Any, int, str]]):
    """As much of TensorBoard's writer as is asked of it."""

    def add_image(self, tag: str, image: Any, step: int, dataformats: str) -> None:
        self.append((tag, image, step, dataformats))


def test_the_spectrum_of_a_checkpoint_is_an_image(make_run: Callable[..., Path], wandb: Wandb) -> None:  # noqa: F811
    run = make_run("a", snapshots=[synthetic_snapshot(100)])
    writer = Written()
    tensorboard: Any = SimpleNamespace(tb_writer=writer)
    callback = SpectraForTrackers(RunDirectory(run), ["wandb", "tensorboard"], tensorboard, spectrum_image)
    for step in (50, 100):  # there is no snapshot of the first
        callback.on_save(None, SimpleNamespace(is_world_process_zero=True, global_step=step), None)  # type: ignore[arg-type]
    (row,) = wandb.logged
    assert row["train/global_step"] == 100
    ((tag, pixels, step, layout),) = writer
    assert (tag, step, layout) == ("relax/spectrum", 100, "HWC")
    assert pixels.shape == (*row["spectrum"].size[::-1], 3)
    assert pixels.std() > 10  # something is drawn


def test_without_trackers_nothing_draws(make_run: Callable[..., Path]) -> None:  # noqa: F811
    added: list[TrainerCallback] = []
    trainer = SimpleNamespace(args=SimpleNamespace(report_to="none"), add_callback=added.append)
    track_spectra(trainer, RunDirectory(make_run("a")), spectrum_image)
    assert added == []


def test_no_tracker_no_file_and_a_broken_one_is_a_sentence(
    make_run: Callable[..., Path],  # noqa: F811
    wandb: Wandb,
) -> None:
    quiet = make_run("quiet")
    train(quiet, "none")
    assert not (quiet / "tracker.json").exists()

    def broken(**_: Any) -> None:
        raise OSError("no network")

    wandb.init = broken  # type: ignore[method-assign]
    said: list[str] = []
    train(make_run("a"), "wandb", said)
    assert len(said) == 1
    assert "no network" in said[0]
