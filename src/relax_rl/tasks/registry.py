"""From a task's name to the task."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from relax_rl.errors import ConfigError
from relax_rl.rewards.worker import resolve
from relax_rl.tasks.base import Task
from relax_rl.tasks.countdown import CountdownTask
from relax_rl.tasks.math import SYSTEM_PROMPT, MathTask

__all__ = ["build_task", "task_names"]


def _gsm8k(data_dir: str | Path | None = None, system: str | None = SYSTEM_PROMPT) -> MathTask:
    """Grade-school word problems (Cobbe et al., 2021, arXiv:2110.14168): 7473 train, 1319 test, integer answers."""
    if data_dir is None:
        return MathTask(hub="openai/gsm8k", hub_config="main", answer_after="####", system=system, name="gsm8k")
    files = {split: Path(data_dir) / f"gsm8k_{split}.jsonl" for split in ("train", "test")}
    return MathTask(path=files, system=system, name="gsm8k")


def _math500(data_dir: str | Path | None = None, system: str | None = SYSTEM_PROMPT) -> MathTask:
    """500 test problems of MATH (Hendrycks et al., 2021; split of Lightman et al., 2023). Evaluation only."""
    if data_dir is None:
        return MathTask(hub="HuggingFaceH4/MATH-500", system=system, name="math500")
    return MathTask(path={"test": Path(data_dir) / "math500.jsonl"}, system=system, name="math500")


_TASKS: dict[str, Callable[..., Task]] = {
    "countdown": CountdownTask,
    "math": MathTask,
    "gsm8k": _gsm8k,
    "math500": _math500,
}


def task_names() -> tuple[str, ...]:
    """The names that ``build_task`` knows without an import path."""
    return tuple(_TASKS)


def build_task(name: str, **options: Any) -> Task:
    """The task ``name`` with its options, or a user's own class given as ``package.module:Class``.

    Raises:
        ConfigError: an unknown name or option (with the nearest one), a class that cannot be imported, or an object
            that is no :class:`~relax_rl.tasks.base.Task`.
    """
    make = _own_class(name) if ":" in name else _TASKS.get(name)
    if make is None:
        raise ConfigError(
            f"There is no task '{name}'{_nearest(name, _TASKS)}; the tasks are {', '.join(_TASKS)}, and your own as "
            "package.module:Class."
        )
    _check_options(name, make, options)
    task = make(**options)
    if not isinstance(task, Task):
        raise ConfigError(f"'{name}' is no task: it needs name, verifier and problems(split, count, seed).")
    return task


def _own_class(path: str) -> Callable[..., Any]:
    try:
        return resolve(path)
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        raise ConfigError(f"The task '{path}' cannot be loaded: {error}; give package.module:Class.") from error


def _check_options(name: str, make: Callable[..., Any], options: dict[str, Any]) -> None:
    parameters = inspect.signature(make).parameters
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return
    for option in options:
        if option not in parameters:
            known = ", ".join(parameters) or "none"
            raise ConfigError(
                f"The task '{name}' has no option '{option}'{_nearest(option, parameters)}; its options are {known}."
            )
    for parameter in parameters.values():
        if parameter.default is parameter.empty and parameter.name not in options:
            raise ConfigError(f"The task '{name}' needs the option '{parameter.name}'.")


def _nearest(word: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(word, list(known), n=1)
    return f", did you mean '{near[0]}'?" if near else ""
