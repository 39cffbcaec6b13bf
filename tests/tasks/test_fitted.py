"""A task as a model can be shown it: images within a budget of pixels, and no prompt that is too long."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from relax_rl.errors import ConfigError, DataError
from relax_rl.rewards.base import as_verifier
from relax_rl.tasks.base import BaseTask, Problem
from relax_rl.tasks.fitted import FittedTask
from relax_rl.tasks.images.budget import PixelBudget
from relax_rl.tasks.images.picture import file_picture


class Exact:
    name = "exact"

    def score(self, completions: Sequence[str], answers: Sequence[str]) -> list[float | None]:
        return [float(text == answer) for text, answer in zip(completions, answers, strict=True)]


class Numbered(BaseTask):
    """Problem i asks a question of i words; every third is one of a group of two."""

    name = "numbered"
    verifier = as_verifier(Exact())

    def __init__(self, size: int | None = 12) -> None:
        self.size, self.is_endless = size, size is None
        self.asked: list[int | None] = []

    def problems(self, split: str, count: int | None = None, seed: int = 0) -> list[Problem]:
        self.asked.append(count)
        if split != "test":
            raise DataError(f"there is no split '{split}'")
        if self.size is not None and count is not None and count > self.size:
            raise DataError(f"{count} problems were asked for; there are {self.size}")
        size = self.size if count is None else count
        return [Problem(f"{split}-{place}", "word " * place, "") for place in range(size or 0)]


def odd(problems: Sequence[Problem]) -> Collection[str]:
    return [problem.id for problem in problems if int(problem.id.split("-")[1]) % 2]


def ids(problems: Sequence[Problem]) -> list[str]:
    return [problem.id for problem in problems]


@pytest.mark.parametrize("size", [12, None])
def test_the_first_problems_that_fit_are_asked_for_and_the_others_named(size: int | None) -> None:
    said: list[str] = []
    task = FittedTask(Numbered(size), too_long=odd, say=said.append)
    assert ids(task.problems("test", 5)) == ["test-0", "test-2", "test-4", "test-6", "test-8"]
    assert task.left_out("test", 5) == ("test-1", "test-3", "test-5", "test-7")
    assert said == [
        "numbered/test: 4 of 9 problems are left out, whose prompt is too long: test-1, test-3, test-5, test-7"
    ]
    # Said once, and read once.
    task.problems("test", 5)
    assert len(said) == 1


def test_each_problem_is_looked_at_once() -> None:
    looked: list[str] = []

    def counting(problems: Sequence[Problem]) -> Collection[str]:
        looked.extend(ids(problems))
        return odd(problems)

    task = FittedTask(Numbered(), too_long=counting)
    task.problems("test", 5)
    task.problems("test")
    assert sorted(looked) == sorted(f"test-{place}" for place in range(12))


def test_all_of_a_split_is_what_fits() -> None:
    task = FittedTask(Numbered(), too_long=odd)
    assert ids(task.problems("test")) == [f"test-{place}" for place in range(0, 12, 2)]
    assert len(task.left_out("test")) == 6


def test_too_few_that_fit_are_an_error_and_so_is_what_the_task_refuses() -> None:
    with pytest.raises(
        DataError, match=r"has 6 problems in 'test' whose prompt is not too long, and 6 whose prompt is"
    ):
        FittedTask(Numbered(), too_long=odd).problems("test", 7)
    for task in (FittedTask(Numbered()), FittedTask(Numbered(), too_long=odd)):
        with pytest.raises(DataError, match="13 problems were asked for"):
            task.problems("test", 13)
        with pytest.raises(DataError, match="there is no split 'dev'"):
            task.problems("dev", 2)
    every = FittedTask(Numbered(None), too_long=ids)
    with pytest.raises(DataError, match="has 0 problems in 'test' whose prompt is not too long"):
        every.problems("test", 4)


def test_a_question_goes_with_all_its_variants() -> None:
    class Variants(Numbered):
        def problems(self, split: str, count: int | None = None, seed: int = 0) -> list[Problem]:
            found = super().problems(split, count, seed)
            return [replace(problem, group=str(place // 3)) for place, problem in enumerate(found)]

    task = FittedTask(Variants(), too_long=lambda problems: [one.id for one in problems if one.id == "test-4"])
    assert ids(task.problems("test", 6)) == [f"test-{place}" for place in (0, 1, 2, 6, 7, 8)]
    assert task.left_out("test", 6) == ("test-3", "test-4", "test-5")


# Pixels --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "least", "most", "expected"),
    [
        ((100, 50), None, None, (100, 50)),
        ((100, 50), 100, 5000, (100, 50)),
        ((100, 50), None, 1250, (50, 25)),
        ((100, 50), 20000, None, (200, 100)),
        ((10000, 2), None, 100, (100, 1)),
        ((3, 5), None, 1, (1, 1)),
    ],
)
def test_sizes(size, least, most, expected) -> None:
    assert PixelBudget(least, most).size(*size) == expected


@given(st.integers(1, 5000), st.integers(1, 5000), st.integers(1, 10**6), st.integers(1, 100))
def test_no_image_is_outside_and_sides_keep_their_ratio(width, height, least, factor) -> None:
    budget = PixelBudget(least, least * factor)
    found = budget.size(width, height)
    assert min(found) >= 1
    if width * height > least * factor:
        assert found[0] * found[1] <= least * factor
    elif width * height < least:
        assert (found[0] + 1) * (found[1] + 1) >= least
        assert found[0] * found[1] <= least * factor or min(found) == 1
    else:
        assert found == (width, height)
    if min(found) > 20 and found != (width, height):
        assert found[0] / found[1] == pytest.approx(width / height, rel=0.06)


def test_images_are_resized_when_they_are_opened_and_others_stay_what_they_are(tmp_path) -> None:
    palette = Image.new("P", (40, 20))
    palette.putpalette([200, 10, 10] * 256)
    path = tmp_path / "red.png"
    Image.new("RGB", (40, 20), "red").save(path)
    problem = Problem("it", "what?", "", images=(palette, file_picture(path), Image.new("L", (10, 20), 7)))
    shown = [PixelBudget(most=200).of(picture) for picture in problem.pictures]
    opened = [picture.open() for picture in shown]
    assert [image.size for image in opened] == [(20, 10), (20, 10), (10, 20)]
    assert opened[0].mode == "RGB"
    assert opened[0].getpixel((3, 3)) == (200, 10, 10)
    assert [picture.size for picture in shown] == [image.size for image in opened]
    before, after = ([picture.identity for picture in one] for one in (problem.pictures, shown))
    assert [one == other for one, other in zip(before, after, strict=True)] == [False, False, True]
    assert [picture.name for picture in shown] == [picture.name for picture in problem.pictures]


def test_a_photograph_on_its_side_has_the_size_that_is_shown(tmp_path) -> None:
    image = Image.new("RGB", (40, 20), "red")
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(tmp_path / "turned.jpg", exif=exif)
    picture = file_picture(tmp_path / "turned.jpg")
    assert picture.size == picture.open().size == (20, 40)


@pytest.mark.parametrize("bounds", [(0, None), (None, 0), (10, 5), (100_000_001, None)])
def test_impossible_bounds_are_refused(bounds) -> None:
    with pytest.raises(ConfigError, match=r"min_pixels|max_pixels"):
        PixelBudget(*bounds)


def test_a_task_shows_its_images_resized() -> None:
    class Seen(Numbered):
        def problems(self, split: str, count: int | None = None, seed: int = 0) -> list[Problem]:
            return [Problem("it", "what?", "", images=(Image.new("RGB", (40, 20)),))]

    looked: list[tuple[int, int]] = []

    def look(problems: Sequence[Problem]) -> Collection[str]:
        looked.extend(picture.size for problem in problems for picture in problem.pictures)
        return []

    task = FittedTask(FittedTask(Seen(), PixelBudget(most=200)), too_long=look)
    (problem,) = task.problems("test", 1)
    assert problem.pictures[0].size == (20, 10)
    assert looked == [(20, 10)]
