"""An evaluation that is stopped: what it keeps, and that the same command goes on to the same files."""

from __future__ import annotations

import os
import shlex
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from relax_rl.cli.main import main
from relax_rl.evaluation.folder import EvaluationFolder

SMALL = ["eval", "tiny", "--task", "countdown", "-n", "4", "-k", "2", "--batch-size", "2"]


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.slow
def test_samples_are_kept_and_the_same_command_goes_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*SMALL, "-o", "whole"]) == 0
    append, kept = EvaluationFolder.append, []

    def interrupted(folder: EvaluationFolder, samples: Any) -> None:
        if not kept:
            os.kill(os.getpid(), signal.SIGTERM)
        kept.append(len(samples))
        append(folder, samples)

    monkeypatch.setattr(EvaluationFolder, "append", interrupted)
    capsys.readouterr()
    assert main([*SMALL, "-o", "cut", "--overwrite"]) == 143
    assert kept == [2]
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith("relax: stopped by SIGTERM; the samples so far are kept in cut; continue with: relax eval")
    assert len((Path("cut") / "partial.jsonl").read_text().splitlines()) == 2
    words = shlex.split(said.partition(" with: ")[2])[1:]
    assert "--overwrite" not in words
    assert main(words) == 0
    assert sum(kept) == 8
    for name in ("samples.jsonl", "result.json"):
        assert (Path("cut") / name).read_bytes() == (Path("whole") / name).read_bytes()


@pytest.fixture
def silent_server() -> Iterator[socket.socket]:
    """A server that takes every request and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_server_that_hangs_holds_nobody(
    number: int, silent_server: socket.socket, capsys: pytest.CaptureFixture[str]
) -> None:
    def signal_once_asked() -> None:
        # Not after a time: before the command listens to signals, one would end the tests.
        connection, _ = silent_server.accept()
        with connection:
            os.kill(os.getpid(), number)
            ended.wait(250)

    ended = threading.Event()
    waiting = threading.Thread(target=signal_once_asked, daemon=True)
    waiting.start()
    started = time.monotonic()
    address = f"http://127.0.0.1:{silent_server.getsockname()[1]}/v1"
    words = ["eval", "any", "--backend", "server", "--base-url", address, "--task", "countdown", "-n", "4"]
    try:
        assert main([*words, "-k", "2", "-o", "cut"]) == 128 + number
    finally:
        ended.set()
        waiting.join(60)
    assert time.monotonic() - started < 60  # of the 600 that a request may take
    assert "stopped by" in capsys.readouterr().err
