"""Where the seconds of an update went."""

from __future__ import annotations

import pytest

from relax_rl.training.trl import timed
from relax_rl.training.trl.timed import CostSplit


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds that the clock shows; tests move it."""
    now = [100.0]
    monkeypatch.setattr(timed.time, "perf_counter", lambda: now[0])
    return now


def test_an_inner_part_does_not_count_as_the_outer_one(clock: list[float]) -> None:
    cost = CostSplit()
    with cost.of("rollout"):
        clock[0] += 5
        with cost.of("reward"):
            clock[0] += 2
        clock[0] += 1
    clock[0] += 50  # outside of all parts
    with cost.of("reward"):
        clock[0] += 0.5
    cost.add("dsd", 0.25)
    assert cost.taken(12.0) == {"time/rollout": 6.0, "time/reward": 2.5, "time/dsd": 0.25, "time/update": 3.25}
    assert cost.taken(4.0) == {"time/rollout": 0.0, "time/reward": 0.0, "time/dsd": 0.0, "time/update": 4.0}


def test_a_part_that_fails_is_closed_and_the_device_is_waited_for(clock: list[float]) -> None:
    def wait() -> None:
        clock[0] += 1

    cost = CostSplit(wait)
    with pytest.raises(ValueError, match="broken"), cost.of("rollout"):
        raise ValueError("broken")
    with cost.of("reward"):
        pass
    found = cost.taken(10.0)
    assert (found["time/rollout"], found["time/reward"]) == (1.0, 1.0)
