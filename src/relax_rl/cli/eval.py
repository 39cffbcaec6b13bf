"""Measure a policy on a task: mean@1, pass@k and more, each with a 95 % interval; two policies, paired.

relax eval tiny --task countdown -k 32
relax eval runs/countdown-relax-seed0          the last checkpoint, on the task it was trained on
relax eval HuggingFaceTB/SmolLM2-135M-Instruct --task aime24 -k 32 --backend vllm
relax eval NAME --task math500 -k 4 --backend server --base-url http://localhost:8000/v1
relax eval smollm2 --task gsm8k -k 4 --against evaluations/tiny-gsm8k-k4-t1-seed0
relax eval --rescore evaluations/smollm2-gsm8k-k4-t1-seed0

Samples and result are kept in a folder. The same command goes on with what a killed one has left.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from relax_rl.cli.arguments import at_least_one, task_options
from relax_rl.errors import ConfigError, RunError
from relax_rl.runs import RunDirectory

if TYPE_CHECKING:
    from collections.abc import Callable

    from relax_rl.evaluation import EvaluationFolder, EvaluationResult
    from relax_rl.tasks.base import Task

__all__ = ["HELP", "add_arguments", "run"]

HELP = "measure a policy on a task, with intervals"

# A task without end has no "all"; answers to its problems are short.
_ENDLESS_PROBLEMS, _ENDLESS_LENGTH, _LENGTH = 128, 256, 2048


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Core options first, then the advanced ones."""
    core = parser.add_argument_group("core")
    model = "'tiny', 'smollm2', a Hugging Face name, a folder, a run directory, or the name that a server knows"
    core.add_argument("model", nargs="?", metavar="MODEL", help=model)
    core.add_argument("--task", metavar="NAME", help="its options are --task.KEY VALUE; a run has its own by default")
    core.add_argument("-k", "--num-samples", type=at_least_one, default=16, help="completions a problem (%(default)s)")
    core.add_argument(
        "--num-problems", type=at_least_one, help="first ones of the split (all; 128 of a task without end)"
    )
    core.add_argument(
        "-o", "--output", type=Path, metavar="DIR", help="(evaluations/MODEL-TASK-kK-tTEMPERATURE-seedSEED)"
    )
    core.add_argument("--against", type=Path, metavar="DIR", help="compare with that evaluation, problem by problem")
    core.add_argument(
        "--rescore", type=Path, metavar="DIR", help="grade that evaluation's samples again, sample nothing"
    )
    core.add_argument("--overwrite", action="store_true", help="delete the evaluation that is in the folder")
    sampling = parser.add_argument_group("sampling")
    sampling.add_argument("--split", default="test", help="of the task (%(default)s)")
    sampling.add_argument("--temperature", type=float, default=1.0, help="0 is greedy (%(default)s)")
    sampling.add_argument("--top-p", type=float, default=1.0, help="(%(default)s)")
    sampling.add_argument(
        "--max-completion-length",
        type=at_least_one,
        metavar="T",
        help="tokens (a run's own, or 2048; without end 256)",
    )
    sampling.add_argument("--batch-size", type=at_least_one, default=256, help="completions at once (%(default)s)")
    sampling.add_argument("--seed", type=int, default=0, help="of the sampling (%(default)s)")
    sampling.add_argument("--problem-seed", type=int, default=0, help="of the problems, or their order (%(default)s)")
    sampling.add_argument("--data-dir", metavar="DIR", help="folder that the task reads its files from")
    advanced = parser.add_argument_group("advanced")
    backends = ("transformers", "vllm", "server")
    advanced.add_argument("--backend", choices=backends, default=backends[0], help="what samples (%(default)s)")
    advanced.add_argument("--base-url", metavar="URL", help="of the server, with its version: http://localhost:8000/v1")
    advanced.add_argument("--plain", action="store_true", help="of a server: /completions, no chat template")
    advanced.add_argument("--concurrency", type=at_least_one, default=16, help="requests at a time (%(default)s)")
    advanced.add_argument("--timeout", type=float, default=600.0, metavar="S", help="of a request (%(default)s)")
    advanced.add_argument(
        "--dictionary", type=Path, metavar="FILE", help="measure DSD with it too (a run's own, otherwise none)"
    )
    advanced.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32", help="(%(default)s)")
    advanced.add_argument("--revision", help="of a Hugging Face model")


