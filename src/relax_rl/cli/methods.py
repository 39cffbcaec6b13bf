"""The methods of training: their papers, and the options of each.

relax methods                 all of them, a line each
relax methods kl_cov          its options, as --objective.KEY VALUE
relax methods my_module:mine  your own
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from relax_rl.cli.arguments import refuse_settings

if TYPE_CHECKING:
    from relax_rl.workflows.methods import MethodEntry

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """A method, or none for all of them."""
    parser.add_argument("name", nargs="?", metavar="NAME", help="a method, or package.module:function")


def run(arguments: argparse.Namespace, settings: Sequence[str]) -> int:
    """Print a line for each method, or the options of one."""
    from relax_rl.workflows.methods import method_entries, method_entry

    refuse_settings(settings, "methods")
    if arguments.name is None:
        _print_all(method_entries())
    else:
        _print_one(method_entry(arguments.name))
    return 0


def _print_all(entries: Sequence[MethodEntry]) -> None:
    width = max(len(entry.name) for entry in entries)
    for entry in entries:
        mark = " " if entry.is_verified else "\u2020"
        print(f"{entry.name:{width}} {mark} {entry.paper or '':10}  {entry.about}")
    print("\n\u2020 formula not read at its source: relax compare needs --unverified for it")


def _print_one(entry: MethodEntry) -> None:
    print(f"{entry.name}: {entry.about}")
    if entry.paper:
        print(f"paper: https://arxiv.org/abs/{entry.paper}")
    if not entry.is_verified:
        print("The formula was not read at its source.")
    width = max((len(option.name) for option in entry.options), default=0)
    for option in entry.options:
        print(f"  --objective.{option.name:{width}} {option.default!r:10}  {option.about}".rstrip())
