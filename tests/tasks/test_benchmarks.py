"""The sets of problems: columns of each on the Hub, files in a folder, and that each proves itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from relax_rl.errors import DataError
from relax_rl.tasks import build_task, validate_task
from relax_rl.tasks.benchmarks import BENCHMARKS, EVALUATION_SETS, benchmark

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="there is no ../shared/data")

# A row of each dataset on the Hub, in its own columns: (dataset, configuration, split) -> row, then what we make of it.
HUB = {
    ("gsm8k", "train"): (("openai/gsm8k", "main", "train"), {"question": "q", "answer": "so\n#### 1,024"}, "1024"),
    ("math", "train"): (
        ("nlile/hendrycks-MATH-benchmark", None, "train"),
        {"problem": "q", "solution": "s", "answer": "\\pi", "subject": "Algebra", "level": 4, "unique_id": "u"},
        "\\pi",
    ),
    ("math500", "test"): (
        ("HuggingFaceH4/MATH-500", None, "test"),
        {"problem": "q", "solution": "s", "answer": "2", "subject": "Algebra", "level": 2, "unique_id": "u"},
        "2",
    ),
    ("minerva", "test"): (("math-ai/minervamath", None, "test"), {"question": "q", "answer": "4.5e33"}, "4.5e33"),
    ("amc22", "test"): (
        ("AI-MO/aimo-validation-amc", None, "train"),
        {"id": 0, "problem": "q", "answer": 142.0, "url": "https://example.org/index.php/2022_AMC_12A_Problems"},
        "142",
    ),
    ("amc23", "test"): (
        ("AI-MO/aimo-validation-amc", None, "train"),
        {"id": 50, "problem": "q", "answer": 27.0, "url": "https://example.org/index.php/2023_AMC_12A_Problems"},
        "27",
    ),
    ("aime24", "test"): (
        ("HuggingFaceH4/aime_2024", None, "train"),
        {"id": 60, "problem": "q", "solution": "s", "answer": "204", "url": "u", "year": "2024"},
        "204",
    ),
    ("aime25", "test"): (("math-ai/aime25", None, "test"), {"problem": "q", "answer": "70", "id": "0"}, "70"),
    ("olympiadbench", "test"): (
        ("math-ai/olympiadbench", None, "test"),
        {"id": 1606, "question": "q", "solution": ["s"], "final_answer": ["$2$"], "subfield": "Algebra"},
        "$2$",
    ),
    ("dapo_math_17k", "train"): (
        ("open-r1/DAPO-Math-17k-Processed", "all", "train"),
        {"prompt": "q", "solution": "34", "data_source": "math_dapo", "extra_info": {"index": "x"}},
        "34",
    ),
}


@pytest.mark.parametrize(("name", "split"), HUB)
def test_the_columns_on_the_hub(name: str, split: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    place, row, answer = HUB[name, split]

    def load(dataset: str, config: str | None, split: str) -> Any:
        assert (dataset, config, split) == place
        return datasets.Dataset.from_list([row])

    monkeypatch.setattr(datasets, "load_dataset", load)
    (problem,) = benchmark(name).problems(split)
    assert (problem.question, problem.answer) == ("q", answer)
    assert set(BENCHMARKS) == {known for known, _ in HUB}


def test_the_two_years_of_amc_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    rows = [HUB[name, "test"][1] for name in ("amc22", "amc23")]
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: datasets.Dataset.from_list(rows))
    assert [[p.answer for p in benchmark(name).problems("test")] for name in ("amc22", "amc23")] == [["142"], ["27"]]


@needs_data
@pytest.mark.parametrize("name", BENCHMARKS)
@pytest.mark.slow
def test_the_same_from_a_folder(name: str) -> None:
    task = benchmark(name, DATA)
    for split, size in BENCHMARKS[name].sizes.items():
        problems = task.problems(split)
        assert len(problems) == size
        assert len({problem.id for problem in problems}) == size
        assert all(problem.system and "\\boxed{}" in problem.system for problem in problems)


@needs_data
@pytest.mark.slow
def test_math_by_level() -> None:
    counts = [len(benchmark("math", DATA, levels=(level,)).problems("train")) for level in range(1, 6)]
    assert sum(counts) == 11998  # two rows have no level
    assert len(benchmark("math", DATA, levels=(3, 4, 5)).problems("train")) == sum(counts[2:]) == 8888
    assert len(build_task("math", data_dir=DATA, levels="4-5").problems("test")) == 128 + 134


@needs_data
@pytest.mark.parametrize("name", ["amc22", "amc23", "aime24", "aime25"])
def test_small_sets_prove_themselves_on_every_row(name: str) -> None:
    report = validate_task(build_task(name, data_dir=DATA), "test")
    assert report.ok, report.failures
    assert report.without_solution == ()


# Golds that only their own spelling can match: another answer beside them is not scored, rather than wrong.
UNREADABLE = {"olympiadbench-1965", "olympiadbench-2045"}
STRAY_DOLLAR = {"olympiadbench-2349"}
"""``$221,$8$`` is right in a box; in a sentence its second dollar sign ends the formula."""


@needs_data
@pytest.mark.slow
@pytest.mark.parametrize("name", ["gsm8k", *EVALUATION_SETS])
def test_evaluation_sets_prove_themselves_on_every_row(name: str) -> None:
    task = build_task(name, data_dir=DATA)
    report = validate_task(task, "test")
    assert report.failures.keys() <= UNREADABLE | STRAY_DOLLAR, report.failures
    assert report.unsolved == report.without_solution == ()
    for problem in task.problems("test"):
        if problem.id in UNREADABLE:
            assert task.verifier.score([problem.mistake or ""], [problem.answer]) == [None]


def test_a_split_or_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="'aime24' has no split 'train'; it has test"):
        build_task("aime24", data_dir=tmp_path).problems("train")
    with pytest.raises(DataError, match=r"aime24.jsonl' cannot be read: No such file"):
        build_task("aime24", data_dir=tmp_path).problems("test")
