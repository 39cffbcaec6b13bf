"""Settings as several verbs read them."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

from relax_rl.errors import ConfigError

if TYPE_CHECKING:
    from relax_rl.workflows.progress import Progress

__all__ = [
    "add_budgets",
    "add_prompt_form",
    "add_remote_code",
    "add_time_limit",
    "add_trust",
    "at_least_one",
    "refuse_settings",
    "refuse_unread",
    "say",
]


def add_trust(group: argparse._ArgumentGroup) -> None:
    """The options by which the user, and no file, decides whose code may run."""
    add_remote_code(group)
    group.add_argument(
        "--allow-code",
        action="append",
        default=[],
        metavar="MODULE",
        help="import the tasks, verifiers and methods of this module that a file names; may be repeated",
    )


def add_remote_code(group: argparse._ActionsContainer) -> None:
    """``--trust-remote-code``, of which `relax_rl.cli.main` takes care."""
    group.add_argument(
        "--trust-remote-code", action="store_true", help="run the Python code that comes with a model (read it first)"
    )


def say(progress: Progress) -> None:
    """Messages of a workflow on stderr; a step of its count is not shown."""
    if progress.message:
        print(progress.message, file=sys.stderr, flush=True)


def refuse_settings(settings: Sequence[str], verb: str) -> None:
    """For a verb without dotted settings. Raises ``ConfigError`` naming the first one."""
    if settings:
        raise ConfigError(f"'relax {verb}' takes no setting such as {settings[0]} (see 'relax {verb} --help')")


def refuse_unread(arguments: argparse.Namespace, form: str, read: Collection[str]) -> None:
    """For a verb of several forms, each with options of its own.

    Args:
        form: words that choose it, such as ``spectrum --states``.
        read: names of the options that it reads, beside those of every verb.

    Raises:
        ConfigError: an option was given that the form does not read; the first by name.
    """
    unread = sorted(arguments.given - {*read, "max_hours", "trust_remote_code", "allow_code"})
    if unread:
        raise ConfigError(f"'relax {form}' does not read --{unread[0].replace('_', '-')}; leave it out.")


def at_least_one(text: str) -> int:
    """A whole number from 1 on, for argparse.

    Raises:
        argparse.ArgumentTypeError: it is none.
    """
    if not text.strip().isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"give a whole number of at least 1, not {text!r}")
    return int(text)


def add_time_limit(group: argparse._ArgumentGroup) -> None:
    """``--max-hours``, of which `relax_rl.cli.main` takes care."""
    group.add_argument("--max-hours", type=_hours, metavar="H", help="stop after so many hours, as a signal would")


def _hours(text: str) -> float:
    try:
        hours = float(text)
    except ValueError:
        hours = 0.0
    if not 0 < hours < float("inf"):
        raise argparse.ArgumentTypeError(f"give a number of hours above 0, such as 11.5, not {text!r}")
    return hours


def add_prompt_form(group: argparse._ArgumentGroup, *, drops: bool = False) -> None:
    """The options by which problems become prompts; None of each leaves it to a run's own settings.

    Args:
        drops: whether problems may be left out, too.
    """
    group.add_argument("--plain", action="store_true", default=None, help="plain prompts, no chat template")
    switches = "switches of the chat template"
    group.add_argument("--chat-template-kwargs", type=_switches, metavar="JSON", help=switches)
    overlong = "prompts that are too long for the model's context (refuse)"
    group.add_argument("--overlong", choices=("refuse", "cut", *(("drop",) if drops else ())), help=overlong)


def add_budgets(group: argparse._ArgumentGroup) -> None:
    """The budgets of a prompt in tokens and of an image in pixels; None of each leaves it to a run's own settings."""
    group.add_argument(
        "--max-prompt-length", type=at_least_one, metavar="T", help="leave out problems with longer prompts, and count"
    )
    group.add_argument("--min-pixels", type=at_least_one, metavar="N", help="enlarge images of fewer pixels")
    group.add_argument("--max-pixels", type=at_least_one, metavar="N", help="make images of more pixels smaller")


def _switches(text: str) -> dict[str, Any]:
    """Switches of a chat template as a JSON object, for argparse.

    Raises:
        argparse.ArgumentTypeError: it is none.
    """
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise argparse.ArgumentTypeError(f'give a JSON object such as {{"enable_thinking": false}}, not {text!r}')
    return found
