"""The task `figures`: variants, twins, splits, ids and pictures."""

from __future__ import annotations

import dataclasses
import hashlib
import pickle
from typing import Any

import pytest

from relax_rl.cli.main import main
from relax_rl.errors import ConfigError, DataError
from relax_rl.evaluation.breakdown import break_down
from relax_rl.evaluation.records import Sample
from relax_rl.tasks.base import Problem, image_digest, validate_task
from relax_rl.tasks.figures import KINDS, FiguresTask
from relax_rl.tasks.figures.figure import Figure
from relax_rl.tasks.registry import build_task


def shown(problem: Problem) -> Figure:
    (figure,) = problem.images
    assert isinstance(figure, Figure)
    return figure


@pytest.mark.parametrize("options", [{}, {"level": 1}, {"forms": "shown,text,picture", "others": 1}])
def test_it_proves_itself(options: dict[str, Any]) -> None:
    """The gold answer of each problem scores 1; the known slip and answers that say nothing score 0."""
    task = build_task("figures", **options)
    report = validate_task(task, "test", 10 * task.group_size)
    assert report.ok, report.failures
    assert report.without_solution == ()
    assert all(problem.mistake for problem in task.problems("test", task.group_size))


def test_every_kind_and_question_of_a_level_comes() -> None:
    for level in (1, 2):
        found = {facet for p in FiguresTask(level).problems("train", 260) for facet in p.facets["question"]}
        asked = {
            f"{name}: {question}"
            for name, kind in KINDS.items()
            for place, question in enumerate(kind.questions)
            if level == 2 or place in kind.easy
        }
        assert found == asked


def test_variants_of_a_question() -> None:
    problems = FiguresTask(kinds="area,prism", redrawn=1, others=2).problems("test", 16)
    assert [p.id for p in problems[:5]] == [
        "figures-test-0-0-v0", "figures-test-0-0-v1", "figures-test-0-0-v2", "figures-test-0-0-v3",
        "figures-test-0-1-v0",
    ]  # fmt: skip
    for start in range(0, 16, 4):
        group = problems[start : start + 4]
        assert len({p.group for p in group}) == 1
        assert [p.facets["variant"] for p in group] == [("first",), ("redrawn",), ("values",), ("values",)]
        assert len({p.facets["question"] for p in group}) == 1
        first, redrawn, *others = group
        assert first.answer == redrawn.answer
        assert shown(first).values == shown(redrawn).values
        assert len({shown(p).values.shown for p in (first, *others)}) == 3
        assert len({image_digest(p.images) for p in group}) == 4
        assert len({hashlib.sha256(shown(p).open().tobytes()).digest() for p in group}) == 4


def test_train_and_test_share_no_values_whatever_the_seed() -> None:
    for level in (1, 2):
        task = FiguresTask(level)
        seen = {
            split: {(shown(p).kind, shown(p).values.shown) for seed in (0, 1) for p in task.problems(split, 60, seed)}
            for split in ("train", "test")
        }
        assert not seen["train"] & seen["test"]


def test_twins_ask_the_same() -> None:
    task = FiguresTask(forms="shown,text,picture", redrawn=0, others=0)
    for seen, told, pictured in zip(*[iter(task.problems("test", 60))] * 3, strict=True):
        assert seen.answer == told.answer == pictured.answer
        assert (told.images, told.facets["twin"], pictured.facets["twin"]) == ((), ("text",), ("picture",))
        assert "twin" not in seen.facets
        assert told.question.endswith(seen.question)
        assert pictured.question == "Answer the question in the image."
        assert " ".join(shown(pictured).drawing.caption) == seen.question
        assert shown(pictured).drawing.caption != shown(seen).drawing.caption == ()


def test_lists_begin_alike_and_seeds_differ() -> None:
    task = FiguresTask(level=1)
    assert task.problems("train", 8) == task.problems("train", 12)[:8]
    assert task.problems("test", 8) == task.problems("test", 16)[:8]
    images = [image_digest(p.images) for seed in (0, 1) for p in task.problems("train", 24, seed)]
    assert len(set(images)) == 48


def test_the_same_bytes_every_time_and_after_a_pickle() -> None:
    figure = shown(FiguresTask(kinds="counting").problems("train", 1)[0])
    again = pickle.loads(pickle.dumps(figure))
    assert figure.open().tobytes() == again.open().tobytes()
    assert figure.identity == again.identity
    assert figure.open().size == figure.size == (448, 448)


