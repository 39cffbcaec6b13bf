"""Named points at which a run is killed: one function is replaced by "do half, then SIGKILL"."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from relax_rl.import_path import resolve

__all__ = ["POINTS", "replace"]

Act = Callable[[Callable[..., Any], tuple[Any, ...], dict[str, Any]], Any]
"""What happens in the place of a call: (the function, its arguments)."""


def die() -> None:
    """As the kernel ends a process whose node is gone."""
    os.kill(os.getpid(), signal.SIGKILL)


def replace(target: str, act: Act, occurrence: int = 1) -> Callable[[], None]:
    """A fault for `launch.Fork`: from its so manieth call on, `act` stands in for the function of a class or module."""

    def prepare() -> None:
        module, _, path = target.partition(":")
        owner_path, _, name = path.rpartition(".")
        owner: Any = resolve(f"{module}:{owner_path}") if owner_path else __import__(module, fromlist=[name])
        function, calls = getattr(owner, name), [0]

        def instead(*args: Any, **kwargs: Any) -> Any:
            calls[0] += 1
            if calls[0] < occurrence:
                return function(*args, **kwargs)
            return act(function, args, kwargs)

        setattr(owner, name, instead)

    return prepare


def _before(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    die()


def _after(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    function(*args, **kwargs)
    die()


def _half(name: str) -> Act:
    """Call it, cut the newest file of that name in two, die."""

    def act(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        function(*args, **kwargs)
        path = max(Path.cwd().glob(f"*/**/{name}"), key=lambda path: path.stat().st_mtime_ns)
        os.truncate(path, path.stat().st_size // 2)
        die()

    return act


def _half_rotation(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    files = sorted(path for path in Path(args[0]).rglob("*") if path.is_file())
    for path in files[: len(files) // 2]:
        path.unlink()
    die()


def _half_row(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    with args[0].metrics_path.open("a") as file:
        file.write(f'{{"step": {args[1]}, "loss": 0.')
    die()


_RUN = "relax_rl.runs:RunDirectory"
_HF = "transformers.trainer:Trainer"
_TRAINER = "relax_rl.training.trl.trainer:RelaxTrainer"
_EVALUATION = "relax_rl.training.measurement:PolicyEvaluation"

POINTS: dict[str, Callable[[], None]] = {
    "before the settings are written": replace(f"{_RUN}.start", _before),
    "between config.json's temporary file and its name": replace("os:replace", _before),
    "after the settings are written": replace(f"{_RUN}.start", _after),
    "before the evaluation before": replace(f"{_EVALUATION}.before", _before),
    "after the evaluation before": replace(f"{_EVALUATION}.before", _after),
    "before a rollout": replace(f"{_TRAINER}._generate_and_score_completions", _before, 7),
    "after a rollout": replace(f"{_TRAINER}._generate_and_score_completions", _after, 7),
    "before a loss": replace(f"{_TRAINER}.compute_loss", _before, 9),
    "after a loss": replace(f"{_TRAINER}.compute_loss", _after, 9),
    "before the dictionary is fitted": replace(f"{_TRAINER}._calibrate", _before),
    "after the dictionary is fitted": replace(f"{_TRAINER}._calibrate", _after),
    "before an optimiser's step": replace("torch.optim:AdamW.step", _before, 11),
    "after an optimiser's step": replace("torch.optim:AdamW.step", _after, 11),
    "before a checkpoint": replace(f"{_TRAINER}._save_checkpoint", _before, 3),
    "half model.safetensors": replace(f"{_TRAINER}._save", _half("model.safetensors"), 3),
    "after the model's save": replace(f"{_TRAINER}._save", _after, 3),
    "half optimizer.pt": replace(f"{_HF}._save_optimizer_and_scheduler", _half("optimizer.pt"), 3),
    "after optimizer.pt": replace(f"{_HF}._save_optimizer_and_scheduler", _after, 3),
    "half rng_state.pth": replace(f"{_HF}._save_rng_state", _half("rng_state.pth"), 3),
    "after rng_state.pth": replace(f"{_HF}._save_rng_state", _after, 3),
    "half trainer_state.json": replace(
        "transformers.trainer_callback:TrainerState.save_to_json", _half("trainer_state.json"), 3
    ),
    "after trainer_state.json": replace("transformers.trainer_callback:TrainerState.save_to_json", _after, 3),
    "after a checkpoint": replace(f"{_TRAINER}._save_checkpoint", _after, 3),
    "half a rotation": replace("shutil:rmtree", _half_rotation),
    "before a row of metrics": replace(f"{_RUN}.append_metrics", _before, 7),
    "half a row of metrics": replace(f"{_RUN}.append_metrics", _half_row, 7),
    "after a row of metrics": replace(f"{_RUN}.append_metrics", _after, 7),
    "before completions": replace(f"{_RUN}.write_completions", _before, 7),
    "after completions": replace(f"{_RUN}.write_completions", _after, 7),
    "between a temporary file and its name": replace("os:replace", _before, 20),
    "before the evaluation after": replace(f"{_EVALUATION}.after", _before),
    "after the evaluation after": replace(f"{_EVALUATION}.after", _after),
}
"""By name; each is put into a run that starts from nothing."""
