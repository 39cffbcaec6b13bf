"""A module of a user's own, and what hostile files name in its place."""

from __future__ import annotations

from relax_rl.objectives import Objective
from relax_rl.objectives.methods.grpo import GRPOSettings, grpo
from relax_rl.rewards.countdown import CountdownVerifier
from relax_rl.tasks import Problem
from relax_rl.tasks.countdown import CountdownTask


class OwnTask:
    """Countdown under another name."""

    name = "own"
    verifier = CountdownVerifier()

    def problems(self, split: str, count: int | None = None, seed: int = 0) -> list[Problem]:
        """Those of countdown."""
        return CountdownTask().problems(split, count, seed)


def right(completions: list[str], answers: list[str]) -> list[float]:
    """Everything is right."""
    return [1.0] * len(completions)


def own_method(beta: float = 0.0) -> Objective:
    """GRPO."""
    return grpo(GRPOSettings(beta=beta))
