"""A served report follows its runs, and answers nobody from elsewhere."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from relax_rl.cli.main import main
from relax_rl.errors import ConfigError, RunError
from relax_rl.workflows.report import report, report_server
from support.runs import make_run  # noqa: F401
from support.serving import add_row, serving


def test_the_page_is_another_one_when_its_run_has_written(make_run: Callable[..., Path]) -> None:  # noqa: F811
    run = make_run("a", num_steps=5)
    with serving(report_server([run])) as ask:
        (_, version), (status, page) = ask("/version?"), ask("/")
        assert status == 200
        assert f'"version":"{version}"' in page
        assert "connect-src &#x27;self&#x27;" in page
        assert ask("/version?") == (200, version)
        add_row(run, 6)
        assert ask("/version?")[1] != version
        assert "6 steps" in ask("/")[1]
        assert ask("/run/a")[0] == ask("/etc/passwd")[0] == ask("/../a/config.json")[0] == 404


def test_another_host_is_refused(make_run: Callable[..., Path]) -> None:  # noqa: F811
    with serving(report_server([make_run("a", num_steps=2)])) as ask:
        assert ask("/", host="evil.example")[0] == 403
        assert ask("/version?", host="127.0.0.1")[0] == 403


def test_a_board_of_a_folder(make_run: Callable[..., Path], tmp_path: Path) -> None:  # noqa: F811
    folder = tmp_path / "runs"
    for name, steps in (("runs/short", 3), ("runs/deep/long", 12)):
        make_run(name, num_steps=60)
        path = tmp_path / name / "metrics.jsonl"
        rows = [json.loads(line) | {"grad_norm": 0.0} for line in path.read_text().splitlines()[:steps]]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    make_run("runs/broken")
    (folder / "broken" / "metrics.jsonl").write_text('{"step": 1}\nno row\n{"step": 2}\n')
    with serving(report_server(folder)) as ask:
        board = ask("/")[1]
        for words in ("3 / 60", "12 / 60", "deep/long", "the gradient is 0", "continue it with relax train --resume"):
            assert words.lower() in board.lower()
        assert "cannot be read" in board or "broken" in board
        version = ask("/version?")[1]
        assert "12 steps" in ask("/run/deep/long")[1]
        assert ask("/run/new")[0] == 404
        make_run("runs/new", num_steps=1)
        assert ask("/version?")[1] != version
        assert ask("/version?/run/deep/long")[0] == 200
        assert "runs/new" in ask("/run/new")[1]
    assert "deep/long" in report(folder, tmp_path / "board.html").read_text()


def test_the_board_of_an_empty_folder_waits_for_runs(
    make_run: Callable[..., Path],  # noqa: F811
    tmp_path: Path,
) -> None:
    (tmp_path / "runs").mkdir()
    with serving(report_server(tmp_path / "runs")) as ask:
        assert "no run yet" in ask("/")[1]
        make_run("runs/a", num_steps=2)
        assert "2 / 2" in ask("/")[1]
    with pytest.raises(RunError, match="no run in"):
        report_server(tmp_path / "nowhere")


def test_what_the_command_refuses(make_run: Callable[..., Path], capsys: pytest.CaptureFixture[str]) -> None:  # noqa: F811
    run = str(make_run("a", num_steps=2))
    for words, said in (
        (["--port", "8000"], "add --watch"),
        (["--watch", "-o", "x.html"], "leave --output out"),
        (["--watch", "--figures", "x"], "leave --figures out"),
    ):
        assert main(["report", run, *words]) == 2
        assert said in capsys.readouterr().err
    first = report_server([run])
    port = int(first.address.rstrip("/").rsplit(":", 1)[1])
    with pytest.raises(ConfigError, match=f"port {port} cannot be used"):
        report_server([run], port)
    with serving(first):
        pass


def test_a_page_that_cannot_be_made_says_so_and_asks_again(make_run: Callable[..., Path], tmp_path: Path) -> None:  # noqa: F811
    run = make_run("a", num_steps=2)
    with serving(report_server([run])) as ask:
        config = (run / "config.json").read_text()
        (run / "config.json").write_text("{half a fi")
        status, page = ask("/")
        assert status == 500
        assert "config.json" in page
        assert 'http-equiv="refresh"' in page
        (run / "config.json").write_text(config)
        assert ask("/")[0] == 200


@pytest.mark.slow  # starts a process that imports the package
def test_ctrl_c_ends_the_server_without_a_traceback(make_run: Callable[..., Path]) -> None:  # noqa: F811
    run = make_run("a", num_steps=2)
    command = [sys.executable, "-m", "relax_rl.cli.main", "report", str(run), "--watch"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert "end it with Ctrl-C" in process.stdout.readline()
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=120)
    assert process.returncode in (0, 130)
    assert "Traceback" not in said