def test_ids_and_identities_do_not_depend_on_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    from relax_rl.tasks.figures import painting

    problem = FiguresTask(level=1).problems("test", 4)[0]
    before, pixels = image_digest(problem.images), shown(problem).open().tobytes()
    monkeypatch.setattr(painting, "COLOURS", dict.fromkeys(painting.COLOURS, (1, 2, 3)))
    monkeypatch.setattr(painting, "_between", lambda *_: (9, 9, 9))
    monkeypatch.setattr(painting, "_paint_line", lambda *_: None)
    assert shown(problem).open().tobytes() != pixels
    assert image_digest(problem.images) == before


def test_another_drawing_has_another_identity() -> None:
    figure = shown(FiguresTask(level=1).problems("test", 4)[0])
    assert dataclasses.replace(figure, seed=figure.seed + 1).identity != figure.identity
    assert dataclasses.replace(figure, side=96).identity != figure.identity


def test_blind_problems_have_no_picture() -> None:
    seen, blind = (FiguresTask(level=1, blind=flag).problems("test", 8) for flag in (False, True))
    assert [p.question for p in seen] == [p.question for p in blind]
    assert [p.id for p in seen] == [p.id for p in blind]
    assert all(p.images == () for p in blind)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"level": 3}, "level of figures is 3; choose 1 or 2"),
        ({"kinds": "prisms"}, "kinds of figures names 'prisms'; choose from perimeter, area"),
        ({"kinds": "prism", "level": 1}, "'prism'; choose from clock, bars, counting, graph, table of level 1"),
        ({"kinds": []}, "kinds of figures is empty"),
        ({"forms": "shown,words"}, "forms of figures names 'words'; choose from shown, text, picture"),
        ({"redrawn": -1}, "redrawn of figures is -1; choose a whole number from 0 to 20"),
        ({"side": 100}, "side of figures is 100; choose a number of pixels from 224 to 4096"),
        ({"level": 1, "forms": "picture"}, "set side to 224 or more"),
    ],
)
def test_a_wrong_option_is_one_sentence(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        build_task("figures", **options)


def test_a_question_is_never_cut() -> None:
    with pytest.raises(DataError, match="6 problems of 'figures' were asked for; each question of test comes in 4"):
        FiguresTask().problems("test", 6)
    with pytest.raises(DataError, match="no split 'dev'; choose one of train, test"):
        FiguresTask().problems("dev")


def test_worst_robustness_and_gap_by_hand() -> None:
    """Two questions of two drawings in two twins each: the picture of the second drawing of one is wrong."""
    task = FiguresTask(level=2, kinds="area", forms="text,picture", redrawn=1, others=0)
    problems = task.problems("test", 8)
    scores = [1.0, 1.0, 1.0, 0.0] + [1.0] * 4
    samples = [[Sample(p.id, 0, "", (), 1, False, score=score)] for p, score in zip(problems, scores, strict=True)]
    found = {name: estimate.value for name, estimate in break_down(problems, samples).items()}
    assert found["worst"] == 0.5
    assert found["robustness"] == pytest.approx(0.5 / (7 / 8))
    assert found["modality_gap"] == pytest.approx(1.0 - 3 / 4)
    assert found["mean@1 [twin=picture]"] == 0.75
    assert found["mean@1 [variant=redrawn]"] == 0.75


def test_on_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tasks", "show", "figures", "--task.kinds", "prism"]) == 0
    assert capsys.readouterr().out.count("figures-test-0-0-v") == 4
    assert main(["tasks", "validate", "figures", "--task.level", "1", "-n", "20"]) == 0
    assert "20 gold solutions score 1, 0 do not" in capsys.readouterr().out
    assert main(["tasks", "validate", "figures", "-n", "3"]) == 2
    assert "ask for a multiple of 4" in capsys.readouterr().err


def test_the_system_message_is_the_paper_s_at_level_2() -> None:
    tasks = FiguresTask(level=1), FiguresTask(), FiguresTask(system="Look.")
    first, second, own = (task.problems("train", 1)[0] for task in tasks)
    assert (first.system, own.system) == (None, "Look.")
    assert second.system is not None
    assert "\\boxed{}" in second.system
    assert first.prompt == first.question
