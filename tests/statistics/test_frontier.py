"""The distance to an interpolated frontier, by hand and on data whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest

from relax_rl.errors import DataError
from relax_rl.statistics.frontier import frontier_distances, frontier_height, frontier_tests

CURVE = np.array([[0.2, 0.9], [0.3, 0.85], [0.4, 0.7], [0.35, 0.6], [0.3, 0.8]])
"""The last two are dominated."""


@pytest.mark.parametrize(
    ("accuracy", "height"),
    [(0.2, 0.9), (0.25, 0.875), (0.3, 0.85), (0.35, 0.775), (0.4, 0.7), (0.1, 0.9), (0.6, 0.7)],
)
def test_the_height_by_hand(accuracy: float, height: float) -> None:
    assert frontier_height(CURVE, accuracy) == pytest.approx(height)
    assert frontier_height(CURVE[::-1], accuracy) == pytest.approx(height)
    assert frontier_height(CURVE[2:3], accuracy) == pytest.approx(0.7)


def runs(seeds: int, rng: np.random.Generator, accuracy: float, lift: float, noise: float = 0.01) -> np.ndarray:
    """(S, 2) of a method ``lift`` above the line breadth = 1.1 - accuracy."""
    exact = np.array([accuracy, 1.1 - accuracy + lift])
    return exact + noise * rng.standard_normal((seeds, 2))


def frontier(seeds: int, rng: np.random.Generator) -> np.ndarray:
    return np.stack([runs(seeds, rng, accuracy, 0.0) for accuracy in (0.2, 0.3, 0.4, 0.5, 0.6)], axis=1)


def test_what_lies_above_is_found_and_what_trades_or_lies_below_is_not() -> None:
    rng = np.random.default_rng(0)
    curve = frontier(8, rng)
    methods = {
        "above": runs(8, rng, 0.45, 0.1),
        "trades": runs(8, rng, 0.25, 0.0),
        "below": runs(8, rng, 0.45, -0.1),
        "accurate": np.array([[0.8, 0.3]] * 8),
    }
    found = frontier_tests(methods, curve)
    assert {name for name, test in found.items() if test.is_above} == {"above"}
    assert found["above"].distance.value == pytest.approx(0.1, abs=0.02)
    assert found["above"].p_value == pytest.approx(4 * 2 / 2**8)
    assert found["below"].distance.value < 0
    assert found["below"].p_value < 0.05
    assert not frontier_tests({"above": methods["above"]}, curve, margin=0.2)["above"].is_above
    assert frontier_tests({"above": methods["above"]}, curve, margin=0.05)["above"].is_above


def test_a_method_on_the_frontier_is_rarely_called_above() -> None:
    """The frontier of each seed drops its dominated points, so that it errs upwards: at most 5 % of 200."""
    rng = np.random.default_rng(1)
    called = [frontier_tests({"same": runs(6, rng, 0.35, 0.0)}, frontier(6, rng))["same"].is_above for _ in range(200)]
    assert sum(called) <= 10


def test_what_is_refused() -> None:
    rng = np.random.default_rng(2)
    with pytest.raises(DataError, match="needs 6 seeds or more, but 'one' has 5"):
        frontier_tests({"one": runs(5, rng, 0.3, 0.0)}, frontier(5, rng))
    with pytest.raises(DataError, match=r"but they are \(6, 2\) and \(7, 5, 2\)"):
        frontier_distances(runs(6, rng, 0.3, 0.0), frontier(7, rng))
    broken = runs(6, rng, 0.3, 0.0)
    broken[0, 0] = np.nan
    with pytest.raises(DataError, match="needs finite numbers"):
        frontier_distances(broken, frontier(6, rng))
