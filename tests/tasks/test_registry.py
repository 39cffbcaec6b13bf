"""From names to tasks, and the nearest name for a slip."""

from __future__ import annotations

from pathlib import Path

import pytest

from relax_rl.errors import ConfigError
from relax_rl.tasks import CountdownTask, MathTask, Task, build_task, task_names, validate_task

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"

OWN = """
from relax_rl.tasks import Problem

class Exact:
    name = "exact"
    def score(self, completions, answers): return [float(c == a) for c, a in zip(completions, answers, strict=True)]

class Echo:
    name = "echo"
    verifier = Exact()
    def __init__(self, word, times=2): self.word, self.times = word, times
    def problems(self, split, count=None, seed=0):
        text = self.word * self.times
        return [Problem(id="0", prompt=text, answer=text, solution=text)][:count]

class Empty:
    pass
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_tasks.py").write_text(OWN)
    monkeypatch.syspath_prepend(str(tmp_path))


def test_names() -> None:
    assert set(task_names()) == {"countdown", "math", "gsm8k", "math500"}
    assert build_task("countdown", max_target=30) == CountdownTask(max_target=30)
    assert build_task("math", path="a.jsonl") == MathTask(path="a.jsonl")
    for name in ("gsm8k", "math500"):
        assert isinstance(build_task(name), Task)
        assert build_task(name).name == name


def test_hub_names_are_those_people_use() -> None:
    gsm8k, math500 = build_task("gsm8k"), build_task("math500")
    assert isinstance(gsm8k, MathTask)
    assert isinstance(math500, MathTask)
    assert (gsm8k.hub, gsm8k.hub_config, gsm8k.answer_after) == ("openai/gsm8k", "main", "####")
    assert (math500.hub, math500.hub_config, math500.answer_after) == ("HuggingFaceH4/MATH-500", None, None)


@pytest.mark.parametrize(
    ("name", "split", "size"), [("gsm8k", "train", 7473), ("gsm8k", "test", 1319), ("math500", "test", 500)]
)
def test_the_same_from_a_folder(name: str, split: str, size: int) -> None:
    if not (DATA / "math500.jsonl").is_file():
        pytest.skip("there is no ../shared/data")
    problems = build_task(name, data_dir=DATA).problems(split)
    assert len(problems) == size
    assert len({problem.id for problem in problems}) == size


def test_a_slip_gets_the_nearest_name() -> None:
    with pytest.raises(ConfigError, match="no task 'coundown', did you mean 'countdown'"):
        build_task("coundown")
    with pytest.raises(ConfigError, match="no task 'zzz'; the tasks are countdown, math, gsm8k, math500"):
        build_task("zzz")
    with pytest.raises(ConfigError, match="no option 'max_targets', did you mean 'max_target'"):
        build_task("countdown", max_targets=3)
    with pytest.raises(ConfigError, match="no option 'datadir', did you mean 'data_dir'"):
        build_task("gsm8k", datadir="x")


@pytest.mark.usefixtures("own")
def test_a_users_own_task() -> None:
    task = build_task("own_tasks:Echo", word="ab", times=3)
    assert task.problems("train")[0].prompt == "ababab"
    assert validate_task(task, "train").ok


@pytest.mark.usefixtures("own")
@pytest.mark.parametrize(
    ("path", "options", "words"),
    [
        ("own_tasks:Echoo", {}, "'own_tasks:Echoo' cannot be loaded"),
        ("nowhere:Echo", {}, "No module named 'nowhere'"),
        ("own_tasks:Echo", {}, "needs the option 'word'"),
        ("own_tasks:Echo", {"word": "a", "time": 2}, "no option 'time', did you mean 'times'"),
        ("own_tasks:Empty", {}, "is no task: it needs name, verifier and problems"),
    ],
)
def test_what_is_wrong_with_a_users_own_task_is_said(path: str, options: dict, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        build_task(path, **options)
