"""One self-contained HTML page about one run or several: curves, spectra, completions, evaluations."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from relax_rl.cli.arguments import refuse_settings
from relax_rl.runs import RunDirectory

__all__ = ["HELP", "add_arguments", "run"]

HELP = "write one page about one run or several"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Runs, and where the page goes."""
    parser.add_argument("runs", nargs="+", metavar="RUN", help="run directories, in the order of the figures' legends")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="default: report.html in the first run")


def run(arguments: argparse.Namespace, settings: Sequence[str]) -> int:
    """Write the page and print its path."""
    refuse_settings(settings, "report")
    paths = [RunDirectory.open(path).path for path in arguments.runs]

    from relax_rl.reports.page import write_report

    output = arguments.output or paths[0] / "report.html"
    write_report(paths, output)
    print(output)
    return 0
