"""Measure a policy on a task, or grade the samples of a finished evaluation again."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from relax_rl.comparison.pairs import require_comparable
from relax_rl.errors import ConfigError, DataError
from relax_rl.evaluation.folder import EvaluationFolder
from relax_rl.evaluation.result import EvaluationResult
from relax_rl.evaluation.samplers.protocol import SamplingSettings
from relax_rl.import_path import is_own_task, require_allowed
from relax_rl.redaction import refuse_secrets
from relax_rl.rewards.base import as_verifier
from relax_rl.rewards.trial import try_verifier
from relax_rl.stopping import Stopped
from relax_rl.tasks.base import BaseTask, FindsTooLong, Problem, Task, answers_to_try, as_task
from relax_rl.tasks.fitted import FittedTask
from relax_rl.tasks.registry import build_task
from relax_rl.workflows.progress import OnProgress, Progress, silent
from relax_rl.workflows.source import BACKENDS, Asked, Source
from relax_rl.workflows.subject import Subject, subject_of

if TYPE_CHECKING:
    from relax_rl.evaluation.judge import Judge
    from relax_rl.evaluation.rescoring import Regraded
    from relax_rl.evaluation.room import Overlong
    from relax_rl.koopman import KoopmanDictionary

__all__ = ["BACKENDS", "default_folder", "evaluate", "load_result", "rescore"]

# A task without end has no "all"; answers to its problems are short.
_ENDLESS_PROBLEMS, _ENDLESS_LENGTH, _LENGTH = 128, 256, 2048


def evaluate(
    model: Any,
    task: str | Task | None = None,
    *,
    num_samples: int = 16,
    num_problems: int | None = None,
    max_completion_length: int | None = None,
    temperature: float = 1.0,
    top_p: float = 1.0,
    split: str = "test",
    seed: int = 0,
    problem_seed: int = 0,
    tokenizer: Any = None,
    batch_size: int = 256,
    processes: int | None = None,
    backend: str = "transformers",
    base_url: str | None = None,
    plain: bool | None = None,
    chat_template_kwargs: Mapping[str, Any] | None = None,
    overlong: Overlong | None = None,
    max_prompt_length: int | None = None,
    min_pixels: int | None = None,
    max_pixels: int | None = None,
    concurrency: int = 16,
    timeout: float = 600.0,
    dictionary: str | Path | KoopmanDictionary | None = None,
    dtype: str = "float32",
    revision: str | None = None,
    task_options: Mapping[str, Any] | None = None,
    policy: str | None = None,
    against: EvaluationResult | None = None,
    despite: Collection[str] = (),
    output: str | Path | None = None,
    overwrite: bool = False,
    allow_code: Collection[str] = (),
    on_progress: OnProgress | None = None,
) -> EvaluationResult:
    """Sample completions of a task's problems, grade them, and put an interval on every number.

    Args:
        model: "tiny", "smollm2", a Hugging Face name, a folder, a run directory (its last checkpoint), the name that a
            server knows, or a loaded Hugging Face model.
        task: a name, ``package.module:Class``, or a task object. None: the task that the run was trained on.
        num_samples: completions of each problem.
        num_problems: the first so many of the split. None: all of them; 128 of a task without end.
        max_completion_length: in tokens. None: the run's own, else 2048, or 256 for a task without end.
        temperature, top_p: temperature and top-p of the sampling; temperature 0 is greedy.
        split: split of the task.
        seed: seed of the sampling and of the bootstrap.
        problem_seed: seed of the problems that a procedural task makes, or of their order.
        tokenizer: tokenizer of a loaded model, or its processor.
        batch_size: completions decoded together, in this process.
        processes: processes that sample side by side, for a model on the CPU under Linux; they share its weights. None:
            one for each thread of torch, fewer where memory is short, and one for a loaded model. The result does not
            depend on it.
        backend: "transformers" (in this process), "vllm", or "server", which needs `base_url`.
        base_url: address of a server, with its version: ``http://localhost:8000/v1``.
        plain: plain prompts, also for a model with a chat template. None: as the run was trained, else no.
        chat_template_kwargs: switches of the chat template, such as ``{"enable_thinking": False}``. None: those of the
            run, else none.
        overlong: "refuse" prompts that leave no room for a whole completion in the model's context, "cut" their start,
            or "drop" their problems. None: as the run, else refuse.
        max_prompt_length: leave out problems with prompts of more tokens, those of images counted. None: that of the
            run, else none.
        min_pixels, max_pixels: bounds of an image's width times height, to which it is resized. None: those of the run,
            else none.
        concurrency, timeout: limits of a server: requests at a time, and seconds for one of them. Its token is read
            from the environment variable ``OPENAI_API_KEY``.
        dictionary: a file or a dictionary to measure DSD with. None: that of the run, else none.
        dtype, revision: data type and revision of a model given by name: "float32" or "bfloat16", and the revision on
            the Hub.
        task_options: options of a task given by name.
        policy: way of finding the answer in a completion (`relax_rl.rewards.extraction.POLICIES`). None: that of the
            task's verifier.
        against: an evaluation that the result must be comparable with, checked before anything is sampled.
        despite: settings that may differ from it all the same (`relax_rl.comparison.pairs.MAY_DIFFER`).
        output: folder that keeps every sample and the result; what a killed evaluation left there is continued. None:
            nothing is kept on disk.
        overwrite: delete the evaluation in `output` first.
        allow_code: modules that a run may name its task of; ``task`` may name any.
        on_progress: receives the number of samples so far, and messages.

    Returns:
        Every metric with a 95 % interval by bootstrap over problems, and every setting it depends on.

    Raises:
        ConfigError: settings that do not fit together, or a run whose task is code that is not allowed.
        DataError: problems that cannot be read, or an evaluation that cannot be compared with `against`.
        ModelError: a model that cannot be loaded or sampled.
        RunError: a run without a checkpoint, or a folder that holds something else.
        Stopped: a stop was asked for (`relax_rl.stopping`); `output` keeps the samples there are.
    """
    say = on_progress or silent
    subject = subject_of(model, tokenizer, say)
    prompts = subject.prompts.updated(
        plain=plain,
        switches=chat_template_kwargs,
        overlong=overlong,
        max_prompt_length=max_prompt_length,
        min_pixels=min_pixels,
        max_pixels=max_pixels,
    )
    if processes is None and subject.is_loaded:
        processes = 1  # whether a program can be forked, it must say itself
    source = Source(tokenizer, batch_size, backend, base_url, prompts, concurrency, timeout, dtype, revision, processes)
    known = _task(task, dict(task_options or {}), subject, allow_code)
    default_length = subject.max_completion_length or (_ENDLESS_LENGTH if known.task.is_endless else _LENGTH)
    length = default_length if max_completion_length is None else max_completion_length
    sampling = SamplingSettings(num_samples, length, temperature, top_p, seed)
    if num_problems is not None and num_problems < 1:
        raise ConfigError(f"num_problems = {num_problems} must be at least 1.")
    source.check(dictionary, subject)
    folder = None if output is None else EvaluationFolder(output)
    if folder is not None:
        folder.check()
    count = num_problems or (_ENDLESS_PROBLEMS if known.task.is_endless else None)
    shown = known.task if prompts.pixels.is_open else FittedTask(known.task, prompts.pixels)
    problems = shown.problems(split, count, problem_seed)
    try_verifier(as_verifier(known.task.verifier).with_policy(policy), *answers_to_try(problems))
    is_default = max_completion_length is None and subject.max_completion_length is None

    from relax_rl.evaluation.runner import Evaluation

    fitted = shown

    def fitting(finds: FindsTooLong, left_out: FindsTooLong | None) -> list[Problem]:
        nonlocal fitted
        fitted = shown.fitting(finds)
        if left_out is not None:
            fitted = FittedTask(fitted, too_long=left_out, say=lambda words: say(Progress("loading", message=words)))
        return problems if fitted is shown else fitted.problems(split, count, problem_seed)

    asked = Asked(problems, sampling, dictionary, may_shorten=is_default, fitting=fitting)
    sampled_by = source.policy(subject, asked, say)
    evaluation = Evaluation(
        task=fitted,
        split=split,
        num_problems=count,
        problem_seed=problem_seed,
        name=subject.name,
        task_options=known.options,
        policy=policy,
        **sampled_by,
    )
    if against is not None:
        kept = folder if folder is not None and folder.is_complete and not overwrite else None
        # What is kept is compared as it is: an older grader may have graded it.
        require_comparable(against, evaluation.expected() if kept is None else load_result(kept.path), despite)

    def count_samples(done: int, total: int) -> None:
        say(Progress("sampling", done, total))

    try:
        return evaluation.run(folder, overwrite=overwrite, on_progress=count_samples)
    except Stopped as stopped:
        if folder is not None:
            stopped.kept, stopped.flag = f"the samples so far are kept in {folder.path}", ""
        raise


def rescore(
    folder: str | Path,
    task: str | Task | None = None,
    *,
    task_options: Mapping[str, Any] | None = None,
    policy: str | None = None,
    judge: str | None = None,
    base_url: str | None = None,
    concurrency: int = 16,
    timeout: float = 600.0,
    allow_code: Collection[str] = (),
) -> Regraded:
    """Grade the samples of a finished evaluation again, by the verifier as it is now; nothing is sampled.

    The folder's samples and result are replaced. Entropy, DSD and spectrum stay as they were measured.

    Args:
        folder: folder of the evaluation.
        task: task of the evaluation, for a task of your own: the folder knows its name alone. None: the task it names.
        task_options: options that differ from those in the folder.
        policy: way of finding the answer in a completion. None: the policy that the folder was graded with.
        judge: name of a model on the server `base_url`, which reads what the benchmark's published rule leaves to a
            model. Its replies are kept in the folder (``judge.jsonl``). None: nothing is judged.
        base_url, concurrency, timeout: the judge's server, with its version, requests at a time, and seconds for one of
            them. Its token is read from the environment variable ``OPENAI_API_KEY``.
        allow_code: modules that the folder may name its task of; ``task`` may name any.

    Raises:
        ConfigError: the folder names a task of code that is not allowed, ``task`` has another name, or a judge without
            an address or for a benchmark that needs none.
        ModelError: the judge's server gives no reply at all.
        DataError: the folder holds no finished evaluation, or the task no longer has its problems.
    """
    place = EvaluationFolder(folder)
    saved = place.read_settings()
    name, options = saved.get("task"), saved.get("task_options")
    if not isinstance(name, str) or not isinstance(options, dict):
        raise DataError(f"The settings of the evaluation {place.path} name no task with options; evaluate again.")
    if task is None and is_own_task(name):
        require_allowed({"task": name}, allow_code, str(place.path))
    chosen = name if task is None else task
    known = build_task(chosen, **options | dict(task_options or {})) if isinstance(chosen, str) else as_task(chosen)
    if task is not None and known.name != name:
        raise ConfigError(f"The evaluation {place.path} is of the task '{name}', not of '{known.name}'; name its own.")

    from relax_rl.evaluation.rescoring import rescore as grade_again

    chosen_policy = saved.get("grading", {}).get("policy") if policy is None else policy
    asked = _judge(judge, base_url, place.path, known.name, concurrency, timeout)
    return grade_again(place, known, as_verifier(known.verifier).with_policy(chosen_policy), asked)


def _judge(
    name: str | None, base_url: str | None, folder: Path, benchmark: str, concurrency: int, timeout: float
) -> Judge | None:
    if name is None:
        if base_url is not None:
            raise ConfigError("--base-url is the judge's server, and no judge is named; add --judge NAME.")
        return None
    from relax_rl.evaluation.judge import Judge
    from relax_rl.evaluation.left_to_a_model import LEFT_TO_A_MODEL

    if benchmark not in LEFT_TO_A_MODEL:
        raise ConfigError(
            f"The published rule of '{benchmark}' leaves nothing to a model, so that there is nothing to judge; a "
            f"judge is for {', '.join(LEFT_TO_A_MODEL)}."
        )
    if base_url is None:
        raise ConfigError("--judge NAME needs the address of its server: --base-url http://localhost:8000/v1.")
    key = os.environ.get("OPENAI_API_KEY")
    return Judge(base_url, name, cache=folder / "judge.jsonl", api_key=key, concurrency=concurrency, timeout_s=timeout)


def load_result(place: str | Path) -> EvaluationResult:
    """The result in an evaluation's folder, or in a file. Raises ``DataError`` naming the file."""
    place = Path(place)
    return EvaluationResult.load(place / "result.json" if place.is_dir() else place)


