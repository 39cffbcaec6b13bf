"""Math tasks: from files and the Hub, with clear words for every broken file."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from relax_rl.errors import ConfigError, DataError
from relax_rl.tasks import MathTask, Task, validate_task
from relax_rl.tasks.benchmarks import parse_levels

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"


@pytest.fixture
def write(tmp_path: Path):
    def write(*rows: object, name: str = "problems.jsonl") -> Path:
        path = tmp_path / name
        path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
        return path

    return write


def sums(count: int) -> list[dict]:
    return [{"problem": f"What is {n} + 1?", "answer": n + 1} for n in range(count)]


def test_a_row_becomes_a_problem_for_both_kinds_of_model(write) -> None:
    task = MathTask(path=write({"question": " What is 1 + 1? ", "answer": 2, "solution": "It is two."}))
    assert isinstance(task, Task)
    (problem,) = task.problems("all")
    assert problem.answer == "2"
    assert problem.messages == [
        {"role": "system", "content": "Please reason step by step, and put your final answer within \\boxed{}."},
        {"role": "user", "content": "What is 1 + 1?"},
    ]
    assert "What is 1 + 1?" in problem.prompt
    assert "\\boxed{}" in problem.prompt
    assert problem.prompt.endswith("Solution:")
    assert problem.solution == "It is two.\n\n\\boxed{2}"
    assert task.verifier.score([problem.solution], [problem.answer]) == [1.0]


def test_columns_prompt_and_system_are_the_users(write) -> None:
    path = write({"q": "1+1", "gold": "2", "proof": "thus \\boxed{2}", "id": "sum-1"})
    task = MathTask(
        path=path,
        problem_column="q",
        answer_column="gold",
        solution_column="proof",
        system=None,
        prompt="Q: {problem} A:",
    )
    (problem,) = task.problems("all")
    assert (problem.id, problem.prompt, problem.solution) == ("sum-1", "Q: 1+1 A:", "thus \\boxed{2}")
    assert [message["role"] for message in problem.messages] == ["user"]


def test_whole_floats_and_lists_of_texts_are_answers(write) -> None:
    rows = [
        {"problem": "a", "answer": 142.0},
        {"problem": "b", "answer": 1.5},
        {"problem": "c", "answer": ["$1$", "2"]},
    ]
    assert [p.answer for p in MathTask(path=write(*rows)).problems("all")] == ["142", "1.5", "$1$, 2"]


def test_levels_in_both_spellings(write) -> None:
    rows = [
        {"problem": f"p{i}", "answer": i, "level": level} for i, level in enumerate([3, "Level 5", "Level ?", 1, None])
    ]
    assert [p.answer for p in MathTask(path=write(*rows), levels=(3, 5)).problems("all")] == ["0", "1"]
    with pytest.raises(DataError, match="has no problem of the levels 2, 4 in the split 'all'"):
        MathTask(path=write(*rows), levels=(2, 4)).problems("all")


@pytest.mark.parametrize("levels", [0, 6, "5-3", "high", [], [3, "4"]])
def test_levels_that_do_not_exist(levels) -> None:
    with pytest.raises(ConfigError, match="levels of MATH are 1 to 5"):
        parse_levels(levels)


def test_levels_as_number_range_and_list() -> None:
    assert (parse_levels(3), parse_levels("3-5"), parse_levels([1, 2]), parse_levels(None)) == (
        (3,),
        (3, 4, 5),
        (1, 2),
        None,
    )


@pytest.mark.parametrize(
    ("answer", "mistake"),
    [("12", "13"), ("9", "0"), ("\\frac{1}{2}", "\\frac{1}{3}"), ("x^2+y", "x^3+y"), ("east", None)],
)
def test_every_problem_knows_a_mistake_of_the_same_form(write, answer: str, mistake: str | None) -> None:
    (problem,) = MathTask(path=write({"problem": "?", "answer": answer})).problems("all")
    assert problem.mistake == f"\\boxed{{{mistake or '-98765.4321'}}}"


def test_an_answer_after_a_mark(write) -> None:
    row = {"question": "Clips?", "answer": "500+734 = 1234 clips\n#### 1,234"}
    (problem,) = MathTask(path=write(row), answer_after="####").problems("all")
    assert (problem.answer, problem.solution) == ("1234", row["answer"])
    with pytest.raises(DataError, match=r"no '####' in the column 'answer' of line 1 of"):
        MathTask(path=write({"question": "Clips?", "answer": "1234"}), answer_after="####").problems("all")


def test_one_file_is_divided_by_the_text_of_its_problems(write) -> None:
    """Shares, disjointness with repeated problems, and independence from a problem's place in the file."""
    rows = sums(2000)
    task = MathTask(path=write(*rows, *rows[:300]), test_share=0.2)
    parts = {split: {problem.question for problem in task.problems(split)} for split in ("train", "test", "all")}
    assert parts["train"].isdisjoint(parts["test"])
    assert parts["train"] | parts["test"] == parts["all"]
    assert 340 <= len(parts["test"]) <= 460  # 400 expected, standard deviation 18
    reordered = MathTask(path=write(*reversed(rows)), test_share=0.2)
    assert {problem.question for problem in reordered.problems("test")} == parts["test"]
    assert len(MathTask(path=write(*rows), test_share=0).problems("train")) == 2000
    assert len(MathTask(path=write(*rows), test_share=1).problems("test")) == 2000


