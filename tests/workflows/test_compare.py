"""`compare` for programs."""

from __future__ import annotations

from pathlib import Path

import pytest

from relax_rl.errors import ConfigError, RunError
from relax_rl.workflows.compare import ComparisonResult, compare
from relax_rl.workflows.compare import comparison as workflow
from relax_rl.workflows.compare.jobs import Failure, Job
from relax_rl.workflows.progress import Progress
from support.comparisons import SMALL


def test_what_cannot_be_run_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--jobs is 0"):
        compare("countdown", ["grpo"], 1, overrides=SMALL, output=tmp_path / "c", jobs=0)
    with pytest.raises(ConfigError, match="--methods is empty"):
        compare("countdown", [], 1, overrides=SMALL, output=tmp_path / "c")
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="is a file"):
        compare("countdown", ["grpo"], 1, overrides=SMALL, output=tmp_path / "file" / "c")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_runs_that_fail_are_raised_after_the_others_were_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(jobs: list[Job], num_at_once: int, on_progress: object) -> list[Failure]:
        return [Failure(jobs[0], "out of memory")]

    monkeypatch.setattr(workflow, "run_jobs", fail)
    seen: list[Progress] = []
    with pytest.raises(RunError, match="1 run failed, and the same command tries again: grpo seed 3: out of memory"):
        compare("countdown", ["grpo", "kl_cov"], [3], overrides=SMALL, output=tmp_path / "c", on_progress=seen.append)
    assert (tmp_path / "c" / "comparison.json").is_file()
    assert [event.stage for event in seen] == ["notice"]
    assert seen[0].message.startswith("kl_cov: A rollout batch serves one update, so every ratio is 1")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_one_method_and_one_seed(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    seen: list[Progress] = []
    result = compare("countdown", ["grpo"], [3], overrides=SMALL, output=tmp_path / "c", on_progress=seen.append)
    assert isinstance(result, ComparisonResult)
    assert result.verdict is not None
    assert [method.method for method in result.verdict.methods] == ["grpo"]
    assert (result.num_trained, result.failures) == (1, ())
    assert sorted(path.name for path in result.data) == ["methods.csv", "problems.csv", "runs.csv"]
    assert result.page is not None
    assert result.page.is_file()
    assert [event.stage for event in seen if event.stage != "training"] == ["started", "ended"]
    assert capfd.readouterr() == ("", "")
