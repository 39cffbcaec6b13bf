"""The script that builds a start for mazes: its traces tell the truth, and a small build leaves a whole policy."""

from __future__ import annotations

import json
import random
import re
import sys
from pathlib import Path

import pytest

import build_maze_policy as script
from policies import byte_tokenizer
from relax_rl.rewards import grade
from relax_rl.rewards.maze import MOVES, Maze

MAZES = [
    maze
    for task in script.TASKS.values()
    for problem in task.problems("train", 30)
    if (maze := Maze.parse(problem.answer)) is not None
]


def test_a_trace_by_hand() -> None:
    maze = Maze.parse("#######/#.#..G#/#.#.#.#/#...#.#/#.#.#.#/#....S#/#######")
    assert maze is not None
    assert script.seen(maze) == (
        "11.D...13.D.R.15.DL.G31UD.R.33UDL..35UD...51U..R.53U.LR.55U.L.S"  # up, down, left, right, and what is there
    )
    prompt, completion = script.maze_trace(maze, random.Random(0), 0.0)
    assert prompt == f"{maze}:"
    steps, answer = completion.removeprefix(script.seen(maze)).removesuffix("</answer>").split("<answer>")
    assert (steps, answer) in ((" 55UU35", "UU"), (" 55LL53", "LL"))


@pytest.mark.parametrize("long", [0.0, 1.0])
def test_walks_touch_no_wall_and_end_where_they_say(long: float) -> None:
    rng, found = random.Random(1), set[str]()
    for maze in MAZES:
        for _ in range(5):
            prompt, completion = script.maze_trace(maze, rng, long)
            steps, answer = completion.removeprefix(script.seen(maze)).removesuffix("</answer>").split("<answer>")
            places = maze.walk(answer)
            assert prompt == f"{maze}:"
            assert places is not None
            assert [f"{row}{column}" for row, column in places[::2]] == re.findall(r"\d\d", steps)
            assert "".join(re.findall("[UDLR]", steps)) == answer
            assert (len(answer) > 2) == (long == 1.0)
            assert len(answer) <= 2 * script.MOST_STEPS
            found.add(maze.at(places[-1]))
    assert ("G" in found) == (long == 1.0)
    assert "X" in found  # the paid dead end may be the next room


def test_all_traces_are_long_at_first_and_of_training_mazes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(script, "NUM_TRAINING", 20)
    write, rng = script.maze_traces(0.0, lessons=40), random.Random(2)
    prompts, lengths = zip(
        *((prompt, len(completion)) for prompt, completion in (write(rng) for _ in range(80))), strict=True
    )
    assert min(lengths[:40]) > max(lengths[40:])
    known = {problem.prompt for task in script.TASKS.values() for problem in task.problems("train", 20)}
    assert set(prompts) <= known


def test_a_completion_fits_and_moves_are_single_tokens() -> None:
    tokenizer, rng = byte_tokenizer(script.WORDS), random.Random(3)
    assert all(len(tokenizer.encode(2 * move)) == 1 for move in MOVES)
    for maze in MAZES:
        prompt, completion = script.maze_trace(maze, rng, 1.0)
        assert tokenizer.decode(tokenizer.encode(prompt + completion)) == prompt + completion
        assert 60 <= len(tokenizer.encode(completion)) < script.MAX_NEW_TOKENS


@pytest.mark.slow
def test_a_small_build_is_measured_and_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from relax_rl.training.models import load_model

    small = ["--steps", "2", "--stop-after", "2", "--batch-size", "4", "--problems", "2", "--lessons", "64"]
    monkeypatch.setattr(sys, "argv", ["build_maze_policy.py", *small, "--output", str(tmp_path / "maze")])
    monkeypatch.setattr(script, "NUM_TRAINING", 20)
    script.main()
    record = json.loads((tmp_path / "maze/build.json").read_text())
    assert (record["lessons"], record["long"]) == (64, 0.03)
    assert record["plain"]["mean_at_1"] == record["deceptive"]["mean_at_1"] == 0
    model, _ = load_model(str(tmp_path / "maze"))
    assert model.num_parameters() == record["parameters"]  # type: ignore[attr-defined]
    assert (tmp_path / "maze/model.safetensors").stat().st_size < 5e6


def test_a_walk_of_one_step_never_solves_a_maze() -> None:
    rng = random.Random(4)
    completions = [script.maze_trace(maze, rng, 0.0)[1] for maze in MAZES]
    verdicts = grade(script.TASKS["deceptive"].verifier, completions, [str(maze) for maze in MAZES])
    assert {verdict.score for verdict in verdicts} == {0.0, 0.1}
