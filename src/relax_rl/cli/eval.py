"""Measure a policy on a task: mean@1, pass@k and more, each with a 95 % interval.

relax eval tiny --task countdown -k 16
relax eval runs/countdown-relax-seed0          the last checkpoint, on the task it was trained on
relax eval HuggingFaceTB/SmolLM2-135M-Instruct --task math --task.path test.jsonl -k 32
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from relax_rl.cli.arguments import task_options
from relax_rl.errors import ConfigError, RunError
from relax_rl.runs import RunDirectory

if TYPE_CHECKING:
    from relax_rl.evaluation import EvaluationResult

__all__ = ["HELP", "add_arguments", "run"]

HELP = "measure a policy on a task, with intervals"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Core options first, then the advanced ones."""
    core = parser.add_argument_group("core")
    core.add_argument(
        "model", metavar="MODEL", help="'tiny', 'smollm2', a Hugging Face name, a folder, or a run directory"
    )
    core.add_argument("--task", metavar="NAME", help="its options are --task.KEY VALUE; a run has its own by default")
    core.add_argument("-k", "--num-samples", type=_at_least_one, default=16, help="completions a problem (%(default)s)")
    core.add_argument("--num-problems", type=_at_least_one, default=128, help="first ones of the split (%(default)s)")
    core.add_argument("-o", "--output", type=Path, metavar="FILE", help="write the whole result as JSON")
    advanced = parser.add_argument_group("advanced")
    advanced.add_argument("--split", default="test", help="of the task (%(default)s)")
    advanced.add_argument("--temperature", type=float, default=1.0, help="0 is greedy (%(default)s)")
    advanced.add_argument("--top-p", type=float, default=1.0, help="(%(default)s)")
    advanced.add_argument(
        "--max-completion-length", type=_at_least_one, metavar="T", help="tokens (a run's own, otherwise 256)"
    )
    advanced.add_argument("--batch-size", type=_at_least_one, default=256, help="completions at once (%(default)s)")
    advanced.add_argument("--seed", type=int, default=0, help="of the sampling (%(default)s)")
    advanced.add_argument(
        "--dictionary", type=Path, metavar="FILE", help="measure DSD with it too (a run's own, otherwise none)"
    )
    advanced.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32", help="(%(default)s)")
    advanced.add_argument("--revision", help="of a Hugging Face model")
    advanced.add_argument("--data-dir", metavar="DIR", help="folder that the task reads its files from")


def _at_least_one(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, not {text}")
    return number


@dataclass(frozen=True)
class _Subject:
    """What is measured: a model by name, and the task and length that it brings along if it comes from a run."""

    model: str
    task: str | None = None
    options: dict[str, Any] = field(default_factory=dict)
    max_completion_length: int = 256
    dictionary: Path | None = None


def _subject(name: str) -> _Subject:
    """The last checkpoint of a run, or the name itself."""
    if not RunDirectory(name).is_run():
        return _Subject(name)
    run = RunDirectory.open(name)
    config, checkpoint = run.read_config(), run.latest_checkpoint()
    if checkpoint is None:
        raise RunError(
            f"the run {run.path} has no complete checkpoint to measure; continue it with 'relax train --resume'"
        )
    dictionary = run.evaluations / "dictionary.safetensors"
    return _Subject(
        str(checkpoint),
        config.task.name,
        config.task.options,
        config.trainer.max_completion_length,
        dictionary if dictionary.is_file() else None,
    )


def run(arguments: argparse.Namespace, settings: Sequence[str]) -> int:
    """Measure, print a table, and write the JSON if asked to."""
    subject = _subject(arguments.model)
    name = arguments.task or subject.task
    if name is None:
        raise ConfigError("name the task with --task NAME ('relax tasks' lists them)")
    _check_output(arguments.output)
    options = task_options(name, settings, arguments.data_dir)

    from relax_rl.tasks.registry import build_task

    task = build_task(name, **((subject.options if name == subject.task else {}) | options))
    task.problems(arguments.split, arguments.num_problems)

    import torch

    from relax_rl.evaluation.runner import evaluate
    from relax_rl.koopman import KoopmanDictionary
    from relax_rl.training.models import load_model

    model, tokenizer = load_model(subject.model, arguments.dtype, arguments.revision)
    policy = cast("torch.nn.Module", model)  # a decorator of transformers hides the signature of `to`
    device = "cuda" if torch.cuda.is_available() else "cpu"
    dictionary = arguments.dictionary or subject.dictionary
    result = evaluate(
        policy.to(device),
        tokenizer,
        task,
        split=arguments.split,
        num_problems=arguments.num_problems,
        num_samples=arguments.num_samples,
        max_new_tokens=arguments.max_completion_length or subject.max_completion_length,
        temperature=arguments.temperature,
        top_p=arguments.top_p,
        batch_size=arguments.batch_size,
        seed=arguments.seed,
        dictionary=None if dictionary is None else KoopmanDictionary.load(dictionary, device=device),
    )
    _print_table(arguments.model, result)
    if arguments.output is not None:
        print(result.save(arguments.output))
    return 0


def _check_output(output: Path | None) -> None:
    """Before the minutes that sampling takes."""
    if output is None:
        return
    if output.is_dir():
        raise ConfigError(f"--output {output} is a folder; name a file in it, such as {output / 'evaluation.json'}")
    existing = next(folder for folder in output.absolute().parents if folder.exists())
    if not (existing.is_dir() and os.access(existing, os.W_OK | os.X_OK)):
        raise ConfigError(
            f"--output {output} cannot be written: {existing} is a file or forbids it; name another place"
        )


def _print_table(model: str, result: EvaluationResult) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(
        title=f"{model} on {result.task}/{result.split}",
        caption=f"{result.num_problems} problems x {result.num_samples} completions of at most {result.max_new_tokens} "
        f"tokens, temperature {result.temperature:g}, top-p {result.top_p:g}, seed {result.seed}; "
        "95 % intervals by bootstrap over problems",
    )
    table.add_column("metric")
    for column in ("value", "low", "high"):
        table.add_column(column, justify="right")
    for name, estimate in result.metrics.items():
        table.add_row(name, *(f"{number:.4g}" for number in (estimate.value, estimate.low, estimate.high)))
    Console().print(table)
