"""First rewards and solutions ever sampled, by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from relax_rl.comparison.discovery import Discovery, discovered, discovery_of
from relax_rl.config import load_config
from relax_rl.runs import RunDirectory


def row(problem: str, reward: float | None, mode: str | None = None) -> dict[str, Any]:
    return {"problem_id": problem, "prompt": problem, "reward": reward, "mode": mode}


ROLLOUTS = [
    (1, [row("a", 0.0, "1+2"), row("b", None, "3")]),
    (2, [row("a", 1.0, "x"), row("a", 1.0, "y"), row("b", 0.0)]),
    (3, [row("b", 1.0, "x"), row("c", 0.0)]),
    (5, [row("a", 1.0, "y"), row("a", 0.0, "x")]),
]


def test_what_was_found_and_what_is_still_found() -> None:
    # a: x and y, of which its last rollout has y; b: x; c: nothing.
    assert discovery_of(ROLLOUTS) == Discovery(first_reward=2, problems=2, ever=3, now=2)
    assert discovery_of(ROLLOUTS[:1]) == Discovery(None, 0, 0, 0)
    assert discovery_of([]) == Discovery(None, 0, None, None)


def test_without_modes_no_solutions_are_counted() -> None:
    rows = [(update, [{**one, "mode": None} for one in found]) for update, found in ROLLOUTS]
    assert discovery_of(rows) == Discovery(2, 2, None, None)


@pytest.mark.parametrize("last", [3, 5])
def test_it_is_read_off_the_completions_of_a_run(tmp_path: Path, last: int) -> None:
    run = RunDirectory.new(tmp_path / "run")
    run.start(load_config("countdown", []))
    for update, rows in ROLLOUTS:
        if update <= last:
            run.write_completions(update, rows)
    assert discovered(run) == discovery_of([one for one in ROLLOUTS if one[0] <= last])
