"""From a model and its adapter to one model: full weights in the layout of transformers."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from relax_rl.errors import ConfigError, RunError
from relax_rl.runs import RunDirectory
from relax_rl.workflows.loading import without_progress_bars

__all__ = ["Merged", "merge"]

DTYPES = ("float32", "bfloat16", "float16")


@dataclass(frozen=True)
class Merged:
    """A model whose adapter was added to its weights.

    Attributes:
        output: its folder.
        adapter, base: its two sources.
        dtype: data type of its weights.
        note: a sentence on what differs from the policy that was trained; None for nothing.
    """

    output: Path
    adapter: str
    base: str
    dtype: str
    note: str | None = None


def merge(source: str | Path, output: str | Path, *, dtype: str | None = None, revision: str | None = None) -> Merged:
    """Add an adapter to the weights of its base, in float32, and write the model.

    Args:
        source: a run, whose last complete checkpoint is taken, or an adapter: a folder or a name on the Hub.
        output: a new folder.
        dtype: data type of the written weights: "float32", "bfloat16" or "float16"; that of the base when None.
        revision: revision of an adapter on the Hub.

    Raises:
        ConfigError: a folder that is not empty, or another dtype.
        RunError: a run without a complete checkpoint, or a folder that cannot be written.
        ModelError: no adapter at that place, or one that does not fit its base.
        DependencyError: the package peft is not installed.
    """
    target = Path(output)
    if dtype is not None and dtype not in DTYPES:
        raise ConfigError(f"dtype is {dtype!r}; choose {', '.join(DTYPES)}, or leave it out")
    if target.exists() and not (target.is_dir() and not any(target.iterdir())):
        raise ConfigError(f"{target} is there already; give a new folder for the merged model")
    place, note = _adapter_of(source)

    from relax_rl.latent.contract.adapter import read_adapter
    from relax_rl.training.models import load_model, model_config, model_location

    adapter = read_adapter(model_location(place), revision)
    if adapter is None:
        raise ConfigError(f"{place} is a whole model and no adapter; use it as it is")
    with without_progress_bars():
        kept = dtype or str(model_config(place, revision).dtype or "float32").removeprefix("torch.")
        model, tokenizer = load_model(place, "float32", revision)
        _write(model, tokenizer, target, kept, Path(model_location(place)))
    return Merged(target, place, adapter.base, kept, note)


def _adapter_of(source: str | Path) -> tuple[str, str | None]:
    """Folder of the adapter, and its run's settings."""
    if not RunDirectory(str(source)).is_run():
        return str(source), None
    run = RunDirectory.open(str(source))
    checkpoint, settings = run.latest_checkpoint(), run.read_config()
    if checkpoint is None:
        raise RunError(f"the run {run.path} has no complete checkpoint; continue it with 'relax train --resume'")
    if settings.peft.bits is None:
        return str(checkpoint), None
    return str(checkpoint), (
        f"the adapter learned beside weights of {settings.peft.bits} bits and was added to the unrounded ones, so the "
        "merged model is not exactly the policy that was trained; evaluate it"
    )


def _write(model: Any, tokenizer: Any, target: Path, dtype: str, adapter: Path) -> None:
    """The model under its name once it is whole, and nothing before."""
    import torch

    unfinished = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        model.to(getattr(torch, dtype)).save_pretrained(unfinished)
        tokenizer.save_pretrained(unfinished)
        card = adapter / "README.md"
        if card.is_file():
            shutil.copy(card, unfinished / card.name)
        if target.is_dir():
            target.rmdir()
        os.replace(unfinished, target)
    except OSError as error:
        raise RunError(f"the merged model cannot be written to {target}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
