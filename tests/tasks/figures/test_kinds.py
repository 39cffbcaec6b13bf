"""Kinds of figures: formula and drawing give one answer, the known slip another, and the words alone give none."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from relax_rl.tasks.figures import KINDS, Values
from relax_rl.tasks.figures.figure import Figure, legible_figure
from relax_rl.tasks.figures.geometry import length_of, nearest, pixels_a_unit

ASKED = [(name, ask) for name, kind in KINDS.items() for ask in range(len(kind.questions))]
IDS = [f"{name}-{KINDS[name].questions[ask]}" for name, ask in ASKED]


def figures(name: str, ask: int, level: int, count: int) -> list[Figure]:
    """Figures that can be read, of so many seeds."""
    rng, kind, found = random.Random(f"{name} {ask} {level}"), KINDS[name], list[Figure]()
    while len(found) < count:
        values = kind.draw(ask, level, rng)
        figure = legible_figure(name, values, 80 if level == 1 else 448, "", str(rng.random()))
        found += [figure] if figure is not None else []
    return found


@pytest.mark.parametrize(("name", "ask"), ASKED, ids=IDS)
def test_two_routes_give_one_answer(name: str, ask: int) -> None:
    """The formula reads the values, the measurement only the drawing, however that is turned, mirrored and scaled."""
    kind = KINDS[name]
    for figure in figures(name, ask, 2, 8) + (figures(name, ask, 1, 4) if ask in kind.easy else []):
        # Without the values: the question and its target are all that a measurement may read.
        blank = Values(ask, (), figure.values.target)
        assert kind.measured(figure.drawing, blank) == pytest.approx(kind.answer(figure.values), abs=0.02)


@pytest.mark.parametrize(("name", "ask"), ASKED, ids=IDS)
def test_a_measurement_follows_the_drawing(name: str, ask: int) -> None:
    """A drawing of other values measures as those: the second route cannot repeat the first."""
    kind = KINDS[name]
    answers = {kind.answer(figure.values) for figure in figures(name, ask, 2, 8)}
    assert len(answers) > 1


@pytest.mark.parametrize(("name", "ask"), ASKED, ids=IDS)
def test_the_known_slip_is_wrong_and_positive_answers_are_whole(name: str, ask: int) -> None:
    kind, rng = KINDS[name], random.Random(7)
    for level in (1, 2) if ask in kind.easy else (2,):
        drawn = [kind.draw(ask, level, rng) for _ in range(200)]
        slips = [kind.slip(values) != kind.answer(values) for values in drawn]
        # The task leaves out what the slip gets right; that must be rare.
        assert sum(slips) > 0.7 * len(slips)
        assert all(kind.answer(values) >= 0 for values in drawn)


@pytest.mark.parametrize(("name", "ask"), ASKED, ids=IDS)
def test_words_alone_give_no_answer_away(name: str, ask: int) -> None:
    """The best answer to each wording is right no more often than the best answer to all wordings, up to chance."""
    kind, rng = KINDS[name], random.Random(3)
    seen, unseen = ([kind.draw(ask, 2, rng) for _ in range(800)] for _ in range(2))
    by_words: dict[str, Counter[int]] = {}
    for values in seen:
        by_words.setdefault(kind.words(values), Counter())[kind.answer(values)] += 1
    best = Counter(kind.answer(values) for values in seen).most_common(1)[0][0]
    chance = sum(kind.answer(values) == best for values in unseen)
    blind = sum(by_words[kind.words(values)].most_common(1)[0][0] == kind.answer(values) for values in unseen)
    assert blind <= chance + 4 * (800 * 0.25) ** 0.5
    assert chance < 0.4 * len(unseen)


@pytest.mark.parametrize("name", KINDS)
def test_the_words_hold_no_number_of_the_figure(name: str) -> None:
    kind, rng = KINDS[name], random.Random(5)
    for ask in range(len(kind.questions)):
        texts = {kind.words(kind.draw(ask, 2, rng)) for _ in range(100)}
        # 12 o'clock and the hours of a clock are the same for all.
        digits = {"".join(character for character in text if character.isdigit()) for text in texts}
        assert len(digits) == 1


@pytest.mark.parametrize(
    ("name", "values", "answer", "slip"),
    [
        # An L of 9 by 6 with a notch of 4 by 2: 2 (9 + 6); side 0, the 9, has no label.
        ("perimeter", Values(0, (0, 0, 9, 6, 4, 2)), 30, 21),
        # A T: 3 + 4 + 3 wide, 2 + 5 high; side 4, the whole top of 10, has no label.
        ("perimeter", Values(0, (1, 4, 3, 4, 3, 2, 5)), 34, 24),
        # A U: 3 + 4 + 3 wide, 8 high, a gap 5 deep: 2 (10 + 8) + 2 x 5.
        ("perimeter", Values(0, (2, 0, 3, 4, 3, 8, 5)), 46, 36),
        # Stairs: 3 + 4 + 5 wide, 3 + 3 + 4 high.
        ("perimeter", Values(0, (3, 0, 3, 4, 5, 3, 3, 4)), 44, 32),
        ("area", Values(0, (0, 7, 5)), 35, 24),
        ("area", Values(1, (1, 8, 5)), 20, 40),
        ("area", Values(2, (2, 9, 5, 4)), 28, 56),
        ("area", Values(3, (3, 9, 6, 4, 2)), 46, 54),
        ("area", Values(4, (4, 6, 120)), 12, 36),
        ("prism", Values(0, (4, 3, 5)), 48, 36),
        ("prism", Values(1, (4, 3, 5)), 94, 47),
        ("prism", Values(2, (4, 3, 5)), 60, 94),
        ("prism", Values(3, (4, 3, 5), (2,)), 5, 41),
        ("prism", Values(4, (4, 3, 5), (2,)), 5, 11),
        ("prism", Values(5, (4, 3, 5), (2,)), 5, 15),
        # Twenty to four; with the hands changed, eighteen past eight.
        ("clock", Values(0, (3, 40)), 220, 498),
        ("clock", Values(1, (0, 20)), 12, 4),
        ("clock", Values(2, (9, 20)), 20, 46),
        # 20, 30, 40, ...; five marks of 2 each; the hand three marks past 30.
        ("dial", Values(0, (20, 10, 5, 5, 8)), 36, 33),
        ("bars", Values(0, (1, 3, 8, 5), (1,)), 8, 5),
        ("bars", Values(1, (1, 3, 8, 5)), 5, 8),
        ("bars", Values(2, (1, 3, 8, 5), (0,)), 2, 0),
        ("bars", Values(3, (1, 3, 8, 5)), 16, 11),
        ("counting", Values(0, (2, 1, 0, 3, 0, 4), (1, 2)), 4, 7),
        ("counting", Values(1, (2, 1, 0, 3, 0, 4), (0,)), 3, 10),
        ("angles", Values(0, (0, 50, 60)), 70, 110),
        ("angles", Values(1, (1, 50, 60)), 70, 250),
        ("angles", Values(2, (2, 50, 0)), 130, 50),
        ("angles", Values(2, (2, 50, 1)), 50, 130),
        ("graph", Values(0, (0, 1, 4, 10, 17)), 3, 2),
        ("graph", Values(1, (1, 6, 3, 4)), 6, 3),
        ("graph", Values(2, (2, 5, 7)), 5, 7),
        ("table", Values(0, (2, 1, 2, 3, 4), (0, 1)), 2, 4),
        ("table", Values(1, (2, 1, 2, 3, 4), (0, 1)), 3, 7),
        ("table", Values(2, (2, 1, 2, 3, 4), (0, 1)), 6, 4),
    ],
)
def test_by_hand(name: str, values: Values, answer: int, slip: int) -> None:
    kind = KINDS[name]
    assert (kind.answer(values), kind.slip(values)) == (answer, slip)
    drawing = Figure(name, values, 1, 448).drawing
    assert kind.measured(drawing, Values(values.ask, (), values.target)) == pytest.approx(answer, abs=0.02)


@pytest.mark.parametrize("name", ["perimeter", "area"])
def test_every_label_is_the_length_of_the_line_beside_it(name: str) -> None:
    for ask in range(len(KINDS[name].questions)):
        for figure in figures(name, ask, 2, 6):
            drawing = figure.drawing
            unit = pixels_a_unit(drawing)
            labels = [text for text in drawing.texts if text.labels]
            lengths = [length_of(nearest(drawing, text)) / unit for text in labels]
            assert lengths == pytest.approx([int(text.words) for text in labels])


def test_a_side_without_a_label_has_none() -> None:
    figure = Figure("perimeter", Values(0, (1, 4, 3, 4, 3, 2, 5)), 1, 448)
    assert sorted(text.words for text in figure.drawing.texts) == sorted("4532235")


def test_the_hidden_edges_of_a_prism_are_dashed() -> None:
    lines = Figure("prism", Values(0, (4, 3, 5)), 1, 448).drawing.lines
    assert (len(lines), sum(line.is_dashed for line in lines)) == (12, 3)
