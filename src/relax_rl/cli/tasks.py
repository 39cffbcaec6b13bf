"""The tasks: what there is, what their problems look like, and whether each proves itself.

relax tasks                                   the names
relax tasks show countdown                    some problems
relax tasks validate math --task.path f.jsonl  every gold answer must score 1, a wrong one 0
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from relax_rl.cli.arguments import refuse_settings, task_options
from relax_rl.errors import ConfigError

__all__ = ["HELP", "add_arguments", "run"]

HELP = "list, show and validate the tasks"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """An action and, but for ``list``, a task."""
    parser.add_argument("action", nargs="?", choices=("list", "show", "validate"), default="list", help="default: list")
    parser.add_argument("name", nargs="?", metavar="NAME", help="the task; its options are --task.KEY VALUE")
    parser.add_argument("--split", default="test", help="default: %(default)s")
    parser.add_argument("--num-problems", type=int, metavar="N", help="show: 3, validate: 256, unless given")
    parser.add_argument("--data-dir", metavar="DIR", help="folder that the task reads its files from")


def run(arguments: argparse.Namespace, settings: Sequence[str]) -> int:
    """Print; ``validate`` returns 1 when the task does not prove itself."""
    from relax_rl.tasks.base import validate_task
    from relax_rl.tasks.registry import build_task, task_names

    if arguments.action == "list":
        refuse_settings(settings, "tasks list")
        print("\n".join(task_names()))
        return 0
    if arguments.name is None:
        raise ConfigError(f"name the task: relax tasks {arguments.action} NAME; there are: {', '.join(task_names())}")
    task = build_task(arguments.name, **task_options(arguments.name, settings, arguments.data_dir))
    if arguments.action == "validate":
        report = validate_task(task, arguments.split, arguments.num_problems or 256)
        print(report)
        return 0 if report.ok else 1
    for problem in task.problems(arguments.split, arguments.num_problems or 3):
        chat = "" if problem.instruction is None else f"\n  chat    {problem.instruction!r}"
        print(f"{problem.id}\n  prompt  {problem.prompt!r}{chat}\n  answer  {problem.answer!r}")
    return 0
