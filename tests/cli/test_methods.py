"""``relax methods``: every method in a line, and the options of one with what they mean."""

from __future__ import annotations

from pathlib import Path

import pytest

from relax_rl.cli.main import main
from relax_rl.objectives import METHODS
from relax_rl.workflows.methods import method_entries, method_entry


def test_every_method_has_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["methods"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[: len(METHODS)]] == list(METHODS)
    assert lines[0].split(maxsplit=2) == ["grpo", "2402.03300", "Group relative policy optimisation."]
    assert next(line for line in lines if line.startswith("opefo")).split()[1] == "\u2020"


def test_the_options_of_a_method(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["methods", "pass_at_k"]) == 0
    shown = capsys.readouterr().out
    assert "https://arxiv.org/abs/2508.10751" in shown
    # Its own option first, in the words of the class that its docstring points to; then those it inherits.
    assert shown.index("--objective.k  ") < shown.index("--objective.clip_low")
    assert "size of the subsets." in shown
    assert "bounds on the ratio, as distances from 1." in shown


def test_every_option_is_explained() -> None:
    silent = {(entry.name, option.name) for entry in method_entries() for option in entry.options if not option.about}
    assert silent == set()


def test_a_method_of_ones_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "ours_of_methods.py").write_text(
        '"""GRPO, softer."""\n'
        "from relax_rl.objectives import Objective, build_objective\n"
        "def softer(scale: float = 0.5) -> Objective:\n"
        "    return build_objective('grpo')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    entry = method_entry("ours_of_methods:softer")
    assert (entry.about, entry.paper, entry.is_verified) == ("GRPO, softer.", None, True)
    assert [(option.name, option.default) for option in entry.options] == [("scale", 0.5)]
    assert main(["methods", "ours_of_methods:softer"]) == 0
    assert "--objective.scale 0.5" in capsys.readouterr().out


def test_an_unknown_method_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["methods", "klcov"]) == 2
    assert "did you mean 'kl_cov'?" in capsys.readouterr().err
    assert main(["methods", "grpo", "--objective.beta", "1"]) == 2
    assert "takes no setting" in capsys.readouterr().err
