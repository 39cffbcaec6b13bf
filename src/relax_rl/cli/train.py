"""Train a policy with verifiable rewards: ReLaX, or any baseline next to it.

relax train countdown                                          the embedded policy, minutes on two CPU cores
relax train countdown --objective grpo --seed 1
relax train --model HuggingFaceTB/SmolLM2-135M-Instruct --task math --task.path problems.jsonl
relax train --resume --run runs/countdown-relax-seed0
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel

from relax_rl.config import BatchPlan, TrainConfig, batch_arithmetic, load_config, shipped_configs
from relax_rl.errors import ConfigError
from relax_rl.runs import RunDirectory, is_first_process

__all__ = ["ADVANCED", "CORE", "EPILOG", "HELP", "add_arguments", "add_settings", "rehearse", "run"]

HELP = "train a policy with verifiable rewards"

CORE = {
    "model": "'tiny' (embedded), 'smollm2', a Hugging Face name or a local folder",
    "task": "where problems come from; its options are --task.KEY",
    "objective": "the method; its options are --objective.KEY",
    "seed": "of initialisation, data order and sampling",
    "run": "run directory (default: runs/TASK-OBJECTIVE-seedSEED)",
}
ADVANCED = {
    "model_revision": "of a Hugging Face model",
    "dtype": "float32, mixed (weights in float32, computed in bfloat16) or bfloat16",
    "verifier": "a name or package.module:function in place of the task's own",
    "monitor": "true (the default) measures the dispersion also under a method that does not use it",
    "train_split": "of the task",
    "train_problems": "use the first so many problems of the split",
}


def _settings_help() -> str:
    """The dotted settings and their defaults, from the models themselves."""
    lines = ["settings, as --KEY VALUE or in the config file (later wins; 'null' for none):"]
    for section, field in TrainConfig.model_fields.items():
        if isinstance(field.default, BaseModel) and section not in CORE:
            defaults = field.default.model_dump(mode="json").items()
            lines.append(f"  --{section}." + (" (null: the objective's own)" if section == "dictionary" else ""))
            lines += [f"      {key:30} {json.dumps(value)}" for key, value in defaults]
    lines.append("  any other field of TRL's GRPOConfig goes under --trainer. as it is")
    return "\n".join(lines)


EPILOG = _settings_help()


class _Setting(argparse.Action):
    """Keeps a plain option as the words of a setting, so that there is one way from words to values."""

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, option_string: Any = None
    ) -> None:
        namespace.settings = [*namespace.settings, f"--{self.dest}={values}"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Core options first, then the advanced ones."""
    parser.set_defaults(settings=[])
    core = parser.add_argument_group("core")
    names = ", ".join(shipped_configs())
    core.add_argument("config", nargs="?", metavar="CONFIG", help=f"a .toml, .yaml or .json file, or one of: {names}")
    add_settings(core, CORE)
    core.add_argument("--dry-run", action="store_true", help="check everything, say what would run, write nothing")
    advanced = parser.add_argument_group("advanced")
    advanced.add_argument("--resume", action="store_true", help="continue the run from its last complete checkpoint")
    advanced.add_argument("--overwrite", action="store_true", help="delete the run that is in the run directory")
    add_settings(advanced, ADVANCED)


def add_settings(group: Any, settings: dict[str, str]) -> None:
    """Options for settings outside any table, with their help; they join ``namespace.settings``."""
    for key, text in settings.items():
        spellings = dict.fromkeys([f"--{key.replace('_', '-')}", f"--{key}"])
        group.add_argument(*spellings, dest=key, action=_Setting, default=argparse.SUPPRESS, metavar="VALUE", help=text)


def run(arguments: argparse.Namespace, settings: Sequence[str]) -> int:
    """Resolve and check the settings and the folder, then train."""
    if arguments.resume and arguments.overwrite:
        raise ConfigError("--resume continues a run and --overwrite deletes it; give one of them")
    config = _resolve(arguments.config, [*arguments.settings, *settings], resume=arguments.resume)
    num_processes = int(os.environ.get("WORLD_SIZE", "1"))
    if arguments.dry_run:
        return _dry_run(config, num_processes)
    path = config.run_path
    resume = arguments.resume
    directory = RunDirectory.resume(path, config) if resume else RunDirectory.new(path, overwrite=arguments.overwrite)
    if is_first_process():
        print(batch_arithmetic(config, num_processes).words(), file=sys.stderr)

    from relax_rl.training.train import train

    train(config, directory, resume=resume)
    if is_first_process():
        print(directory.path)
        print(f"read it with: relax report {directory.path}", file=sys.stderr)
    return 0


def _resolve(source: str | None, words: list[str], *, resume: bool) -> TrainConfig:
    """The settings asked for; those of the run itself where a run is resumed without naming a config."""
    if not resume or source is not None:
        return load_config(source, words)
    named = [word.removeprefix("--run=") for word in words if word.startswith("--run=")]
    directory = RunDirectory.open(named[-1] if named else load_config(None, words).run_path)
    return load_config(directory.config_path, [*words, f"--run={directory.path}"])


def rehearse(config: TrainConfig, num_processes: int = 1) -> tuple[BatchPlan, int]:
    """Build what a run builds before its model is loaded: what it would sample, and the problems of its split."""
    from relax_rl.rewards.registry import configured_verifier
    from relax_rl.tasks.registry import build_task

    task = build_task(config.task.name, **config.task.options)
    configured_verifier(config.verifier, task.verifier)
    num_problems = len(task.problems(config.train_split, config.train_problems, config.seed))
    plan = batch_arithmetic(config, num_processes, num_problems)

    from relax_rl.training.models import model_location
    from relax_rl.training.objective import build_objective_from
    from relax_rl.training.trl.config import grpo_config

    model_location(config.model)
    grpo_config(config, build_objective_from(config), RunDirectory(config.run_path).checkpoints, use_cpu=True)
    return plan, num_problems


def _dry_run(config: TrainConfig, num_processes: int) -> int:
    """Say what would run."""
    plan, num_problems = rehearse(config, num_processes)
    directory = RunDirectory(config.run_path)
    if not is_first_process():
        return 0
    print(config.to_json())
    print(plan.words())
    visits = plan.visits(num_problems)
    print(f"problems  {num_problems:,} in split {config.train_split!r}, each sampled {visits:.3g} times on average")
    print(f"directory {directory.path} ({'there is a run already' if directory.is_run() else 'no run yet'})")
    print("dry run: the settings fit together; nothing was written")
    return 0
