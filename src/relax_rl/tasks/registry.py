"""From a task's name to the task."""

from __future__ import annotations

import difflib
import functools
import inspect
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from relax_rl.config import VerifierConfig
from relax_rl.errors import ConfigError
from relax_rl.import_path import is_own_task, resolve_own
from relax_rl.rewards.own_code import called, place_of
from relax_rl.rewards.registry import build_verifier
from relax_rl.tasks.base import BaseTask, Task, as_task
from relax_rl.tasks.benchmarks import BENCHMARKS, EVALUATION_SETS, benchmark, parse_levels
from relax_rl.tasks.countdown import DEFAULT_SIZES, CountdownTask
from relax_rl.tasks.countdown_muted import SIZES as MUTED_SIZES
from relax_rl.tasks.countdown_muted import MutedCountdownTask
from relax_rl.tasks.data import DataTask
from relax_rl.tasks.figures.task import SIZES as FIGURE_SIZES
from relax_rl.tasks.figures.task import FiguresTask
from relax_rl.tasks.gym import PREFIX, ReasoningGymTask
from relax_rl.tasks.many_solutions import SIZES, ManySolutionsTask
from relax_rl.tasks.math import PLAIN_PROMPT, SYSTEM_PROMPT, MathTask
from relax_rl.tasks.maze import SIZES as MAZE_SIZES
from relax_rl.tasks.maze import MazeTask
from relax_rl.tasks.mix import TrainingMix
from relax_rl.tasks.visual.sets import VISUAL_SETS
from relax_rl.tasks.visual.task import VISION_PROMPT, VisualTask

__all__ = ["TaskEntry", "build_task", "task_entries", "task_names"]

_PAPER_LEVELS = (3, 4, 5)


@dataclass(frozen=True)
class TaskEntry:
    """A line of ``relax tasks list``: the name, problems by split, what it is, and its dataset on the Hub."""

    name: str
    sizes: Mapping[str, int]
    about: str
    hub: str = ""


def _benchmark(
    name: str, data_dir: str | Path | None = None, system: str | None = SYSTEM_PROMPT, prompt: str = PLAIN_PROMPT
) -> MathTask:
    return benchmark(name, data_dir, system=system, prompt=prompt)


def _mix(name: str, parts: Sequence[str], data_dir: Any, levels: Any, exclude: Sequence[str], **words: Any) -> Task:
    if unknown := sorted(set(exclude) - BENCHMARKS.keys()):
        raise ConfigError(
            f"exclude names {unknown[0]!r}{_nearest(unknown[0], BENCHMARKS)}, which is no set of problems; choose from "
            f"{', '.join(BENCHMARKS)}."
        )

    def rows(part: str) -> MathTask:
        return benchmark(part, data_dir, levels if part == "math" else None, **words)

    # Of `math` itself the levels hold for both splits; the mix is tested on all of math500.
    held_out = rows("math" if name == "math" else "math500")
    return TrainingMix(name, tuple(map(rows, parts)), held_out, tuple(benchmark(other, data_dir) for other in exclude))


def _dapo(
    data_dir: str | Path | None = None,
    exclude: Sequence[str] = EVALUATION_SETS,
    system: str | None = SYSTEM_PROMPT,
    prompt: str = PLAIN_PROMPT,
) -> Task:
    return _mix("dapo_math_17k", ["dapo_math_17k"], data_dir, None, exclude, system=system, prompt=prompt)


def _relax_mix(
    data_dir: str | Path | None = None,
    levels: int | str | Sequence[int] = _PAPER_LEVELS,
    exclude: Sequence[str] = EVALUATION_SETS,
    system: str | None = SYSTEM_PROMPT,
    prompt: str = PLAIN_PROMPT,
) -> Task:
    chosen = parse_levels(levels)
    return _mix("relax_mix", ["dapo_math_17k", "math"], data_dir, chosen, exclude, system=system, prompt=prompt)


def _math(
    data_dir: str | Path | None = None,
    levels: int | str | Sequence[int] | None = None,
    exclude: Sequence[str] = EVALUATION_SETS,
    system: str | None = SYSTEM_PROMPT,
    prompt: str = PLAIN_PROMPT,
    path: str | Mapping[str, str] | None = None,
    hub: str | None = None,
    hub_config: str | None = None,
    problem_column: str | None = None,
    answer_column: str | None = None,
    solution_column: str | None = None,
    answer_after: str | None = None,
    test_share: float = 0.1,
    drop: str | Sequence[str] = (),
) -> Task:
    """MATH, or the user's own problems in the same form if they say where those are."""
    chosen = parse_levels(levels)
    if path is None and hub is None:
        return _mix("math", ["math"], data_dir, chosen, exclude, system=system, prompt=prompt)
    if data_dir is not None:
        raise ConfigError(f"The task 'math' was given data_dir={data_dir} and problems of your own; leave one out.")
    return MathTask(
        path=path,
        hub=hub,
        hub_config=hub_config,
        levels=chosen,
        problem_column=problem_column,
        answer_column=answer_column,
        solution_column=solution_column,
        answer_after=answer_after,
        test_share=test_share,
        drop=drop,
        is_known=False,
        system=system,
        prompt=prompt,
    )


