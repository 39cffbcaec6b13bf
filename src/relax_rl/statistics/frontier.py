"""Whether a method lies above the frontier that another one traces at several strengths.

More breadth for less accuracy is no gain: a plain KL of more strength gives that, too. GRPO with a plain KL of several
strengths traces a curve of breadth (pass@k, coverage) against accuracy (mean@1). A method counts as better only if it
lies above the curve at its own accuracy.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from relax_rl.errors import DataError
from relax_rl.statistics.seeded_means import holm
from relax_rl.statistics.sign_flip import SignFlipTest, sign_flip_test

__all__ = ["LEAST_SEEDS", "FrontierTest", "frontier_distances", "frontier_height", "frontier_tests"]

LEAST_SEEDS = 6
"""Below, no sign-flip test can reach 5 %."""


@dataclass(frozen=True)
class FrontierTest:
    """A method against the frontier.

    Attributes:
        distance: mean over seeds of breadth minus that of the seed's own frontier at the same accuracy, with its
            interval and the two-sided p-value of the margin.
        p_value: corrected by Holm over the methods.
        is_above: the distance exceeds the margin and the corrected p-value is below 0.05.
    """

    distance: SignFlipTest
    p_value: float
    is_above: bool


def frontier_height(points: np.ndarray, accuracy: float) -> float:
    """Breadth of the frontier at an accuracy: linear between its points, and level beyond both ends.

    Points that another one matches or exceeds in both are not of the frontier. Beyond the most accurate point a method
    must hold that point's breadth, so that accuracy alone is not taken for breadth.

    Args:
        points: (B, 2) accuracy and breadth at each strength.
    """
    kept: list[tuple[float, float]] = []
    # From the most accurate down: a point stays if it is broader than all that are at least as accurate.
    for x, y in sorted(map(tuple, points.tolist()), key=lambda point: (-point[0], -point[1])):
        if not kept or y > kept[-1][1]:
            kept.append((x, y))
    xs, ys = zip(*reversed(kept), strict=True)
    return float(np.interp(accuracy, xs, ys))


def frontier_distances(method: np.ndarray, frontier: np.ndarray) -> np.ndarray:
    """(S,) how far a method lies above the frontier of its own seed, in units of breadth.

    Args:
        method: (S, 2) accuracy and breadth of each seed.
        frontier: (S, B, 2) the same of the baseline at B strengths.

    Raises:
        DataError: other shapes, seeds that do not agree, or a number that is not finite.
    """
    if method.ndim != 2 or frontier.ndim != 3 or method.shape != frontier[:, 0].shape or method.shape[1] != 2:
        raise DataError(
            f"A frontier test needs a method (seeds, 2) and a frontier (seeds, strengths, 2), but they are "
            f"{method.shape} and {frontier.shape}; give every strength the seeds of the method."
        )
    if not (np.isfinite(method).all() and np.isfinite(frontier).all()):
        raise DataError("A frontier test needs finite numbers; leave out seeds of which a run is missing.")
    heights = [frontier_height(points, float(x)) for points, x in zip(frontier, method[:, 0], strict=True)]
    return method[:, 1] - np.array(heights)


def frontier_tests(
    methods: Mapping[str, np.ndarray], frontier: np.ndarray, *, margin: float = 0.0, seed: int = 0
) -> dict[str, FrontierTest]:
    """Test each method against the frontier, paired by seed, corrected by Holm over the methods.

    Args:
        methods: by name, (S, 2) accuracy and breadth of each seed.
        frontier: (S, B, 2) of the baseline, the same seeds.
        margin: distance that does not count. Between two strengths a straight line lies below a bent curve, by an
            eighth of its bend times the squared gap in accuracy: the margin must be above that.
        seed: seed of the random sign flips, used beyond 12 seeds.

    Raises:
        DataError: fewer than `LEAST_SEEDS` seeds, or as `frontier_distances`.
    """
    tests: dict[str, tuple[SignFlipTest, float]] = {}
    for name, method in methods.items():
        distances = frontier_distances(np.asarray(method, dtype=np.float64), np.asarray(frontier, dtype=np.float64))
        found = sign_flip_test(distances, seed=seed)
        shifted = sign_flip_test(distances - margin, seed=seed)
        if len(distances) < LEAST_SEEDS or found is None or shifted is None:
            raise DataError(f"A frontier test needs {LEAST_SEEDS} seeds or more, but {name!r} has {len(distances)}.")
        tests[name] = found, shifted.p_value
    corrected = holm([p_value for _, p_value in tests.values()])
    return {
        name: FrontierTest(
            SignFlipTest(found.value, found.low, found.high, p_value, found.num_pairs),
            adjusted,
            found.value > margin and adjusted < 0.05,
        )
        for (name, (found, p_value)), adjusted in zip(tests.items(), corrected, strict=True)
    }