def test_files_by_split(write) -> None:
    task = MathTask(path={"train": write(*sums(5)), "test": write(*sums(3), name="test.jsonl")})
    assert (len(task.problems("train")), len(task.problems("test"))) == (5, 3)
    with pytest.raises(DataError, match="no split 'dev'; it has train, test"):
        task.problems("dev")


def test_count_and_order(write) -> None:
    task = MathTask(path=write(*sums(50)))
    every = task.problems("all")
    assert [problem.answer for problem in every] == [str(n + 1) for n in range(50)]
    assert task.problems("all", 7) == every[:7]
    shuffled = task.problems("all", seed=1)
    assert shuffled != every
    assert sorted(problem.id for problem in shuffled) == sorted(problem.id for problem in every)
    assert task.problems("all", 7, seed=1) == shuffled[:7]
    assert task.problems("all", seed=2) != shuffled
    with pytest.raises(DataError, match="has 50 problems in 'all'; 51 were asked for"):
        task.problems("all", 51)


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (["{"], r"Line 1 of '.*problems.jsonl' is not JSON"),
        ([json.dumps(sums(1)[0]), "", "not json"], r"Line 3 of .* is not JSON"),
        (["[1, 2]"], "is a JSON list; it must be an object"),
        (["[" * 100_000], "is not JSON"),
        ([{"text": "1+1", "answer": "2"}], r"no column 'problem' in line 1 of .*; it has text, answer"),
        ([{"problem": "1+1", "solution": "2"}], r"no column 'answer' in line 1 of .*; it has problem, solution"),
        (
            [{"problem": "1+1", "answer": None}],
            r"column 'answer' in line 1 of .* cannot be read: the gold answer is None",
        ),
        ([{"problem": "1+1", "answer": []}], "cannot be read: the gold answer is an empty list"),
        ([{"problem": "1+1", "answer": {"value": 2}}], "the keys value; give one of its values"),
        ([{"problem": " ", "answer": "2"}], "column 'problem' in line 1 of .* is empty"),
        ([], "has no problem in the split 'all'"),
    ],
)
def test_a_broken_file_is_one_clear_sentence(write, lines: list, words: str) -> None:
    with pytest.raises(DataError, match=words) as caught:
        MathTask(path=write(*lines)).problems("all")
    assert "\n" not in str(caught.value)


def test_a_gold_answer_may_be_a_list_or_a_truth_value(write) -> None:
    task = MathTask(path=write({"problem": "roots", "answer": [2, 3.0]}, {"problem": "is it?", "answer": True}))
    assert [problem.answer for problem in task.problems("all")] == ["2, 3", "True"]


def test_a_file_that_is_not_there_or_not_text(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere.jsonl' cannot be read: No such file"):
        MathTask(path=tmp_path / "nowhere.jsonl").problems("train")
    with pytest.raises(DataError, match="cannot be read: Is a directory"):
        MathTask(path=tmp_path).problems("train")
    (tmp_path / "binary.jsonl").write_bytes(b"\x80\x81\n")
    with pytest.raises(DataError, match="is not UTF-8 text"):
        MathTask(path=tmp_path / "binary.jsonl").problems("train")


def test_an_unknown_split_of_one_file(write) -> None:
    with pytest.raises(DataError, match="train, test and all; there is no 'dev'"):
        MathTask(path=write(*sums(3))).problems("dev")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "either path="),
        ({"path": "a", "hub": "b"}, "either path="),
        ({"path": "a", "test_share": 1.5}, "test_share is 1.5"),
        ({"path": "a", "prompt": "Solve."}, "no '{problem}'"),
    ],
)
def test_settings_that_do_not_fit(options: dict, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        MathTask(**options)


def test_the_hub_without_a_network_is_a_clear_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """In a process of its own: the libraries read the variable when they are imported."""
    program = (
        "from relax_rl.tasks import MathTask\nfrom relax_rl.errors import DataError\n"
        "try: MathTask(hub='nobody/nothing').problems('train')\nexcept DataError as error: print(error)"
    )
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert "dataset 'nobody/nothing' cannot be read from the Hugging Face Hub (HF_HUB_OFFLINE is set)" in run.stdout


def test_a_hub_dataset_is_read_row_by_row(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    def load(name: str, config: str | None, split: str):
        assert (name, config) == ("openai/gsm8k", "main")
        return datasets.Dataset.from_list([{"question": f"{split}?", "answer": "1+1\n#### 2"}])

    monkeypatch.setattr(datasets, "load_dataset", load)
    task = MathTask(hub="openai/gsm8k", hub_config="main", answer_after="####")
    (problem,) = task.problems("test")
    assert (problem.question, problem.answer) == ("test?", "2")
    with pytest.raises(DataError, match="no column 'gold' in row 0 of 'openai/gsm8k'; it has question, answer"):
        MathTask(hub="openai/gsm8k", hub_config="main", answer_column="gold").problems("test")


def test_the_task_proves_itself_on_gsm8k() -> None:
    path = DATA / "gsm8k_train.jsonl"
    if not path.is_file():
        pytest.skip(f"{path.name} is not in ../shared/data")
    report = validate_task(MathTask(path=path, name="gsm8k"), "all", 300)
    assert report.ok
    assert report.checked == 300
    assert report.without_solution == ()
