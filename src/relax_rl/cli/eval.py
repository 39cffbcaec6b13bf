"""Measure a policy on a task: mean@1, pass@k and more, each with a 95 % interval; two policies, paired.

relax eval tiny --task countdown -k 32
relax eval runs/countdown-relax-seed0          the last checkpoint, on the task it was trained on
relax eval HuggingFaceTB/SmolLM2-135M-Instruct --task aime24 -k 32 --backend vllm
relax eval NAME --task math500 -k 4 --backend server --base-url http://localhost:8000/v1
relax eval smollm2 --task gsm8k -k 4 --against evaluations/tiny-gsm8k-k4-t1-seed0
relax eval --rescore evaluations/smollm2-gsm8k-k4-t1-seed0
relax eval --rescore evaluations/NAME-mathvista-k1-t0-seed0 --judge NAME --base-url http://localhost:8000/v1

Samples and result are kept in a folder. The same command resumes a killed one.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from relax_rl.cli.arguments import (
    add_budgets,
    add_prompt_form,
    add_time_limit,
    add_trust,
    at_least_one,
    refuse_unread,
    say,
)
from relax_rl.config import task_options
from relax_rl.errors import ConfigError

if TYPE_CHECKING:
    from relax_rl.evaluation import EvaluationResult
    from relax_rl.evaluation.judging import Judged
    from relax_rl.workflows.progress import OnProgress, Progress

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Core options first, then the advanced ones."""
    core = parser.add_argument_group("core")
    model = (
        "'tiny', 'figures', 'smollm2', a Hugging Face name, a folder, a run directory, or the name that a server knows"
    )
    core.add_argument("model", nargs="?", metavar="MODEL", help=model)
    core.add_argument("--task", metavar="NAME", help="its options are --task.KEY VALUE; a run has its own by default")
    core.add_argument("-k", "--num-samples", type=at_least_one, default=16, help="completions a problem (%(default)s)")
    core.add_argument(
        "-n", "--num-problems", type=at_least_one, help="first ones of the split (all; 128 of a task without end)"
    )
    core.add_argument(
        "-o", "--output", type=Path, metavar="DIR", help="(evaluations/MODEL-TASK-kK-tTEMPERATURE-seedSEED)"
    )
    core.add_argument("--against", type=Path, metavar="DIR", help="compare with that evaluation, problem by problem")
    core.add_argument(
        "--despite", metavar="LIST", help="settings that may differ from --against, such as temperature,backend"
    )
    core.add_argument(
        "--rescore", type=Path, metavar="DIR", help="grade that evaluation's samples again, sample nothing"
    )
    core.add_argument(
        "--policy",
        metavar="NAME",
        help="how the answer is found in a completion: strict, default, lenient, ... (task's)",
    )
    core.add_argument(
        "--judge",
        metavar="NAME",
        help="with --rescore and --base-url: a model there reads what a visual benchmark's own rule leaves to a model",
    )
    core.add_argument("--overwrite", action="store_true", help="delete the evaluation that is in the folder")
    sampling = parser.add_argument_group("sampling")
    sampling.add_argument("--split", default="test", help="split of the task (%(default)s)")
    sampling.add_argument("--temperature", type=float, default=1.0, help="0 is greedy (%(default)s)")
    sampling.add_argument("--top-p", type=float, default=1.0, help="(%(default)s)")
    sampling.add_argument(
        "--max-completion-length",
        type=at_least_one,
        metavar="T",
        help="tokens (a run's own, or 2048; without end 256)",
    )
    sampling.add_argument("--batch-size", type=at_least_one, default=256, help="completions at once (%(default)s)")
    sampling.add_argument(
        "--processes", type=at_least_one, metavar="N", help="sampling at once, for a model on the CPU (one a core)"
    )
    sampling.add_argument("--seed", type=int, default=0, help="seed of the sampling (%(default)s)")
    sampling.add_argument(
        "--problem-seed", type=int, default=0, help="seed of the problems, or of their order (%(default)s)"
    )
    sampling.add_argument("--data-dir", metavar="DIR", help="folder that the task reads its files from")
    advanced = parser.add_argument_group("advanced")
    backends = ("transformers", "vllm", "server")
    advanced.add_argument(
        "--backend", choices=backends, default=backends[0], help="sampler of the completions (%(default)s)"
    )
    advanced.add_argument("--base-url", metavar="URL", help="server, with its version: http://localhost:8000/v1")
    add_prompt_form(advanced, drops=True)
    add_budgets(advanced)
    advanced.add_argument("--concurrency", type=at_least_one, default=16, help="requests at a time (%(default)s)")
    advanced.add_argument(
        "--timeout", type=float, default=600.0, metavar="S", help="request timeout in seconds (%(default)s)"
    )
    advanced.add_argument(
        "--dictionary", type=Path, metavar="FILE", help="measure DSD with it too (a run's own, otherwise none)"
    )
    advanced.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32", help="(%(default)s)")
    advanced.add_argument("--revision", help="revision of a Hugging Face model")
    add_trust(advanced)
    add_time_limit(advanced)


