"""What a set shares with evaluation sets: whole questions, and thirteen words in a row."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from relax_rl.cli.main import main
from relax_rl.tasks.benchmarks import BENCHMARKS
from relax_rl.tasks.decontamination import AGAINST

LONG = "A farmer has seven fields and plants three kinds of corn on each of them in spring"
TWELVE = "one two three four five six seven eight nine ten eleven twelve"


@pytest.fixture(autouse=True)
def _sets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("sets").mkdir()
    questions = {"aime24": ["What is $x + 1$?", f"{LONG}. How many plants are there?", "Alone?"], "amc23": [TWELVE]}
    for name in AGAINST:
        rows = questions.get(name, [f"Unseen of {name}?"])
        lines = [json.dumps({"id": f"{name}-{n}", "problem": q, "answer": "1"}) for n, q in enumerate(rows)]
        Path("sets", BENCHMARKS[name].files["test"]).write_text("\n".join(lines))
    mine = ["what is x+1", f"Long ago: {LONG.upper()}!", f"{LONG}. How many weeds?", f"{TWELVE} twelve more", "Other."]
    Path("mine.jsonl").write_text("".join(json.dumps({"prompt": q, "answer": "1"}) + "\n" for q in mine))


def run(*words: str) -> int:
    return main(["tasks", "overlap", "data", "--task.path", "mine.jsonl", "--split", "all", *words])


def test_every_evaluation_set_is_compared(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--data-dir", "sets") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "data/all: 5 problems"
    told = dict(line.strip().split(": ", 1) for line in lines[1:])
    assert set(told) == set(AGAINST)
    assert told["aime24"].startswith(
        "1 of 3 problems as a whole, 1 more by 13 words in a row; in 3 rows, such as data-row-0"
    )
    assert told["amc23"] == "none of 1 problems"


def test_a_set_that_is_missing_is_said_and_a_named_one_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    Path("sets", BENCHMARKS["aime25"].files["test"]).unlink()
    assert run("--data-dir", "sets") == 0
    assert "aime25: not compared; The file" in capsys.readouterr().out
    assert run("--data-dir", "sets", "--against", "aime24, aime25") == 2
    assert run("--data-dir", "sets", "--against", "dapo_math_17k") == 2
    assert "There is no evaluation set 'dapo_math_17k'; choose among" in capsys.readouterr().err
    assert run("--data-dir", "nowhere") == 2
    assert "No evaluation set can be read" in capsys.readouterr().err
    assert main(["tasks", "validate", "countdown", "--against", "aime24"]) == 2
