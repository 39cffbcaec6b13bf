"""The section on entropy and reward: numbers of the analysis, and the reason where there are none."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from relax_rl.analysis import fit_entropy_law, forecast_from_start
from relax_rl.comparison.records import read_runs
from relax_rl.reports.laws import entropy_laws


def log(path: Path, **series: np.ndarray) -> None:
    names, rows = list(series), zip(*series.values(), strict=True)
    lines = [json.dumps({"step": step, **dict(zip(names, row, strict=True))}) for step, row in enumerate(rows, 1)]
    (path / "metrics.jsonl").write_text("\n".join(lines) + "\n")


def test_the_section_shows_what_the_analysis_finds(make_run: Callable[..., Path]) -> None:
    path = make_run("a")
    entropy = 0.6 * np.exp(-np.arange(120) / 40) + 0.02
    reward = 0.9 - 0.3 * np.exp(entropy) + np.random.default_rng(0).normal(scale=0.01, size=120)
    log(path, entropy=entropy, reward=reward, **{"entropy/covariance": -np.append(np.diff(entropy), 0)})
    section = entropy_laws(read_runs([path]))
    law, forecast = fit_entropy_law(entropy, reward), forecast_from_start(entropy, reward)
    low, high = law.intervals["ceiling"]
    assert f"{law.ceiling:.3f} " in section
    assert f"[{low:.3f}, {high:.3f}]" in section
    assert f"{forecast.root_mean_square:.3f} ({forecast.naive:.3f})" in section
    assert "1.00 over 119 updates" in section


@pytest.mark.parametrize(("steps", "reason"), [(30, "does not rise as the entropy falls"), (5, None)])
def test_a_run_that_cannot_bear_the_law_says_why(make_run: Callable[..., Path], steps: int, reason: str | None) -> None:
    path = make_run("a")
    log(path, entropy=np.linspace(0.5, 0.1, steps), reward=np.linspace(0.5, 0.1, steps))
    section = entropy_laws(read_runs([path]))
    assert (reason in section) if reason else (section == "")
