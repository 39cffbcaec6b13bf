"""Each example runs as it stands, with small settings, and says in its head what to expect."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import relax_rl
from support.example_scripts import EXAMPLES, example

SMALL = {
    "dispersion_of_text": [],
    "own_method": ["--updates", "1"],
    "own_task": ["--updates", "1"],
    "plain_loop": ["--updates", "1"],
    "trl_script": ["--updates", "1"],
}
PRINTS = {
    "dispersion_of_text": "eigenvalue 0.999",
    "own_method": "failures count 0.2: mean reward",
    "own_task": "after: mean@1",
    "plain_loop": "update 1: reward",
    "trl_script": "update 1: reward",
}


def run(name: str, words: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    package = str(Path(relax_rl.__file__).parents[1])
    environment = os.environ | {"PYTHONPATH": package, "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, str(EXAMPLES / f"{name}.py"), *words]
    return subprocess.run(command, capture_output=True, text=True, cwd=folder, env=environment)


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL)
def test_it_runs_and_leaves_nothing_behind(name: str, tmp_path: Path) -> None:
    done = run(name, SMALL[name], tmp_path)
    assert done.returncode == 0, done.stderr
    assert PRINTS[name] in done.stdout
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_without_smollm2_the_example_says_how_to_get_it(tmp_path: Path) -> None:
    done = run("own_data", [], tmp_path)
    assert done.returncode == 2
    assert done.stderr.strip().endswith("prepare it with `make smollm2`.")


@pytest.mark.parametrize("script", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.stem)
def test_the_head_has_the_command_the_settings_and_the_number(script: Path) -> None:
    head = script.read_text("utf-8").split('"""')[1]
    assert f"python examples/{script.name}" in head
    assert "\nExpect: " in head
    assert any(character.isdigit() for character in head.partition("\nExpect: ")[2])


def test_the_loop_stays_short() -> None:
    assert len((EXAMPLES / "plain_loop.py").read_text("utf-8").splitlines()) <= 300


def test_the_method_is_found_by_its_path_and_its_settings_are_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    from relax_rl.errors import ConfigError
    from relax_rl.objectives import build_objective

    monkeypatch.syspath_prepend(str(EXAMPLES))
    assert build_objective("own_method:gentle", failures=0.2).name == "gentle"
    with pytest.raises(ConfigError, match="failures must be"):
        build_objective("own_method:gentle", failures="yes")


def test_the_task_proves_its_own_answers() -> None:
    from relax_rl.tasks.base import validate_task

    task = example("own_task").PlusMinus()
    report = validate_task(task, "test", 50)
    assert report.ok
    assert (report.checked, report.without_solution) == (50, ())
    split = {split: {problem.id for problem in task.problems(split)} for split in ("train", "test")}
    assert not split["train"] & split["test"]
