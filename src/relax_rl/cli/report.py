"""One self-contained HTML page about one run or several, or a board of the runs of a folder; live with --watch."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from relax_rl.cli.arguments import refuse_settings
from relax_rl.errors import ConfigError
from relax_rl.workflows.report import report, report_server

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Runs, where the page goes, and whether it is served."""
    help_ = "run directories, in the order of the figures' legends; one folder of 'relax compare'; or a folder of runs"
    parser.add_argument("runs", nargs="+", metavar="RUN", help=help_)
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="default: report.html in the first run")
    parser.add_argument("--figures", type=Path, metavar="DIR", help="also write the figures: SVG, PNG and CSV")
    parser.add_argument("--watch", action="store_true", help="serve the page on this machine, and follow the runs")
    parser.add_argument("--port", type=int, metavar="N", help="port of --watch; default: any free one")


def run(arguments: argparse.Namespace, settings: Sequence[str]) -> int:
    """Write the page and print its path, or serve it and print its address."""
    refuse_settings(settings, "report")
    if not arguments.watch:
        if arguments.port is not None:
            raise ConfigError("--port is where --watch serves the page; add --watch, or leave --port out.")
        print(report(arguments.runs, arguments.output, figures=arguments.figures))
        return 0
    for name in ("output", "figures"):
        if getattr(arguments, name) is not None:
            raise ConfigError(f"--watch serves the page and writes no file; leave --{name} out, or --watch.")
    server = report_server(arguments.runs, 0 if arguments.port is None else arguments.port)
    print(f"{server.address} follows the runs; end it with Ctrl-C", flush=True)
    server.serve()
    return 0
