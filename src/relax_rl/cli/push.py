"""Upload a trained model with its card to the Hugging Face Hub.

relax push runs/countdown-relax-seed0 OWNER/NAME --dry-run   what would be uploaded
relax push runs/countdown-relax-seed0 OWNER/NAME             the run's final model, into a private repository
relax push ./merged OWNER/NAME --public
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from relax_rl.cli.arguments import refuse_settings

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The model, and where it goes."""
    parser.add_argument("source", metavar="RUN", help="a run that has ended, or a model's or adapter's folder")
    parser.add_argument("repo", metavar="REPO", help="owner/name on the Hub; made if there is none")
    parser.add_argument("--best", action="store_true", help="the best model of the run, not the final one")
    parser.add_argument("--public", action="store_true", help="make the repository public")
    parser.add_argument("--dry-run", action="store_true", help="say what would be uploaded, upload nothing")


def run(arguments: argparse.Namespace, settings: Sequence[str]) -> int:
    """Upload, or list."""
    refuse_settings(settings, "push")

    from relax_rl.workflows.push import push

    pushed = push(
        arguments.source,
        arguments.repo,
        is_best=arguments.best,
        is_public=arguments.public,
        dry_run=arguments.dry_run,
    )
    for note in pushed.notes:
        print(f"relax: warning: {note}", file=sys.stderr)
    if arguments.dry_run:
        for name, size in pushed.files:
            print(f"{size:>15,}  {name}")
        print(f"dry run: {len(pushed.files)} files of {pushed.folder} for {pushed.repo}; nothing was uploaded")
    else:
        print(pushed.url)
    return 0