def run(arguments: argparse.Namespace, settings: Sequence[str]) -> int:
    """Measure or grade again, print a table, compare if asked to."""
    from relax_rl.cli.breadth_tables import print_discovery
    from relax_rl.runs import RunDirectory
    from relax_rl.workflows.evaluate import load_result

    other = None if arguments.against is None else load_result(arguments.against)
    despite = [name.strip() for name in arguments.despite.split(",")] if arguments.despite else []
    if despite and other is None:
        raise ConfigError(
            "--despite says what may differ in a comparison; name the other evaluation with --against DIR"
        )
    if arguments.rescore is not None:
        refuse_unread(arguments, "eval --rescore", _OF_RESCORING)
        if arguments.model:
            raise ConfigError("--rescore DIR grades the samples that DIR holds and takes no MODEL")
    if arguments.judge is not None and arguments.rescore is None:
        raise ConfigError("--judge NAME reads the samples of a finished evaluation; name it with --rescore DIR")
    if arguments.rescore is not None:
        folder, result = _rescore(arguments, settings)
    elif arguments.model is None:
        raise ConfigError("name the model: relax eval MODEL --task NAME (or grade again: relax eval --rescore DIR)")
    else:
        folder, result = _measure(arguments, settings, other, despite)
    _print_result(result)
    if arguments.model is not None and RunDirectory(arguments.model).is_run():
        print_discovery(RunDirectory.open(arguments.model))
    if other is not None:
        _print_comparison(other, result, despite)
    print(folder)
    return 0


def _measure(
    arguments: argparse.Namespace, settings: Sequence[str], other: EvaluationResult | None, despite: list[str]
) -> tuple[Path, EvaluationResult]:
    from relax_rl.workflows.evaluate import default_folder, evaluate

    words = vars(arguments)
    same = {name: words[name] for name in ("split", "num_samples", "temperature", "seed", "policy")}
    output = arguments.output or default_folder(arguments.model, arguments.task, **same)
    with _progress(arguments.model) as on_progress:
        result = evaluate(
            arguments.model,
            arguments.task,
            **same,
            **{name: words[name] for name in _PASSED_ON},
            task_options=task_options(settings, arguments.data_dir),
            against=other,
            despite=despite,
            output=output,
            on_progress=on_progress,
        )
    return output, result


_PASSED_ON = (
    *("num_problems", "max_completion_length", "top_p", "problem_seed", "batch_size", "processes", "backend"),
    *("plain", "chat_template_kwargs", "overlong", "max_prompt_length", "min_pixels", "max_pixels"),
    *("base_url", "concurrency", "timeout", "dictionary", "dtype", "revision", "overwrite", "allow_code"),
)
"""Options that are arguments of `evaluate` under the same name."""


def _rescore(arguments: argparse.Namespace, settings: Sequence[str]) -> tuple[Path, EvaluationResult]:
    from relax_rl.workflows.evaluate import rescore

    options = task_options(settings, arguments.data_dir)
    found = rescore(
        arguments.rescore,
        arguments.task,
        task_options=options,
        **{name: getattr(arguments, name) for name in _OF_A_JUDGE},
        policy=arguments.policy,
        allow_code=arguments.allow_code,
    )
    num_samples = found.result.num_problems * found.result.num_samples
    how = ", ".join(f"{_score(old)} to {_score(new)}: {count}" for (old, new), count in found.changes.items())
    print(
        f"graded {num_samples} samples again; {found.num_changed} verdicts changed{f' ({how})' if how else ''}",
        file=sys.stderr,
    )
    if found.judged is not None:
        _say_judged(found.judged)
    return arguments.rescore, found.result


_OF_A_JUDGE = ("judge", "base_url", "concurrency", "timeout")
_OF_RESCORING = ("rescore", "task", "data_dir", "policy", "against", "despite", *_OF_A_JUDGE)


