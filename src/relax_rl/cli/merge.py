"""Add a LoRA adapter to the weights of its base, and write one model in the layout of transformers.

relax merge runs/countdown-relax-seed0 merged        the last checkpoint of a run with --peft.r
relax merge ./adapter merged --dtype bfloat16
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from relax_rl.cli.arguments import add_remote_code, refuse_settings

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The adapter, and where the model goes."""
    parser.add_argument("source", metavar="RUN_OR_ADAPTER", help="a run directory, an adapter's folder or a Hub name")
    parser.add_argument("output", metavar="OUT", help="a new folder for the merged model")
    parser.add_argument("--dtype", help="float32, bfloat16 or float16 (default: that of the base)")
    parser.add_argument("--revision", help="revision of an adapter on the Hub")
    add_remote_code(parser)


def run(arguments: argparse.Namespace, settings: Sequence[str]) -> int:
    """Merge, and print the folder."""
    refuse_settings(settings, "merge")

    from relax_rl.workflows.merge import merge

    merged = merge(arguments.source, arguments.output, dtype=arguments.dtype, revision=arguments.revision)
    print(merged.output)
    print(f"{merged.adapter} added to {merged.base}, weights in {merged.dtype}", file=sys.stderr)
    if merged.note is not None:
        print(f"relax: warning: {merged.note}", file=sys.stderr)
    return 0
