"""One self-contained HTML page about one run or several: curves, spectra, completions, evaluations."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from relax_rl.cli.arguments import refuse_settings
from relax_rl.workflows.report import report

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Runs, and where the page goes."""
    help_ = "run directories, in the order of the figures' legends, or one folder of 'relax compare'"
    parser.add_argument("runs", nargs="+", metavar="RUN", help=help_)
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="default: report.html in the first run")


def run(arguments: argparse.Namespace, settings: Sequence[str]) -> int:
    """Write the page and print its path."""
    refuse_settings(settings, "report")
    print(report(arguments.runs, arguments.output))
    return 0
