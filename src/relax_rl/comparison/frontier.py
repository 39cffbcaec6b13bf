"""The methods of a comparison that lie above the frontier of the others: more breadth at the same accuracy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from relax_rl.comparison.records import RunRecord, by_method
from relax_rl.statistics.frontier import LEAST_SEEDS, FrontierTest, frontier_distances, frontier_tests

__all__ = ["ACCURACY", "AboveFrontier", "above_frontier"]

ACCURACY = "mean@1"


@dataclass(frozen=True)
class AboveFrontier:
    """A method against the frontier, over the seeds that it and every method of the frontier have.

    Attributes:
        breadth: the metric that is set against mean@1.
        num_seeds: number of seeds.
        distance: mean over them of the method's breadth minus that of the frontier of its own seed, at its own mean@1.
        test: None with fewer seeds than a test needs.
    """

    method: str
    breadth: str
    num_seeds: int
    distance: float
    test: FrontierTest | None

    @property
    def verdict(self) -> str:
        """The verdict in a word or two."""
        if self.test is None:
            return f"no verdict below {LEAST_SEEDS} seeds"
        return "above" if self.test.is_above else "not above"


def above_frontier(
    runs: Sequence[RunRecord], frontier: Sequence[str], breadths: Sequence[str]
) -> tuple[AboveFrontier, ...]:
    """Test every method that is not of the frontier, for each metric of breadth; corrected by Holm over the methods.

    Args:
        runs: evaluated after training; a method whose seeds do not meet those of the frontier is left out.
        frontier: methods that trace it, such as GRPO with a KL of several strengths.
        breadths: metrics such as ``pass@64``.
    """
    methods = by_method([run for run in runs if "after" in run.evaluations])
    found: list[AboveFrontier] = []
    for breadth in breadths:
        points = {name: _points(members, breadth) for name, members in methods.items()}
        if any(name not in points for name in frontier):
            continue
        shared = set.intersection(*(set(points[name]) for name in frontier))
        own = {name: sorted(shared & set(of)) for name, of in points.items() if name not in frontier}
        own = {name: seeds for name, seeds in own.items() if seeds}
        tests = _tests(points, frontier, own)
        for name, seeds in own.items():
            distances = frontier_distances(_of(points[name], seeds), _traced(points, frontier, seeds))
            found.append(AboveFrontier(name, breadth, len(seeds), float(distances.mean()), tests.get(name)))
    return tuple(found)


_Points = dict[int, tuple[float, float]]


def _tests(points: dict[str, _Points], frontier: Sequence[str], own: dict[str, list[int]]) -> dict[str, FrontierTest]:
    """Tests of the methods with enough seeds, on the seeds that all of these share."""
    enough = {name: seeds for name, seeds in own.items() if len(seeds) >= LEAST_SEEDS}
    shared = sorted(set.intersection(*map(set, enough.values()))) if enough else []
    if len(shared) < LEAST_SEEDS:
        return {}
    return frontier_tests({name: _of(points[name], shared) for name in enough}, _traced(points, frontier, shared))


def _points(runs: Sequence[RunRecord], breadth: str) -> _Points:
    """(mean@1, breadth) by seed, of the runs that have both."""
    found = {run.seed: run.evaluations["after"].metrics for run in runs}
    return {
        seed: (metrics[ACCURACY].value, metrics[breadth].value)
        for seed, metrics in found.items()
        if ACCURACY in metrics and breadth in metrics
    }


def _of(points: _Points, seeds: Sequence[int]) -> np.ndarray:
    """(S, 2)."""
    return np.array([points[seed] for seed in seeds])


def _traced(points: dict[str, _Points], frontier: Sequence[str], seeds: Sequence[int]) -> np.ndarray:
    """(S, B, 2)."""
    return np.array([[points[name][seed] for name in frontier] for seed in seeds])
