"""Subject of an evaluation: a model by name, a loaded one, or the last checkpoint of a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from relax_rl.config import TrainConfig
from relax_rl.errors import ConfigError, RunError
from relax_rl.runs import RunDirectory
from relax_rl.tasks.images.budget import PixelBudget
from relax_rl.workflows.progress import OnProgress, Progress

if TYPE_CHECKING:
    from relax_rl.evaluation.room import Overlong

__all__ = ["PromptSettings", "Subject", "subject_of"]


@dataclass(frozen=True)
class PromptSettings:
    """How problems become prompts: those of a run, unless the caller says otherwise."""

    plain: bool = False
    switches: Mapping[str, Any] = field(default_factory=dict)
    overlong: Overlong = "refuse"
    max_prompt_length: int | None = None
    min_pixels: int | None = None
    max_pixels: int | None = None

    @classmethod
    def of(cls, config: TrainConfig) -> PromptSettings:
        """Those of a run."""
        return cls(switches=config.trainer.chat_template_kwargs or {}, **config.prompts.model_dump())

    @property
    def pixels(self) -> PixelBudget:
        """Bounds of every image."""
        return PixelBudget(self.min_pixels, self.max_pixels)

    def updated(self, **given: Any) -> PromptSettings:
        """With the settings that the caller gives; None of each leaves it as it is."""
        return replace(self, **{name: value for name, value in given.items() if value is not None})


@dataclass(frozen=True)
class Subject:
    """Subject of an evaluation, with its settings if it comes from a run.

    Attributes:
        name: as it was named; empty for a loaded model.
        model: name or path of the model, or the loaded model.
    """

    name: str
    model: Any
    task: str | None = None
    options: dict[str, Any] = field(default_factory=dict)
    max_completion_length: int | None = None
    dictionary: Path | None = None
    prompts: PromptSettings = PromptSettings()

    @property
    def is_loaded(self) -> bool:
        return self.name == ""


def subject_of(model: Any, tokenizer: Any, say: OnProgress) -> Subject:
    """A loaded model, the last checkpoint of a run, or the name itself."""
    if not isinstance(model, str | Path):
        if tokenizer is None:
            raise ConfigError("a loaded model needs its tokenizer (or processor): evaluate(model, tokenizer=...).")
        return Subject("", model)
    if tokenizer is not None:
        raise ConfigError(f"'{model}' is loaded with its own tokenizer; leave tokenizer out.")
    name = str(model)
    if not RunDirectory(name).is_run():
        return Subject(name, name)
    run = RunDirectory.open(name)
    config, checkpoint = run.read_config(), run.latest_checkpoint()
    if checkpoint is None:
        raise RunError(
            f"the run {run.path} has no complete checkpoint to measure; continue it with 'relax train --resume'"
        )
    if config.verifier is not None:
        note = "the run was trained with another verifier; this measures it by the task's own"
        say(Progress("loading", message=note))
    dictionary = run.evaluations / "dictionary.safetensors"
    return Subject(
        name,
        str(checkpoint),
        config.task.name,
        config.task.options,
        config.trainer.max_completion_length,
        dictionary if dictionary.is_file() else None,
        PromptSettings.of(config),
    )
