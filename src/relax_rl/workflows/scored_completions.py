"""Completions with scores: of a run, of an evaluation, of a file, or drawn now on a task and graded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from relax_rl.errors import ConfigError, DataError
from relax_rl.import_path import is_own_task, require_allowed
from relax_rl.runs import RunDirectory
from relax_rl.tasks.base import Problem
from relax_rl.tasks.files import file_rows
from relax_rl.workflows.prompts import PROMPT_COLUMNS
from relax_rl.workflows.spectrum_texts import Reading, sampled_texts, task_of

if TYPE_CHECKING:
    from relax_rl.evaluation.folder import EvaluationFolder

__all__ = ["ScoredCompletion", "drawn_completions", "encoded", "read_completions"]

_COMPLETIONS = ("completion", "response", "output")
_SCORES = ("score", "correct", "is_correct", "right", "label", "reward")
_PROBLEMS = ("problem_id", "id")
_WORDS = {**dict.fromkeys(("true", "yes", "right", "correct"), 1.0), **dict.fromkeys(("false", "no", "wrong"), 0.0)}


@dataclass(frozen=True)
class ScoredCompletion:
    """One completion and what it is worth.

    Attributes:
        problem: problem that it answers.
        text: untrusted; read where there are no `token_ids`.
        score: 1 or more is right; None: not scored.
        prompt_ids: as the model read them; the prompt is encoded where they are missing.
        is_plain: the prompt is what the model read, and no chat template goes around it.
    """

    problem: Problem
    text: str
    score: float | None
    token_ids: tuple[int, ...] = ()
    prompt_ids: tuple[int, ...] = ()
    is_plain: bool = False

    @property
    def is_right(self) -> bool:
        """Only a score of 1 is."""
        return self.score is not None and self.score >= 1.0


def read_completions(path: Path, reading: Reading) -> tuple[list[ScoredCompletion], str]:
    """The completions in a run, in the folder of an evaluation, or in a file, and where they are from, in words.

    Args:
        path: a file has a row a completion, with columns for the prompt, the completion, the score, and the problem.
        reading: names the task of an evaluation on a task of the user's own.

    Raises:
        DataError: none of these, or a row without what it needs.
        ConfigError: an evaluation of the user's own task, which is not named.
    """
    from relax_rl.evaluation.folder import EvaluationFolder

    if not path.exists():
        raise DataError(f"There is no '{path}'; name a run, the folder of an evaluation, or a file of completions.")
    if path.is_file():
        return _of_file(path), f"the file {path}"
    folder = EvaluationFolder(path)
    if folder.settings_path.is_file():
        return _of_evaluation(folder, reading), f"the evaluation {path}"
    if not RunDirectory(path).is_run():
        raise DataError(f"'{path}' is no run and no evaluation; name one of these, or a file of completions.")
    return _of_run(RunDirectory.open(path)), f"the run {path}"


def drawn_completions(
    model: Any, tokenizer: Any, problems: list[Problem], reading: Reading, name: str
) -> list[ScoredCompletion]:
    """Completions that the model writes now, graded by the task's verifier.

    Raises:
        ModelError: a model without an end token.
    """
    from relax_rl.evaluation.grading import grade_samples
    from relax_rl.evaluation.prompts import render_prompt
    from relax_rl.evaluation.records import sample_of
    from relax_rl.evaluation.samplers.protocol import Draw
    from relax_rl.evaluation.thoughts import opened_by_prompts
    from relax_rl.rewards.base import as_verifier

    drawn = sampled_texts(model, tokenizer, problems, reading, name)
    samples = [
        [sample_of(Draw(place, index, completion), problems) for index, completion in enumerate(row)]
        for place, row in enumerate(drawn.completions)
    ]
    rendered = [render_prompt(tokenizer, problem, drawn.form) for problem in problems]
    opened = opened_by_prompts(rendered, samples, "transformers")
    verifier = as_verifier(task_of(reading).verifier).with_policy(None)
    options = [problem.options for problem in problems]
    graded = grade_samples(verifier, samples, [problem.answer for problem in problems], opened, options)
    return [
        ScoredCompletion(problem, sample.completion, sample.score, sample.token_ids, tuple(prompt))
        for problem, row, prompt in zip(problems, graded, drawn.prompts, strict=True)
        for sample in row
    ]


def encoded(completion: ScoredCompletion, tokenizer: Any, reading: Reading) -> tuple[list[int], list[int]]:
    """Token ids of the prompt and of the completion."""
    from relax_rl.evaluation.prompts import PromptForm, encode_prompt, text_tokenizer

    form = reading.form
    prompt_form = PromptForm(plain=form["plain"] or completion.is_plain, switches=form["switches"])
    prompt = list(completion.prompt_ids or encode_prompt(tokenizer, completion.problem, prompt_form))
    if completion.token_ids:
        return prompt, list(completion.token_ids)
    return prompt, text_tokenizer(tokenizer)(completion.text, add_special_tokens=False, verbose=False)["input_ids"]


def _of_evaluation(folder: EvaluationFolder, reading: Reading) -> list[ScoredCompletion]:
    settings, samples = folder.read_settings(), folder.read_samples()
    name = settings.get("task")
    if not isinstance(name, str):
        raise DataError(f"The settings of the evaluation {folder.path} name no task; evaluate again.")
    if reading.task is None and is_own_task(name):
        require_allowed({"task": name}, (), str(folder.path))
    options = dict(cast("Mapping[str, Any]", settings.get("task_options") or {})) | dict(reading.task_options or {})
    task = task_of(replace(reading, task=reading.task or name, task_options=options))
    if task.name != name:
        raise ConfigError(f"The evaluation {folder.path} is of the task '{name}', not of '{task.name}'; name its own.")
    found = task.problems(settings["split"], settings["num_problems"], settings["problem_seed"])
    problems = {problem.id: problem for problem in found}
    missing = next((sample.problem_id for sample in samples if sample.problem_id not in problems), None)
    if missing is not None:
        raise DataError(f"The task {name!r} no longer has the problem '{missing}' of {folder.path}.")
    return [
        ScoredCompletion(problems[sample.problem_id], sample.completion, sample.score, sample.token_ids)
        for sample in samples
    ]


def _of_run(run: RunDirectory) -> list[ScoredCompletion]:
    rows = [row for step in run.completion_steps() for row in run.read_completions(step)]
    if not rows:
        raise DataError(f"The run {run.path} kept no completions.")
    found: list[ScoredCompletion] = []
    for row in rows:
        prompt = row["prompt"]
        problem = _problem(str(row.get("problem_id") or prompt), prompt, f"a completion of {run.path}")
        # The first reward is the verifier's; others shape it.
        scores = list(row["scores"].values())
        score = None if not scores or scores[0] is None else float(scores[0])
        found.append(ScoredCompletion(problem, row["completion"], score, is_plain=isinstance(prompt, str)))
    return found


def _of_file(path: Path) -> list[ScoredCompletion]:
    found: list[ScoredCompletion] = []
    for row in file_rows(path):
        prompt = next((row.columns[name] for name in PROMPT_COLUMNS if row.columns.get(name)), None)
        text = next((row.columns[name] for name in _COMPLETIONS if isinstance(row.columns.get(name), str)), None)
        if prompt is None or text is None:
            missing, names = ("prompt", PROMPT_COLUMNS) if prompt is None else ("completion", _COMPLETIONS)
            raise DataError(f"There is no {missing} in {row.where}: it needs a column named {' or '.join(names)}.")
        name = next((str(row.columns[name]) for name in _PROBLEMS if row.columns.get(name) is not None), str(prompt))
        found.append(ScoredCompletion(_problem(name, prompt, row.where), text, _score(row.columns, row.where)))
    return found


def _score(columns: Mapping[str, Any], where: str) -> float | None:
    known = [columns[name] for name in _SCORES if name in columns]
    if not known:
        raise DataError(f"There is no score in {where}: it needs a column named {' or '.join(_SCORES)}.")
    value = known[0]
    if value is None or isinstance(value, bool | int | float):
        return None if value is None else float(value)
    words = str(value).strip().lower()
    try:
        return _WORDS[words] if words in _WORDS else float(words)
    except ValueError:
        raise DataError(f"The score in {where} is {value!r}; give a number, true or false.") from None


def _problem(name: str, prompt: Any, where: str) -> Problem:
    """From words, or from the turns of a conversation."""
    if isinstance(prompt, str):
        return Problem(name, prompt, "")
    turns: Sequence[Any] = prompt if isinstance(prompt, list) else []
    if not turns or not all(isinstance(turn, dict) and isinstance(turn.get("content"), str) for turn in turns):
        raise DataError(f"The prompt of {where} is neither text nor a conversation of words.")
    spoken = [(str(turn["role"]), str(turn["content"])) for turn in turns]
    system = spoken[0][1] if spoken[0][0] == "system" else None
    *before, (_, question) = spoken[system is not None :]
    return Problem(name, question, "", system=system, turns=tuple(before))
