"""Samples scored by the published rule of their benchmark, beside our own verdict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from relax_rl.evaluation.left_to_a_model import LEFT_TO_A_MODEL
from relax_rl.evaluation.records import Sample
from relax_rl.rewards.extraction.thoughts import after_thinking
from relax_rl.rewards.official import Graded, OfficialRule, official_rules
from relax_rl.rewards.visual.official import VISUAL_RULES
from relax_rl.tasks.base import Problem

__all__ = ["with_official_scores"]


def with_official_scores(
    samples: Sequence[Sequence[Sample]], problems: Sequence[Problem], benchmark: str
) -> list[list[Sample]]:
    """Graded samples with the scores of the benchmark's own rules; as they are, if it has none.

    A rule reads what follows the thought, as published evaluations do. ``RULE_left`` is 1 where a benchmark leaves the
    completion to a language model (`.left_to_a_model`).

    Args:
        samples: one list a problem, graded.
        problems: problems of the benchmark, in the same order.
        benchmark: the name of the task.
    """
    rules = official_rules(benchmark) or VISUAL_RULES.get(benchmark, ())
    if not rules:
        return [list(row) for row in samples]
    scored = []
    for row, problem in zip(samples, problems, strict=True):
        texts = [after_thinking(sample.opened + sample.completion) for sample in row]
        seen = [
            None if text is None else Graded(text, problem.answer, sample.score, problem.columns)
            for sample, text in zip(row, texts, strict=True)
        ]
        scored.append(
            [replace(sample, official=_scores(rules, one, benchmark)) for sample, one in zip(row, seen, strict=True)]
        )
    return scored


def _scores(rules: Sequence[OfficialRule], graded: Graded | None, benchmark: str) -> dict[str, float]:
    """By the name of each rule; every rule refuses a completion that ends inside its thought."""
    found = {rule.name: float(graded is not None and rule.is_right(graded)) for rule in rules}
    if (left := LEFT_TO_A_MODEL.get(benchmark)) is not None:
        found |= {
            f"{name}_left": float(graded is not None and left.leaves(graded, score == 1.0))
            for name, score in list(found.items())
        }
    return found
