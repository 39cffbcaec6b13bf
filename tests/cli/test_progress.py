"""What is shown of a run while it trains."""

from __future__ import annotations

import io
import math

from rich.console import Console

from relax_rl.cli.progress import TrainingBar, figures
from relax_rl.workflows.progress import Progress


def test_figures_that_are_missing_or_not_finite_are_left_out() -> None:
    assert figures({"reward": 0.25, "entropy": math.nan, "completions/mean_length": 41.6}) == "reward 0.250  length 42"


def test_a_terminal_shows_the_updates_until_training_ends() -> None:
    screen = io.StringIO()
    with TrainingBar("relax seed 3", Console(file=screen, force_terminal=True, width=120)) as bar:
        bar(Progress("before", 0, 4))
        assert screen.getvalue() == ""
        bar(Progress("training", 0, 4))
        bar(Progress("training", 2, 4, metrics={"reward": 0.5}))
        bar(Progress("after", 4, 4))
    assert "relax seed 3" in screen.getvalue()
    assert "2/4" in screen.getvalue()
    assert "reward 0.500" in screen.getvalue()


def test_where_there_is_no_terminal_a_log_shows_life() -> None:
    screen = io.StringIO()
    with TrainingBar("relax", Console(file=screen, force_terminal=False)) as bar:
        bar(Progress("training", 0, 100))
        for update in range(1, 101):
            bar(Progress("training", update, 100, metrics={"reward": update / 100}))
            if update == 50:
                bar(Progress("evaluated", message="update 50: mean@1 0.5 on train, held out"))
    lines = screen.getvalue().splitlines()
    assert lines[0] == "relax: update 1 of 100  reward 0.010"
    assert lines[-1] == "relax: update 100 of 100  reward 1.000"
    assert "update 50: mean@1 0.5 on train, held out" in lines
    assert len(lines) == 1 + 20 + 1
