"""A table: an entry, the sum of a row, the sum of a column."""

from __future__ import annotations

import random

from relax_rl.tasks.figures.drawing import Drawing, Line, Scene, Text
from relax_rl.tasks.figures.geometry import texts_of
from relax_rl.tasks.figures.kind import Kind, Values, capital

__all__ = ["Table"]


class Table(Kind):
    """``shown``: the number of columns, then the entries row by row; ``target``: a row and a column.

    Rows have the letters A, B, C, ..., and columns those at the end of the alphabet.
    """

    name = "table"
    questions = ("entry", "row", "column")
    easy = (0, 1)

    def draw(self, ask: int, level: int, rng: random.Random) -> Values:
        """The neighbour of the row or column has another sum, or the slip would be right."""
        while True:
            rows, columns = (2, 2) if level == 1 else (rng.randint(3, 4), rng.randint(3, 4))
            most = 9 if level == 1 else 50
            entries = tuple(rng.randint(1, most) for _ in range(rows * columns))
            values = Values(ask, (columns, *entries), (rng.randrange(rows), rng.randrange(columns)))
            if self.answer(values) != self.slip(values):
                return values

    def words(self, values: Values) -> str:
        """See `Kind.words`."""
        row, column = values.target
        if values.ask == 0:
            return f"In the table, which number is in row {capital(row)} and column {_last(column)}?"
        name = f"row {capital(row)}" if values.ask == 1 else f"column {_last(column)}"
        return f"What is the sum of {name} of the table?"

    def described(self, values: Values) -> str:
        """See `Kind.described`."""
        rows = _rows(values.shown)
        head = ", ".join(_last(column) for column in range(values.shown[0]))
        body = "; ".join(f"{capital(place)}: {', '.join(map(str, row))}" for place, row in enumerate(rows))
        return f"A table has the columns {head} and these rows: {body}."

    def answer(self, values: Values) -> int:
        """See `Kind.answer`."""
        return _asked(values.ask, _rows(values.shown), *values.target)

    def slip(self, values: Values) -> int:
        """The row below, or the column to the right; after the last, the first."""
        rows = _rows(values.shown)
        row, column = values.target
        if values.ask == 2:
            return _asked(2, rows, row, (column + 1) % len(rows[0]))
        return _asked(values.ask, rows, (row + 1) % len(rows), column)

    def scene(self, values: Values, rng: random.Random, *, is_small: bool) -> Scene:
        """See `Kind.scene`."""
        rows = _rows(values.shown)
        wide, high = len(rows[0]) + 1, len(rows) + 1
        texts = [Text(_last(place), (place + 1.5, high - 0.5), "column") for place in range(len(rows[0]))]
        for place, row in enumerate(rows):
            texts.append(Text(capital(place), (0.5, high - place - 1.5), "row"))
            texts += [Text(str(entry), (x + 1.5, high - place - 1.5), "entry") for x, entry in enumerate(row)]
        upright = [Line(((x, 0), (x, high)), "grid", weight=0.6) for x in range(wide + 1)]
        level = [Line(((0, y), (wide, y)), "grid", weight=0.6) for y in range(high + 1)]
        head = Line(
            ((0, high - 1), (wide, high - 1), (wide, high), (0, high)), "head", True, fill=rng.choice(("", "tint"))
        )
        return Scene((head, *upright, *level), tuple(texts), is_wide=True)

    def measured(self, drawing: Drawing, values: Values) -> float:
        """From the numbers beside and below the words of the row and the column."""
        down = sorted({round(text.at[1]) for text in texts_of(drawing, "row")})
        across = sorted({round(text.at[0]) for text in texts_of(drawing, "column")})
        rows = [[0] * len(across) for _ in down]
        for text in texts_of(drawing, "entry"):
            row = min(range(len(down)), key=lambda place: abs(down[place] - text.at[1]))
            column = min(range(len(across)), key=lambda place: abs(across[place] - text.at[0]))
            rows[row][column] = int(text.words)
        return float(_asked(values.ask, rows, *values.target))


def _rows(shown: tuple[int, ...]) -> list[list[int]]:
    columns, *entries = shown
    return [entries[start : start + columns] for start in range(0, len(entries), columns)]


def _asked(ask: int, rows: list[list[int]], row: int, column: int) -> int:
    if ask == 0:
        return rows[row][column]
    return sum(rows[row]) if ask == 1 else sum(each[column] for each in rows)


def _last(place: int) -> str:
    return "WXYZ"[place]
