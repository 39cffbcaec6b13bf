"""Say what is wrong with a run: its training, its checkpoints, who works there. Nothing is loaded or written.

relax doctor runs/countdown-relax-seed0
relax doctor runs/countdown-relax-seed0 --checkpoints
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from relax_rl.errors import ConfigError
from relax_rl.runs.starts import start_in_words
from relax_rl.workflows.doctor import diagnose

if TYPE_CHECKING:
    from relax_rl.runs.checkpoints import Checkpoint

__all__ = ["EPILOG", "add_arguments", "run"]

EPILOG = "exit code 2 if the run cannot be resumed, or a checkpoint is damaged; symptoms do not change it"

_STATES = {
    "whole": "whole",
    "damaged": "DAMAGED",
    "unfinished": "never finished; the next resume removes it",
    "unverified": "without a manifest, from an earlier version of relax-rl: cannot be verified",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The run, and how closely to look."""
    parser.add_argument("run", metavar="RUN", help="run directory")
    parser.add_argument("--checkpoints", action="store_true", help="read every byte of every checkpoint")


def run(arguments: argparse.Namespace, settings: Sequence[str]) -> int:
    """Print what was found."""
    if settings:
        raise ConfigError(f"'relax doctor' takes no setting such as '{settings[0]}'")
    found = diagnose(arguments.run, checkpoints=arguments.checkpoints)
    print(f"run        {found.path}")
    print(f"at work    {found.owner or 'nobody'}")
    print(f"metrics    {found.num_rows:,} rows")
    for start in found.starts:
        print(f"started    {start_in_words(start)}")
    for checkpoint in found.checkpoints:
        print(f"checkpoint {_in_words(checkpoint, is_read=arguments.checkpoints)}")
    print(f"resume     {'from ' + found.resumes_from.name if found.resumes_from else 'not possible'}")
    for sentence in found.said:
        print(f"           {sentence}")
    if found.ending is not None and found.ending.error:
        print(f"ended      after update {found.ending.update}: {found.ending.error}: {found.ending.message}")
    for symptom in found.symptoms:
        print(f"symptom    {symptom.name}: {symptom.found}")
        print(f"  cause    {symptom.cause}")
        print(f"  change   {symptom.change}")
    if found.num_rows and not found.symptoms:
        print("training   nothing wrong in the log")
    return 0 if found.is_healthy else 2


def _in_words(checkpoint: Checkpoint, *, is_read: bool) -> str:
    words = f"{checkpoint.step}: {_STATES[checkpoint.state]}"
    if checkpoint.faults:
        words += f": {', '.join(checkpoint.faults)}"
    manifest = checkpoint.manifest
    if manifest is None or checkpoint.state != "whole":
        return words
    size = sum(record.size for record in manifest.files.values()) / 1e6
    versions = ", ".join(f"{name} {version}" for name, version in manifest.versions.items())
    what = "every byte" if is_read else "sizes"
    return f"{words} ({what} of {len(manifest.files)} files, {size:,.1f} MB; {versions})"
