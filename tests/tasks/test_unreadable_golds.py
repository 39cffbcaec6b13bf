"""`relax tasks validate` lists gold answers that no completion can state."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from relax_rl.cli.main import main
from relax_rl.tasks import MathTask, validate_task

PROSE = "We first look at the two triangles and see that they are similar to each other, " * 4


def file_of(tmp_path: Path, *golds: str) -> Path:
    path = tmp_path / "golds.jsonl"
    rows = ({"problem": f"Question {n}?", "answer": gold} for n, gold in enumerate(golds))
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_gold_answers_are_tried_in_a_box_and_in_a_sentence(tmp_path: Path) -> None:
    golds = (
        "12",
        "\\boxed{1,2,3}",
        "The answer is $42$.",
        "\\boxed{5\\text{ cm}}",
        f"{PROSE}So \\boxed{{7}}.",
        "\\frac{1}{2}",
    )
    report = validate_task(MathTask(path=file_of(tmp_path, *golds)), "all")
    assert (report.unreadable, report.checked) == ({}, 6)


def test_unreadable_gold_answers_are_listed_with_the_reason(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = file_of(tmp_path, "12", PROSE, "\\boxed{12")
    assert main(["tasks", "validate", "math", "--task.path", str(path), "--split", "all"]) == 1
    said = capsys.readouterr().out
    assert "2 have an unreadable gold answer" in said
    assert "math-row-1: gold unreadable: the gold answer is prose that neither boxes nor states an answer" in said
    assert "math-row-2: gold unreadable: " in said
    assert "math-row-0" not in said
