"""One process works in a run at a time; a lock whose owner is gone is recognised."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from relax_rl.config import load_config
from relax_rl.errors import RunError
from relax_rl.runs import RunDirectory
from relax_rl.runs.lock import LOCK_FILE, FolderLock, Owner


def put(folder: Path, age: float = 0.0, **changed: object) -> None:
    """A lock as another process left it."""
    owner = replace(Owner.this_process(), **changed)
    (folder / LOCK_FILE).write_text(json.dumps(asdict(owner)))
    then = time.time() - age
    os.utime(folder / LOCK_FILE, (then, then))


def dead_pid() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_a_second_one_is_refused_with_host_and_process(tmp_path: Path) -> None:
    lock = FolderLock(tmp_path)
    lock.acquire()
    for second in (FolderLock(tmp_path).check_free, FolderLock(tmp_path).acquire):
        with pytest.raises(RunError, match=rf"process {os.getpid()} on \S+ since .* is at work on the run"):
            second()
    lock.release()
    assert list(tmp_path.iterdir()) == []
    FolderLock(tmp_path).acquire()


@pytest.mark.parametrize("content", ["", "{", "[]", '{"pid": 1}'])
def test_a_lock_cut_off_as_it_was_written_is_nobodys(content: str, tmp_path: Path) -> None:
    (tmp_path / LOCK_FILE).write_text(content)
    assert FolderLock(tmp_path).acquire() is None


def test_the_lock_of_a_dead_process_of_this_machine_is_taken_at_once(tmp_path: Path) -> None:
    put(tmp_path, pid=dead_pid())
    assert FolderLock(tmp_path).acquire() is None


def test_another_process_of_the_same_number_is_not_the_owner(tmp_path: Path) -> None:
    put(tmp_path, began="12")
    assert FolderLock(tmp_path).acquire() is None


def test_an_owner_elsewhere_is_alive_while_it_gives_signs_of_life(tmp_path: Path) -> None:
    put(tmp_path, age=30, place="elsewhere", host="node7", pid=71)
    with pytest.raises(RunError, match=r"process 71 on node7 .*last sign of life 3\d s ago.*try again 90 s after"):
        FolderLock(tmp_path).acquire()
    put(tmp_path, age=100, place="elsewhere", host="node7", pid=71)
    gone = FolderLock(tmp_path).acquire()
    assert gone is not None
    assert (gone.host, gone.pid) == ("node7", 71)


def test_an_owner_whose_folder_was_taken_writes_no_more(tmp_path: Path) -> None:
    run = RunDirectory.new(tmp_path / "run")
    with run.held():
        run.start(load_config("countdown"))
        run.append_metrics(1, {"reward": 0.5})
        put(run.path, place="elsewhere", host="node7", pid=71)
        for write in (lambda: run.append_metrics(2, {}), lambda: run.write_completions(2, []), run.facts):
            with pytest.raises(RunError, match=r"process 71 on node7 since .* has taken it over"):
                write()
    assert [row["step"] for row in run.read_metrics()] == [1]
    assert (run.path / LOCK_FILE).exists()


def test_a_run_taken_over_says_from_whom(tmp_path: Path) -> None:
    tmp_path.joinpath("run").mkdir()
    put(tmp_path / "run", age=1000, place="elsewhere", host="node7", pid=71)
    run = RunDirectory.new(tmp_path / "run")
    with run.held():
        assert "process 71 on node7" in run.notices[0]


def test_neither_start_nor_resume_nor_overwriting_where_another_one_works(tmp_path: Path) -> None:
    config = load_config("countdown")
    late = RunDirectory.new(tmp_path / "run")
    run = RunDirectory.new(tmp_path / "run")
    with run.held():
        run.start(config)
        (run.checkpoints / "checkpoint-1").mkdir()
        (run.checkpoints / "checkpoint-1" / "trainer_state.json").write_text('{"global_step": 1}')
        for again in (
            lambda: RunDirectory.new(run.path),
            lambda: RunDirectory.new(run.path, overwrite=True),
            lambda: RunDirectory.resume(run.path),
        ):
            with pytest.raises(RunError, match="is at work on the run"):
                again()
        with pytest.raises(RunError, match="is at work on the run"), late.held():
            pass
    # It looked when nothing was there.
    with pytest.raises(RunError, match="there is a run in"), late.held():
        pass
    assert RunDirectory.open(run.path).read_config() == config


@pytest.mark.parametrize("left", ["checkpoints", ".config.json.4711", LOCK_FILE])
def test_a_run_killed_before_its_settings_were_written_is_started_again(left: str, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / left).mkdir() if left == "checkpoints" else (folder / left).write_text("{")
    run = RunDirectory.new(folder)
    with run.held():
        run.start(load_config("countdown"))
    assert sorted(path.name for path in folder.iterdir()) == ["checkpoints", "config.json"]


def test_a_start_removes_what_killed_writers_left(tmp_path: Path) -> None:
    run = RunDirectory.new(tmp_path)
    run.start(load_config("countdown"))
    run.write_completions(1, [])
    for name in (".metrics.jsonl.12", "completions/.step_000003.jsonl.12755"):
        (run.path / name).write_text("half")
    run.start(load_config("countdown"))
    assert [path for path in run.path.rglob(".*") if path.is_file()] == []


def test_the_sign_of_life_is_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("relax_rl.runs.lock._BEAT_SECONDS", 0.02)
    lock = FolderLock(tmp_path)
    lock.acquire()
    os.utime(lock.path, (0, 0))
    deadline = time.monotonic() + 200
    while lock.path.stat().st_mtime < 1000 and time.monotonic() < deadline:
        time.sleep(0.02)
    assert lock.path.stat().st_mtime > 1000
    lock.release()


def test_a_row_that_does_not_fit_leaves_nothing_behind(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    run.append_metrics(1, {"reward": 0.5})
    before = run.metrics_path.read_bytes()
    code = (
        "import resource, signal, sys; from relax_rl.runs import RunDirectory; signal.signal(signal.SIGXFSZ, 1); "
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({len(before) + 10}, -1)); "
        "RunDirectory(sys.argv[1]).append_metrics(2, {'text': 'x' * 100})"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True)
    assert "RunError: cannot write" in done.stderr
    assert run.metrics_path.read_bytes() == before
