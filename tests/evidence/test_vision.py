"""The task that must be seen: drawings show the numbers, variants are of one problem, and the worst is the worst."""

import random
from types import SimpleNamespace

import numpy as np
import pytest

from evidence.tables.page import varied
from evidence.tasks.variants import average_and_worst
from evidence.tasks.vision import CELL, CELLS, FONTS, ShownCountdownTask, base_of, draw
from relax_rl.tasks.base import image_digest, validate_task
from relax_rl.tasks.countdown import CountdownTask


def read(image) -> str:
    """The cells of a drawing, by laying every glyph of either font at every place of each."""
    pixels = np.asarray(image).astype(int)
    paper = pixels[:CELL, :CELL].reshape(-1, 3)  # the left column of cells is empty
    is_ink = (pixels != paper[0]).any(-1)
    return "".join(
        _digit(is_ink[row * CELL : (row + 1) * CELL, column * CELL : (column + 1) * CELL])
        for row in range(CELLS)
        for column in range(CELLS)
    )


def _digit(cell: np.ndarray) -> str:
    if not cell.any():
        return " "
    fits = {
        digit
        for font in FONTS
        for digit, glyph in enumerate(font)
        for top in range(2)
        for left in range(4)
        if np.array_equal(cell, np.pad(glyph, ((top, 1 - top), (left, 3 - left))))
    }
    return "".join(map(str, fits))


def test_a_drawing_shows_each_number_once() -> None:
    for seed in range(50):
        numbers = tuple(random.Random(seed).randint(1, 20) for _ in range(3))
        drawing = draw(numbers, random.Random(seed))
        assert read(drawing.image) == drawing.cells
        assert sorted(map(int, drawing.cells.split())) == sorted(numbers)


def test_variants_are_of_one_problem_and_look_unlike() -> None:
    problems = ShownCountdownTask().problems("test", 24)
    bases = CountdownTask().problems("test", 6)
    assert [base_of(problem.id) for problem in problems] == [base.id for base in bases for _ in range(4)]
    assert [problem.answer for problem in problems] == [base.answer for base in bases for _ in range(4)]
    assert len({image_digest(problem.images) for problem in problems}) == 24
    again = ShownCountdownTask().problems("test", 5)
    assert again == problems[:5]
    assert all(number not in problem.prompt.split(">")[0] for problem in problems for number in "0123456789")


def test_the_task_proves_itself() -> None:
    report = validate_task(ShownCountdownTask(), "train", 64)
    assert report.ok
    assert not report.without_solution


def test_worst_is_the_mean_of_the_smallest() -> None:
    scores = {"a-v0": 0.5, "a-v1": 0.25, "b-v0": 1.0, "b-v1": 0.75, "c-v0": None, "c-v1": 0.5}
    result = SimpleNamespace(per_problem=[SimpleNamespace(id=name, mean_score=s) for name, s in scores.items()])
    assert average_and_worst(result) == (pytest.approx(0.6), pytest.approx((0.25 + 0.75 + 0.5) / 3))  # pyright: ignore[reportArgumentType]


def test_the_table_shows_the_mean_of_the_seeds_and_each() -> None:
    rows = [
        {"method": "start", "seed": float("nan"), "average": 0.25, "worst": 0.125},
        {"method": "grpo", "seed": 21.0, "average": 0.5, "worst": 0.25},
        {"method": "grpo", "seed": 22.0, "average": 0.25, "worst": 0.125},
    ]
    assert varied(rows).splitlines()[2:] == [
        "| start | 0.250 | 0.125 |",
        "| grpo | 0.375 (0.500, 0.250) | 0.188 (0.250, 0.125) |",
    ]
