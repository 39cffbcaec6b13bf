"""The user's own data, by the command line and in Python: published layouts, and what is wrong with them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from relax_rl.cli.main import main
from relax_rl.errors import ConfigError, DataError
from relax_rl.tasks import DataTask, MathTask, Problem, build_task
from relax_rl.tasks.layout import PROMPTS
from support.comparisons import SMALL

COUNT = 40


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def verl() -> list[dict[str, Any]]:
    """Rows as verl's preparation of GSM8K writes them."""
    return [
        {
            "data_source": "openai/gsm8k",
            "prompt": [{"role": "user", "content": f"What is {n}+1? Put the answer after '####'."}],
            "ability": "math",
            "reward_model": {"style": "rule", "ground_truth": str(n + 1)},
            "extra_info": {"split": "train", "index": n, "answer": f"So.\n#### {n + 1}", "question": f"{n}+1"},
        }
        for n in range(COUNT)
    ]


def talks() -> list[dict[str, Any]]:
    """TRL's conversational prompts with a solution."""
    start = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hello."},
        {"role": "assistant", "content": "What may I add?"},
    ]
    return [
        {"prompt": [*start, {"role": "user", "content": f"{n}+1"}], "solution": str(n + 1), "level": n % 3}
        for n in range(COUNT)
    ]


def plain() -> list[dict[str, Any]]:
    return [{"prompt": f"{n}+1=", "ground_truth": n + 1} for n in range(COUNT)]


def as_csv(rows: list[dict[str, Any]], separator: str = ",") -> str:
    lines = [separator.join(rows[0])]
    lines += [
        separator.join(f'"{value}"' if separator in str(value) else str(value) for value in row.values())
        for row in rows
    ]
    return "\n".join(lines) + "\n"


def write_parquet(rows: list[dict[str, Any]], path: str) -> str:
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


def write_lines(rows: list[Any], path: str) -> str:
    Path(path).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def write_text(text: str, path: str) -> str:
    Path(path).write_text(text)
    return path


def save(rows: list[dict[str, Any]], path: str) -> str:
    import datasets

    datasets.Dataset.from_list(rows).save_to_disk(path)
    return path


