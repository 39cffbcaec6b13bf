"""Result of a training run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from relax_rl.evaluation.result import EvaluationResult

__all__ = ["TrainResult"]


@dataclass(frozen=True)
class TrainResult:
    """Result of a run.

    Attributes:
        output: the run directory.
        before, after: the evaluations; None where the settings leave them out.
        metrics: the last row of ``metrics.jsonl``.
        num_updates: optimiser updates in all.
    """

    output: Path
    before: EvaluationResult | None
    after: EvaluationResult | None
    metrics: Mapping[str, Any]
    num_updates: int
