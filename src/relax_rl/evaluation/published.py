"""Samples scored by the published rule of their benchmark, beside our own verdict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

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

    A rule reads what follows the thought, as published evaluations do.

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
        scored.append([replace(sample, official=_scores(rules, one)) for sample, one in zip(row, seen, strict=True)])
    return scored


def _scores(rules: Sequence[OfficialRule], graded: Graded | None) -> dict[str, float]:
    """By the name of each rule; every rule refuses a completion that ends inside its thought."""
    return {rule.name: float(graded is not None and rule.is_right(graded)) for rule in rules}
