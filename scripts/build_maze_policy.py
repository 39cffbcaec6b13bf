"""Build a small policy that wanders through mazes of 7 x 7: the start of the task `maze`, plain and deceptive.

    python scripts/build_maze_policy.py --output build/maze                                   # nine minutes of one core
    python scripts/build_maze_policy.py --output /tmp/maze --steps 20 --stop-after 20 --problems 8

A trace names what it sees in the nine rooms, wanders from room to room, and commits where it stops:

    #######/#.#..G#/#.#.#.#/#...#.#/#.#.#.#/#....S#/#######:           the prompt
    11.D...13.D.R.15.DL.G31UD.R.33UDL..35UD...51U..R.53U.LR.55U.L.S    each room, its open sides, and what is there
     55UU35UU15<answer>UUUU</answer>                                   the walk, and the moves of all its steps

Rooms go by row and column. Every trace sees rightly and walks without touching a wall, and each side is drawn at random
from those that are open. Start and goal are two rooms apart, at least. First all traces walk on for several steps, so
that the policy learns to; then all but a share ``--long`` of them stop in the next room. So the policy can walk to the
goal, and hardly ever walks that far. In a deceptive maze, the paid dead end is often the next room.
"""

from __future__ import annotations

import argparse
import itertools
import random
from collections.abc import Callable
from pathlib import Path

import torch

from policies import ANSWER, Trace, build, measure, recorded_options, text_options, write_record
from relax_rl.rewards.maze import MOVES, Maze
from relax_rl.tasks.maze import MazeTask

TASKS = {"plain": MazeTask(), "deceptive": MazeTask(deceptive=True)}
NUM_TRAINING = 1000
MAX_NEW_TOKENS = 128
MOST_STEPS = 8
WORDS = (*ANSWER, *(2 * move for move in MOVES))

Place = tuple[int, int]


def rooms_of(maze: Maze) -> dict[Place, str]:
    """The open sides of each room, in the order of `MOVES`; rooms stand at odd rows and columns."""
    size = len(maze.rows)
    return {
        (row, column): "".join(move for move, (r, c) in MOVES.items() if maze.at((row + r, column + c)) != "#")
        for row in range(1, size, 2)
        for column in range(1, size, 2)
    }


def seen(maze: Maze) -> str:
    """The rooms in short, each in seven signs, so that what is read where is the same for every maze."""
    shown = list[str]()
    for (row, column), sides in rooms_of(maze).items():
        open_sides = "".join(move if move in sides else "." for move in MOVES)
        shown.append(f"{row}{column}{open_sides}{maze.at((row, column))}")
    return "".join(shown)


def walk(maze: Maze, steps: int, rng: random.Random) -> list[str]:
    """So many sides, each open; it turns back only where there is no other way."""
    rooms, place, taken = rooms_of(maze), maze.place_of("S"), list[str]()
    for _ in range(steps):
        back = {"U": "D", "D": "U", "L": "R", "R": "L"}[taken[-1]] if taken else ""
        taken.append(rng.choice(rooms[place].replace(back, "") or back))
        place = _beyond(place, taken[-1])
    return taken


def _beyond(place: Place, side: str) -> Place:
    row, column = MOVES[side]
    return place[0] + 2 * row, place[1] + 2 * column


def maze_trace(maze: Maze, rng: random.Random, long: float) -> Trace:
    """The prompt, what is seen, and one walk: with the probability ``long`` of more steps than one."""
    place = maze.place_of("S")
    taken = walk(maze, rng.randint(2, MOST_STEPS) if rng.random() < long else 1, rng)
    steps = f"{place[0]}{place[1]}"
    for side in taken:
        place = _beyond(place, side)
        steps += f"{2 * side}{place[0]}{place[1]}"
    moves = "".join(2 * side for side in taken)
    return f"{maze}:", f"{seen(maze)} {steps}<answer>{moves}</answer>"


def maze_traces(long: float, lessons: int) -> Callable[[random.Random], Trace]:
    """Walks through random training problems, half of them deceptive; the first ``lessons`` of them are long."""
    problems = [problem for task in TASKS.values() for problem in task.problems("train", NUM_TRAINING)]
    mazes = [maze for problem in problems if (maze := Maze.parse(problem.answer)) is not None]
    drawn = itertools.count()
    return lambda rng: maze_trace(rng.choice(mazes), rng, 1.0 if next(drawn) < lessons else long)


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    small = {"width": 64, "layers": 3, "steps": 700, "stop_after": 700, "problems": 64, "learning_rate": 3e-3}
    parser = text_options("Build a small policy that wanders through mazes.", Path("build/maze"), **small)
    parser.add_argument("--lessons", type=int, default=28800, help="traces at first that all walk several steps")
    parser.add_argument("--long", type=float, default=0.03, help="share that does so afterwards")
    return parser.parse_args()


def main() -> None:
    """Train, save, measure, record."""
    args = parse_arguments()
    model, tokenizer, seconds = build(args, WORDS, maze_traces(args.long, args.lessons), MAX_NEW_TOKENS)
    record = {
        "script": "scripts/build_maze_policy.py",
        **recorded_options(args),
        "parameters": model.num_parameters(),
        "training_seconds": round(seconds),
        "torch": torch.__version__,
        **{
            name: measure(
                model,
                tokenizer,
                task.problems("test", args.problems),
                task.verifier,
                max_new_tokens=MAX_NEW_TOKENS,
                samples=32,
                seed=args.seed,
            )
            for name, task in TASKS.items()
        },
    }
    write_record(args.output, record)


if __name__ == "__main__":
    main()