def _data(
    path: str | Mapping[str, str] | None = None,
    hub: str | None = None,
    hub_config: str | None = None,
    hub_splits: Mapping[str, str] | None = None,
    prompt_column: str | None = None,
    answer_column: str | None = None,
    solution_column: str | None = None,
    options_column: str | None = None,
    image_column: str | None = None,
    id_column: str | None = None,
    answer_after: str | None = None,
    first_option: int | None = None,
    columns: Sequence[str] | str | None = None,
    drop: str | Sequence[str] = (),
    max_prompt_characters: int | None = None,
    test_share: float = 0.1,
    system: str | None = None,
    prompt: str = "{problem}",
    verifier: str | Mapping[str, Any] | None = None,
) -> Task:
    """The user's own problems, graded by the named verifier, by default as mathematics."""
    chosen = VerifierConfig(name="math") if verifier is None else VerifierConfig.model_validate(verifier)
    return DataTask(
        path=path,
        hub=hub,
        hub_config=hub_config,
        hub_splits=hub_splits,
        prompt_column=prompt_column,
        answer_column=answer_column,
        solution_column=solution_column,
        options_column=options_column,
        image_column=image_column,
        id_column=id_column,
        answer_after=answer_after,
        first_option=first_option,
        columns=[name.strip() for name in columns.split(",")] if isinstance(columns, str) else columns,
        drop=drop,
        max_prompt_characters=max_prompt_characters,
        test_share=test_share,
        system=system,
        prompt=prompt,
        verifier=build_verifier(chosen.name, **chosen.options),
    )


def _visual(name: str, path: str | None = None, blind: bool = False, system: str | None = VISION_PROMPT) -> VisualTask:
    return VisualTask(name, path, blind, system)


_TASKS: dict[str, Callable[..., Task]] = {
    "countdown": CountdownTask.of_level,
    "many_solutions": ManySolutionsTask,
    "countdown_muted": MutedCountdownTask,
    "maze": MazeTask,
    "figures": FiguresTask,
    "gsm8k": functools.partial(_benchmark, "gsm8k"),
    "math": _math,
    **{name: functools.partial(_benchmark, name) for name in EVALUATION_SETS},
    "dapo_math_17k": _dapo,
    "relax_mix": _relax_mix,
    "data": _data,
    **{name: functools.partial(_visual, name) for name in VISUAL_SETS},
}

_MADE = TaskEntry("countdown", DEFAULT_SIZES, "reach a target with + - * /; levels 1 to 5; made without end")
_MANY = TaskEntry("many_solutions", SIZES, "countdown or subset sums (--task.kind) with 6 solutions or more, counted")
_MUTED = TaskEntry(
    "countdown_muted", MUTED_SIZES, "countdown of which half, and all of split hard, needs one sign (--task.operator)"
)
_MAZE = TaskEntry("maze", MAZE_SIZES, "text mazes with several routes (--task.size 9, --task.deceptive true)")
_FIGURES = TaskEntry(
    "figures", FIGURE_SIZES, "drawn figures with variants, text and picture twins; levels 1 and 2 (--task.kinds prism)"
)
_DATA = TaskEntry("data", {}, "your own file, folder or dataset (--task.path): JSON Lines, CSV, parquet, verl's, TRL's")
_MIX = TaskEntry(
    "relax_mix",
    {"train": 22548, "test": 500},
    "the paper's training mix: dapo_math_17k and MATH levels 3 to 5; tested on math500",
)
_GYM = TaskEntry(f"{PREFIX}NAME", DEFAULT_SIZES, "any dataset of reasoning-gym, such as chain_sum; made without end")


def task_names() -> tuple[str, ...]:
    """The names that ``build_task`` knows without an import path; beside them, ``reasoning_gym:NAME``."""
    return tuple(_TASKS)


def task_entries() -> list[TaskEntry]:
    """Tasks to list, in the order of ``task_names``, and last reasoning-gym."""
    known = {
        "countdown": _MADE,
        "many_solutions": _MANY,
        "countdown_muted": _MUTED,
        "maze": _MAZE,
        "figures": _FIGURES,
        "relax_mix": _MIX,
        "data": _DATA,
    } | {name: TaskEntry(name, entry.sizes, entry.about, str(entry.hub["hub"])) for name, entry in BENCHMARKS.items()}
    known |= {name: TaskEntry(name, entry.sizes, entry.about, entry.hub) for name, entry in VISUAL_SETS.items()}
    return [*(known[name] for name in _TASKS), _GYM]


def build_task(name: str, **options: Any) -> BaseTask:
    """The task ``name`` with its options, or a user's own class given as ``package.module:Class``.

    Raises:
        ConfigError: an unknown name or option (with the nearest one), a class that cannot be imported, or an object
            that is no :class:`~relax_rl.tasks.base.Task`.

    The import path must be the user's own word: what a file names passes `.require_allowed` first.
    """
    if name.startswith(PREFIX):
        make = functools.partial(ReasoningGymTask, name.removeprefix(PREFIX))
    else:
        make = _own_class(name) if is_own_task(name) else _TASKS.get(name)
    if make is None:
        raise ConfigError(
            f"There is no task '{name}'{_nearest(name, _TASKS)}; the tasks are {', '.join(_TASKS)}, those of "
            f"reasoning-gym as {PREFIX}NAME, and your own as package.module:Class."
        )
    _check_options(name, make, options)
    made = called(f"The task '{name}' ({place_of(make)})", make, **options) if is_own_task(name) else make(**options)
    return as_task(made, f"'{name}'")


def _own_class(path: str) -> Callable[..., Any]:
    try:
        return resolve_own(path, _makes_tasks, "a task, that is a class with problems(split, count, seed)")
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        raise ConfigError(f"The task '{path}' cannot be loaded: {error}; give package.module:Class.") from error


def _makes_tasks(found: Any) -> bool:
    """A class of tasks, or a function that says by its return annotation that it returns one: nothing is called."""
    if inspect.isfunction(found) or inspect.ismethod(found):
        found = typing.get_type_hints(found).get("return")
    return inspect.isclass(found) and callable(getattr(found, "problems", None))


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
