"""Completions to read: the same problems under every run, and what training saw. All of it is untrusted text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from relax_rl.comparison.records import Rollout, RunRecord
from relax_rl.evaluation.result import SampleRecord
from relax_rl.reports.markup import Html, element, join
from relax_rl.reports.thumbnails import Thumbnails
from relax_rl.runs import RunDirectory

__all__ = ["evaluation_samples", "rollout_samples"]

_NUM_PROBLEMS = 4
_NUM_ROLLOUT_ROWS = 4
_NUM_CHARACTERS = 4000
"""A longer completion is cut on the page; the run directory has all of it."""


def evaluation_samples(runs: Sequence[RunRecord]) -> Html:
    """One sample of each run after training for a few problems, side by side; empty without evaluations."""
    samples = {run.label: _first_by_problem(run) for run in runs}
    problems = list(dict.fromkeys(key for found in samples.values() for key in found))
    shared = [key for key in problems if all(key in found for found in samples.values())]
    blocks = []
    for key in (shared or problems)[:_NUM_PROBLEMS]:
        found = {label: by_problem[key] for label, by_problem in samples.items() if key in by_problem}
        example = next(iter(found.values()))
        cards = [
            _card(label, sample.completion, sample.score, _sample_facts(sample)) for label, sample in found.items()
        ]
        heading = element(
            "p", "Problem ", element("code", key), ", gold answer ", element("code", example.answer), class_="problem"
        )
        prompt = element("pre", _cut(example.prompt), class_="text prompt")
        blocks += [heading, *_images(runs, example), prompt, element("div", *cards, class_="completions")]
    return join(blocks)


def _images(runs: Sequence[RunRecord], sample: SampleRecord) -> list[Html]:
    """The thumbnails of a sample's problem, from the first run that keeps them."""
    thumbnails = Thumbnails()
    for name in sample.images:
        for run in runs:
            if thumbnails.add(name, RunDirectory(run.path).thumbnails.read(name)):
                break
    return [element("div", thumbnails.row(sample.images), class_="thumbnails")] if sample.images else []


def rollout_samples(run: RunRecord) -> Html:
    """A few training completions of the first and the last step that the run kept; empty if it kept none."""
    blocks = []
    for rollout in run.rollouts:
        cards = [
            _card("", str(row.get("completion", "")), _number(row.get("reward")), _facts(row)) for row in _some(rollout)
        ]
        blocks += [element("h3", f"{run.label}, step {rollout.step}"), element("div", *cards, class_="completions")]
    return join(blocks)


def _some(rollout: Rollout) -> list[Mapping[str, Any]]:
    """Rows spread over the rollout, so that they come from different groups."""
    rows = [row for row in rollout.rows if isinstance(row, Mapping)]
    stride = max(1, len(rows) // _NUM_ROLLOUT_ROWS)
    return rows[::stride][:_NUM_ROLLOUT_ROWS]


def _first_by_problem(run: RunRecord) -> dict[str, SampleRecord]:
    evaluation = run.evaluations.get("after") or run.evaluations.get("before")
    found: dict[str, SampleRecord] = {}
    for sample in evaluation.samples if evaluation else ():
        found.setdefault(sample.problem_id, sample)
    return found


def _card(title: str, text: str, score: float | None, facts: Sequence[str]) -> Html:
    verdict = (
        "not scored" if score is None else "right" if score >= 1 else "wrong" if score <= 0 else f"score {score:.2f}"
    )
    kind = {"right": " right", "wrong": " wrong"}.get(verdict, "")
    line = [element("b", title), " · "] if title else []
    head = element("div", *line, " · ".join([verdict, *facts]), class_="facts")
    return element("div", head, element("pre", _cut(text), class_="text"), class_=f"completion{kind}")


def _sample_facts(sample: SampleRecord) -> list[str]:
    dsd = [] if sample.dsd is None else [f"DSD {sample.dsd:.3g}"]
    return [f"{sample.num_tokens} tokens", *dsd]


def _facts(row: Mapping[str, Any]) -> list[str]:
    facts = []
    if (prompt := row.get("prompt")) is not None:
        words = prompt if isinstance(prompt, str) else " / ".join(str(turn.get("content", "")) for turn in prompt)
        facts.append(f"prompt {words if len(words) <= 120 else words[:117] + '…'}")
    if (advantage := _number(row.get("advantage"))) is not None:
        facts.append(f"advantage {advantage:+.2f}".replace("-", "−"))
    if row.get("truncated"):
        facts.append("truncated")
    return facts


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _cut(text: str) -> str:
    if len(text) <= _NUM_CHARACTERS:
        return text
    return f"{text[:_NUM_CHARACTERS]}\n[{len(text) - _NUM_CHARACTERS} more characters in the run directory]"
