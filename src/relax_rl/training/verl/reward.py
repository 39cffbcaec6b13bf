"""A run's verifier as verl calls a reward function, and which completions the length limit cut."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from relax_rl.config import TrainConfig
from relax_rl.rewards.registry import configured_verifier
from relax_rl.rewards.reward_function import VerifierReward
from relax_rl.tasks.registry import build_task

__all__ = ["reward_function"]


def reward_function(settings_file: Path) -> Callable[..., dict[str, float]]:
    """verl's ``compute_score`` for the task and the verifier of a run's settings.

    The same grading as in `relax train`: only what the limits of the verifier's own processes let through counts. A
    completion that could not be scored gets 0, since verl has no word for it, and is counted as ``unscored``.

    Args:
        settings_file: the settings as JSON, as ``relax verl-config`` writes them.
    """
    settings = TrainConfig(**json.loads(settings_file.read_text(encoding="utf-8")))
    task = build_task(settings.task.name, **settings.task.options)
    reward = VerifierReward(configured_verifier(settings.verifier, task.verifier))
    # verl calls from several threads; the verifier has one set of processes.
    lock = threading.Lock()

    def compute_score(
        data_source: str, solution_str: str, ground_truth: Any, extra_info: Mapping[str, Any] | None = None, **_: Any
    ) -> dict[str, float]:
        info = extra_info or {}
        opened, options = str(info.get("opened_thought") or ""), list(info.get("options") or ())
        with lock:
            score = reward(
                [solution_str],
                answer=[ground_truth],
                truncated=[bool(info.get("truncated", False))],
                opened_thought=[opened] if opened else None,
                problem_options=[options] if options else None,
            )[0]
        return {"score": score or 0.0, "acc": score or 0.0, "unscored": float(score is None)}

    return compute_score
