"""``relax spectrum --images``: what an image does to next tokens and to latent dynamics."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from relax_rl.cli.arguments import at_least_one, refuse_settings, say
from relax_rl.cli.spectrum_modes import command_words, only_reads, reading_of

if TYPE_CHECKING:
    from relax_rl.evaluation.sight.result import SightResult

__all__ = ["add_image_arguments", "run_images"]

_PASSED_ON = ("conditions", "patch", "kind", "fit_steps", "batch_tokens", "overwrite")
_READ = (
    *("images", "num_problems", "max_completion_length", "temperature", "split", "data_dir", "seed", "sites"),
    *("estimators", "observables", "dtype", "revision", "device_map", "chat_template_kwargs"),
)


def add_image_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of this form."""
    group = parser.add_argument_group("images")
    group.add_argument(
        "--images", metavar="FILE|TASK", help="what the image does: the same completions under other images"
    )
    group.add_argument(
        "--conditions",
        metavar="LIST",
        help="with --images: of other,masked:SHARE,grey,none,words (masked:0.6, no words)",
    )
    group.add_argument(
        "--patch", type=at_least_one, metavar="N", help="with --images: side of a masked square, in pixels (14)"
    )


def run_images(arguments: argparse.Namespace, settings: Sequence[str]) -> int:
    """Conditions on the same completions: tables, and a folder."""
    from relax_rl.tasks.files import DATA_SUFFIXES

    only_reads(arguments, "--images", (*_READ, *_PASSED_ON))
    if Path(arguments.images).suffix.lower() in DATA_SUFFIXES:
        refuse_settings(settings, "spectrum --images FILE")

    from relax_rl.workflows.spectrum import default_folder
    from relax_rl.workflows.spectrum_images import NUM_PROBLEMS, spectrum_images

    reading = reading_of(arguments, settings)
    result = spectrum_images(
        arguments.model,
        arguments.images,
        reading if arguments.num_problems else replace(reading, num_problems=NUM_PROBLEMS),
        **{name: getattr(arguments, name) for name in _PASSED_ON},
        num_observables=arguments.observables,
        sites=arguments.sites.split(",") if arguments.sites else (),
        estimators=arguments.estimators.split(","),
        output=arguments.output or default_folder(arguments.model) / "images",
        command=command_words(arguments, settings),
        on_progress=say,
    )

    from relax_rl.cli.spectrum_tables import print_tables

    _print_sight(result.sight)
    print_tables(result.spectra, [])
    print(result.page)
    return 0


def _print_sight(sight: SightResult) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    from relax_rl.reports.spectra.images import CONDITION_COLUMNS, condition_rows, site_columns, site_rows

    console = Console(width=max(144, Console().width))
    tables = (
        (
            CONDITION_COLUMNS,
            condition_rows(sight),
            "next tokens under other images",
            "KL in nats from the distribution under the true image [95 % interval over questions]; same choice: share "
            "of tokens whose most likely token stays",
        ),
        (
            site_columns(sight),
            site_rows(sight),
            "latent dynamics under other images",
            "distance: of states, as a share of that between two problems; error: variance of the next lifted state "
            "that the operator of the true image leaves unexplained; angle: degrees between leading modes",
        ),
    )
    for columns, rows, title, caption in tables:
        table = Table(box=SIMPLE_HEAD, title=f"{sight.model}: {title}", caption=caption)
        for column in columns:
            table.add_column(column, overflow="fold")
        for cells in rows:
            table.add_row(*cells)
        console.print(table)
