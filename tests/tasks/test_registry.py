"""From names to tasks, and the nearest name for a slip."""

from __future__ import annotations

from pathlib import Path

import pytest

from relax_rl.errors import ConfigError
from relax_rl.tasks import CountdownTask, MathTask, Task, TrainingMix, build_task, task_names, validate_task
from relax_rl.tasks.countdown import LEVELS
from relax_rl.tasks.registry import task_entries
from relax_rl.tasks.visual.sets import VISUAL_SETS

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
    papers = {"math500", "minerva", "amc22", "amc23", "aime24", "aime25", "olympiadbench", "dapo_math_17k", "relax_mix"}
    assert set(task_names()) == {
        "countdown",
        "many_solutions",
        "countdown_muted",
        "maze",
        "figures",
        "math",
        "gsm8k",
        "data",
    } | papers | set(VISUAL_SETS)
    assert build_task("countdown", max_target=30) == CountdownTask(max_target=30)
    assert build_task("math", path="a.jsonl") == MathTask(path="a.jsonl")
    for name in (*sorted(set(task_names()) - {"data"}), "reasoning_gym:chain_sum"):
        task = build_task(name)
        assert isinstance(task, Task)
        assert task.name == name
    assert [entry.name for entry in task_entries()] == [*task_names(), "reasoning_gym:NAME"]


def test_countdown_by_level() -> None:
    assert build_task("countdown") == build_task("countdown", level=2) == CountdownTask()
    assert build_task("countdown", level=4) == CountdownTask(**LEVELS[4])
    assert build_task("countdown", level=4, max_number=30) == CountdownTask(**LEVELS[4] | {"max_number": 30})
    for level in (0, 6, "2"):
        with pytest.raises(ConfigError, match="choose a whole number from 1 to 5"):
            build_task("countdown", level=level)


def test_math_is_the_set_or_the_users_own_problems() -> None:
    assert isinstance(build_task("math"), TrainingMix)
    with pytest.raises(ConfigError, match="was given data_dir=there and problems of your own"):
        build_task("math", path="a.jsonl", data_dir="there")


def test_a_slip_gets_the_nearest_name() -> None:
    with pytest.raises(ConfigError, match="no task 'coundown', did you mean 'countdown'"):
        build_task("coundown")
    with pytest.raises(
        ConfigError, match="no task 'zzz'; the tasks are countdown, many_solutions, countdown_muted, maze, figures"
    ):
        build_task("zzz")
    with pytest.raises(ConfigError, match="exclude names 'amc24', did you mean 'amc2"):
        build_task("relax_mix", exclude=["amc24"])
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
        ("own_tasks:Empty", {}, "it is not a task, that is a class with problems"),
    ],
)
def test_what_is_wrong_with_a_users_own_task_is_said(path: str, options: dict, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        build_task(path, **options)
