"""The prompts of an evaluation that had opened a thought: graders read their completions as its continuation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from relax_rl.evaluation.records import Sample
from relax_rl.evaluation.result import SampleRecord
from relax_rl.rewards.extraction.thoughts import thought_marks
from relax_rl.rewards.turns import opened_thought

__all__ = ["opened_again", "opened_by_prompts"]

_SERVER = "server"


def opened_by_prompts(prompts: Sequence[str], samples: Sequence[Sequence[Sample]], backend: str) -> list[str]:
    """The marker of the thought that each prompt opened; "" for none.

    A server renders its chat template out of our sight. If most of the completions that end by themselves close a
    thought that they did not open, its template opens one in every prompt.

    Args:
        prompts: as the model read them, one a problem, or what a server was sent.
        samples: one list a problem.
        backend: sampler of the completions.
    """
    opened = [opened_thought(prompt) for prompt in prompts]
    if backend != _SERVER or any(opened):
        return opened
    finished = [sample for row in samples for sample in row if not sample.truncated]
    num_closing = sum(_closes_another(sample.completion) for sample in finished)
    return ["<think>\n" if 2 * num_closing > len(finished) else ""] * len(prompts)


def opened_again(
    settings: Mapping[str, Any], shown: Sequence[SampleRecord], samples: Sequence[Sequence[Sample]]
) -> list[str]:
    """The same of an evaluation that is kept on disk: by its samples, its settings, or the prompts that it shows.

    Earlier versions kept the marker in the settings, and before that nowhere.
    """
    if any(sample.opened for row in samples for sample in row):
        return [row[0].opened for row in samples]
    if settings.get("opened"):
        return [str(settings["opened"])] * len(samples)
    prompts = {record.problem_id: record.prompt for record in shown}
    # All prompts of an evaluation have one template.
    usual = next(iter(prompts.values()), "")
    return opened_by_prompts(
        [prompts.get(row[0].problem_id, usual) for row in samples], samples, str(settings.get("backend", ""))
    )


def _closes_another(completion: str) -> bool:
    marks = thought_marks(completion)
    return bool(marks) and marks[0].is_closing
