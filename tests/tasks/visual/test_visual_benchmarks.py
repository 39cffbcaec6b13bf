"""Visual benchmarks in their published layouts: problems, both verdicts on hand-worked answers, whole questions."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pytest

from relax_rl.errors import DataError
from relax_rl.rewards.base import grade
from relax_rl.rewards.official import Graded
from relax_rl.rewards.visual.official import VISUAL_RULES, edit_distance
from relax_rl.tasks import Problem, build_task, validate_task
from support.visual_layouts import WRITERS, mathvista_rows, write

_SPLITS = {"virl39k": "train"}


@pytest.fixture
def problems_of(tmp_path: Path) -> Callable[..., list[Problem]]:
    def made(name: str, **options: Any) -> list[Problem]:
        WRITERS[name](tmp_path / name)
        return build_task(name, path=str(tmp_path / name), **options).problems(_SPLITS.get(name, "test"))

    return made


def verdicts(name: str, problem: Problem, completion: str) -> tuple[float | None, float]:
    """Ours, and the benchmark's own."""
    ours = grade(build_task(name).verifier, [completion], [problem.answer], options=[problem.options])[0].score
    [rule] = VISUAL_RULES[name]
    return ours, float(rule.is_right(Graded(completion, problem.answer, ours, problem.columns)))


@pytest.mark.parametrize("name", WRITERS)
def test_every_layout_proves_itself(name: str, tmp_path: Path) -> None:
    WRITERS[name](tmp_path)
    report = validate_task(build_task(name, path=str(tmp_path)), _SPLITS.get(name, "test"))
    assert report.too_lenient == ()
    # The prose of one gold answer of MathVerse is read inside a box; one gold of MathVista is a letter that nobody can
    # tell from a choice.
    assert set(report.failures) <= {"mathvista-7"}


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("silence", ["", " ", "\\boxed{}", "\\boxed{\\text{}}", "I do not know.", "()"])
def test_saying_nothing_scores_nothing(name: str, silence: str, problems_of: Any) -> None:
    assert {verdicts(name, problem, silence)[0] for problem in problems_of(name)} == {0.0}


@pytest.mark.parametrize(
    ("number", "completion", "ours", "official"),
    [
        (0, "\\boxed{B}", 1.0, 0.0),  # the source asks a model to extract
        (0, "B", None, 0.0),
        (0, 'The answer is "(B) 8/11".', None, 1.0),
        (0, "The correct answer is (B) 8/11.", 1.0, 0.0),
        (0, "\\boxed{8/11}", 1.0, 0.0),
        (0, "\\boxed{A. 8/11}", 0.0, 0.0),
        (1, "14.7", None, 1.0),
        (1, "\\boxed{14.7}", 0.0, 0.0),
        (1, "\\boxed{14 years}", 1.0, 0.0),
        (2, "13.84", None, 1.0),
        (2, "\\boxed{13.84}", 1.0, 0.0),
        (2, "13.75", None, 1.0),
        (2, "\\boxed{13.85}", 0.0, 0.0),
        (2, "\\boxed{13.74}", 0.0, 0.0),
        (3, "\\boxed{[2014,2016]}", 1.0, 0.0),
        (3, "\\boxed{[2016, 2014]}", 0.0, 0.0),
        (4, "", 0.0, 1.0),  # nearest to the shortest choice
        (5, "\\boxed{B}", 1.0, 1.0),  # two choices of the same text
        (5, "\\boxed{C}", 0.0, 1.0),
        (6, "\\boxed{B}", 0.0, 0.0),  # letter or text: nobody can say
        (6, "\\boxed{A}", 0.0, 0.0),
    ],
)
def test_mathvista_by_hand(number: int, completion: str, ours: float | None, official: float, problems_of: Any) -> None:
    found = verdicts("mathvista", problems_of("mathvista")[number], completion)
    assert found[1] == official or "boxed" in completion
    if ours is not None:
        assert found[0] == ours


