"""One self-contained HTML page about one run or several: curves, spectra, completions, evaluations."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from relax_rl.cli.arguments import refuse_settings
from relax_rl.comparison.contents import Contents
from relax_rl.runs import RunDirectory

__all__ = ["HELP", "add_arguments", "run"]

HELP = "write one page about one run or several"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Runs, and where the page goes."""
    help_ = "run directories, in the order of the figures' legends, or one folder of 'relax compare'"
    parser.add_argument("runs", nargs="+", metavar="RUN", help=help_)
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="default: report.html in the first run")


def run(arguments: argparse.Namespace, settings: Sequence[str]) -> int:
    """Write the page and print its path."""
    refuse_settings(settings, "report")
    first = Path(arguments.runs[0])
    if len(arguments.runs) == 1 and Contents.is_in(first):
        contents = Contents.read(first)
        paths, methods = contents.evaluated_runs(first)
        folder, baseline, metrics = first, contents.baseline, contents.metrics
    else:
        paths = [RunDirectory.open(path).path for path in arguments.runs]
        folder, methods, baseline, metrics = paths[0], None, None, None

    from relax_rl.reports.page import write_report

    output = arguments.output or folder / "report.html"
    write_report(paths, output, methods=methods, baseline=baseline, metrics=metrics)
    print(output)
    return 0
