"""Train a policy with verifiable rewards: ReLaX, or any baseline next to it.

relax train countdown                                          the embedded policy, minutes on two CPU cores
relax train countdown --objective grpo --seed 1
relax train --model HuggingFaceTB/SmolLM2-135M-Instruct --task math --task.path problems.jsonl
relax train --resume --output runs/countdown-relax-seed0
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from relax_rl.cli.arguments import add_time_limit, add_trust
from relax_rl.config import TrainConfig, shipped_configs
from relax_rl.errors import ConfigError
from relax_rl.ranks import is_first_process
from relax_rl.workflows.train import prepare

if TYPE_CHECKING:
    from relax_rl.workflows.build import TrainingRun

__all__ = ["ADVANCED", "CORE", "EPILOG", "add_arguments", "add_settings", "run"]

CORE = {
    "model": "'tiny' or 'figures' (embedded), 'smollm2', a Hugging Face name or a local folder",
    "task": "source of the problems; its options are --task.KEY",
    "objective": "the method, or package.module:function; its options are --objective.KEY",
    "seed": "seed of initialisation, data order and sampling",
    "output": "run directory (default: runs/TASK-OBJECTIVE-seedSEED)",
}
ADVANCED = {
    "model_revision": "revision of a Hugging Face model",
    "dtype": "float32, mixed (weights in float32, computed in bfloat16) or bfloat16",
    "verifier": "a name or package.module:function in place of the task's own",
    "monitor": "true (the default) measures the dispersion also under a method that does not use it",
    "freeze": "parts of an image-text model that do not learn: vision, projector, language, with commas between",
    "train_split": "split of the task",
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
    core.add_argument("--dry-run", action="store_true", help="build everything, say what would run, write nothing")
    core.add_argument(
        "--hardware",
        metavar="DEVICES",
        help="with --dry-run: 24GB, 8x80GB or 2x8x80GB, in place of this machine; reads no weights and no data",
    )
    advanced = parser.add_argument_group("advanced")
    advanced.add_argument("--resume", action="store_true", help="continue the run from its last complete checkpoint")
    advanced.add_argument("--overwrite", action="store_true", help="delete the run that is in the run directory")
    add_trust(advanced)
    add_time_limit(advanced)
    advanced.add_argument(
        "--other-versions",
        action="store_true",
        help="with --resume: accept a checkpoint that other versions of packages wrote",
    )
    advanced.add_argument(
        "--share-before",
        metavar="DIR",
        help="folder in which runs from the same start share the evaluation before training",
    )
    add_settings(advanced, ADVANCED)


def add_settings(group: Any, settings: dict[str, str]) -> None:
    """Options for settings outside any table, with their help; they join ``namespace.settings``."""
    for key, text in settings.items():
        spellings = dict.fromkeys([*(["-o"] if key == "output" else []), f"--{key.replace('_', '-')}", f"--{key}"])
        group.add_argument(*spellings, dest=key, action=_Setting, default=argparse.SUPPRESS, metavar="VALUE", help=text)


_HOW_TO_START = """\
relax train needs a config, a model or a task. For example:

  relax train countdown                                     the embedded policy, minutes on two CPU cores
  relax train --model MODEL --task gsm8k --output runs/own  a model of yours: a Hugging Face name or a folder
  relax train own.toml --dry-run                            a file of yours: what it would do, and nothing is written
  relax recipes                                             configs for one GPU, eight GPUs and two nodes
  relax train --resume --output RUN                         resume a run

relax train --help lists the settings and their defaults."""


def run(arguments: argparse.Namespace, settings: Sequence[str]) -> int:
    """Build the run; say what it is, or train."""
    if arguments.config is None and not arguments.resume and not _names_what_to_train([*arguments.settings, *settings]):
        print(_HOW_TO_START)
        return 2
    if arguments.hardware is not None:
        return _print_elsewhere(arguments, settings)
    prepared = prepare(
        arguments.config,
        overrides=[*arguments.settings, *settings],
        resume=arguments.resume,
        overwrite=arguments.overwrite,
        allow_code=arguments.allow_code,
        other_versions=arguments.other_versions,
        share_before=arguments.share_before,
    )
    if arguments.dry_run:
        _print_plan(prepared)
        return 0

    from relax_rl.cli.before_after import print_before_and_after
    from relax_rl.cli.progress import TrainingBar

    if is_first_process():
        print(prepared.plan.words(), file=sys.stderr)
    with TrainingBar(f"{prepared.settings.objective.name} seed {prepared.settings.seed}") as bar:
        result = prepared.train(bar)
    if is_first_process():
        if result.before is not None and result.after is not None:
            print_before_and_after(result.before, result.after)
        print(result.output)
        print(f"read it with: relax report {result.output}", file=sys.stderr)
    return 0


def _names_what_to_train(words: Sequence[str]) -> bool:
    """Whether a command without a config says what it is about; the defaults alone would be 25,600 completions."""
    named = {word.removeprefix("--").partition("=")[0].partition(".")[0] for word in words if word.startswith("--")}
    return bool(named & {"model", "task"})


def _print_plan(prepared: TrainingRun) -> None:
    if not is_first_process():
        return
    config, directory = prepared.settings, prepared.directory
    print(config.to_json())
    print(prepared.plan.words())
    visits = prepared.plan.visits(prepared.num_problems)
    count, split = prepared.num_problems, config.train_split
    print(f"problems  {count:,} in split {split!r}, each sampled {visits:.3g} times on average")
    print(f"directory {directory.path} ({'there is a run already' if directory.is_run() else 'no run yet'})")
    for notice in (*directory.notices, *prepared.notices):
        print(f"notice    {notice}")
    from relax_rl.workflows.memory.rehearsal import memory_of

    memory = memory_of(prepared)
    print("memory    not estimated: a model of another kind" if memory is None else memory.words())
    print("dry run: the settings fit together; nothing was written")


def _print_elsewhere(arguments: argparse.Namespace, settings: Sequence[str]) -> int:
    """A run on other hardware: its settings, batches and memory."""
    if not arguments.dry_run:
        raise ConfigError("--hardware is about a rehearsal; add --dry-run, or leave it out")
    if arguments.resume or arguments.overwrite:
        raise ConfigError("--hardware looks at no run directory; leave --resume and --overwrite out")
    from relax_rl.workflows.memory.rehearsal import plan_for

    overrides = [*arguments.settings, *settings]
    planned = plan_for(arguments.config, arguments.hardware, overrides=overrides, allow_code=arguments.allow_code)
    print(planned.settings.to_json())
    print(planned.plan.words())
    print(planned.memory.words())
    counted = f"prompts of {planned.memory.load.prompt} tokens"
    print(f"          counted: {counted}, which were not read, and no images")
    print(
        f"dry run for {arguments.hardware}: the settings fit together; weights and data were not read, nothing written"
    )
    return 0