def _say_judged(found: Judged) -> None:
    print(
        f"the benchmark's rule leaves {found.num_left} samples to a model; {found.num_asked} questions asked, "
        f"{found.num_kept} answered before",
        file=sys.stderr,
    )
    if found.failures:
        named = ", ".join(f"{name} {count}" for name, count in found.failures.items())
        example = f"; one of them: {found.example}" if found.example else ""
        print(
            f"note: {sum(found.failures.values())} samples were not judged and score 0: {named}{example}",
            file=sys.stderr,
        )


def _score(score: float | None) -> str:
    return "no score" if score is None else f"{score:g}"


@contextmanager
def _progress(name: str) -> Iterator[OnProgress]:
    """Messages on stderr and, on a terminal, a bar of samples."""
    if not sys.stderr.isatty():
        yield say
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bars

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Bars(*columns, console=Console(stderr=True), transient=True) as bars:
        bar = bars.add_task(name, total=None)

        def show(progress: Progress) -> None:
            if progress.message:
                bars.console.print(progress.message, markup=False, highlight=False)
            else:
                bars.update(bar, completed=progress.done, total=progress.total)

        yield show


def _print_result(result: EvaluationResult) -> None:
    from rich.console import Console
    from rich.table import Table

    from relax_rl.evaluation.bounds import metric_bounds, num_unscored, unscored_note

    k = result.num_samples
    table = Table(
        title=f"{result.model} on {result.task}/{result.split}",
        caption=f"{result.num_problems} problems{_left_out(result)} x {k} completions of at most "
        f"{result.max_completion_length} tokens, "
        f"temperature {result.temperature:g}, top-p {result.top_p:g}, seed {result.seed}, prompts "
        f"{result.prompt_digest}; graded by {result.grader}{_options(result)}; mean@1 is over all {k} "
        f"completions (also called mean@{k}); 95 % intervals by bootstrap over problems",
    )
    table.add_column("metric")
    is_bounded = num_unscored(result) > 0
    for column in ("value", "low", "high", *(("worst", "best") if is_bounded else ())):
        table.add_column(column, justify="right")
    for name, estimate in result.metrics.items():
        bounds = metric_bounds(result, name)
        numbers = (estimate.value, estimate.low, estimate.high, *((bounds.worst, bounds.best) if bounds else ()))
        table.add_row(name, *(f"{number:.4g}" for number in numbers))
    Console().print(table)
    if result.breakdown:
        _print_breakdown(result)
    if (note := unscored_note(result)) is not None:
        print(f"note: {note}", file=sys.stderr)


def _print_breakdown(result: EvaluationResult) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(caption="n: independent units behind a mean, which are questions where problems are variants")
    table.add_column("of variants, and by facet")
    for column in ("value", "low", "high", "n"):
        table.add_column(column, justify="right")
    for name, estimate in result.breakdown.items():
        numbers = (f"{number:.4g}" for number in (estimate.value, estimate.low, estimate.high))
        table.add_row(escape(name), *numbers, str(estimate.num_problems))
    Console().print(table)


def _left_out(result: EvaluationResult) -> str:
    count = len(result.left_out)
    return f" ({count} left out, whose prompt is too long)" if count else ""


def _options(result: EvaluationResult) -> str:
    return "".join(f", {name} {value}" for name, value in result.grading.items())


def _print_comparison(first: EvaluationResult, second: EvaluationResult, despite: Sequence[str]) -> None:
    from rich.console import Console
    from rich.table import Table

    from relax_rl.cli.breadth_tables import print_changes
    from relax_rl.comparison.pairs import comparability, compare_results
    from relax_rl.evaluation.bounds import unscored_note

    rows = compare_results(first, second, despite=despite)
    if (unscored := unscored_note(first)) is not None:
        print(f"note: in {first.model or 'the other evaluation'}, {unscored}", file=sys.stderr)
    found = comparability(first, second)
    for note in [*(mismatch.words() for mismatch in found.differing), *found.notes()]:
        print(f"note: {note}", file=sys.stderr)
    both = f"; not of the models alone: {found.reasons()}" if found.differing else ""
    table = Table(
        title=f"{second.model} against {first.model} on {second.task}/{second.split}",
        caption=f"the same {found.num_problems[2]} problems, paired; 95 % intervals by bootstrap over "
        f"problems; p: sign-flip test over problems, two-sided, not corrected for several metrics{both}",
    )
    table.add_column("metric")
    for column in (first.model, second.model, "difference", "low", "high", "p"):
        table.add_column(column, justify="right")
    for row in rows:
        numbers = (row.first, row.second, row.difference.value, row.difference.low, row.difference.high)
        table.add_row(row.metric, *(f"{number:.4g}" for number in numbers), f"{row.p_value:.3g}")
    Console().print(table)
    print_changes(first, second, despite)