def run(arguments: argparse.Namespace, settings: Sequence[str]) -> int:
    """Measure or grade again, print a table, compare if asked to."""
    other = None if arguments.against is None else _load_result(arguments.against)
    if arguments.rescore is not None and (arguments.model or arguments.task):
        raise ConfigError("--rescore DIR grades the samples that DIR holds and takes neither MODEL nor --task")
    if arguments.rescore is not None:
        folder, result = _rescore(arguments, settings)
    elif arguments.model is None:
        raise ConfigError("name the model: relax eval MODEL --task NAME (or grade again: relax eval --rescore DIR)")
    else:
        folder, result = _measure(arguments, settings)
    _print_result(result)
    if other is not None:
        _print_comparison(other, result)
    print(folder.path)
    return 0


@dataclass(frozen=True)
class _Subject:
    """What is measured: a model by name, and the task and length that it brings along if it comes from a run."""

    model: str
    task: str | None = None
    options: dict[str, Any] = field(default_factory=dict)
    max_completion_length: int | None = None
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
    if config.verifier is not None:
        print("the run was trained with another verifier; this measures it by the task's own", file=sys.stderr)
    dictionary = run.evaluations / "dictionary.safetensors"
    return _Subject(
        str(checkpoint),
        config.task.name,
        config.task.options,
        config.trainer.max_completion_length,
        dictionary if dictionary.is_file() else None,
    )


def _measure(arguments: argparse.Namespace, settings: Sequence[str]) -> tuple[EvaluationFolder, EvaluationResult]:
    subject = _subject(arguments.model)
    name = arguments.task or subject.task
    if name is None:
        raise ConfigError("name the task with --task NAME ('relax tasks' lists them)")
    options = task_options(name, settings, arguments.data_dir)
    options = (subject.options if name == subject.task else {}) | options

    from relax_rl.evaluation.folder import EvaluationFolder
    from relax_rl.evaluation.samplers.protocol import SamplingSettings
    from relax_rl.tasks.registry import build_task

    task = build_task(name, **options)
    is_endless = getattr(task, "is_endless", False)
    num_problems = arguments.num_problems or (_ENDLESS_PROBLEMS if is_endless else None)
    length = subject.max_completion_length or (_ENDLESS_LENGTH if is_endless else _LENGTH)
    length = arguments.max_completion_length or length
    sampling = SamplingSettings(arguments.num_samples, length, arguments.temperature, arguments.top_p, arguments.seed)
    folder = EvaluationFolder(arguments.output or _default_folder(arguments, name))
    folder.check()
    task.problems(arguments.split, num_problems, arguments.problem_seed)

    from relax_rl.evaluation.runner import Evaluation

    evaluation = Evaluation(
        task=task,
        settings=sampling,
        split=arguments.split,
        num_problems=num_problems,
        problem_seed=arguments.problem_seed,
        name=arguments.model,
        task_options=options,
        **_policy(arguments, subject, task),
    )
    with _progress(arguments.model) as on_progress:
        return folder, evaluation.run(folder, overwrite=arguments.overwrite, on_progress=on_progress)


def _default_folder(arguments: argparse.Namespace, task: str) -> Path:
    split = "" if arguments.split == "test" else f"-{arguments.split}"
    name = f"{arguments.model}-{task}{split}-k{arguments.num_samples}-t{arguments.temperature:g}-seed{arguments.seed}"
    return Path("evaluations") / re.sub(r"[^\w.-]+", "-", name).strip("-.")


