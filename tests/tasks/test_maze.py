"""Mazes: graded by walking them, every route known, a paid dead end in the deceptive ones."""

from __future__ import annotations

from typing import Any

import pytest

from relax_rl.errors import ConfigError, DataError
from relax_rl.rewards import build_verifier, grade
from relax_rl.rewards.maze import Maze, MazeVerifier
from relax_rl.tasks.base import validate_task
from relax_rl.tasks.maze import routes
from relax_rl.tasks.registry import build_task

MAZE = "#######/#S...X#/#.#.###/#...#.#/###.#.#/#....G#/#######"
"""Two ways round the wall at (2, 2), one corridor down to the goal, a dead end at the top right."""


@pytest.mark.parametrize(
    ("text", "score"),
    [
        ("<answer>RRDDDDRR</answer>", 1.0),
        ("<answer>DDRRDDRR</answer>", 1.0),
        (r"it is \boxed{R R D D D D R R}", 1.0),
        ("<answer>RLRRDDDDRR</answer>", 1.0),  # to and fro
        ("<answer>RRDDDDRRL</answer>", 0.0),  # beyond the goal
        ("<answer>RRDDDDRRLR</answer>", 1.0),  # and back
        ("<answer>RRDDDDR</answer>", 0.0),  # short of it
        ("<answer>RDDDDRRR</answer>", 0.0),  # into a wall
        ("<answer>UUDDRRDDDDRR</answer>", 0.0),  # out of the map
        ("<answer>rrddddrr</answer>", 0.0),
        ("<answer>RRDDDDRR.</answer>", 0.0),
        ("<answer></answer>", 0.0),
        ("<answer>" + "RL" * 128 + "RRDDDDRR</answer>", 0.0),  # longer than a walk may be
        ("RRDDDDRR", 0.0),
        ("<answer>RRDDDDRR", 0.0),
        ("<answer>RRDDDDRR</answer><answer>RR</answer>", 0.0),  # the last one counts
        ("<answer>RRRR</answer>", 0.1),  # the dead end
        ("<answer>RRRRL</answer>", 0.0),
    ],
)
def test_a_walk_is_walked(text: str, score: float) -> None:
    assert MazeVerifier(dead_end=0.1).score([text], [MAZE]) == [score]
    assert MazeVerifier().score([text], [MAZE]) == [score if score in (0.0, 1.0) else 0.0]


def test_a_route_has_no_loops() -> None:
    texts = ["RRDDDDRR", "RLRRDDDDRR", "DDRRDDRR", "RRDDLLUURRDDDDRR", "RRUU", "RR"]
    verdicts = grade(build_verifier("maze"), [f"<answer>{text}</answer>" for text in texts], [MAZE] * len(texts))
    modes = [verdict.mode for verdict in verdicts]
    assert modes[0] == modes[1] == modes[3] != modes[2]
    assert modes[4] is None
    assert modes[5] is not None
    assert verdicts[5].score == 0.0
    assert sorted(routes(Maze.parse(MAZE) or Maze(()))) == ["DDRRDDRR", "RRDDDDRR"]


@pytest.mark.parametrize("gold", ["", "#S#", "S.G/..", "SSG", "S.GG", "SaG", "S.G/X.X", "S.G\n"])
def test_a_map_that_is_none_gives_no_score(gold: str) -> None:
    verdict = grade(MazeVerifier(), ["<answer>RR</answer>"], [gold])[0]
    assert (verdict.score, verdict.reason) == (None, "gold unreadable")


@pytest.mark.parametrize(
    "options", [{}, {"size": 9}, {"loops": 0}, {"deceptive": True}, {"size": 9, "deceptive": True}]
)
def test_every_route_of_a_problem_is_right_and_there_are_as_many_as_it_says(options: dict[str, Any]) -> None:
    task = build_task("maze", **options)
    for split in ("train", "test"):
        problems = task.problems(split, 12)
        assert validate_task(task, split, 12).ok
        assert problems[:5] == task.problems(split, 5)
        for problem in problems:
            maze = Maze.parse(problem.answer)
            assert maze is not None
            ways = [f"<answer>{moves}</answer>" for moves in routes(maze)]
            verdicts = grade(task.verifier, ways, [problem.answer] * len(ways))
            assert all(verdict.score == 1.0 for verdict in verdicts)
            assert len({verdict.mode for verdict in verdicts}) == len(ways) == problem.columns["num_solutions"]
            assert (problem.columns["num_solutions"] == 1) or options.get("loops", 2) > 0
            assert ("X" in problem.answer) == options.get("deceptive", False)
            assert {len(row) for row in maze.rows} == {len(maze.rows)} == {options.get("size", 7)}


def test_the_splits_share_no_maze_whichever_dead_end_is_paid() -> None:
    maps = {
        split: {
            problem.answer.replace("X", ".")
            for deceptive in (False, True)
            for problem in build_task("maze", deceptive=deceptive).problems(split, 60)
        }
        for split in ("train", "test")
    }
    assert not maps["train"] & maps["test"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"size": 8}, "size of maze is 8; choose 7 or 9"),
        ({"loops": 7}, "loops of maze is 7"),
        ({"dead_end": 1.0}, r"dead_end of maze is 1\.0"),
    ],
)
def test_what_is_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        build_task("maze", **options)
    with pytest.raises(ConfigError, match="dead_end of the verifier 'maze' is 1"):
        MazeVerifier(dead_end=1)
    with pytest.raises(DataError, match="maze has no split 'hard'"):
        build_task("maze").problems("hard")
