"""What a study of one process runs: starts, stages and their methods, as its file has them, and the order of all runs.

design.toml is study I, confirmation.toml its confirmation on new seeds, figures.toml study J.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

__all__ = [
    "CONFIRMATION",
    "DESIGN",
    "DEVELOPMENT_SEEDS",
    "FRONTIER",
    "J_DESIGN",
    "REPORTING_SEEDS",
    "RUNS_TABLE",
    "SETTINGS",
    "Design",
    "Run",
    "Stage",
    "Start",
    "read_design",
]

DESIGN = Path(__file__).with_name("design.toml")
CONFIRMATION = Path(__file__).with_name("confirmation.toml")
J_DESIGN = Path(__file__).with_name("figures.toml")
DEVELOPMENT_SEEDS = (100, 101, 102)
REPORTING_SEEDS = (41, 42, 43, 44, 45, 46, 47, 48)
RUNS_TABLE = "i_runs.csv"
SETTINGS = Path(__file__).with_name("training.toml")
FRONTIER = "frontier"
"""Role of the methods that trace the frontier: GRPO without a KL and with one of several strengths."""


@dataclass(frozen=True)
class Start:
    """A policy that runs begin with, and its task.

    Attributes:
        script: of the folder scripts, which builds it; "" for a model by its name.
        model: the name; "" for one that a script builds.
        arguments: of the script.
        task: the table ``task`` of the settings.
        split: that runs are evaluated on.
        settings: of its runs, where they differ from the common ones.
    """

    name: str
    script: str = ""
    task: Mapping[str, Any] = field(default_factory=dict)
    model: str = ""
    arguments: tuple[str, ...] = ()
    split: str = "test"
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def folder(self) -> str:
        """Name of its folder."""
        return self.name.replace(" ", "_")


@dataclass(frozen=True)
class Stage:
    """Methods that are run for all seeds before the next stage begins.

    Attributes:
        study: I1 to I5, I4b and its control, or J, in small letters; "frontier" for the methods that trace it.
        start: name of the start.
        methods: label to the table ``objective`` of the settings.
        unmatched: methods whose advantages are not known before an update, so that they keep their own size; those of
            all others are brought to GRPO's.
        bank: whether the methods need the bank of the start.
        needs: a study that must have said yes before this stage is run.
        further_seeds: run after all stages, beside the reporting seeds, for narrower intervals.
    """

    study: str
    start: str
    methods: Mapping[str, Mapping[str, Any]]
    unmatched: tuple[str, ...] = ()
    bank: bool = False
    needs: str | None = None
    further_seeds: tuple[int, ...] = ()


@dataclass(frozen=True)
class Run:
    """One training run."""

    stage: Stage
    start: Start
    method: str
    seed: int

    @property
    def key(self) -> tuple[str, str, str, int]:
        """What tells it from the others in the table of runs."""
        return self.stage.study, self.start.name, self.method, self.seed


@dataclass(frozen=True)
class Design:
    """The whole study.

    Attributes:
        table: file of the results with a row for each run.
        settings: the common setting of all runs.
        seeds: the reporting seeds.
    """

    starts: Mapping[str, Start]
    stages: tuple[Stage, ...] = field(default=())
    table: str = RUNS_TABLE
    settings: Path = SETTINGS
    seeds: tuple[int, ...] = REPORTING_SEEDS

    def runs(self, seeds: Iterable[int] | None = None) -> Iterator[Run]:
        """Stage by stage, and in each stage all methods of a seed before the next seed.

        Args:
            seeds: of every stage; None for the reporting seeds, and after all stages the further seeds of each.
        """
        first = self.seeds if seeds is None else tuple(seeds)
        for stage in self.stages:
            yield from self._runs_of(stage, first)
        if seeds is None:
            for stage in self.stages:
                yield from self._runs_of(stage, stage.further_seeds)

    def _runs_of(self, stage: Stage, seeds: Iterable[int]) -> Iterator[Run]:
        for seed in seeds:
            for method in stage.methods:
                yield Run(stage, self.starts[stage.start], method, seed)


def read_design(path: Path = DESIGN) -> Design:
    """The design in a file."""
    tables = tomllib.loads(path.read_text("utf-8"))
    starts = {
        name: Start(name, **{**table, "arguments": tuple(table.get("arguments", ()))})
        for name, table in tables["starts"].items()
    }
    stages = (
        Stage(**{**table, **{name: tuple(table.get(name, ())) for name in ("unmatched", "further_seeds")}})
        for table in tables.get("stages", ())
    )
    return Design(
        starts,
        tuple(stages),
        tables.get("table", RUNS_TABLE),
        path.parent / tables["settings"] if "settings" in tables else SETTINGS,
        tuple(tables.get("seeds", REPORTING_SEEDS)),
    )
