"""The command itself: help, exit codes, and that nothing heavy is loaded before the words are understood."""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from relax_rl.cli import env, report
from relax_rl.cli import main as command
from relax_rl.cli.main import VERBS, main

HEAVY = "{'torch', 'transformers', 'trl', 'datasets', 'scipy', 'matplotlib'}"


def commands_without_torch(commands: list[list[str]], cwd: Path) -> list[tuple[int, str, list[str]]]:
    """Exit code, error output, and the heavy modules loaded since the start, after each of several commands.

    All in one process: what one of them loads is found after it.
    """
    code = f"""
import contextlib, io, json, sys
from relax_rl.cli.main import main
found = []
for words in json.loads(sys.argv[1]):
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()) as errors:
        try:
            code = main(words)
        except SystemExit as stop:
            code = stop.code
    found.append((code, errors.getvalue(), sorted({HEAVY} & set(sys.modules))))
print(json.dumps(found))
"""
    command = [sys.executable, "-c", code, json.dumps(commands)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=cwd, check=True)
    return [(code, errors, loaded) for code, errors, loaded in json.loads(done.stdout)]


def test_help_loads_no_torch(tmp_path: Path) -> None:
    commands = [["--help"], ["train", "--help"], ["eval", "--help"], ["--version"], []]
    assert commands_without_torch(commands, tmp_path) == [(0, "", [])] * len(commands)


def test_mistakes_are_told_before_torch_is_loaded(tmp_path: Path) -> None:
    commands = [
        ["train", "countdown", "--dry-run", "--trainer.max_steps", "ten"],
        ["train", "countdwon", "--dry-run"],
        ["train", "countdown", "--trainer.num_generations", "1"],
        ["train", "--resume", "--output", "nothing"],
        ["train", "countdown", "--train-problems", "4", "--dry-run"],
        ["eval", "tiny", "--task", "countdwon"],
        ["tasks", "show", "countdwon"],
        ["report", "nothing"],
    ]
    for words, (code, errors, loaded) in zip(commands, commands_without_torch(commands, tmp_path), strict=True):
        assert (code, loaded) == (2, []), words
        assert errors.startswith("relax: error: "), words
        assert errors.count("\n") == 1, words
    assert list(tmp_path.iterdir()) == []


def test_the_installed_command_is_this_one(tmp_path: Path) -> None:
    script = Path(sys.executable).with_name("relax")
    if not script.exists():
        pytest.skip("the package is not installed as a command next to this interpreter")
    done = subprocess.run([script, "--version"], capture_output=True, text=True, cwd=tmp_path, check=True)
    assert done.stdout.startswith("relax-rl ")


def test_help_and_import_load_no_verb() -> None:
    """They are what people wait for first: neither settings nor verbs are read for them."""
    code = (
        "import sys, relax_rl.cli.main as command; command.main([]); "
        "print(sorted(name for name in sys.modules if name.startswith(('relax_rl.', 'pydantic', 'yaml', 'torch'))), "
        "file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {
        "cli",
        "cli.main",
        "errors",
        "lazy_names",
        "ranks",
        "redaction",
        "remote_code",
        "stopping",
        "telemetry",
        "version",
    }
    assert done.stderr == f"{sorted(f'relax_rl.{name}' for name in loaded)}\n"


def test_help_names_every_verb_and_every_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    shown = capsys.readouterr().out
    # A long name stands alone, with its purpose in the next line.
    assert all(re.search(rf"\n    {verb}\s", shown) for verb in VERBS)
    assert all(f"\n  {code} " in shown for code in (0, 1, 2, 124, 129, 130, 138, 141, 143))


@pytest.mark.parametrize("verb", VERBS)
def test_help_of_a_verb_groups_core_before_advanced(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main([verb, "--help"])
    assert stopped.value.code == 0
    shown = capsys.readouterr().out
    assert shown.startswith(f"usage: relax {verb}")
    if "advanced:" in shown:
        assert 0 < shown.index("core:") < shown.index("advanced:")


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["trian"], "invalid choice: 'trian'"),
        (
            ["train", "countdown", "--objectve", "grpo"],
            "unknown option '--objectve' of 'relax train'; did you mean '--objective'?",
        ),
        (["train", "countdown", "--dry"], "unknown option '--dry'"),
        (["train", "--resume", "--run", "runs/a"], "'--run' is now '--output'"),
        (["compare", "countdown", "--methods", "grpo", "--run=runs/a"], "'--run' is now '--output'"),
        (["demo", "--run", "runs/a"], "'--run' is now '--output'"),
        (["train", "countdown", "math"], "unknown argument 'math' of 'relax train'"),
        (["train", "countdown", "--model"], "expected one argument (see 'relax train --help')"),
        (["report"], "the following arguments are required: RUN"),
        (["env", "--task.path", "x"], "'relax env' takes no setting such as --task.path"),
        (["tasks", "list", "--task.path", "x"], "'relax tasks list' takes no setting"),
        (["eval", "tiny"], "name the task with --task NAME"),
        (["eval", "tiny", "--task", "countdown", "-k", "0"], "a whole number of at least 1, not '0'"),
        (["eval", "tiny", "--task", "countdown", "-k", "abc"], "a whole number of at least 1"),
        (["eval", "tiny", "--task", "countdown", "--seed", "-1"], "must not be negative"),
        (["eval", "tiny", "--task", "countdown", "--trainer.max_steps", "3"], "--trainer.max_steps has no effect here"),
        (["tasks", "show"], "name the task: relax tasks show NAME; there are: countdown"),
    ],
)
def test_mistakes_in_words(words: list[str], part: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert part in captured.err
    assert captured.err.startswith("relax: error: ")
    assert captured.err.count("\n") == 1


def test_ctrl_c_is_130(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def stop(arguments: argparse.Namespace, settings: list[str]) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(env, "run", stop)
    assert main(["env"]) == 130
    assert capsys.readouterr().err == "relax: stopped\n"


def test_what_is_not_expected_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(arguments: argparse.Namespace, settings: list[str]) -> int:
        raise ZeroDivisionError("a defect")

    monkeypatch.setattr(report, "run", fail)
    with pytest.raises(ZeroDivisionError, match="a defect"):
        main(["report", "x"])


def test_a_reader_that_went_away_is_quiet(tmp_path: Path) -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    code = "import sys; from relax_rl.cli.main import main; code = main(['tasks', 'show', 'countdown']); sys.exit(code)"
    done = subprocess.run([sys.executable, "-u", "-c", code], stdout=write_end, stderr=subprocess.PIPE, cwd=tmp_path)
    os.close(write_end)
    assert (done.returncode, done.stderr) == (141, b"")


def test_the_value_of_a_setting_is_not_taken_for_the_config() -> None:
    words = ["train", "--trainer.max_steps", "5", "countdown", "--task.path=a.b", "--dry-run", "--seed", "1"]
    plain, settings = command._split_settings(words)
    assert plain == ["train", "countdown", "--dry-run", "--seed", "1"]
    assert settings == ["--trainer.max_steps", "5", "--task.path=a.b"]


def test_environment_names_what_a_bug_report_needs(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["env"]) == 0
    facts = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert facts["python"].startswith(".".join(map(str, sys.version_info[:3])))
    assert {"relax-rl", "torch", "transformers", "trl", "cpu", "backends"} <= facts.keys()
    assert any(key.startswith("gpu") for key in facts)
