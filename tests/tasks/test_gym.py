"""Tasks of reasoning-gym: seeds, splits, scores. Skipped where it is not installed; a stand-in covers the adapter."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from relax_rl.cli.main import main
from relax_rl.errors import ConfigError, DataError, DependencyError
from relax_rl.rewards.base import Verdict
from relax_rl.tasks import Task, build_task, validate_task
from relax_rl.tasks import gym as gym_module
from relax_rl.tasks.gym import ReasoningGymTask

needs_gym = pytest.mark.skipif(
    importlib.util.find_spec("reasoning_gym") is None, reason="reasoning-gym is not installed (pip install -e '.[gym]')"
)

STAND_IN = """
    from random import Random

    class Sum:
        def __init__(self, seed, size, top=10**6):
            if top < 2:
                raise AssertionError("top must be at least 2")
            self.seed, self.top = seed, top

        def __getitem__(self, index):
            rng = Random(self.seed + index)
            a, b = rng.randrange(self.top), rng.randrange(self.top)
            return {"question": f"{a} + {b}?", "answer": str(a + b), "metadata": {"sum": a + b}}

        def score_answer(self, answer, entry):
            if answer == "forever":
                while True:
                    pass
            if answer == "crash":
                raise KeyError(answer)
            return 1.0 if answer == entry["answer"] else 0.25 if entry["answer"] in answer else 0.01

    class Blind(Sum):
        # A scorer that fails the library's own answers.
        def score_answer(self, answer, entry):
            return 0.0

    DATASETS = {"sum": Sum, "blind": Blind}
"""


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A package called reasoning_gym with one dataset; the worker processes see it through sys.path."""
    package = tmp_path / "reasoning_gym"
    package.mkdir()
    (package / "factory.py").write_text(textwrap.dedent(STAND_IN))
    (package / "__init__.py").write_text(
        "from . import factory\ndef create_dataset(name, **config): return factory.DATASETS[name](**config)\n"
    )
    saved = {name: sys.modules.pop(name) for name in list(sys.modules) if name.split(".")[0] == "reasoning_gym"}
    monkeypatch.syspath_prepend(str(tmp_path))
    gym_module._entry.cache_clear()
    yield
    gym_module._entry.cache_clear()
    for name in [name for name in sys.modules if name.split(".")[0] == "reasoning_gym"]:
        del sys.modules[name]
    sys.modules.update(saved)


def questions(task: Task, split: str, count: int, seed: int = 0) -> set[str]:
    return {problem.question for problem in task.problems(split, count, seed)}


@pytest.mark.usefixtures("stand_in")
def test_neighbouring_seeds_share_no_question_and_splits_neither() -> None:
    """The library's own lists of the seeds 0 and 1 share 199 of 200."""
    task = build_task("reasoning_gym:sum")
    lists = [questions(task, split, 200, seed) for split in ("train", "test") for seed in (0, 1)]
    assert [len(found) for found in lists] == [200] * 4
    assert len(set.union(*lists)) == 800
    assert task.problems("test", 10) == build_task("reasoning_gym:sum").problems("test", 200)[:10]
    small = ReasoningGymTask("sum", top=8)  # 64 questions in all: the same ones come again, but never in both splits
    assert questions(small, "train", 20, 1) & questions(small, "train", 20, 2)
    assert not questions(small, "train", 20, 1) & questions(small, "test", 20, 2)
    with pytest.raises(DataError, match=r"ran out of new train questions after \d+"):
        small.problems("train", 100)


@pytest.mark.usefixtures("stand_in")
def test_only_a_full_score_counts_unless_partial_credit_is_asked_for() -> None:
    task = ReasoningGymTask("sum")
    problem = task.problems("test", 1)[0]
    gold = json.loads(problem.answer)
    completions = [
        f"<answer>{gold['answer']}</answer>",
        f"<answer>about {gold['answer']}</answer>",
        "so: 3",
        "\\boxed{5}",
    ]
    answers = [problem.answer] * 4
    assert task.verifier.score(completions, answers) == [1.0, 0.0, 0.0, 0.0]
    generous = ReasoningGymTask("sum", partial_credit=True)
    assert generous.verifier.score(completions, answers) == [1.0, 0.25, 0.0, 0.01]
    assert validate_task(task, "train", 20).ok


