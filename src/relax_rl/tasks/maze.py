"""Mazes as text, with several routes to the goal that are all known, and a deceptive variant with a paid dead end.

The problems are made, not stored, by the two rules of `relax_rl.tasks.countdown`: a digest seeds each item, and a
digest of the problem decides its split.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import ClassVar

from relax_rl.errors import ConfigError, DataError
from relax_rl.rewards.base import Verifier
from relax_rl.rewards.maze import MOVES, Maze, MazeVerifier
from relax_rl.tasks.base import BaseTask, Problem, digest

__all__ = ["SIZES", "MazeTask", "routes"]

SIZES = {"train": 256, "test": 64}
_SIDES = (7, 9)
_MAX_DRAWS = 2000

_INSTRUCTION = (
    "This is a maze, one row a line: # is a wall, S the start, G the goal.\n{map}\nFind a way from S to G. Think step "
    "by step, then give the moves alone between <answer> and </answer>, with U for up, D for down, L for left and R "
    "for right, for example <answer>RRD</answer>."
)

Place = tuple[int, int]


def routes(maze: Maze) -> Iterator[str]:
    """Every way from the start to the goal that visits no place twice, as moves."""
    goal = maze.place_of("G")

    def further(place: Place, seen: frozenset[Place]) -> Iterator[str]:
        if place == goal:
            yield ""
            return
        for move, (row, column) in MOVES.items():
            following = (place[0] + row, place[1] + column)
            if maze.at(following) != "#" and following not in seen:
                yield from (move + rest for rest in further(following, seen | {following}))

    start = maze.place_of("S")
    return further(start, frozenset({start}))


@dataclass(frozen=True)
class MazeTask(BaseTask):
    """Mazes of 7 x 7 or 9 x 9 places, with start and goal in two rooms that are not neighbours.

    A random tree of corridors of which ``loops`` walls are opened, so that most mazes have several routes. All routes
    that visit no place twice are counted: ``num_solutions`` of a problem. In a deceptive maze one dead end is marked
    ``X`` and scores ``dead_end``: a policy can settle there. The prompt of a plain model is the map,
    ``#####/#S.G#/#####:``. Without a count ``train`` gives 256 problems and ``test`` 64. A list holds no problem
    twice, and a longer list begins with the shorter one.

    Attributes:
        size: 7 or 9.
        loops: walls that are opened; 0 leaves one route.
        deceptive: with a paid dead end.
        dead_end: its score, above 0 and below 1. Methods that take rewards of 0 and 1 refuse it.

    Raises:
        ConfigError: A parameter out of range.
    """

    size: int = 7
    loops: int = 2
    deceptive: bool = False
    dead_end: float = 0.1
    name: str = field(default="maze", init=False)
    is_endless: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.size not in _SIDES:
            raise ConfigError(f"size of maze is {self.size}; choose {' or '.join(map(str, _SIDES))}.")
        if not 0 <= self.loops <= 6:
            raise ConfigError(f"loops of maze is {self.loops}; choose a whole number from 0 to 6.")
        if not 0 < self.dead_end < 1:
            raise ConfigError(f"dead_end of maze is {self.dead_end}; choose a number between 0 and 1.")

    @property
    def verifier(self) -> Verifier:  # type: ignore[override]
        return MazeVerifier(self.dead_end if self.deceptive else 0.0)

    @property
    def pays_parts(self) -> bool:
        """See `BaseTask.pays_parts`."""
        return self.deceptive

    def problems(self, split: str, count: int | None = None, seed: int = 0) -> list[Problem]:
        """The first ``count`` problems of ``split`` (``"train"`` or ``"test"``) for this seed.

        Raises:
            DataError: No such split, a negative count, or more problems asked for than the parameters allow.
        """
        if split not in SIZES:
            raise DataError(f"maze has no split {split!r}; choose one of {', '.join(SIZES)}.")
        count = SIZES[split] if count is None else count
        if count < 0:
            raise DataError(f"maze was asked for {count} problems; ask for 0 or more.")
        seen: set[str] = set()
        return [self._problem(split, seed, index, seen) for index in range(count)]

    def _problem(self, split: str, seed: int, index: int, seen: set[str]) -> Problem:
        shape = (self.size, self.loops, self.deceptive, split, seed, index)
        rng = random.Random(digest(self.name, *map(str, shape)))
        for _ in range(_MAX_DRAWS):
            maze = self._drawn(rng)
            if maze is None or str(maze) in seen or _split_of(maze) != split:
                continue
            seen.add(str(maze))
            ways = sorted(routes(maze), key=lambda moves: (len(moves), moves))
            back = {"U": "D", "D": "U", "L": "R", "R": "L"}[ways[0][-1]]
            return Problem(
                id=f"{self.name}-{split}-{seed}-{index}",
                prompt=f"{maze}:",
                answer=str(maze),
                instruction=_INSTRUCTION.format(map="\n".join(maze.rows)),
                solution=f"<answer>{ways[0]}</answer>",
                mistake=f"<answer>{ways[0]}{back}</answer>",
                columns={"num_solutions": len(ways)},
            )
        raise DataError(
            f"maze found no new {split} problem of size {self.size} with {self.loops} loops after {len(seen)}; ask for "
            "fewer."
        )

    def _drawn(self, rng: random.Random) -> Maze | None:
        """A maze; None where a deceptive one has no dead end."""
        size = self.size
        grid = [["#"] * size for _ in range(size)]
        for (row, column), (other_row, other_column) in _tree(size, rng):
            grid[row][column] = grid[other_row][other_column] = "."
            grid[(row + other_row) // 2][(column + other_column) // 2] = "."
        # A wall between two rooms, in a row or in a column.
        walls = [(r, c) for r in range(1, size - 1) for c in range(1, size - 1) if (r + c) % 2 and grid[r][c] == "#"]
        for row, column in rng.sample(walls, min(self.loops, len(walls))):
            grid[row][column] = "."
        start, goal = _ends(size, rng)
        grid[start[0]][start[1]], grid[goal[0]][goal[1]] = "S", "G"
        if not self.deceptive:
            return Maze(tuple(map("".join, grid)))
        ends = [
            (r, c)
            for r in range(1, size, 2)
            for c in range(1, size, 2)
            if grid[r][c] == "." and sum(grid[r + a][c + b] != "#" for a, b in MOVES.values()) == 1
        ]
        if not ends:
            return None
        row, column = rng.choice(ends)
        grid[row][column] = "X"
        return Maze(tuple(map("".join, grid)))


def _ends(size: int, rng: random.Random) -> tuple[Place, Place]:
    """Two rooms that are at least two rooms apart."""
    rooms = [(row, column) for row in range(1, size, 2) for column in range(1, size, 2)]
    while True:
        start, goal = rng.sample(rooms, 2)
        if abs(start[0] - goal[0]) + abs(start[1] - goal[1]) >= 4:
            return start, goal


def _tree(size: int, rng: random.Random) -> Iterator[tuple[Place, Place]]:
    """The corridors of a random tree over the rooms, which stand at odd places."""
    seen, path = {(1, 1)}, [(1, 1)]
    while path:
        row, column = path[-1]
        near = [(row + 2 * a, column + 2 * b) for a, b in MOVES.values()]
        near = [one for one in near if min(one) > 0 and max(one) < size and one not in seen]
        if not near:
            path.pop()
            continue
        room = rng.choice(near)
        seen.add(room)
        yield path[-1], room
        path.append(room)


def _split_of(maze: Maze) -> str:
    """The one split of a map, whichever dead end of it is paid."""
    return "test" if digest("maze", str(maze).replace("X", ".")) < 0.2 * 2**64 else "train"
