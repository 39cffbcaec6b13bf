"""The rows of each rollout batch on disk: what was asked, what came back, what it was worth."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from accelerate import PartialState
from accelerate.utils import gather_object
from torch import Tensor

from relax_rl.rewards.turns import conversation_text
from relax_rl.runs import RunDirectory
from relax_rl.tasks.images.thumbnails import thumbnail

__all__ = ["RolloutRecorder"]

_MOST_THUMBNAILS = 8
"""Prompts of a rollout batch, in each process."""


class RolloutRecorder:
    """Collects the completions of this process as they are scored and trained on, and writes those of all processes.

    Args:
        run: directory to which `RunDirectory.write_completions` writes them.
    """

    def __init__(self, run: RunDirectory) -> None:
        self._run = run
        self._rows: list[dict[str, Any]] = []
        self._per_completion: list[dict[str, list[float]]] = []
        self._places: list[int] = []

    def start(
        self,
        inputs: list[dict[str, Any]],
        completions: list[Any],
        is_truncated: list[bool],
        num_tokens: list[int],
        scores: dict[str, list[float]],
        rewards: list[float],
        modes: list[str | None] | None = None,
    ) -> None:
        """A new rollout batch, in row order; `inputs` are rows of `prompt_dataset`, of whose images the names are kept.

        Args:
            modes: modes of the completions (`relax_rl.rewards.Verdict.mode`); empty where nothing tells them.
        """
        self._per_completion, self._places = [], []
        self._rows = [
            {
                "problem_id": given.get("problem_id"),
                "prompt": given["prompt"],
                "completion": conversation_text(completion),
                "answer": given.get("answer"),
                "reward": _finite(reward),
                "scores": {name: _finite(values[index]) for name, values in scores.items()},
                "num_tokens": num_tokens[index],
                "truncated": is_truncated[index],
            }
            for index, (given, completion, reward) in enumerate(zip(inputs, completions, rewards, strict=True))
        ]
        for row, given in zip(self._rows, inputs, strict=True):
            if names := given.get("image_names"):
                row["images"] = names
        for row, mode in zip(self._rows, modes or [], strict=False):
            row["mode"] = mode
        self._keep_thumbnails(inputs)

    def _keep_thumbnails(self, inputs: list[dict[str, Any]]) -> None:
        """Small copies of the images of some prompts, spread over the batch: a page shows a few completions of each."""
        shown = {given["image_names"][0]: given for given in inputs if given.get("image_names")}
        rows = list(shown.values())
        for given in rows[:: max(1, len(rows) // _MOST_THUMBNAILS)][:_MOST_THUMBNAILS]:
            for name, image in zip(given["image_names"], given["images"], strict=True):
                if not self._run.thumbnails.has(name):
                    self._run.thumbnails.write(name, thumbnail(image))

    def keep_failed(self, update: int, inputs: list[dict[str, Any]], completions: list[Any]) -> Path:
        """Write what a reward function failed on; each process keeps its own."""
        rows = [
            {"update": update, "completion": conversation_text(completion), **given}
            for given, completion in zip(inputs, completions, strict=True)
        ]
        return self._run.write_failed_rollout(update, PartialState().process_index, rows)

    @property
    def rows(self) -> list[dict[str, Any]]:
        """Record of the rollout batch, in row order; another list of rows may be set in its place."""
        return self._rows

    @rows.setter
    def rows(self, rows: list[dict[str, Any]]) -> None:
        self._rows = rows

    def kept(self) -> dict[str, Any]:
        """Records that are not written yet, for a checkpoint in the middle of a rollout batch."""
        return {
            "rows": [dict(row) for row in self._rows],
            "per_completion": list(self._per_completion),
            "places": list(self._places),
        }

    def restore(self, kept: dict[str, Any]) -> None:
        """Take up what `kept` gave."""
        self._rows, self._per_completion = kept["rows"], kept["per_completion"]
        # Checkpoints of earlier versions lack them: their micro-batches came in row order.
        count = sum(len(next(iter(part.values()))) for part in self._per_completion)
        self._places = kept.get("places", list(range(count)))

    def add(self, per_completion: dict[str, Tensor], rows: Tensor) -> None:
        """Findings of the objective about the next micro-batch's completions: (P, G) tensors, and their rows (B)."""
        self._places += rows.tolist()
        self._per_completion.append({name: values.flatten().tolist() for name, values in per_completion.items()})

    def finish(self, step: int) -> None:
        """Write the rollout batch that the update `step` used; does nothing when it was written already."""
        if not self._rows:
            return
        names = self._per_completion[0].keys()
        found = {name: [value for part in self._per_completion for value in part[name]] for name in names}
        for index, place in enumerate(self._places):
            self._rows[place].update({name: _finite(values[index]) for name, values in found.items()})
        rows = gather_object([{"step": step, **row} for row in self._rows])
        self._rows = []
        if PartialState().is_main_process:
            self._run.write_completions(step, rows)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
