"""A page that cannot be drawn leaves the runs finished."""

from pathlib import Path

import pytest

from relax_rl.reports import page
from relax_rl.workflows.pages import page_if_possible


def test_a_page_that_cannot_be_drawn_is_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ValueError("no font")

    monkeypatch.setattr(page, "write_report", broken)
    with pytest.warns(UserWarning, match=r"cannot be drawn \(ValueError: no font\); draw it with relax report a b"):
        assert page_if_possible([Path("a"), Path("b")], tmp_path / "report.html") is None
