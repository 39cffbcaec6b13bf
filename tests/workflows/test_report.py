"""`report` as a function."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from relax_rl.errors import RunError
from relax_rl.workflows.report import report
from support.runs import make_run  # noqa: F401


def test_a_page_in_the_first_run_or_where_it_is_asked_for(
    make_run: Callable[..., Path],  # noqa: F811
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    runs = [make_run("a", "grpo"), make_run("b", "relax")]
    assert report(runs) == runs[0] / "report.html"
    assert report(str(runs[1]), tmp_path / "pages" / "b.html").is_file()
    assert capfd.readouterr() == ("", "")


def test_what_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="at least one run"):
        report([])
    with pytest.raises(RunError):
        report(tmp_path / "nowhere")
