"""Files name code; only the user may have it run. Every door a file comes through is tried with hostile ones."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from relax_rl.cli.main import main
from relax_rl.config import TrainConfig, load_config
from relax_rl.errors import ConfigError
from relax_rl.evaluation.folder import EvaluationFolder
from relax_rl.runs import RunDirectory
from relax_rl.workflows.compare import compare
from relax_rl.workflows.compare.jobs import job_of
from relax_rl.workflows.compare.plan import parse_methods, plan_runs
from relax_rl.workflows.train import prepare

# Each leaves the file PWNED if it is imported, or if what it names is called with what the file gives.
ON_IMPORT = "hostile_module_of_this_test:Task"
SHELL = "os:system"
PROGRAM = "subprocess:run"
# Its attribute is another module's function; the module itself is allowed in some tests.
BORROWED = "borrowing_module_of_this_test:os.system"
PATHS = [ON_IMPORT, SHELL, PROGRAM, BORROWED]
OPTIONS: dict[str, dict[str, Any]] = {
    SHELL: {"command": "touch PWNED"},
    PROGRAM: {"args": ["touch", "PWNED"]},
    BORROWED: {"command": "touch PWNED"},
}


@pytest.fixture(autouse=True)
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with a hostile module in it, as a downloaded archive would have."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "hostile_module_of_this_test.py").write_text(
        "import pathlib\npathlib.Path('PWNED').touch()\n"
        "class Task:\n    name = 'x'\n    verifier = None\n    def problems(self, *given): return []\n"
    )
    (tmp_path / "borrowing_module_of_this_test.py").write_text("import os\n")
    yield tmp_path
    for name in ("hostile_module_of_this_test", "borrowing_module_of_this_test"):
        sys.modules.pop(name, None)


def toml(table: str, name: str) -> str:
    """A table with a name and the options that make it harmful."""
    lines = [f"[{table}]", f"name = {json.dumps(name)}"]
    return "\n".join([*lines, *(f"{key} = {json.dumps(value)}" for key, value in OPTIONS.get(name, {}).items())])


def named(name: str) -> dict[str, Any]:
    return {"name": name, **OPTIONS.get(name, {})}


def hostile_run(where: str, key: str, name: str) -> RunDirectory:
    """A run as somebody else could hand it out: settings that name code, and a checkpoint."""
    run = RunDirectory(where)
    run.start(load_config("countdown", ["--output", where]))
    settings = json.loads(run.config_path.read_text())
    settings[key] = named(name)
    run.config_path.write_text(json.dumps(settings))
    (run.checkpoints / "checkpoint-2").mkdir()
    (run.checkpoints / "checkpoint-2" / "trainer_state.json").write_text('{"global_step": 2}')
    return run


def config_toml(name: str) -> list[str]:
    Path("shared.toml").write_text(f'model = "tiny"\n{toml("task", name)}\n')
    return ["train", "shared.toml", "--dry-run"]


def config_yaml(name: str) -> list[str]:
    Path("shared.yaml").write_text(json.dumps({"objective": named(name)}))
    return ["train", "shared.yaml", "--dry-run"]


def config_json(name: str) -> list[str]:
    Path("shared.json").write_text(json.dumps({"verifier": name}))
    return ["train", "shared.json", "--dry-run"]


def verifier_table(name: str) -> list[str]:
    Path("shared.toml").write_text(toml("verifier", name))
    return ["train", "shared.toml", "--dry-run"]


def second_verifier(name: str) -> list[str]:
    Path("shared.json").write_text(json.dumps({"verifier": [{"name": "math"}, named(name)]}))
    return ["train", "shared.json", "--dry-run"]


def other_options_on_top(name: str) -> list[str]:
    Path("shared.toml").write_text(toml("task", name))
    return ["train", "shared.toml", "--dry-run", "--task.level", "3"]


def new_run_from_a_run(name: str) -> list[str]:
    hostile_run("theirs", "task", name)
    return ["train", "theirs", "--output", "mine", "--dry-run"]


def resumed_run(name: str) -> list[str]:
    hostile_run("theirs", "task", name)
    return ["train", "--resume", "--output", "theirs"]


def resumed_run_with_a_method(name: str) -> list[str]:
    hostile_run("theirs", "objective", name)
    return ["train", "--resume", "--output", "theirs"]


def evaluated_run(name: str) -> list[str]:
    hostile_run("theirs", "task", name)
    return ["eval", "theirs", "-k", "1", "-n", "1"]


def evaluated_run_in_a_folder(name: str) -> list[str]:
    return [*evaluated_run(name), "-o", "out"]


def rescored_evaluation(name: str) -> list[str]:
    settings = {"task": name, "task_options": OPTIONS.get(name, {}), "split": "test", "num_problems": 1}
    Path("theirs").mkdir()
    Path("theirs/settings.json").write_text(json.dumps(settings))
    return ["eval", "--rescore", "theirs"]


def compared_config(name: str) -> list[str]:
    Path("shared.toml").write_text(toml("task", name))
    return ["compare", "shared.toml", "--methods", "grpo,relax", "--dry-run"]


def compared_methods(name: str) -> list[str]:
    Path("methods.toml").write_text(f"[plain]\nobjective = 'grpo'\n[theirs]\n{toml('theirs.objective', name)}\n")
    return ["compare", "countdown", "--methods", "methods.toml", "--dry-run"]


def compared_methods_with_a_dotted_key(name: str) -> list[str]:
    Path("methods.toml").write_text(f'[theirs]\n"objective.name" = {json.dumps(name)}\n')
    return ["compare", "countdown", "--methods", "methods.toml", "--dry-run"]


DOORS: list[Callable[[str], list[str]]] = [
    config_toml,
    config_yaml,
    config_json,
    verifier_table,
    second_verifier,
    other_options_on_top,
    new_run_from_a_run,
    resumed_run,
    resumed_run_with_a_method,
    evaluated_run,
    evaluated_run_in_a_folder,
    rescored_evaluation,
    compared_config,
    compared_methods,
    compared_methods_with_a_dotted_key,
]


def refusal(capsys: pytest.CaptureFixture[str], words: list[str]) -> str:
    capsys.readouterr()
    assert main(words) == 2
    *before, said = capsys.readouterr().err.splitlines()
    assert said.startswith("relax: error: ")
    # The header says what was allowed.
    assert all(line.startswith("code ") for line in before)
    return said


@pytest.mark.parametrize("name", PATHS)
@pytest.mark.parametrize("door", DOORS, ids=lambda door: door.__name__)
def test_code_that_a_file_names_is_neither_imported_nor_called(
    door: Callable[[str], list[str]], name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    module = name.partition(":")[0]
    said = refusal(capsys, door(name))
    assert not Path("PWNED").exists()
    assert f"add --allow-code {module} " in said
    assert repr(name) in said
    assert "hostile_module_of_this_test" not in sys.modules


@pytest.mark.parametrize("name", [SHELL, PROGRAM, BORROWED])
@pytest.mark.parametrize("door", DOORS, ids=lambda door: door.__name__)
def test_an_allowed_module_s_function_is_called_only_if_it_is_of_the_kind(
    door: Callable[[str], list[str]], name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    said = refusal(capsys, [*door(name), "--allow-code", name.partition(":")[0]])
    assert not Path("PWNED").exists()
    assert "it is not a" in said or "is a function and has no option" in said


@pytest.mark.parametrize("key", ["task", "objective", "verifier"])
@pytest.mark.parametrize("name", [SHELL, PROGRAM, BORROWED])
def test_the_user_s_own_words_call_nothing_of_another_kind_either(
    key: str, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    options = [f"--{key}.{option}={json.dumps(value)}" for option, value in OPTIONS[name].items() if key != "verifier"]
    said = refusal(capsys, ["train", "countdown", f"--{key}", name, *options, "--dry-run"])
    assert "cannot be loaded: it is not a" in said
    assert not Path("PWNED").exists()


@pytest.mark.parametrize("function", ["abort", "_exit", "fork", "getpid", "urandom"])
@pytest.mark.parametrize("key", ["task", "objective", "verifier"])
def test_functions_without_arguments_are_not_called_to_see_what_they_are(
    key: str, function: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert f"os:{function}" in refusal(capsys, ["train", "countdown", f"--{key}", f"os:{function}", "--dry-run"])


def test_a_package_allows_its_modules_and_no_namesake(capsys: pytest.CaptureFixture[str]) -> None:
    Path("own.json").write_text(json.dumps({"task": "support.trust:OwnTask"}))
    assert main(["train", "own.json", "--allow-code", "support", "--dry-run"]) == 0
    for other in ("support.trust.OwnTask", "support.tru", "suppor", "trust"):
        assert "names code to import" in refusal(capsys, ["train", "own.json", "--allow-code", other, "--dry-run"])
    assert "takes the name of a module" in refusal(
        capsys, ["train", "own.json", "--allow-code", "support.trust:OwnTask"]
    )


@pytest.mark.parametrize("name", ["a b:c", ":c", "x;touch PWNED:c", "$(touch PWNED):c", "a\nb:c"])
def test_what_is_no_module_is_not_printed_as_a_flag_to_copy(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    said = refusal(capsys, config_json(name))
    assert "--allow-code" not in said
    assert "not of the form package.module:name" in said


OWN: dict[str, Any] = {
    "task": "support.trust:OwnTask",
    "verifier": "support.trust:right",
    "objective": "support.trust:own_method",
}


def test_the_user_s_own_code_runs(capsys: pytest.CaptureFixture[str]) -> None:
    """By words, by the flag, and by Python's arguments; a file of one's own needs the flag, too."""
    words = [word for key, name in OWN.items() for word in (f"--{key}", name)]
    assert main(["train", "--dry-run", *words, "--monitor", "false"]) == 0
    Path("own.json").write_text(json.dumps(OWN | {"monitor": False}))
    assert main(["train", "own.json", "--allow-code", "support.trust", "--dry-run"]) == 0
    assert main(["train", "own.json", *words, "--dry-run"]) == 0
    said = refusal(capsys, ["train", "own.json", "--dry-run"])
    assert said.count("--allow-code support.trust ") == 1
    assert all(f"{key} = {name!r}" in said.replace(".name", "") for key, name in OWN.items())
    # Words that name one of the three allow the other two of the file no more than before.
    assert "objective.name" in refusal(capsys, ["train", "own.json", *words[:4], "--dry-run"])
    assert prepare("own.json", allow_code=["support"], overrides={"output": "a"}).settings.task.name == OWN["task"]
    assert prepare("own.json", **OWN, overrides={"output": "a"}).settings.verifier == OWN["verifier"]
    assert prepare({**OWN, "monitor": False}, overrides={"output": "a"}).settings.verifier == OWN["verifier"]
    with pytest.raises(ConfigError, match="names code to import"):
        prepare("own.json")
    with pytest.raises(ConfigError, match="names code to import"):
        load_config(Path("own.json"))


def test_what_replaces_the_file_s_code_needs_no_flag() -> None:
    Path("own.json").write_text(json.dumps(OWN | {"monitor": False}))
    named: dict[str, Any] = {"task": "countdown", "objective": "grpo", "verifier": "countdown"}
    assert main(["train", "own.json", *(f"--{key}={name}" for key, name in named.items()), "--dry-run"]) == 0
    assert prepare("own.json", **named).settings.objective.name == "grpo"


def test_a_run_of_one_s_own_code_is_resumed_and_evaluated_with_the_flag(capsys: pytest.CaptureFixture[str]) -> None:
    import relax_rl.assets

    run = hostile_run("mine", "task", OWN["task"])
    checkpoint = run.checkpoints / "checkpoint-2"
    for file in (Path(next(iter(relax_rl.assets.__path__))) / "tiny").iterdir():
        shutil.copy(file, checkpoint)
    words = ["eval", "mine", "-k", "1", "-n", "1", "--max-completion-length", "8", "-o", "out"]
    assert "the run mine names code to import, task.name = 'support.trust:OwnTask'" in refusal(capsys, words)
    assert not Path("out").exists()
    assert main([*words, "--allow-code", "support.trust"]) == 0
    assert main([*words[:-1], "again", "--task", OWN["task"]]) == 0
    assert main([*words[:-1], "other", "--task", "countdown"]) == 0  # the run's own task is not asked for
    # The folder knows the name of the task; the user says where it is.
    assert "no task 'own'" in refusal(capsys, ["eval", "--rescore", "out"])
    assert main(["eval", "--rescore", "out", "--task", OWN["task"]]) == 0
    assert "is of the task 'own', not of 'countdown'" in refusal(
        capsys, ["eval", "--rescore", "out", "--task", "countdown"]
    )


def test_a_comparison_hands_its_permission_to_its_runs_and_no_more(capsys: pytest.CaptureFixture[str]) -> None:
    Path("methods.toml").write_text(f"[plain]\nobjective = 'grpo'\n[own]\nobjective = '{OWN['objective']}'\n")
    words = ["--monitor=false", "--evaluation.num_problems=2"]
    methods = parse_methods("methods.toml", ["support"])
    runs = plan_runs("countdown", [*words, "--task", OWN["task"]], methods, [0], Path("out"))
    jobs = [job_of(planned, Path("out"), overwrite=True) for planned in runs]
    assert [job.words[-1] for job in jobs] == ["--allow-code=support.trust"] * 2
    assert main([*jobs[1].words, "--dry-run"]) == 0
    assert "names code to import" in refusal(capsys, [*jobs[1].words[:-1], "--dry-run"])
    plain = plan_runs("countdown", words, methods[:1], [0], Path("out"))
    assert not any("--allow-code" in word for word in job_of(plain[0], Path("out"), overwrite=True).words)
    with pytest.raises(ConfigError, match="names code to import"):
        compare("countdown", "methods.toml")


def test_reading_a_run_imports_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    run = hostile_run("theirs", "task", ON_IMPORT)
    assert isinstance(run.read_config(), TrainConfig)
    main(["report", "theirs"])
    assert not Path("PWNED").exists()


def test_settings_of_an_evaluation_that_are_of_another_type(capsys: pytest.CaptureFixture[str]) -> None:
    for settings in ({}, {"task": 3, "task_options": {}}, {"task": "countdown", "task_options": [1]}, [1], 3, None):
        folder = EvaluationFolder("theirs")
        folder.path.mkdir(exist_ok=True)
        folder.settings_path.write_text(json.dumps(settings))
        assert "theirs" in refusal(capsys, ["eval", "--rescore", "theirs"])


@pytest.mark.parametrize("words", [["env"], ["tasks"], ["train", "countdown", "--dry-run"]], ids=lambda words: words[0])
def test_modules_in_the_current_folder_are_not_importable_until_the_user_names_code(words: list[str]) -> None:
    """A downloaded folder may hold a wandb.py, which a library would import because it looks for an optional one."""
    assert main(words) == 0
    here = str(Path.cwd())
    assert here not in sys.path
    assert "" not in sys.path
