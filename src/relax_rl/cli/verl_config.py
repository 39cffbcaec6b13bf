"""Write what verl needs to train what a configuration describes: the same run on a cluster.

relax verl-config my_run.toml --gpus 8              into runs/verl-TASK-OBJECTIVE-seedSEED
relax verl-config countdown --output DIR --nodes 2
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from relax_rl.cli.arguments import add_trust, at_least_one
from relax_rl.cli.train import ADVANCED, CORE, add_settings
from relax_rl.config import load_config

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """A configuration with its settings, and the size of the cluster."""
    parser.add_argument("config", metavar="CONFIG", help="a file, or the name of a shipped configuration")
    parser.add_argument("--gpus", type=at_least_one, default=8, metavar="N", help="GPUs of a node (default: 8)")
    parser.add_argument("--nodes", type=at_least_one, default=1, metavar="N", help="default: 1")
    add_settings(parser, {**CORE, "output": "folder to write (default: runs/verl-TASK-OBJECTIVE-seedSEED)"})
    add_settings(parser, ADVANCED)
    add_trust(parser.add_argument_group("trust"))
    parser.set_defaults(settings=[])


def run(arguments: argparse.Namespace, settings: Sequence[str]) -> int:
    """Write the files, and print how to start."""
    from relax_rl.workflows.verl_config import write_verl_config

    overrides = [*arguments.settings, *settings]
    config = load_config(arguments.config, overrides, allow_code=arguments.allow_code)
    name = f"verl-{config.task.name}-{config.objective.name}-seed{config.seed}".replace("/", "-").replace(":", "-")
    folder = Path("runs") / name if config.output is None else Path(config.output)
    written = write_verl_config(config, folder, arguments.gpus, arguments.nodes)
    print(f"{len(written.overrides)} overrides, data, reward function and launch script are in {written.folder}")
    print(f"start with: bash {written.folder / 'launch.sh'}")
    return 0
