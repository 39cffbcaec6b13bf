"""Models by name, loaded without a word on stderr."""

from __future__ import annotations

import warnings
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from logging import Filter, LogRecord
from pathlib import Path
from typing import Any

from relax_rl.errors import ConfigError
from relax_rl.workflows.progress import OnProgress, Progress

__all__ = ["Loading", "load_quietly", "quiet", "without_progress_bars"]


@dataclass(frozen=True)
class Loading:
    """How a model is loaded that is given by name; one that only reads need not have a cache that ReLaX knows."""

    tokenizer: Any = None
    dtype: str = "float32"
    revision: str | None = None
    device_map: str | None = None
    writes: bool = True

    def check(self, model: Any, sites: Sequence[str]) -> None:
        """Whether a model that is needed later can be loaded and has these sites, without reading its weights."""
        from relax_rl.latent.sites import resolve_sites
        from relax_rl.training.models import empty_model

        known = empty_model(str(model), self.revision) if isinstance(model, str | Path) else model
        if sites:
            resolve_sites(known, sites)

    def load(self, model: Any, say: OnProgress) -> tuple[str, Any, Any]:
        """Its name, the model, and its tokenizer."""
        if not isinstance(model, str | Path):
            if self.tokenizer is None:
                raise ConfigError("a loaded model needs its tokenizer (or processor): spectrum(model, tokenizer=...).")
            return "model", model, self.tokenizer
        name = str(model)
        return name, *load_quietly(name, self.dtype, self.revision, self.device_map, self.writes, say=say)


def load_quietly(
    name: str,
    dtype: str,
    revision: str | None,
    device_map: str | None = None,
    writes: bool = True,
    *,
    say: OnProgress,
) -> tuple[Any, Any]:
    """A model and its tokenizer, on the accelerator if there is one and no `device_map` says otherwise.

    Args:
        name, dtype, revision, device_map, writes: see `relax_rl.training.models.load_model`.
        say: is told of a model on the Hub, which may have to be downloaded first.
    """
    import torch

    from relax_rl.training.models import load_model, model_location

    if not Path(model_location(name)).is_dir():
        say(Progress("loading", message=f"{name}: loading, after a download if it is not in the cache"))
    with without_progress_bars():
        model, tokenizer = load_model(
            name, dtype, revision, device_map, writes=writes, tell=lambda words: say(_note(words))
        )
    if device_map is None and torch.cuda.is_available():
        model = model.to("cuda")  # pyright: ignore[reportArgumentType]
    return model, tokenizer


def _note(words: str) -> Progress:
    return Progress("loading", message=words)


@contextmanager
def without_progress_bars() -> Generator[None]:
    """Inside, transformers and the Hub draw no bars on stderr."""
    from transformers.utils import logging

    was_enabled = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if was_enabled:
            logging.enable_progress_bar()


@contextmanager
def quiet() -> Generator[None]:
    """No bars for loading a model and writing a checkpoint, which would tear the progress of the run apart."""
    from transformers.utils import logging

    checkpoints, times = logging.get_logger("transformers.trainer_utils"), _CheckpointTimes()
    checkpoints.addFilter(times)
    try:
        with without_progress_bars(), warnings.catch_warnings():
            warnings.filterwarnings("ignore", category=FutureWarning, module=r"transformers\.")
            yield
    finally:
        checkpoints.removeFilter(times)


class _CheckpointTimes(Filter):
    """Drops a remark on checkpoints less than a second apart: ordered by number, as they are then, they are right."""

    def filter(self, record: LogRecord) -> bool:
        return not record.getMessage().startswith("mtime may not be reliable")
