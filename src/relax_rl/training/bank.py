"""A bank of correct traces of the start policy: an evaluation's right samples, with their prompts as tokens."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from relax_rl.errors import ConfigError, DataError
from relax_rl.evaluation.folder import EvaluationFolder
from relax_rl.evaluation.prompts import PromptForm, encode_prompt, render_prompt
from relax_rl.evaluation.runner import digest_of
from relax_rl.objectives import Objective
from relax_rl.objectives.inputs import BANK_TERM, BankTerm
from relax_rl.tasks.registry import build_task, task_names

__all__ = ["Trace", "bank_of", "check_bank", "read_bank"]

_MADE_BY = "relax eval MODEL --task {task} --split train -o DIR"


@dataclass(frozen=True)
class Trace:
    """A right sample of the start policy: the token ids of its prompt, and its own with the stop token."""

    prompt: tuple[int, ...]
    completion: tuple[int, ...]


def bank_of(objective: Objective) -> BankTerm | None:
    """Traces that the objective reads; None if it reads none."""
    return next((wanted for wanted in objective.inputs if isinstance(wanted, BankTerm)), None)


def check_bank(objective: Objective, task: str, evaluated: str | None) -> None:
    """Refuse a bank that is missing, of another task, or of held-out problems; nothing is loaded.

    Args:
        task: the name of the run's.
        evaluated: the split that the run is evaluated on; None where it is not.

    Raises:
        ConfigError: in one sentence.
        DataError: the folder is no evaluation, or not a complete one.
    """
    if BANK_TERM not in objective.inputs:
        return
    term = bank_of(objective)
    path = "" if term is None else term.path
    made = _MADE_BY.format(task=task)
    if not path:
        raise ConfigError(
            f"The objective {objective.name!r} needs a bank of correct traces of the start policy: make one by "
            f"`{made}` with the policy that the run starts from, and set objective.bank to DIR."
        )
    if not Path(path).is_dir():
        raise ConfigError(f"objective.bank is {path}, which is no folder; make one by `{made}`.")
    settings = EvaluationFolder(path).read_settings()
    if settings.get("task") != task:
        raise ConfigError(
            f"objective.bank {path} is of the task {settings.get('task')!r}, but the run trains on {task!r}; make one "
            f"by `{made}`."
        )
    if evaluated is not None and settings.get("split") == evaluated:
        raise ConfigError(
            f"objective.bank {path} is of the split {evaluated!r}, on which the run is evaluated, so it would be "
            f"trained on held-out problems; make one by `{made}`."
        )


def read_bank(path: str, tokenizer: Any) -> list[Trace]:
    """The right samples of an evaluation, in its order.

    Raises:
        ConfigError: its task is not one of the package's.
        DataError: it is not complete, has no right sample or no token ids, or this tokenizer renders other prompts.
    """
    folder = EvaluationFolder(path)
    settings, samples = folder.read_settings(), folder.read_samples()
    if settings["task"] not in task_names():
        raise ConfigError(
            f"objective.bank {path} is of the task {settings['task']!r}; a bank is read for the tasks of the package: "
            f"{', '.join(task_names())}."
        )
    task = build_task(settings["task"], **settings.get("task_options", {}))
    problems = task.problems(settings["split"], settings["num_problems"], settings["problem_seed"])
    forms = (PromptForm(), PromptForm(plain=True))
    known = [form for form in forms if _digest(tokenizer, problems, form) == settings["prompt_digest"]]
    if not known:
        raise DataError(
            f"The prompts of objective.bank {path} are not those that this model reads (digest "
            f"{settings['prompt_digest']}); evaluate the policy that the run starts from, without images and switches "
            "of the chat template."
        )
    prompts = {problem.id: tuple(encode_prompt(tokenizer, problem, known[0])) for problem in problems}
    right = [sample for sample in samples if sample.score == 1 and not sample.truncated]
    if any(not sample.token_ids for sample in right):
        raise DataError(
            f"objective.bank {path} has no token ids: its backend does not tell them; evaluate with another one."
        )
    if not right:
        raise DataError(f"objective.bank {path} has no right sample; evaluate more problems or samples.")
    return [Trace(prompts[sample.problem_id], sample.token_ids) for sample in right]


def _digest(tokenizer: Any, problems: Any, form: PromptForm) -> str:
    return digest_of([render_prompt(tokenizer, problem, form) for problem in problems])
