"""The shipped configs for one GPU, eight GPUs and two nodes, with the number to expect. None of them was run by us.

relax recipes               all of them, a line each
relax recipes qwen2.5-7b    every number that its source prints, and the commands
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from relax_rl.cli.arguments import refuse_settings
from relax_rl.config.messages import did_you_mean
from relax_rl.config.recipes import Recipe, recipes
from relax_rl.errors import ConfigError

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """A recipe, or none for all of them."""
    parser.add_argument("name", nargs="?", metavar="NAME", help="name of a recipe")


def run(arguments: argparse.Namespace, settings: Sequence[str]) -> int:
    """Print a line for each recipe, or all of one."""
    refuse_settings(settings, "recipes")
    known = {recipe.name: recipe for recipe in recipes()}
    if arguments.name is None:
        _print_all(list(known.values()))
        return 0
    if arguments.name not in known:
        raise ConfigError(f"there is no recipe '{arguments.name}'{did_you_mean(arguments.name, list(known))}")
    _print_one(known[arguments.name])
    return 0


def _print_all(known: Sequence[Recipe]) -> None:
    widths = [max(len(getattr(recipe, name)) for recipe in known) for name in ("name", "hardware", "about")]
    for recipe in known:
        cells = (recipe.name, recipe.hardware, recipe.about)
        columns = "  ".join(f"{cell:{width}}" for cell, width in zip(cells, widths, strict=True))
        print(f"{columns}  {_average(recipe)}")
    print("\nThe numbers are the paper's (arXiv 2512.07558), in percent. None of these configs was run by us.")


def _average(recipe: Recipe) -> str:
    if not recipe.expected:
        return recipe.source
    return f"average {recipe.start['average']:g} -> {recipe.expected['average']:g}"


def _print_one(recipe: Recipe) -> None:
    print(f"{recipe.name}: {recipe.about}, {recipe.hardware}; not run by us")
    print(f"source: {recipe.source}")
    for name, value in recipe.expected.items():
        print(f"  {name:24} {recipe.start[name]:6g} -> {value:6g}")
    nodes, rest = recipe.hardware.split("x", 1) if recipe.hardware.count("x") == 2 else ("1", recipe.hardware)
    devices = rest.partition("x")[0] if "x" in rest else "1"
    print(f"relax train {recipe.name} --dry-run --hardware {recipe.hardware}")
    if nodes != "1":
        print(f"relax verl-config {recipe.name} --nodes {nodes} --gpus {devices}")
    elif devices == "1":
        print(f"relax train {recipe.name}")
    else:
        print(f"torchrun --nproc_per_node {devices} -m -- relax_rl.cli.main train {recipe.name}")