@pytest.mark.usefixtures("stand_in")
def test_a_scorer_that_fails_or_hangs_is_not_a_wrong_answer() -> None:
    task = ReasoningGymTask("sum")
    verifier = gym_module.ReasoningGymVerifier("sum", {}, timeout_s=0.5)
    answer = task.problems("test", 1)[0].answer
    other = json.dumps(json.loads(answer) | {"question": "of another version"})
    completions = ["<answer>crash</answer>", "<answer>forever</answer>", "<answer>1</answer>", "<answer>1</answer>"]
    verdicts: list[Verdict] = verifier.grade(completions, [answer, answer, other, "?"])
    assert [verdict.score for verdict in verdicts] == [None] * 4
    assert [verdict.reason for verdict in verdicts] == ["error", "timeout", "gold unreadable", "gold unreadable"]


@pytest.mark.usefixtures("stand_in")
def test_a_dataset_or_configuration_that_does_not_exist() -> None:
    with pytest.raises(ConfigError, match="no dataset 'sums', did you mean 'sum'"):
        build_task("reasoning_gym:sums").problems("test", 1)
    with pytest.raises(ConfigError, match="cannot be configured so: top must be at least 2"):
        build_task("reasoning_gym:sum", top=1).problems("test", 1)
    with pytest.raises(ConfigError, match=r"cannot be configured so: .*'tops'"):
        build_task("reasoning_gym:sum", tops=1).problems("test", 1)
    with pytest.raises(DataError, match="no split 'dev'; choose one of train, test"):
        build_task("reasoning_gym:sum").problems("dev", 1)


def test_without_the_package_the_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    gym_module._entry.cache_clear()
    monkeypatch.setitem(sys.modules, "reasoning_gym", None)
    with pytest.raises(DependencyError, match=r"'reasoning_gym:chain_sum' needs .* pip install 'relax-rl\[gym\]'"):
        build_task("reasoning_gym:chain_sum").problems("test", 1)


@pytest.mark.usefixtures("stand_in")
@pytest.mark.slow
def test_datasets_whose_gold_fails_their_own_scorer_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tasks", "validate", "--all-gym", "-n", "4"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("reasoning_gym:blind/test: 4 problems, 0 gold solutions score 1, 4 do not")
    assert lines[1:] == ["2 datasets, 1 of them do not prove themselves on 4 problems"]
    assert main(["tasks", "validate", "countdown", "--all-gym"]) == 2


@needs_gym
@pytest.mark.parametrize("name", ["chain_sum", "countdown", "leg_counting", "number_sorting", "spell_backward"])
def test_the_librarys_tasks_prove_themselves(name: str) -> None:
    report = validate_task(build_task(f"reasoning_gym:{name}"), "test", 8)
    assert report.ok, report.failures
    assert report.without_solution == ()


@needs_gym
def test_another_process_makes_the_same_items() -> None:
    code = (
        "import json; from relax_rl.tasks import build_task;"
        "print(json.dumps([p.answer for p in build_task('reasoning_gym:chain_sum').problems('test', 4, 9)]))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    ours: list[Any] = [p.answer for p in build_task("reasoning_gym:chain_sum").problems("test", 4, 9)]
    assert json.loads(run.stdout) == ours


@pytest.mark.parametrize("seed", [None, "random"])
def test_datasets_that_hang_on_the_hash_seed_ask_for_one(seed: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTHONHASHSEED", raising=False)
    if seed is not None:
        monkeypatch.setenv("PYTHONHASHSEED", seed)
    with pytest.raises(ConfigError, match="start with PYTHONHASHSEED=0"):
        build_task("reasoning_gym:polynomial_multiplication").problems("test", 1)