def _policy(arguments: argparse.Namespace, subject: _Subject, task: Task) -> dict[str, Any]:
    """The sampler and, for a model in this process, what measures its hidden states."""
    if arguments.backend != "transformers" and arguments.dictionary is not None:
        raise ConfigError(f"--dictionary needs the hidden states, which --backend {arguments.backend} does not show")
    if (arguments.backend == "server") != (arguments.base_url is not None):
        raise ConfigError("--backend server and --base-url URL go together; give both or neither")
    if arguments.backend == "server":
        from relax_rl.evaluation.samplers.server import ServerSampler

        return {
            "sampler": ServerSampler(
                arguments.base_url,
                subject.model,
                plain=arguments.plain,
                concurrency=arguments.concurrency,
                timeout_s=arguments.timeout,
                api_key=os.environ.get("OPENAI_API_KEY"),
            )
        }
    from relax_rl.training.models import load_model, model_location

    if arguments.backend == "vllm":
        from relax_rl.evaluation.samplers.vllm import VllmSampler

        place = model_location(subject.model)
        return {"sampler": VllmSampler(place, dtype=arguments.dtype, revision=arguments.revision)}
    import torch

    from relax_rl.evaluation.runner import replay_with
    from relax_rl.evaluation.samplers.transformers import TransformersSampler
    from relax_rl.koopman import KoopmanDictionary

    model, tokenizer = load_model(subject.model, arguments.dtype, arguments.revision)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    policy = cast("torch.nn.Module", model).to(device)  # a decorator of transformers hides the signature of `to`
    file = arguments.dictionary or subject.dictionary
    dictionary = None if file is None else KoopmanDictionary.load(file, device=device)
    return {
        "sampler": TransformersSampler(policy, tokenizer, arguments.batch_size),
        **replay_with(policy, tokenizer, arguments.temperature, dictionary),
    }


def _rescore(arguments: argparse.Namespace, settings: Sequence[str]) -> tuple[EvaluationFolder, EvaluationResult]:
    from relax_rl.evaluation.folder import EvaluationFolder
    from relax_rl.evaluation.runner import rescore
    from relax_rl.tasks.registry import build_task

    folder = EvaluationFolder(arguments.rescore)
    saved = folder.read_settings()
    name = saved["task"]
    task = build_task(name, **saved["task_options"] | task_options(name, settings, arguments.data_dir))
    result, changed = rescore(folder, task)
    print(
        f"graded {result.num_problems * result.num_samples} samples again; {changed} verdicts changed", file=sys.stderr
    )
    return folder, result


def _load_result(place: Path) -> EvaluationResult:
    from relax_rl.evaluation.result import EvaluationResult

    return EvaluationResult.load(place / "result.json" if place.is_dir() else place)


@contextmanager
def _progress(name: str) -> Iterator[Callable[[int, int], None] | None]:
    """A bar of samples on a terminal; None elsewhere."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        bar = bars.add_task(name, total=None)
        yield lambda done, total: bars.update(bar, completed=done, total=total)


def _print_result(result: EvaluationResult) -> None:
    from rich.console import Console
    from rich.table import Table

    k = result.num_samples
    table = Table(
        title=f"{result.model} on {result.task}/{result.split}",
        caption=f"{result.num_problems} problems x {k} completions of at most {result.max_completion_length} tokens, "
        f"temperature {result.temperature:g}, top-p {result.top_p:g}, seed {result.seed}, prompts "
        f"{result.prompt_digest}; graded by {result.grader}; mean@1 is over all {k} completions (also called "
        f"mean@{k}); 95 % intervals by bootstrap over problems",
    )
    table.add_column("metric")
    for column in ("value", "low", "high"):
        table.add_column(column, justify="right")
    for name, estimate in result.metrics.items():
        table.add_row(name, *(f"{number:.4g}" for number in (estimate.value, estimate.low, estimate.high)))
    Console().print(table)


def _print_comparison(first: EvaluationResult, second: EvaluationResult) -> None:
    from rich.console import Console
    from rich.table import Table

    from relax_rl.comparison.pairs import comparability, compare_results

    rows = compare_results(first, second)
    for note in comparability(first, second).notes():
        print(f"note: {note}", file=sys.stderr)
    table = Table(
        title=f"{second.model} against {first.model} on {second.task}/{second.split}",
        caption=f"the same {rows[0].difference.num_problems} problems, paired; 95 % intervals by bootstrap over "
        "problems; p: sign-flip test over problems, two-sided, not corrected for several metrics",
    )
    table.add_column("metric")
    for column in (first.model, second.model, "difference", "low", "high", "p"):
        table.add_column(column, justify="right")
    for row in rows:
        numbers = (row.first, row.second, row.difference.value, row.difference.low, row.difference.high)
        table.add_row(row.metric, *(f"{number:.4g}" for number in numbers), f"{row.p_value:.3g}")
    Console().print(table)
