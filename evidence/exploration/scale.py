"""How large the runs of a study are: as they count, or in miniature."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from evidence.exploration.design import DEVELOPMENT_SEEDS, Design, Start
from relax_rl.config import TrainConfig, load_config

__all__ = ["Scale"]


@dataclass(frozen=True)
class Scale:
    """How much of a design is run, and where to.

    Attributes:
        runs: folder of starts and runs.
        results: folder of the tables.
        seeds: of the runs; None for those of the design.
        changes: to the settings of all runs.
        building: arguments of the scripts that build the starts, on top of the design's.
        most_methods: of a stage, and then of the first stage of a study alone; None for all of all.
    """

    design: Design
    runs: Path
    results: Path
    seeds: tuple[int, ...] | None = None
    changes: dict[str, Any] = field(default_factory=dict)
    building: tuple[str, ...] = ()
    most_methods: int | None = None

    @classmethod
    def small(cls, design: Design, runs: Path, results: Path) -> Scale:
        """A minute of it, on a development seed; proves nothing."""
        changes = {
            "trainer.max_steps": 2,
            "train_problems": 16,
            "evaluation.num_problems": 4,
            "evaluation.num_samples": 16,
        }
        building = ("--steps", "30", "--stop-after", "30", "--problems", "4")
        return cls(design, runs, results, DEVELOPMENT_SEEDS[:1], changes, building, most_methods=2)

    @property
    def table(self) -> Path:
        """File of the results with a row for each run."""
        return self.results / self.design.table

    @property
    def settings(self) -> TrainConfig:
        """The common setting of all runs."""
        return load_config(self.design.settings, self.changes)

    def of(self, start: Start) -> Scale:
        """That of the runs of a start, which has settings of its own."""
        return replace(self, changes={**start.settings, **self.changes})

    @property
    def num_problems(self) -> int:
        """Of an evaluation."""
        return self.settings.evaluation.num_problems

    @property
    def num_samples(self) -> int:
        """Of a problem, in an evaluation."""
        return self.settings.evaluation.num_samples

    @property
    def max_completion_length(self) -> int:
        """Tokens."""
        return self.settings.trainer.max_completion_length