def test_mathvista_names_its_broken_image_and_shows_units_and_options(
    problems_of: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        problems = problems_of("mathvista")
    assert [problem.id for problem in problems] == [f"mathvista-{pid}" for pid in range(1, 9)]
    assert "1 problem is left out, whose image cannot be used: mathvista-9 (" in caplog.text
    assert "(B) 8/11" in problems[0].question
    assert "(Unit: years)" in problems[1].question
    assert "图中有几个点" in problems[7].question
    assert problems[0].facets["skills"] == ("arithmetic reasoning",)


def test_an_empty_answer_is_worth_the_shortest_choices_under_the_official_rule(problems_of: Any) -> None:
    choices = [problem for problem in problems_of("mathvista") if problem.options]
    found = [verdicts("mathvista", problem, "") for problem in choices]
    assert [ours for ours, _ in found] == [0.0] * 4
    assert [official for _, official in found] == [0.0, 1.0, 1.0, 0.0]


def test_dynamath_joins_ten_variants_of_a_seed(problems_of: Any, tmp_path: Path) -> None:
    problems = problems_of("dynamath")
    assert [problem.group for problem in problems] == ["1"] * 10 + ["2"] * 10
    assert verdicts("dynamath", problems[0], "\\boxed{2.094}") == (1.0, 1.0)
    assert verdicts("dynamath", problems[0], "\\boxed{\\frac{2\\pi}{3}}")[0] == 1.0
    assert verdicts("dynamath", problems[0], "\\boxed{2.09}") == (0.0, 0.0)
    assert verdicts("dynamath", problems[10], "\\boxed{B}") == (1.0, 1.0)
    task = build_task("dynamath", path=str(tmp_path / "dynamath"))
    assert len(task.problems("test", 10)) == 10
    assert len({problem.group for problem in task.problems("test", 10, seed=3)}) == 1
    with pytest.raises(DataError, match="ask for a multiple of 10"):
        task.problems("test", 15)


def test_dynamath_without_a_variant_is_refused(tmp_path: Path) -> None:
    WRITERS["dynamath"](tmp_path)
    (tmp_path / "data" / "sample_variant4-00000-of-00001.parquet").unlink()
    with pytest.raises(DataError, match="no file of the split 'sample_variant4'"):
        build_task("dynamath", path=str(tmp_path)).problems("test")


def test_dynamath_text_rule_takes_part_of_the_gold_text() -> None:
    [rule] = VISUAL_RULES["dynamath"]
    columns = {"answer_type": "text", "published": "5:0"}
    assert [rule.is_right(Graded(text, "[text] 5:0", 0.0, columns)) for text in ("", "5", "5:0", "6")] == [1, 1, 1, 0]


def test_mmmu_shows_images_between_words_and_inside_options(problems_of: Any) -> None:
    accounting, art = problems_of("mmmu")
    parts = [part if isinstance(part, str) else part.open().getpixel((0, 0)) for part in accounting.parts]
    assert parts[:5] == ["Compare ", (0, 255, 0), " with ", (255, 0, 0), ".\n(A) It's "]
    assert parts[5] == (0, 0, 255)
    assert accounting.options == ("It's <image 3>", "a, b", "None")
    assert accounting.facets == {"domain": ("Business",), "subject": ("Accounting",)}
    assert art.facets["domain"] == ("Art & Design",)
    assert verdicts("mmmu", accounting, "\\boxed{B}")[0] == 1.0
    assert verdicts("mmmu", accounting, "It is (A), no, (B).") == (0.0, 1.0)
    assert [verdicts("mmmu", art, f"\\boxed{{{text}}}")[0] for text in ("Tampa", "florida", "Miami")] == [1.0, 1.0, 0.0]
    assert verdicts("mmmu", art, "So it is in Florida, I think")[1] == 1.0


def test_mathverse_versions_are_one_question_and_several_letters_a_set(problems_of: Any) -> None:
    problems = problems_of("mathverse")
    assert [problem.group for problem in problems] == [group for group in "123" for _ in range(5)]
    assert problems[4].facets["version"] == ("Vision Only",)
    assert problems[4].options == problems[0].options == ("40°", "50°", "60°", "1°")
    assert verdicts("mathverse", problems[4], "\\boxed{B}") == (1.0, 1.0)
    assert [verdicts("mathverse", problems[5], f"\\boxed{{{text}}}")[0] for text in ("A, C", "CA", "A")] == [
        1.0,
        1.0,
        0.0,
    ]
    assert verdicts("mathverse", problems[10], "\\boxed{50.27}")[0] == 1.0


def test_mathverse_in_words_alone_and_the_examples_of_mmmu(problems_of: Any, tmp_path: Path) -> None:
    problems_of("mathverse")
    words = build_task("mathverse", path=str(tmp_path / "mathverse")).problems("text_only")
    assert [(problem.group, problem.images, problem.facets["version"]) for problem in words] == [
        (group, (), ("Text Only",)) for group in "123"
    ]
    assert words[0].question.startswith("In a triangle of 130°")
    assert "<image" not in words[0].question
    assert verdicts("mathverse", words[0], "\\boxed{50°}")[0] == 1.0
    problems_of("mmmu")
    assert [problem.id for problem in build_task("mmmu", path=str(tmp_path / "mmmu")).problems("dev")] == [
        "mmmu-validation_Accounting_1"
    ]


def test_mathvision_letters_values_and_a_form_feed(problems_of: Any) -> None:
    letters, values, fraction, degrees = problems_of("mathvision")
    assert verdicts("mathvision", letters, "\\boxed{B}") == (1.0, 1.0)
    assert verdicts("mathvision", values, "\\boxed{13}") == (1.0, 1.0)
    assert verdicts("mathvision", values, "\\boxed{14}") == (0.0, 0.0)
    assert verdicts("mathvision", fraction, "\\boxed{\\frac{36}{13}}")[0] == 1.0
    # Rounding to two places calls these equal.
    assert verdicts("mathvision", degrees, "\\boxed{69.001}") == (0.0, 1.0)


def test_mmstar_and_virl39k(problems_of: Any) -> None:
    [star] = problems_of("mmstar")
    assert star.options == ("a cat", "a dog", "3, 4 or 5", "none")
    assert verdicts("mmstar", star, "C")[1] == 1.0
    # A chain of thought is nothing to the official rule.
    assert verdicts("mmstar", star, "It has corners, so \\boxed{C}") == (1.0, 0.0)
    letter, number, words = problems_of("virl39k")
    assert [len(one.images) for one in (letter, number, words)] == [1, 2, 0]
    assert verdicts("virl39k", letter, "\\boxed{B or C}") == (0.0, 1.0)
    assert verdicts("virl39k", number, "\\boxed{12}") == (1.0, 1.0)


@pytest.mark.parametrize("name", ["emma", "emma_mini"])
def test_emma_as_its_rows_are(name: str, problems_of: Any) -> None:
    problems = {problem.id.removeprefix(f"{name}-"): problem for problem in problems_of(name)}
    assert list(problems) == ["chem_1", "chem_2", "coding_1", "Math_1", "Math_2", "Math_3", "phy_1"]
    coding = [part if isinstance(part, str) else part.open().getpixel((0, 0)) for part in problems["coding_1"].parts]
    assert coding[:3] == ["Which chart is it? ", (255, 0, 0), "\n(A) "]
    assert coding[3::2] == [(0, 255, 0), (0, 0, 255), (0, 0, 0), (255, 255, 255)]
    assert problems["coding_1"].facets == {
        "subject": ("Coding",),
        "type": ("multiple choice",),
        "task": ("Code Choose Vis",),
        "category": ("Coding: Legend", "Coding: Gridline"),
    }
    # Without a question in words it is in the picture, and a picture without a mark comes first.
    shown, words = problems["chem_1"].parts
    assert not isinstance(shown, str)
    assert str(words).startswith("The question is in the image.\n(A) A")
    assert problems["Math_2"].question.startswith("<image 1>How far is it to <image 2>?")
    assert [problem.options for problem in problems.values() if not problem.options] == [(), ()]
    assert problems["phy_1"].question.startswith("g <img_4>\nWhat force?")
    # Letters are published in both cases.
    assert problems["phy_1"].answer == "[choice] A"
    assert [verdicts(name, problems["phy_1"], text) for text in ("\\boxed{A}", "\\boxed{C}", "\\boxed{B}")] == [
        (1.0, 1.0),
        (1.0, 0.0),  # another option of the same text
        (0.0, 0.0),
    ]
    assert [verdicts(name, problems["chem_2"], f"\\boxed{{{text}}}")[0] for text in ("MgS", "$MgS$", "Mg")] == [1, 1, 0]
    # Nobody can say whether E is the letter, or the text of the right option.
    assert verdicts(name, problems["Math_3"], "\\boxed{D}")[0] == 1.0
    assert verdicts(name, problems["Math_3"], "\\boxed{E}")[0] == 0.0


@pytest.mark.parametrize(
    ("completion", "gold", "official"),
    [
        ("B", "B", 1),
        ("b", "B", 1),
        ("B: because", "B", 1),
        ("A. No: the answer is B.", "B", 0),  # a letter at the start is the answer, whatever follows
        ("B because", "B", 0),
        ("\\boxed{8}", "B", 1),
        ("\\boxed{A} or \\boxed{\\text{ b }}", "B", 1),
        ("\\boxed{B} and \\boxed{A", "B", 1),
        ("First the answer is A. Now the answer is\n B. Yes", "B", 1),
        ("The final answer is A, I think the answer is B", "B", 0),  # the first flag of the list decides
        ("Answer: B", "B", 1),
        ("8", "B", 1),
        ("It is 8", "B", 0),
        ("", "B", 0),
        ("The answer is 3.5.", "3.5", 0),  # cut at the first full stop
        ("\\boxed{3.504}", "3.5", 1),
        ("\\boxed{\\frac{7}{2}}", "3.5", 1),
        ("\\boxed{\\text{a }3.5}", "3.5", 0),
    ],
)
def test_the_rule_of_emma_by_hand(completion: str, gold: str, official: int) -> None:
    [rule] = VISUAL_RULES["emma"]
    columns = {"published": gold, "choices": ["7", "8"] if gold == "B" else []}
    assert rule.is_right(Graded(completion, f"[choice] {gold}", 0.0, columns)) == official


def test_a_blind_task_shows_the_same_words_without_images(problems_of: Any) -> None:
    seen, blind = problems_of("mmstar"), problems_of("mmstar", blind=True)
    assert (len(seen[0].images), blind[0].images, blind[0].question) == (1, (), seen[0].question)


def test_a_fixed_letter_scores_its_share(problems_of: Any) -> None:
    choices = [problem for problem in problems_of("mathvision") if problem.options]
    assert sum(verdicts("mathvision", problem, "\\boxed{A}")[0] or 0.0 for problem in choices) == 0.0
    assert sum(verdicts("mathvision", problem, "\\boxed{B}")[0] or 0.0 for problem in choices) == 2.0


def test_the_hub_and_what_is_not_on_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    write(tmp_path / "one.parquet", mathvista_rows()[:2])
    table: Any = datasets.Dataset.from_parquet(str(tmp_path / "one.parquet"), cache_dir=str(tmp_path / "cache"))
    table = table.cast_column("decoded_image", datasets.Image())
    asked: list[Any] = []
    monkeypatch.setattr(datasets, "load_dataset", lambda *name, split: asked.append((*name, split)) or table)
    problems = build_task("mathvista").problems("test")
    assert asked == [("AI4Math/MathVista", None, "testmini")]
    assert [problem.image_names for problem in problems] == [
        (f"AI4Math/MathVista row {row} decoded_image",) for row in range(2)
    ]
    asked.clear()
    with pytest.raises(DataError, match="problem_version"):
        build_task("mathverse").problems("text_only")
    assert asked == [("AI4Math/MathVerse", "testmini_text_only", "testmini_text_only")]
    with pytest.raises(DataError, match=r"unpack images\.zip"):
        build_task("virl39k").problems("train")
    with pytest.raises(DataError, match="has no file of the split 'testmini'"):
        build_task("mathvista", path=str(tmp_path)).problems("test")
    with pytest.raises(DataError, match="There is no folder"):
        build_task("mathvista", path=str(tmp_path / "no")).problems("test")


def test_edit_distance_by_hand() -> None:
    assert [edit_distance(*pair) for pair in (("", "abc"), ("kitten", "sitting"), ("a", "a"))] == [3, 3, 0]