def default_folder(
    model: str,
    task: str | None,
    *,
    split: str = "test",
    num_samples: int = 16,
    temperature: float = 1.0,
    seed: int = 0,
    policy: str | None = None,
) -> Path:
    """Folder of an evaluation that names none.

    Raises:
        ConfigError: no task, and the model is no run that has one.
    """
    name = task or subject_of(model, None, silent).task
    if name is None:
        raise ConfigError(_NO_TASK)
    part = "" if split == "test" else f"-{split}"
    graded = "" if policy is None else f"-{policy}"
    folder = f"{model}-{name}{part}-k{num_samples}-t{temperature:g}-seed{seed}{graded}"
    return Path("evaluations") / re.sub(r"[^\w.-]+", "-", folder).strip("-.")


_NO_TASK = "name the task with --task NAME ('relax tasks' lists them)"


@dataclass(frozen=True)
class _KnownTask:
    task: BaseTask
    options: dict[str, Any]


def _task(
    task: str | Task | None, options: dict[str, Any], subject: Subject, allow_code: Collection[str]
) -> _KnownTask:
    if task is not None and not isinstance(task, str):
        if options:
            raise ConfigError(f"task_options {', '.join(options)} are for a task given by name; set them on the task.")
        return _KnownTask(as_task(task), {})
    name = task or subject.task
    if name is None:
        raise ConfigError(_NO_TASK)
    if task is None and is_own_task(name):
        require_allowed({"task.name": name}, allow_code, f"the run {subject.name}")
    options = (subject.options if name == subject.task else {}) | options
    refuse_secrets(options, "task.")
    return _KnownTask(build_task(name, **options), options)
