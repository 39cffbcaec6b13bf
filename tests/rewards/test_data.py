"""Every gold answer of the benchmarks in ../shared/data against itself, its solution, and mistakes made from it.

The exceptions are written down with their reason, and a row that stops being one fails the test, too.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from perturbations import other_spellings, wrong_answers
from relax_rl.rewards import MathVerifier

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
QUICK = ("math500", "aime24", "aime25", "amc22", "amc23")
FILES = (*QUICK, "minerva_math", "olympiadbench", "gsm8k_test", "gsm8k_train", "dapo_math_17k", "math_train")

# Rows whose gold answer cannot be compared with anything but its own spelling.
UNREADABLE = {
    "olympiadbench-2045": "t(0,4], half an interval",
}
# (row, kind of mistake) whose "mistake" is right, or cannot be told.
NOT_WRONG = {
    ("train/counting_and_probability/360.json", "another number"): "2/3, and how it is rounded",
    ("train/number_theory/625.json", "another number"): "1 in base 6 is 1 in base 7",
    ("train/number_theory/1053.json", "another number"): "1 in base 7 is 1 in base 8",
    ("olympiadbench-1965", "another number"): "in the words behind the formula, which a parser cannot tell apart",
}
# Rows whose reference solution does not score 1, of those that box or mark their answer.
UNSOLVED = {
    "train/number_theory/7115.json": "an empty box",
    "train/number_theory/7117.json": "an empty box",
}

# Rows whose gold answer is not right in one of the forms in which a completion states it.
NOT_IN_EVERY_FORM = {
    "minerva-72",  # two formulas with a gap between them
    "olympiadbench-1965",  # a condition in words
    "olympiadbench-2349",  # `$221,$8$`
    "train/geometry/838.json",  # "sq. units": the sentence ends
    "test/prealgebra/1879.json",  # a line break in the unit
}


@pytest.fixture(scope="module")
def verifier() -> Iterator[MathVerifier]:
    verifier = MathVerifier(num_workers=2)
    yield verifier
    verifier.close()


def rows_of(name: str) -> list[dict]:
    path = DATA / f"{name}.jsonl"
    if not path.is_file():
        pytest.skip(f"{path.name} is not in ../shared/data")
    return [json.loads(line) for line in path.open(encoding="utf-8")]


def boxed(text: str) -> str:
    return f"So it is \\boxed{{{text}}}."


files = pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in FILES]
)


@files
def test_gold_against_gold_is_right(verifier: MathVerifier, name: str) -> None:
    golds = [row["answer"] for row in rows_of(name)]
    assert verifier.score([boxed(gold) for gold in golds], golds) == [1.0] * len(golds)


@files
def test_a_gold_answer_is_right_boxed_tagged_and_in_a_sentence(verifier: MathVerifier, name: str) -> None:
    cases = [(row, form) for row in rows_of(name) for form in verifier.gold_forms(row["answer"])]
    verdicts = verifier.grade([form for _, form in cases], [row["answer"] for row, _ in cases])
    refused = {row["id"] for (row, _), verdict in zip(cases, verdicts, strict=True) if verdict.score != 1.0}
    assert refused <= NOT_IN_EVERY_FORM


@files
def test_another_spelling_of_the_gold_answer_is_right(verifier: MathVerifier, name: str) -> None:
    cases = [(row, *other) for row in rows_of(name) for other in other_spellings(row["answer"]).items()]
    assert len(cases) > 0.5 * len(rows_of(name))
    scores = verifier.score([boxed(text) for _, _, text in cases], [row["answer"] for row, _, _ in cases])
    assert [(row["id"], kind, text) for (row, kind, text), s in zip(cases, scores, strict=True) if s != 1.0] == []


@files
def test_a_mistake_in_the_gold_answer_is_wrong(verifier: MathVerifier, name: str) -> None:
    cases = [(row, *wrong) for row in rows_of(name) for wrong in wrong_answers(row["answer"]).items()]
    assert len(cases) > 1.5 * len(rows_of(name))
    scores = verifier.score([boxed(text) for _, _, text in cases], [row["answer"] for row, _, _ in cases])
    not_refused = {(row["id"], kind) for (row, kind, _), score in zip(cases, scores, strict=True) if score != 0.0}
    ids = {row["id"] for row, _, _ in cases}
    expected = {key for key in NOT_WRONG if key[0] in ids}
    expected |= {(row["id"], kind) for row, kind, _ in cases if row["id"] in UNREADABLE}
    assert not_refused == expected


@files
def test_gold_answers_are_read_by_algebra_too(verifier: MathVerifier, name: str) -> None:
    """Equal text needs no algebra, so gold against gold proves little; 271828 is nobody's answer, and makes it read."""
    rows = rows_of(name)
    grades = verifier.grade([boxed("271828")] * len(rows), [row["answer"] for row in rows])
    unread = {row["id"] for row, grade in zip(rows, grades, strict=True) if grade.score is None}
    assert unread == set(UNREADABLE) & {row["id"] for row in rows}
    assert {grade.score for grade in grades} <= {0.0, None}


@files
def test_reference_solutions_are_right(verifier: MathVerifier, name: str) -> None:
    """As whole completions: the answer has to be found first."""
    rows = [row for row in rows_of(name) if "boxed" in row.get("solution", "") or "####" in row.get("solution", "")]
    if name in {"aime25", "amc22", "amc23", "dapo_math_17k", "olympiadbench"}:
        assert rows == []  # they have no solutions, or none that marks its answer
        return
    assert len(rows) > 20
    scores = verifier.score([row["solution"] for row in rows], [row["answer"] for row in rows])
    unsolved = {row["id"] for row, score in zip(rows, scores, strict=True) if score != 1.0}
    assert unsolved == set(UNSOLVED) & {row["id"] for row in rows}


def test_the_exceptions_are_rows_of_the_data() -> None:
    ids = {row["id"] for name in FILES for row in rows_of(name)}
    assert ids >= {*UNREADABLE, *UNSOLVED, *(row for row, _ in NOT_WRONG)}
