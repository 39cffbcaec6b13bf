"""From the micro-batches of an update to what is to be said of the whole."""

from __future__ import annotations

import math
from collections import defaultdict
from typing import Any

import torch
from torch import Tensor

from relax_rl.objectives import RolloutBatch
from relax_rl.objectives.base import ObjectiveOutput
from relax_rl.objectives.updates import UpdateReport

__all__ = ["UpdateSums", "rank_means", "report_of"]


class UpdateSums:
    """Sums over the tokens of an update's micro-batches, and the metrics that the objective gave for each."""

    def __init__(self) -> None:
        self._sums: Tensor | None = None
        self._metrics: dict[str, list[float]] = defaultdict(list)

    @torch.no_grad()
    def add(self, batch: RolloutBatch, advantages: Tensor, metrics: dict[str, float]) -> None:
        """One more micro-batch: its advantages (P, G), and its metrics, which are averages over the processes."""
        log_probs = batch.log_probs[batch.mask].double()
        advantage = advantages.unsqueeze(-1).expand_as(batch.log_probs)[batch.mask].double()
        missing = torch.full_like(log_probs, torch.nan)
        entropy = missing if batch.entropy is None else batch.entropy[batch.mask].double()
        columns = (torch.ones_like(log_probs), entropy, log_probs, advantage, log_probs * advantage)
        of_completions = (torch.ones_like(advantages), advantages.double().square())
        sums = torch.stack([column.double().sum() for column in (*columns, *of_completions)])
        self._sums = sums if self._sums is None else self._sums + sums
        for name, value in metrics.items():
            self._metrics[name].append(value)

    def report(self, accelerator: Any, step: int, num_steps: int) -> UpdateReport:
        """Report on the update over all processes. Collective: call it on every rank."""
        if self._sums is None:
            raise ValueError("An update without micro-batches has no report.")
        total = accelerator.reduce(self._sums, reduction="sum")
        metrics = {name: sum(values) / len(values) for name, values in self._metrics.items()}
        return report_of(total.tolist(), metrics, step, num_steps)

    @property
    def sums(self) -> list[float]:
        """Sums of this process for `report_of`; those of several processes add up."""
        return [0.0] * _NUM_SUMS if self._sums is None else self._sums.tolist()


_NUM_SUMS = 7


def rank_means(accelerator: Any, output: ObjectiveOutput) -> dict[str, float]:
    """An objective's metrics, averaged over the processes that have them. Collective."""
    names = sorted(output.metrics)
    local = torch.tensor([[output.metrics[name] for name in names]], device=accelerator.device)
    return dict(zip(names, accelerator.gather(local).nanmean(0).tolist(), strict=True))


def report_of(sums: list[float], metrics: dict[str, float], step: int, num_steps: int) -> UpdateReport:
    """Report on an update from the sums over all its micro-batches and processes."""
    count, entropy, log_probs, advantages, products, num_completions, squares = sums
    # Nothing was sampled that the loss is of: an entropy of 0 would be news, and NaN is none.
    count = count or float("nan")
    return UpdateReport(
        step=step,
        num_steps=num_steps,
        entropy=entropy / count,
        covariance=products / count - (log_probs / count) * (advantages / count),
        advantage_rms=math.sqrt(squares / num_completions),
        metrics=metrics,
    )
