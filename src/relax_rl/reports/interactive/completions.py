"""Completions for the browser of the page: evaluations and training rollouts, as many as a page can hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from relax_rl.comparison.records import RunRecord
from relax_rl.errors import RelaxError
from relax_rl.evaluation.snapshot import Snapshot
from relax_rl.reports.interactive.images import image_names, with_images
from relax_rl.reports.interactive.modes import chosen_snapshots
from relax_rl.reports.payload import rounded
from relax_rl.runs import RunDirectory

__all__ = ["completion_data"]

_MOST_STEPS = 20
_MOST_ROWS = 32
_MOST_CHARACTERS = 1_600_000
"""Characters of all texts on a page together, prompts and completions."""
_LONGEST = 4000
_AFTER = 10**9


def completion_data(runs: Sequence[RunRecord]) -> dict[str, Any] | None:
    """Completions with their facts, evaluations first; None where none was kept.

    Texts are cut to a length at which all of them fit into the page; ``note`` says what was left out.
    """
    sources: list[dict[str, Any]] = []
    folders: list[Path] = []
    rows: list[dict[str, Any]] = []
    left_out = 0
    for run in runs:
        for stage, order in (("before", 0), ("after", _AFTER)):
            if stage in run.evaluations and run.evaluations[stage].samples:
                sources.append({"label": run.label, "stage": stage, "order": order})
                folders.append(run.path)
                rows += [_sample(vars(sample), len(sources) - 1) for sample in run.evaluations[stage].samples]
    for run in runs:
        for snapshot in chosen_snapshots(run):
            sources.append({"label": run.label, "stage": f"checkpoint {snapshot.update}", "order": snapshot.update})
            folders.append(run.path)
            rows += _traced(snapshot, len(sources) - 1)
    for run in runs:
        steps = _steps(run)
        for step in _spread(steps, max(3, _MOST_STEPS // len(runs))):
            found = [row for row in _rollout(run, step) if isinstance(row, Mapping)]
            kept = _spread(found, _MOST_ROWS)
            left_out += len(found) - len(kept)
            sources.append({"label": run.label, "stage": f"step {step}", "order": step})
            folders.append(run.path)
            rows += [_training_row(row, len(sources) - 1) for row in kept]
        left_out += 0 if len(steps) <= _MOST_STEPS else 1
    if not rows:
        return None
    longest = min(_LONGEST, max(200, _MOST_CHARACTERS // (2 * len(rows))))
    for row in rows:
        for name in ("prompt", "text"):
            row[name] = _cut(row[name], longest)
    note = (
        "The run directories have more: " + ("other completions and steps, " if left_out else "") + "whole texts, "
        f"of which this page shows {longest} characters each."
    )
    shown = with_images(rows, folders)
    return {"sources": sources, "rows": rows, "note": note} | ({"thumbnails": shown} if shown else {})


def _steps(run: RunRecord) -> list[int]:
    return RunDirectory(run.path).completion_steps()


def _rollout(run: RunRecord, step: int) -> list[dict[str, Any]]:
    try:
        return RunDirectory(run.path).read_completions(step)
    except (RelaxError, OSError, ValueError):
        return []  # the record of the run says what is broken


def _spread(items: Sequence[Any], most: int) -> list[Any]:
    """At most so many, evenly spread, the first and the last among them."""
    if len(items) <= most:
        return list(items)
    return [items[round(place * (len(items) - 1) / (most - 1))] for place in range(most)]


def _sample(sample: Mapping[str, Any], source: int) -> dict[str, Any]:
    return {
        "source": source,
        "problem": _text(sample["problem_id"]),
        "prompt": _text(sample["prompt"]),
        "text": _text(sample["completion"]),
        "answer": _text(sample["answer"]),
        "score": rounded(sample["score"]),
        "tokens": sample["num_tokens"],
        "dsd": rounded(sample["dsd"]),
        "truncated": False,
        "mode": None,
        "advantage": None,
        "images": image_names(sample),
    } | _by_token(sample["tokens"], sample["entropies"])


def _by_token(tokens: Sequence[str], entropies: Sequence[float]) -> dict[str, Any]:
    """For shading; empty where they are unknown."""
    if not tokens or len(tokens) != len(entropies):
        return {}
    return {"tokens_text": [_text(token) for token in tokens], "entropies": [rounded(value) for value in entropies]}


def _traced(snapshot: Snapshot, source: int) -> list[dict[str, Any]]:
    """Completions of the prompt that a snapshot follows, with their tokens."""
    return [
        {
            "source": source,
            "problem": "",
            "prompt": _text(snapshot.prompt),
            "text": _text("".join(row.tokens)),
            "answer": "",
            "score": rounded(row.reward),
            "tokens": len(row.tokens),
            "dsd": None,
            "truncated": False,
            "mode": None,
            "advantage": None,
            "images": [],
        }
        | _by_token(row.tokens, row.entropy)
        for row in snapshot.completions
    ]


def _training_row(row: Mapping[str, Any], source: int) -> dict[str, Any]:
    prompt = row.get("prompt")
    if isinstance(prompt, list):
        prompt = "\n".join(str(turn.get("content", "")) if isinstance(turn, Mapping) else str(turn) for turn in prompt)
    mode = row.get("mode")
    return {
        "source": source,
        "problem": _text(row.get("problem_id")),
        "prompt": _text(prompt),
        "text": _text(row.get("completion")),
        "answer": _text(row.get("answer")),
        "score": _number(row.get("reward")),
        "tokens": _number(row.get("num_tokens")),
        "dsd": _number(row.get("dsd")),
        "truncated": bool(row.get("truncated")),
        "mode": None if mode is None else _text(mode)[:80],
        "advantage": _number(row.get("advantage")),
        "images": image_names(row),
    }


def _number(value: Any) -> float | None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return value if is_number and isinstance(value, int) else rounded(value) if is_number else None


def _text(value: Any) -> str:
    """Any JSON value as text that a page can hold: a lone surrogate is no character."""
    text = "" if value is None else str(value)
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else f"{text[:longest]}\n[{len(text) - longest} more characters]"
