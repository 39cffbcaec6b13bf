"""``relax spectrum --segments``: completions of a file, an evaluation, a run, or drawn now; and what is refused."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from relax_rl.cli.main import main


def write_rows(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def made(count: int = 16) -> list[dict[str, Any]]:
    """Right ones count up in small steps, wrong ones draw digits; both have three lines of one length."""
    draw = random.Random(0)
    rows = []
    for place in range(count):
        right = place % 2 == 0
        lines = [
            " ".join("1234567890"[step % 10] if right else str(draw.randint(0, 9)) for step in range(8))
            for _ in range(3)
        ]
        rows.append({"problem_id": f"p{place // 4}", "prompt": f"{place // 4} and on:", "completion": "\n".join(lines)})
        rows[-1]["score"] = float(right)
    return rows


@pytest.mark.slow
def test_the_command_says_what_it_writes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write_rows(tmp_path / "rows.jsonl", [*made(), {**made(1)[0], "score": None}])
    out = tmp_path / "out"
    command = ["spectrum", "tiny", "--segments", "newline", "--completions", str(file), "-o", str(out)]
    assert main(command) == 0
    shown = capsys.readouterr()
    assert "1 completions left out, since they have no score" in shown.err
    found = json.loads((out / "segments.json").read_text())
    probe = found["probe"]
    assert (probe["num_right"], probe["num_wrong"], probe["num_problems"]) == (8, 8, 4)
    for name in ("segment dynamics", "length", "entropy", "length and entropy", "mean state"):
        assert f"{probe['auc'][name]['value']:.3f}" in shown.out
    # Lines of 16 characters, the break included; the tokenizer of the package has a token for each.
    assert [[each["start"], each["end"]] for each in found["completions"][0]["segments"]] == [
        [0, 16],
        [16, 32],
        [32, 47],
    ]
    assert len((out / "segments.csv").read_text().splitlines()) == 1 + 16 * 3
    page = (out / "segments.html").read_text()
    assert page.count("<script") == 2
    assert "Dynamics add" in page
    assert main(command) == 2
    assert "--overwrite" in capsys.readouterr().err
    # The command on the page does the same again; its figures take longer than all else.
    monkeypatch.setattr("relax_rl.reports.spectra.segments.write_segments_page", lambda *given: None)
    assert main([*found["command"][1:], "--overwrite"]) == 0
    assert json.loads((out / "segments.json").read_text()) == found


@pytest.mark.parametrize(
    ("words", "rows", "said"),
    [
        ([], [{**row, "score": 1.0} for row in made(8)], "All 8 completions are right"),
        ([], [{**row, "score": 0.5} for row in made(8)], "All 8 completions are wrong"),
        ([], made(4), "of 1 problem, but a probe is tested on problems that it never saw"),
        ([], [{**row, "score": float(row["problem_id"] == "p1")} for row in made(8)], "of the problem 'p1'"),
        ([], [{**row, "score": None} for row in made(4)], "None of the 4 completions has a score"),
        ([], [{**row, "score": "maybe"} for row in made(4)], "The score in line 1 of"),
        ([], [{"completion": "x", "score": 1}], "There is no prompt in line 1"),
        ([], [{"prompt": "x", "score": 1}], "There is no completion in line 1"),
        ([], [{"prompt": "x", "completion": "y"}], "There is no score in line 1"),
        ([], [{"prompt": 3, "completion": "y", "score": 1}], "neither text nor a conversation"),
        (["--segments", "lines"], made(4), "--segments is 'lines'"),
        (["--task", "countdown", "--num-problems", "3"], made(4), "does not read --num-problems"),
        (["--axis", "depth"], made(4), "does not read --axis"),
        (["--text"], made(4), "--text reads what has no score"),
        (["--sites", "embed"], made(4), "does not read --sites"),
    ],
)
def test_what_cannot_be_probed_is_one_sentence_and_exit_2(
    words: list[str], rows: list[dict[str, Any]], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write_rows(tmp_path / "rows.jsonl", rows)
    command = [
        "spectrum",
        "no-such-model",
        "--segments",
        "newline",
        "--completions",
        str(file),
        "-o",
        str(tmp_path / "o"),
    ]
    assert main([*command, *words]) == 2
    error = capsys.readouterr().err.strip().splitlines()
    assert said in error[-1]
    assert sum("error:" in line for line in error) == 1
    assert not (tmp_path / "o").exists()


def test_other_refusals(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    segments = ["spectrum", "tiny", "--segments", "newline", "-o", str(tmp_path / "out")]
    (tmp_path / "prompts.txt").write_text("one\ntwo\n")
    for words, said in (
        ([*segments, "--prompts", str(tmp_path / "prompts.txt")], "--prompts have no answers"),
        ([*segments, "--completions", str(tmp_path / "none")], "There is no '"),
        ([*segments, "--completions", str(tmp_path)], "is no run and no evaluation"),
        (["spectrum", "tiny", "--completions", str(tmp_path)], "'relax spectrum MODEL' does not read --completions"),
    ):
        assert main(words) == 2
        assert said in capsys.readouterr().err


def test_a_rule_that_cuts_nothing_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write_rows(tmp_path / "rows.jsonl", made())
    command = ["spectrum", "tiny", "--segments", "marker=therefore", "--completions", str(file)]
    assert main([*command, "-o", str(tmp_path / "out")]) == 2
    assert "No completion was cut in front of each 'therefore'" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_completions_that_are_drawn_now_and_those_of_an_evaluation_are_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    asked = ["--task", "countdown", "-n", "8", "--max-completion-length", "96"]
    drawn = ["spectrum", "tiny", "--segments", "marker==", "--num-samples", "6", *asked, "-o", "drawn"]
    assert main(drawn) == 0
    assert main(["eval", "tiny", *asked, "-k", "6", "-o", "evaluation"]) == 0
    assert main(["spectrum", "tiny", "--segments", "marker==", "--completions", "evaluation", "-o", "kept"]) == 0
    first, second = (json.loads(Path(name, "segments.json").read_text()) for name in ("drawn", "kept"))
    assert first["completions"] == second["completions"]
    assert first["probe"] == second["probe"]
    assert any(len(each["segments"]) > 1 for each in first["completions"])
    assert main([*drawn[:3], "entropy=0.1", *drawn[4:-1], "entropy"]) == 0


@pytest.mark.slow
def test_the_completions_of_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    train = ["train", "countdown", "--output", "run", "--trainer.max_steps", "3", "--evaluation.enabled", "false"]
    assert main([*train, "--model", "tiny", "--objective", "grpo"]) == 0
    assert main(["spectrum", "tiny", "--segments", "marker==", "--completions", "run", "-o", "out"]) == 0
    rows = [
        json.loads(line) for file in Path("run/completions").glob("*.jsonl") for line in file.read_text().splitlines()
    ]
    probe = json.loads(Path("out/segments.json").read_text())["probe"]
    assert probe["num_right"] == sum(row["reward"] >= 1 for row in rows)
