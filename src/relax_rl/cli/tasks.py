"""The tasks: what there is, what their problems look like, and whether each proves itself.

relax tasks                                    the names
relax tasks show countdown --task.level 3      some problems
relax tasks show relax_mix --data-dir data --split train
relax tasks validate math --task.path f.jsonl  every gold answer must score 1, a wrong one 0
relax tasks validate --all-gym                 which datasets of reasoning-gym fail their own scorer
relax tasks overlap data --task.path f.jsonl --data-dir data  what it shares with evaluation sets
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from relax_rl.cli.arguments import refuse_settings
from relax_rl.config import task_options
from relax_rl.errors import ConfigError, RelaxError

if TYPE_CHECKING:
    from relax_rl.tasks.base import BaseTask, Problem

__all__ = ["add_arguments", "run"]

_FAILURES_SHOWN = 20
_SHOWN = 3


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """An action and, but for ``list``, a task."""
    parser.add_argument(
        "action", nargs="?", choices=("list", "show", "validate", "overlap"), default="list", help="default: list"
    )
    parser.add_argument("name", nargs="?", metavar="NAME", help="the task; its options are --task.KEY VALUE")
    parser.add_argument("--split", help="default: test; overlap: train")
    parser.add_argument(
        "-n", "--num-problems", type=int, metavar="N", help="the first N; show: 3, validate: all, by default"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the problems or of their order (%(default)s)")
    parser.add_argument(
        "--data-dir", metavar="DIR", help="folder that the task reads its files from; overlap: of the evaluation sets"
    )
    parser.add_argument(
        "--all-gym", action="store_true", help="validate: every dataset of reasoning-gym (15 problems each by default)"
    )
    parser.add_argument("--against", metavar="NAMES", help="overlap: evaluation sets, with commas (default: all)")


def run(arguments: argparse.Namespace, settings: Sequence[str]) -> int:
    """Print; ``validate`` returns 1 when the task does not prove itself."""
    from relax_rl.tasks.registry import build_task, task_names

    if arguments.action == "list":
        refuse_settings(settings, "tasks list")
        _print_list()
        return 0
    if arguments.all_gym:
        if arguments.action != "validate" or arguments.name is not None or settings:
            raise ConfigError("--all-gym stands alone: relax tasks validate --all-gym [-n N]")
        return _validate_gym(arguments.split or "test", arguments.num_problems or 15, arguments.seed)
    if arguments.name is None:
        raise ConfigError(f"name the task: relax tasks {arguments.action} NAME; there are: {', '.join(task_names())}")
    if arguments.against is not None and arguments.action != "overlap":
        raise ConfigError(f"--against is for 'relax tasks overlap'; leave it out of 'relax tasks {arguments.action}'")
    if arguments.action == "overlap":
        return _print_overlap(build_task(arguments.name, **task_options(settings)), arguments)
    task, split = build_task(arguments.name, **task_options(settings, arguments.data_dir)), arguments.split or "test"
    if arguments.action == "validate":
        return _validate(task, split, arguments.num_problems, arguments.seed)
    for problem in task.problems(split, arguments.num_problems or max(_SHOWN, task.group_size), arguments.seed):
        _print_problem(problem)
    return 0


def _print_list() -> None:
    from relax_rl.tasks.registry import task_entries

    entries = task_entries()
    width = max(len(entry.name) for entry in entries)
    for entry in entries:
        sizes = ", ".join(f"{split} {size}" for split, size in entry.sizes.items())
        print(f"{entry.name:{width}}  {sizes:24}  {entry.about}" + (f"  [{entry.hub}]" if entry.hub else ""))


def _print_problem(problem: Problem) -> None:
    print(f"{problem.id}\n  prompt  {problem.prompt!r}")
    if problem.system is not None:
        print(f"  system  {problem.system!r}")
    for role, text in problem.turns:
        print(f"  {role:6}  {text!r}")
    if problem.instruction is not None:
        print(f"  chat    {problem.instruction!r}")
    print(f"  answer  {problem.answer!r}")


def _validate_gym(split: str, count: int, seed: int) -> int:
    """Each dataset whose own gold answers fail its own scorer, or that makes no such problems; 1 if there is any."""
    from relax_rl.tasks.base import validate_task
    from relax_rl.tasks.gym import PREFIX, dataset_names
    from relax_rl.tasks.registry import build_task

    names, num_failing = dataset_names(), 0
    for name in names:
        try:
            report = validate_task(build_task(f"{PREFIX}{name}"), split, count, seed=seed)
        except RelaxError as error:
            print(f"{PREFIX}{name}: {error}", flush=True)
            continue
        if report.unsolved or report.without_solution or report.too_lenient:
            num_failing += bool(report.unsolved or report.too_lenient)
            print(report, flush=True)
    print(f"{len(names)} datasets, {num_failing} of them do not prove themselves on {count} problems")
    return 1 if num_failing else 0


def _print_overlap(task: BaseTask, arguments: argparse.Namespace) -> int:
    from relax_rl.tasks.decontamination import evaluation_problems, overlaps

    names = None if arguments.against is None else [name.strip() for name in arguments.against.split(",")]
    split = arguments.split or "train"
    problems = task.problems(split, arguments.num_problems, arguments.seed)
    held, missing = evaluation_problems(names, arguments.data_dir)
    print(f"{task.name}/{split}: {len(problems)} problems")
    for found in overlaps(problems, held):
        print(f"  {found}")
    for sentence in missing:
        print(f"  {sentence}")
    return 0


def _validate(task: BaseTask, split: str, count: int | None, seed: int) -> int:
    from relax_rl.tasks.base import validate_task

    # Before the problems are loaded, or the same would be said on stderr, too.
    remarks = task.remarks(split)
    report = validate_task(task, split, count, seed=seed)
    print(report)
    for remark in remarks:
        print(f"  {remark}")
    answers = {problem.id: problem.answer for problem in task.problems(split, count, seed)}
    for problem_id, what in list(report.failures.items())[:_FAILURES_SHOWN]:
        print(f"  {problem_id}: {what}; the gold answer is {answers[problem_id]!r}")
    if len(report.failures) > _FAILURES_SHOWN:
        print(f"  and {len(report.failures) - _FAILURES_SHOWN} more")
    return 0 if report.ok else 1
