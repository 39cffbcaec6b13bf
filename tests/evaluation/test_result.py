"""Files that earlier versions wrote are read under the keys of this one."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from relax_rl.evaluation.folder import EvaluationFolder
from relax_rl.evaluation.result import EvaluationResult, with_present_names
from support.runs import make_evaluation  # noqa: F401


def _as_before(data: dict) -> dict:
    return {("max_new_tokens" if key == "max_completion_length" else key): value for key, value in data.items()}


def test_a_result_of_an_earlier_version(make_evaluation: Callable, tmp_path: Path) -> None:  # noqa: F811
    result = make_evaluation(0.3)
    old = _as_before(json.loads(result.to_json()))
    assert "max_completion_length" not in old
    (tmp_path / "result.json").write_text(json.dumps(old))
    assert EvaluationResult.load(tmp_path / "result.json") == result
    assert "max_new_tokens" not in result.to_json()
    assert with_present_names({"seed": 1}) == {"seed": 1}


def test_an_evaluation_that_an_earlier_version_began_goes_on(tmp_path: Path) -> None:
    settings = {"model": "tiny", "max_completion_length": 24, "seed": 0}
    folder = EvaluationFolder(tmp_path / "out")
    folder.path.mkdir()
    folder.settings_path.write_text(json.dumps(_as_before(settings)))
    assert folder.read_settings() == settings
    assert folder.start(settings) == []
