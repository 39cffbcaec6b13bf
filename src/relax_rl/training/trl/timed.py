"""Seconds of each update by what they were spent on: rollouts, rewards, DSD, and the rest of the update."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Generator
from typing import Any

import torch
from torch import Tensor

from relax_rl.training.trl.guarded import GuardedTrainer

__all__ = ["CostSplit", "TimedTrainer"]

_PARTS = ("rollout", "reward", "dsd")


class CostSplit:
    """Sums seconds by part until `taken` reads them.

    Args:
        wait: called before the clock is read, so that work a device still owes counts where it was asked for.
    """

    def __init__(self, wait: Any = None) -> None:
        self._wait = wait
        self._seconds: dict[str, float] = dict.fromkeys(_PARTS, 0.0)
        self._open: list[str] = []
        self._since = 0.0

    @contextlib.contextmanager
    def of(self, part: str) -> Generator[None]:
        """Time inside counts as `part`, and not as a part around it."""
        self._charge()
        self._open.append(part)
        try:
            yield
        finally:
            self._charge()
            self._open.pop()

    def add(self, part: str, seconds: float) -> None:
        """Seconds that something else has measured."""
        self._seconds[part] += seconds

    def taken(self, total: float) -> dict[str, float]:
        """Metrics of the update that took `total` seconds; the sums start again at 0."""
        found = {f"time/{part}": seconds for part, seconds in self._seconds.items()}
        self._seconds = dict.fromkeys(_PARTS, 0.0)
        return found | {"time/update": max(0.0, total - sum(found.values()))}

    def _charge(self) -> None:
        if self._wait is not None:
            self._wait()
        now = time.perf_counter()
        if self._open:
            self._seconds[self._open[-1]] += now - self._since
        self._since = now


class TimedTrainer(GuardedTrainer):
    """`trl.GRPOTrainer` that logs where the seconds of ``step_time`` went, as ``time/...``."""

    _step: Any
    _metrics: Any
    current_gradient_accumulation_steps: Any

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._cost = CostSplit(torch.cuda.synchronize if self.accelerator.device.type == "cuda" else None)

    def training_step(self, *args: Any, **kwargs: Any) -> Tensor:
        loss = super().training_step(*args, **kwargs)
        if self._step % self.current_gradient_accumulation_steps == 0:
            logged = self._metrics["train"]
            for name, seconds in self._cost.taken(logged["step_time"][-1]).items():
                logged[name].append(seconds)
        return loss

    def _generate_and_score_completions(self, inputs: Any) -> Any:
        with self._counted_as("rollout"):
            return super()._generate_and_score_completions(inputs)

    def _calculate_rewards(self, *args: Any, **kwargs: Any) -> Any:
        with self._counted_as("reward"):
            return super()._calculate_rewards(*args, **kwargs)

    def _counted_as(self, part: str) -> contextlib.AbstractContextManager[None]:
        # TRL's own evaluation is no part of an update.
        return self._cost.of(part) if self.model.training else contextlib.nullcontext()