LAYOUTS: dict[str, tuple[Callable[[], str], str]] = {
    "verl": (lambda: write_parquet(verl(), "v.parquet"), "'prompt', the gold answer from 'reward_model.ground_truth'"),
    "parquet by another name": (
        lambda: write_parquet(plain(), "v.data"),
        "'prompt', the gold answer from 'ground_truth'",
    ),
    "trl": (lambda: write_lines(talks(), "t.jsonl"), "'prompt', the gold answer from 'solution'"),
    "array": (lambda: write_text(json.dumps(plain()), "t.json"), "'prompt', the gold answer from 'ground_truth'"),
    "csv": (lambda: write_text(as_csv(plain()), "t.csv"), "'prompt', the gold answer from 'ground_truth'"),
    "semicolons": (lambda: write_text("\ufeff" + as_csv(plain(), ";"), "t.csv"), "gold answer from 'ground_truth'"),
    "tsv": (lambda: write_text(as_csv(plain(), "\t"), "t.tsv"), "'prompt', the gold answer from 'ground_truth'"),
    "saved": (lambda: save(talks(), "saved"), "'prompt', the gold answer from 'solution'"),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_published_layout_is_read_and_its_columns_are_said(layout: str, capsys: pytest.CaptureFixture[str]) -> None:
    make, said = LAYOUTS[layout]
    assert main(["tasks", "validate", "data", "--task.path", make(), "--split", "all"]) == 0
    out = capsys.readouterr().out
    assert f"{COUNT} problems, {COUNT} gold solutions score 1" in out
    assert f"columns guessed: the prompt from {said}" in out or said in out


def test_turns_and_system_messages_are_kept_and_columns_handed_on() -> None:
    task = build_task("data", path=write_lines(talks(), "t.jsonl"), system="Never mind.")
    problem = task.problems("all")[2]
    assert problem.messages == talks()[2]["prompt"]
    assert problem.prompt == "Be brief.\n\nUser: Hello.\n\nAssistant: What may I add?\n\nUser: 2+1\n\nAssistant:"
    assert problem.columns == {"solution": "3", "level": 2}
    (first, *_) = build_task("data", path=write_parquet(verl(), "v.parquet"), system="Think.").problems("all")
    assert first.system == "Think."
    assert first.columns == {key: value for key, value in verl()[0].items() if key != "prompt"}
    (named, *_) = build_task("data", path="v.parquet", columns="ability, data_source").problems("all")
    assert named.columns == {"ability": "math", "data_source": "openai/gsm8k"}
    assert build_task("math", path="v.parquet").problems("all")[0].columns == {}


@pytest.mark.parametrize("form", ["train", "folder", "saved", "pattern"])
def test_files_folders_and_saved_sets_have_their_own_splits(form: str) -> None:
    import datasets

    Path("set/data").mkdir(parents=True)
    write_parquet(verl()[:30], "set/data/train-00000-of-00002.parquet")
    write_parquet(verl()[30:], "set/data/train-00001-of-00002.parquet")
    write_lines(plain()[:5], "set/test.jsonl")
    saved: Any = {"train": datasets.Dataset.from_list(verl()), "test": datasets.Dataset.from_list(plain()[:5])}
    datasets.DatasetDict(saved).save_to_disk("saved")
    paths: dict[str, Any] = {
        "train": {"train": "set/data/train-00000-of-00002.parquet", "test": "set/test.jsonl"},
        "folder": "set",
        "saved": "saved",
        "pattern": {"train": "set/data/train-*.parquet", "test": "set/test.jsonl"},
    }
    task = build_task("data", path=paths[form])
    assert len(task.problems("train")) == (30 if form == "train" else COUNT)
    assert len(task.problems("test")) == 5
    with pytest.raises(DataError, match="has no split 'dev'; it has "):
        task.problems("dev")


def test_one_table_is_divided_so_that_no_question_is_on_both_sides() -> None:
    rows = [{"prompt": f"What is {n} + 1?", "answer": n + 1} for n in range(300)]
    rows += [{"prompt": f"what is ${n}+1$", "answer": n + 1} for n in range(300)]
    task = build_task("data", path=write_lines(rows, "t.jsonl"), test_share=0.3)
    train, test = task.problems("train"), task.problems("test")
    assert len(train) + len(test) == 600
    assert {problem.answer for problem in train}.isdisjoint(problem.answer for problem in test)
    assert 120 <= len(test) <= 240


def test_a_dataset_of_the_hub_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    asked = []

    def load(name: str, config: str | None, split: str) -> Any:
        asked.append((name, config, split))
        return datasets.Dataset.from_list(plain())

    monkeypatch.setattr(datasets, "load_dataset", load)
    assert len(build_task("data", path="somebody/sums").problems("test")) == COUNT
    build_task("data", hub="somebody/sums", hub_config="easy", hub_splits={"test": "train[:9]"}).problems("test")
    assert asked == [("somebody/sums", None, "test"), ("somebody/sums", "easy", "train[:9]")]


def test_the_hub_cannot_be_reached_or_the_path_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    def load(*_: object, **__: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr(datasets, "load_dataset", load)
    with pytest.raises(DataError, match=r"no file or folder 'somebody/sums' here, and the split 'train' .* no network"):
        build_task("data", path="somebody/sums").problems("train")


def only(*rows: dict[str, Any], **options: Any) -> Problem:
    return DataTask(path=write_lines(list(rows), "rows.jsonl"), **options).problems("all")[0]


def test_golds_are_found_by_name_by_option_and_inside_columns() -> None:
    assert only({"question": "a", "answer": "so\n#### 1,234"}).answer == "1234"
    assert only({"problem": "a", "solution": "x = \\boxed{7}"}).answer == "x = \\boxed{7}"
    assert only({"problem": "a", "solution": "the way", "answer": 7}).answer == "7"
    assert only({"q": "a", "meta": {"gold": 3}}, prompt_column="q", answer_column="meta.gold").answer == "3"
    free = only({"prompt": "Write a poem."}, answer_column="")
    assert (free.answer, free.solution, free.mistake) == ("", None, None)


@pytest.mark.parametrize(
    ("gold", "answer"),
    [
        (["1", "2"], "1, 2"),
        ([1, 2.5, "\\boxed{x}"], "1, 2.5, x"),
        (True, "True"),
        (2.0, "2"),
        (" 3 ", "3"),
        (10**20, "100000000000000000000"),
        ("\\boxed{7}", "\\boxed{7}"),
    ],
)
def test_golds_of_other_types_are_read_as_golds(gold: Any, answer: str) -> None:
    assert only({"problem": "a", "answer": gold}).answer == answer


def test_a_gold_that_is_a_mapping_is_refused_with_the_column_that_would_do() -> None:
    row = {"problem": "a", "answer": {"value": 7, "unit": "cm"}}
    with pytest.raises(DataError, match=r"'answer' in .*row.* a mapping with the keys value, unit; .*answer\.value\)"):
        only(row)
    assert only(row, answer_column="answer.value").answer == "7"
    with pytest.raises(DataError, match=r"'answer' in .* cannot be read: the gold answer is empty\."):
        only({"problem": "a", "answer": ["1", " "]})


@pytest.mark.parametrize(
    ("row", "options", "answer"),
    [
        ({"choices": ["Rome", "Paris"], "answer": "B"}, {}, "B"),
        ({"choices": {"text": ["Rome", "Paris"], "label": ["1", "2"]}, "answerKey": "2"}, {}, "B"),
        ({"options": {"A": "Rome", "B": "Paris"}, "answer": "B"}, {}, "B"),
        ({"options": '["Rome", "Paris"]', "answer": "Paris"}, {}, "Paris"),
        ({"choices": ["Rome", "Paris"], "answer": 1}, {"first_option": 0}, "B"),
        ({"choices": ["Rome", "Paris"], "answer": 2}, {"first_option": 1}, "B"),
        ({"choices": ["1", "2"], "answer": 2}, {}, "2"),
    ],
)
def test_the_options_of_a_question(row: dict[str, Any], options: dict[str, Any], answer: str) -> None:
    problem = only({"question": "Capital?"} | row, **options)
    texts = ("1", "2") if row.get("choices") == ["1", "2"] else ("Rome", "Paris")
    assert (problem.options, problem.answer) == (texts, answer)
    assert problem.question == f"Capital?\n(A) {texts[0]}\n(B) {texts[1]}"
    shown = "Which? (A) Rome (B) Paris"
    if texts[0] == "Rome":
        assert only(row | {"question": shown}, **options).question == shown


@pytest.mark.parametrize(
    ("text", "name", "words"),
    [
        ('[{"prompt": "a", "answer": "1"}, 3]', "t.json", "Element 2 of 't.json' is a JSON int"),
        ('[{"prompt": "a", "answer": "1"}', "t.json", "The file 't.json' is not JSON"),
        ('prompt,answer\n"a,1\n', "t.csv", "The file 't.csv' is not CSV"),
        ("prompt,answer\na,1,2\n", "t.csv", "Line 2 of 't.csv' has 3 fields, but the header has 2"),
        ("prompt,prompt\na,1\n", "t.csv", "The header of 't.csv' has two columns 'prompt'"),
        ("PAR1nonsense", "t.bin", "The file 't.bin' cannot be read as parquet"),
        ("nonsense", "t.parquet", "The file 't.parquet' cannot be read as parquet"),
        ('{"prompt": [], "answer": 1}\n', "t.jsonl", "The column 'prompt' in line 1 of 't.jsonl' holds"),
        (
            '{"prompt": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}], "answer": 1}\n',
            "t.jsonl",
            "'prompt' of line 1 of 't.jsonl' ends with the turn of 'assistant'",
        ),
        (
            '{"prompt": [{"role": "tool", "content": "a"}], "answer": 1}\n',
            "t.jsonl",
            "The column 'prompt' in line 1 of 't.jsonl' has a turn of 'tool'",
        ),
        (
            '{"prompt": [{"role": "user", "content": [{"type": "image"}]}], "answer": 1}\n',
            "t.jsonl",
            "'prompt' in line 1 of 't.jsonl' shows more than text",
        ),
        ('{"words": "a", "answer": 1}\n', "t.jsonl", "no column 'prompt' in line 1 of 't.jsonl'; it has words, answer"),
        ('{"prompt": "a", "right": 1}\n', "t.jsonl", "no column 'answer' in line 1 of 't.jsonl'; it has prompt, right"),
        ('{"prompt": "a", "choices": ["x", "y"], "answer": 1}\n', "t.jsonl", "holds 1, which is no option"),
        ('{"prompt": "a", "choices": "x", "answer": 1}\n', "t.jsonl", "options are a list of 2 to 26 texts"),
        ('{"prompt": "a", "answer": {"b": 1}}\n', "t.jsonl", "The column 'answer' in line 1 of 't.jsonl'"),
    ],
)
def test_what_cannot_be_read_is_one_sentence(
    text: str, name: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["tasks", "validate", "data", "--task.path", write_text(text, name), "--split", "all"]) == 2
    told = capsys.readouterr().err
    assert words in told
    assert told.count("\n") == 1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "needs either path="),
        ({"path": "a", "drop": "twins"}, "drop names 'twins'; choose among duplicates, contradictions, too_long"),
        ({"path": "a", "verifier": "mathe"}, "no verifier 'mathe'"),
        ({"path": "a", "prompt_colum": "b"}, "did you mean 'prompt_column'"),
    ],
)
def test_options_that_do_not_fit(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        build_task("data", **options)


MESSY = [
    *({"prompt": f"What is {n} + 1?", "answer": n + 1} for n in range(6)),
    {"prompt": "What is 3 + 1?", "answer": 4},
    {"prompt": "what is $3+1$", "answer": "4.0"},
    {"prompt": "What is 5 + 1?", "answer": 7},
    {"prompt": "What is half of 1?", "answer": "1/2"},
    {"prompt": "What is half of 1 ?", "answer": "0.5"},
    {"prompt": "Nothing?", "answer": ""},
    {"prompt": "None?", "answer": None},
    {"prompt": "long " * 50, "answer": 1},
]


def test_repeats_contradictions_empty_golds_and_long_prompts_are_counted_and_said(
    capsys: pytest.CaptureFixture[str],
) -> None:
    write_lines(MESSY, "t.jsonl")
    words = ["--task.path", "t.jsonl", "--split", "all", "--task.max_prompt_characters", "200"]
    assert main(["tasks", "validate", "data", *words]) == 0
    out = capsys.readouterr().out
    assert "2 rows without a gold answer left out, such as line 12 of 't.jsonl'" in out
    assert "3 of 12 problems repeat an earlier question: 1 word for word, 2 but for its look (--task.drop dup" in out
    assert "2 of 12 problems ask a question that occurs with contradicting gold answers, such as data-row-5" in out
    assert "1 of 12 problems have a prompt of more than 200 characters" in out
    words += ["--task.drop", "duplicates,contradictions,too_long"]
    assert main(["tasks", "validate", "data", *words]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    assert "6 problems, 6 gold solutions score 1" in captured.out
    assert captured.out.count("left out") == 4


def test_prompts_that_leave_a_model_no_room_are_left_out_if_asked_for(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    from relax_rl.evaluation.runner import Evaluation

    rows = [{"prompt": f"11 {n} 3>14:", "answer": 1} for n in range(8)] + [{"prompt": "1 2 3 " * 200, "answer": 1}]
    words = ["--task", "data", "--task.path", write_lines(rows, "t.jsonl")]
    plain = ["--objective", "grpo", "--monitor", "false", "--evaluation.enabled", "false", "--dry-run"]
    training = ["train", *SMALL, *words, "--train-split", "all", *plain]
    drop = ["--task.drop", "too_long"]
    assert main(training) == 2
    assert "(1 of 9 prompts are too long)" in capsys.readouterr().err
    assert main([*training, *drop]) == 0
    assert "problems  8 in split 'all'" in capsys.readouterr().out
    assert "1 of the problems left out, whose prompt leaves the model no room" in caplog.text
    asked = list[Evaluation]()
    monkeypatch.setattr(Evaluation, "run", lambda self, folder, **_: asked.append(self) or 1 / 0)
    with pytest.raises(ZeroDivisionError):
        main(["eval", "tiny", *words, *drop, "--split", "all", "--max-completion-length", "64"])
    assert len(asked[0].task.problems("all")) == 8


def test_what_was_found_is_said_once_on_loading(caplog: pytest.LogCaptureFixture) -> None:
    task = build_task("data", path=write_lines(MESSY, "t.jsonl"))
    assert len(task.problems("all")) == 12
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 4
    assert said[0] == "The file 't.jsonl': columns guessed: the prompt from 'prompt', the gold answer from 'answer'."
    task.problems("all", seed=3)
    assert len(caplog.records) == 4
    caplog.clear()
    assert MathTask(path=write_lines([{"problem": "a", "answer": 1}] * 2, "m.jsonl")).problems("all")
    assert caplog.records == []


def test_a_question_in_two_splits_is_counted(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """Forty copies of a question, on both sides: validate says so, and so does whoever loads both splits."""
    rows = [{"problem": f"{n}?", "answer": n} for n in range(5)]
    write_lines([*rows, *[{"problem": "copied", "answer": 1}] * 20], "train.jsonl")
    write_lines([{"problem": "Copied!", "answer": 1}] * 20, "test.jsonl")
    words = ["--task.path.train", "train.jsonl", "--task.path.test", "test.jsonl"]
    for task in ("math", "data"):
        assert main(["tasks", "validate", task, *words]) == 0
        out = capsys.readouterr().out
        assert "19 of 20 problems repeat an earlier question: 19 word for word" in out
        assert "20 of the questions in the split 'test' are in 'train', too" in out
    caplog.clear()
    both = build_task("data", path={"train": "train.jsonl", "test": "test.jsonl"})
    both.problems("train")
    both.problems("test")
    assert any("20 of the questions in the split 'test' are in 'train', too" in r.getMessage() for r in caplog.records)


def test_ids_that_are_not_unique_give_way_to_the_numbers_of_rows(caplog: pytest.LogCaptureFixture) -> None:
    rows = [{"id": "a", "prompt": str(n), "answer": n} for n in range(3)]
    task = build_task("data", path=write_lines(rows, "t.jsonl"))
    assert [problem.id for problem in task.problems("all")] == ["data-row-0", "data-row-1", "data-row-2"]
    assert "ids in 'id' are not unique" in caplog.text


def test_math_reads_the_same_files_in_its_own_words(caplog: pytest.LogCaptureFixture) -> None:
    task = build_task("math", path=write_parquet(verl(), "v.parquet"))
    problem = task.problems("all")[0]
    assert problem.system is not None
    assert "\\boxed{}" in problem.system
    assert problem.answer == "1"
    assert "the gold answer from 'reward_model.ground_truth'" in caplog.text
    assert (
        build_task("math", path=write_lines(talks(), "t.jsonl"), answer_column="solution").problems("all")[3].answer
        == "4"
    )


def test_another_verifier_grades_the_users_data() -> None:
    path = write_lines([{"prompt": "Capital?", "answer": "Paris"}], "t.jsonl")
    task = build_task("data", path=path, verifier={"name": "exact", "case_sensitive": True})
    assert task.verifier.score(["<answer>Paris</answer>", "<answer>paris</answer>"], ["Paris"] * 2) == [1.0, 0.0]
    assert "prompt" in PROMPTS
