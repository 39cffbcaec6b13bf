"""Exact grading of mazes: does the committed walk lead from the start to the goal without touching a wall?"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from relax_rl.errors import ConfigError
from relax_rl.rewards.base import OneByOneVerifier, Verdict
from relax_rl.rewards.countdown import commitment

__all__ = ["MOVES", "Maze", "MazeVerifier"]

MOVES = {"U": (-1, 0), "D": (1, 0), "L": (0, -1), "R": (0, 1)}
MAX_MOVES = 256
_MAX_SIDE = 31
_WALK = re.compile(rf"[UDLR]{{1,{MAX_MOVES}}}", re.ASCII)
_MAP = re.compile(r"[#.SGX]+(?:/[#.SGX]+)*", re.ASCII)


@dataclass(frozen=True)
class Maze:
    """A map: rows from the top, of walls ``#``, floor ``.``, the start ``S``, the goal ``G`` and, in a deceptive one, a
    dead end ``X`` that is paid for. As text: ``#####/#S.G#/#####``."""

    rows: tuple[str, ...]

    def __str__(self) -> str:
        """The text form, which ``parse`` reads back."""
        return "/".join(self.rows)

    @classmethod
    def parse(cls, text: str) -> Maze | None:
        """Read the text form; ``None`` if it is anything else: no rectangle, or not one start and one goal."""
        if len(text) > _MAX_SIDE * (_MAX_SIDE + 1) or _MAP.fullmatch(text) is None:
            return None
        rows = tuple(text.split("/"))
        if len({len(row) for row in rows}) > 1 or text.count("S") != 1 or text.count("G") != 1 or text.count("X") > 1:
            return None
        return cls(rows)

    def at(self, place: tuple[int, int]) -> str:
        """What is at a row and column; a wall outside."""
        row, column = place
        return self.rows[row][column] if 0 <= row < len(self.rows) and 0 <= column < len(self.rows[0]) else "#"

    def place_of(self, sign: str) -> tuple[int, int]:
        """Row and column of a sign that the map has once."""
        return next((row, line.index(sign)) for row, line in enumerate(self.rows) if sign in line)

    def walk(self, moves: str) -> list[tuple[int, int]] | None:
        """The places of a walk from the start, that included; None if it runs into a wall."""
        places = [self.place_of("S")]
        for move in moves:
            row, column = MOVES[move]
            places.append((places[-1][0] + row, places[-1][1] + column))
            if self.at(places[-1]) == "#":
                return None
        return places


class MazeVerifier(OneByOneVerifier):
    """Scores 1.0 if the committed walk ends at the goal, else 0.0; at the dead end ``X`` of a deceptive map, a part.

    The walk is the text of the last complete ``<answer>...</answer>``, and without one of the last ``\\boxed{...}``:
    the letters U, D, L and R, white space aside. It is wrong if any step runs into a wall, or if it goes on after the
    goal and ends elsewhere. The mode is its route without loops, so that walking to and fro is no other route. The gold
    answer is the text of a `Maze`; the score is ``None`` only if it cannot be read.

    Args:
        dead_end: score at the dead end, from 0 to below 1.

    Raises:
        ConfigError: a score out of range.
    """

    name = "maze"
    has_modes = True

    def __init__(self, dead_end: float = 0.0) -> None:
        if not 0 <= dead_end < 1:
            raise ConfigError(f"dead_end of the verifier 'maze' is {dead_end}; choose a number from 0 to below 1.")
        self._dead_end = float(dead_end)

    @property
    def grading_options(self) -> Mapping[str, Any]:
        """See `BaseVerifier.grading_options`."""
        return {"dead_end": self._dead_end} if self._dead_end else {}

    def verdict(self, completion: str, answer: str) -> Verdict:
        """See `OneByOneVerifier.verdict`; the gold answer is a text such as ``"#####/#S.G#/#####"``."""
        text, how = commitment(completion)
        maze = Maze.parse(answer)
        if maze is None:
            return Verdict(None, text, how, "gold unreadable", "it must be like #####/#S.G#/#####")
        # Of a text of any length only as much as may be a walk is looked at.
        moves = "" if text is None or len(text) > 4 * MAX_MOVES else "".join(text.split())
        places = maze.walk(moves) if _WALK.fullmatch(moves) else None
        if places is None:
            return Verdict(0.0, text, how)
        end = maze.at(places[-1])
        score = 1.0 if end == "G" else self._dead_end if end == "X" else 0.0
        return Verdict(score, text, how, mode=_route(places))


def _route(places: Sequence[tuple[int, int]]) -> str:
    """The places of a walk without its loops: what lies between two visits of one place is left out."""
    kept: list[tuple[int, int]] = []
    for place in places:
        if place in kept:
            del kept[kept.index(place) + 1 :]
        else:
            kept.append(place)
    return " ".join(f"{row},{column}" for row, column in kept)
