"""How far several runs are, where there is no terminal: lines, and few of them."""

from pathlib import Path

import pytest

from relax_rl.cli.progress import JobBars
from relax_rl.workflows.compare.plan import parse_methods, plan_runs
from relax_rl.workflows.progress import Progress


@pytest.mark.parametrize(
    ("updates", "told"),
    [
        (50, [10, 20, 30, 40]),
        (12, [3, 5, 8, 10]),
        (9, []),  # so short a run is told of at its end alone
    ],
)
def test_a_line_for_each_fifth_of_a_run(
    updates: int, told: list[int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = plan_runs("countdown", [f"--trainer.max_steps={updates}"], parse_methods("grpo"), [0], tmp_path)
    label = runs[0].label
    with JobBars(runs) as bars:
        bars(Progress("started", run=label, total=updates))
        for done in range(1, updates + 1):
            bars(Progress("training", run=label, done=done, total=updates))
        bars(Progress("ended", run=label, message="kept"))
    lines = [f"{label}: {done} of {updates} updates" for done in told]
    assert capsys.readouterr().err.splitlines() == [*lines, f"[1/1] {label}: kept"]


def test_updates_that_come_several_at_once_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = plan_runs("countdown", ["--trainer.max_steps=50"], parse_methods("grpo"), [0], tmp_path)
    with JobBars(runs) as bars:
        bars(Progress("started", run=runs[0].label, total=50))
        bars(Progress("training", run=runs[0].label, done=33, total=50))
        bars(Progress("training", run=runs[0].label, done=34, total=50))
    assert capsys.readouterr().err.splitlines() == [f"{runs[0].label}: 33 of 50 updates"]
