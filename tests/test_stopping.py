"""Requests to stop: what a first and a second signal do, and that nothing of it outlasts the work."""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from relax_rl.cli import env
from relax_rl.cli.main import main
from relax_rl.errors import ConfigError
from relax_rl.stopping import Reason, Stopped, StopRequest, current, deferred, handling_signals

CODES = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129, signal.SIGUSR1: 138}
MOMENT_S = 0.45  # two signals closer together than this are one request


def send(number: int) -> None:
    """To this process; Python answers before the next line."""
    os.kill(os.getpid(), number)


@pytest.fixture
def verb(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], object]], None]:
    """Puts work into the place of ``relax env``."""

    def put(work: Callable[[], object]) -> None:
        def run(arguments: argparse.Namespace, settings: list[str]) -> int:
            work()
            return 0

        monkeypatch.setattr(env, "run", run)

    return put


@pytest.mark.parametrize("number", CODES)
def test_work_that_asks_nothing_is_cut_off(
    number: signal.Signals, verb: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    before = signal.getsignal(number)
    verb(lambda: (send(number), time.sleep(60)))
    assert main(["env"]) == CODES[number]
    name = "Ctrl-C" if number == signal.SIGINT else number.name
    assert capsys.readouterr().err == f"relax: stopped by {name}; nothing was written; start again with: relax env\n"
    assert signal.getsignal(number) == before


@pytest.mark.parametrize("number", CODES)
def test_deferred_work_is_finished_first(number: signal.Signals, verb: Callable[..., None]) -> None:
    done: list[str] = []

    def work() -> None:
        with deferred() as request:
            send(number)
            done.append("finished")
            assert request.reason == Reason.of_signal(number)
        done.append("gone on")

    verb(work)
    assert main(["env"]) == CODES[number]
    assert done == ["finished"]


def stopped(work: Callable[[StopRequest], object], max_hours: float | None = None, **options: Any) -> Stopped:
    """How work ended that was stopped."""
    try:
        with handling_signals(max_hours, **options) as request:
            work(request)
    except Stopped as stop:
        return stop
    raise AssertionError("it was not stopped")


def test_a_second_signal_stops_at_once() -> None:
    def work(request: StopRequest) -> None:
        with request.deferred():
            send(signal.SIGTERM)
            time.sleep(MOMENT_S)
            send(signal.SIGINT)
            time.sleep(60)

    assert stopped(work).reason.exit_code == 143  # what asked first


def test_the_same_signal_to_the_process_and_to_its_group_is_one_request(monkeypatch: pytest.MonkeyPatch) -> None:
    # However late a busy machine is with the second one.
    monkeypatch.setattr("relax_rl.stopping._SAME_REQUEST_S", 200.0)
    done: list[str] = []

    def work(request: StopRequest) -> None:
        with request.deferred():
            send(signal.SIGTERM)
            send(signal.SIGTERM)
            done.append("finished")

    stopped(work)
    assert done == ["finished"]


def test_a_first_signal_is_told_where_work_goes_on() -> None:
    told: list[str] = []

    def work(request: StopRequest) -> None:
        with request.deferred():
            send(signal.SIGHUP)

    stopped(work, tell=told.append)
    assert told == ["SIGHUP: finishing the current step; a second signal stops at once"]


def test_user_code_that_answers_every_error_does_not_swallow_it() -> None:
    def careless(request: StopRequest) -> None:
        with contextlib.suppress(Exception):
            send(signal.SIGTERM)

    assert stopped(careless).reason == Reason("SIGTERM", 143)


def test_the_time_limit_wakes_those_who_do_not_ask() -> None:
    assert stopped(lambda request: time.sleep(60), max_hours=0.05 / 3600).reason == Reason("the time limit", 124)


def test_the_time_limit_is_one_request(monkeypatch: pytest.MonkeyPatch) -> None:
    """Found by those who ask, and then by the alarm for those who do not, whenever a busy machine gives it."""
    alarms: list[Callable[[], None]] = []

    class Held(threading.Timer):
        def start(self) -> None:
            alarms.append(self.function)

    def work(request: StopRequest) -> None:
        with request.deferred():
            request._deadline = time.monotonic()
            assert request.reason == Reason("the time limit", 124)
            alarms[0]()
            done.append("finished")

    done: list[str] = []
    monkeypatch.setattr(threading, "Timer", Held)
    assert stopped(work, max_hours=1).reason.exit_code == 124
    assert done == ["finished"]


@pytest.mark.parametrize("hours", ["0", "-1", "soon", "inf", "nan"])
def test_a_time_limit_that_is_none(hours: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "countdown", "--dry-run", "--max-hours", hours]) == 2
    assert "--max-hours: give a number of hours above 0" in capsys.readouterr().err


def test_a_signal_that_is_ignored_stays_so() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with handling_signals() as request:
            send(signal.SIGHUP)
            assert request.reason is None
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_fork_is_ended_by_the_signal_as_ever() -> None:
    with handling_signals(), deferred():
        child = os.fork()
        if child == 0:
            send(signal.SIGTERM)
            os._exit(0)
        assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGTERM


def test_a_program_asks_from_another_thread() -> None:
    seen: list[object] = []

    def other() -> None:
        seen.append(current().reason)
        request.ask()
        seen.append(current().reason)  # another thread's work is not asked to stop

    with StopRequest() as request:
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
        assert seen == [None, None]
        assert current() is request
        with pytest.raises(Stopped, match="stopped by SIGTERM"):
            current().check()
        with pytest.raises(Stopped), deferred():
            raise AssertionError("it began")
    current().check()


def test_a_request_refuses_a_limit_that_is_none() -> None:
    with pytest.raises(ConfigError, match="max_hours is -1"):
        StopRequest(max_hours=-1)


def test_no_handler_outside_the_main_thread() -> None:
    before = signal.getsignal(signal.SIGTERM)
    found: list[object] = []

    def work() -> None:
        with handling_signals(max_hours=1) as request:
            found.extend([signal.getsignal(signal.SIGTERM), current() is request])

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [before, True]


@pytest.mark.parametrize(
    ("words", "flag", "said"),
    [
        (["env", "--overwrite"], "", "relax env"),
        (["env", "--overwrite"], None, "relax env --overwrite"),
        (["env", "--resume"], "--resume", "relax env --resume"),
        (["env", "-o", "two words", "--overwrite"], "--resume", "relax env -o 'two words' --resume"),
    ],
)
def test_how_to_continue_never_deletes(
    words: list[str], flag: str | None, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(words: list[str]) -> int:
        stopped = Stopped(Reason.of_signal(signal.SIGINT))
        stopped.kept, stopped.flag = "update 3 of 9 is kept", flag
        raise stopped

    monkeypatch.setattr("relax_rl.cli.main._run", run)
    assert main(words) == 130
    assert capsys.readouterr().err == f"relax: stopped by Ctrl-C; update 3 of 9 is kept; continue with: {said}\n"
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert main(words) == 130
    assert "torchrun --nproc_per_node 2 -m -- relax_rl.cli.main env" in capsys.readouterr().err


def test_a_third_signal_is_the_systems(tmp_path: Path) -> None:
    code = f"""
import os, signal, time
from relax_rl.stopping import Stopped, deferred, handling_signals
try:
    with handling_signals(), deferred():
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep({MOMENT_S})
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        finally:
            time.sleep({MOMENT_S})
            os.kill(os.getpid(), signal.SIGTERM)
except Stopped:
    pass
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, timeout=60)
    assert done.returncode == -signal.SIGTERM
