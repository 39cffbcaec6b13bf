"""The pool holds its limits, names the reason, replaces what it killed, and leaves nothing behind."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from relax_rl.errors import ConfigError, RunError
from relax_rl.rewards.workers import pool as pool_module
from relax_rl.rewards.workers.pool import Outcome, WorkerPool

HOSTILE = """
import ctypes, signal, os, sys, time

kept = []

def act(kind, argument=None):
    if kind == "echo": return argument
    if kind == "pid": return os.getpid()
    if kind == "spin":
        while True: pass
    if kind == "power": return (9 ** (9 ** 9)) % 7      # one C call that never looks at Python's signal handlers
    if kind == "allocate": return len(bytearray(argument))
    if kind == "keep": kept.append(bytearray(argument)); return len(kept)
    if kind == "exit": os._exit(argument)
    if kind == "segfault": ctypes.string_at(0)
    if kind == "killed": os.kill(os.getpid(), signal.SIGKILL)
    if kind == "killed once" and not os.path.exists(argument):
        open(argument, "w").close()
        os.kill(os.getpid(), signal.SIGKILL)
    if kind == "killed and counted":
        with open(argument, "a") as file: file.write("x")
        os.kill(os.getpid(), signal.SIGKILL)
    if kind == "raise": raise KeyError(argument)
    if kind == "sleep": time.sleep(argument); return "slept"
    if kind == "print": print("noise"); sys.stdout.flush(); return input_is_empty()
    if kind == "burn":
        end = time.process_time() + argument
        while time.process_time() < end: pass
        return True
    if kind == "recurse": return act(kind)
    if kind == "recurse if kept": return act("recurse") if kept else "fresh"
    if kind == "object": return object()
    if kind == "modules": return [name for name in ("torch", "transformers", "numpy") if name in sys.modules]

def input_is_empty():
    return sys.stdin.read() == ""
"""


@pytest.fixture
def target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "hostile_functions.py").write_text(HOSTILE)
    monkeypatch.syspath_prepend(str(tmp_path))
    return "hostile_functions:act"


@pytest.fixture
def pool(target: str) -> Iterator[WorkerPool]:
    with WorkerPool(target, num_workers=2, timeout_s=0.4, stall_s=120.0, memory_mb=256) as pool:
        yield pool


@pytest.fixture(scope="module")
def hurt_pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WorkerPool]:
    """One pool that meets failure after failure, as a long run's does."""
    folder = tmp_path_factory.mktemp("hurt")
    (folder / "hurting_functions.py").write_text(HOSTILE)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        with WorkerPool("hurting_functions:act", num_workers=2, timeout_s=0.4, stall_s=120.0, memory_mb=256) as pool:
            yield pool


def test_nothing_starts_before_it_is_needed(pool: WorkerPool) -> None:
    assert pool.map([]) == []
    assert pool.worker_pids() == []
    assert pool.map([("echo", 1)]) == [Outcome(1)]
    (pid,) = pool.worker_pids()
    # Ctrl-C in a terminal goes to the run, which ends its workers itself.
    assert os.getsid(pid) == pid


@pytest.mark.parametrize(
    ("item", "reason", "detail"),
    [
        (("spin",), "timeout", "CPU"),
        (("power",), "timeout", "CPU"),
        (("allocate", 2**30), "memory", ""),
        (("allocate", 170 * 2**20), "memory", "MiB"),
        (("exit", 3), "crashed", "exit code 3"),
        (("segfault",), "crashed", "SIGSEGV"),
        (("killed",), "killed", "SIGKILL"),
        (("recurse",), "recursion", ""),
        (("raise", "boo"), "error", "KeyError: 'boo'"),
        (("object",), "error", "not JSON"),
    ],
)
def test_each_failure_has_its_reason_and_disturbs_nobody(
    hurt_pool: WorkerPool, item: tuple, reason: str, detail: str
) -> None:
    before, failed, after = hurt_pool.map([("echo", "before"), item, ("echo", "after")])
    assert (before.value, after.value) == ("before", "after")
    assert failed.value is None
    assert failed.reason == reason
    assert detail in failed.detail
    assert hurt_pool.map([("echo", "alive")] * 3) == [Outcome("alive")] * 3


@pytest.mark.slow
def test_an_item_that_sleeps_is_given_up(hurt_pool: WorkerPool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one limit that a busy machine may meet too: so far away that it disturbs nobody, unless it is set closer."""
    with monkeypatch.context() as patch:
        patch.setattr(hurt_pool, "stall_s", 2.0)
        (failed,) = hurt_pool.map([("sleep", 60)])
    assert failed == Outcome(reason="stalled", detail="no answer within 2 s")
    assert hurt_pool.map([("echo", "alive")] * 3) == [Outcome("alive")] * 3


def test_a_killed_worker_is_replaced_and_reaped(target: str) -> None:
    with WorkerPool(target, num_workers=1, timeout_s=0.3) as pool:
        first = pool.map([("pid",)])[0].value
        assert pool.map([("spin",)])[0].reason == "timeout"
        second = pool.map([("pid",)])[0].value
        assert second != first
        assert not _exists(first)
        os.kill(second, 9)
        assert pool.map([("echo", 5)])[0].value == 5
    assert not _exists(second)


@pytest.mark.slow
def test_the_time_limit_is_of_an_item_and_not_of_the_queue(target: str) -> None:
    """Seven items of 0.1 s CPU on one worker with a limit of 0.4 s each: 0.7 s of queueing kills none of them."""
    with WorkerPool(target, num_workers=1, timeout_s=0.4) as pool:
        assert [outcome.value for outcome in pool.map([("burn", 0.1)] * 7)] == [True] * 7


@pytest.mark.slow
def test_a_busy_machine_changes_no_verdict(target: str) -> None:
    """Items with half of their CPU time to spare, beside two spinning processes a core."""
    spin = [sys.executable, "-c", "while True: pass"]
    spinning = [subprocess.Popen(spin) for _ in range(2 * (os.cpu_count() or 1))]
    try:
        with WorkerPool(target, num_workers=2, timeout_s=0.6, stall_s=120.0) as pool:
            assert [outcome.value for outcome in pool.map([("burn", 0.3)] * 4)] == [True] * 4
            assert pool.map([("spin",)])[0].reason == "timeout"
    finally:
        for process in spinning:
            process.kill()
            process.wait()


def test_what_an_earlier_item_kept_does_not_decide_about_a_later_one(target: str) -> None:
    """The second item fits in a fresh process and not beside what the first one left behind."""
    # With some 34 MiB of the interpreter, one item is well below the share that a process may hold, and two are well
    # above the limit.
    with WorkerPool(target, num_workers=1, memory_mb=320) as pool:
        assert pool.map([("keep", 140 * 2**20)])[0].value == 1
        assert pool.map([("keep", 140 * 2**20)])[0] == Outcome(1)


def test_an_item_that_fails_beside_what_an_earlier_one_left_is_tried_on_a_fresh_worker(target: str) -> None:
    with WorkerPool(target, num_workers=1) as pool:
        (_, first), (again, second) = (pool.map([("keep", 1), ("pid",)]), pool.map([("recurse if kept",), ("pid",)]))
        assert again == Outcome("fresh")
        assert first.value != second.value


@pytest.mark.slow
def test_a_worker_that_met_the_limit_of_memory_is_not_kept(target: str) -> None:
    """Its heap would stay in the machine's memory, and no later item could be answered beside it."""
    with WorkerPool(target, num_workers=1, memory_mb=256) as pool:
        for _ in range(2):  # as a worker's first item and, on another one, after it has served
            pid = pool.map([("pid",)])[0].value
            assert pool.map([("keep", 170 * 2**20)])[0].reason == "memory"
            assert pool.map([("pid",)])[0].value != pid
            assert not _exists(pid)
        # Its end is no answer to the next item, or every later answer would be that of the item before.
        asked = [("keep", 170 * 2**20), ("echo", 1), ("echo", 2)]
        assert pool.map(asked)[1:] == [Outcome(1), Outcome(2)]


def test_a_worker_is_a_fresh_interpreter_without_torch_and_with_closed_doors(pool: WorkerPool) -> None:
    torchless, printed = pool.map([("modules",), ("print",)])
    assert torchless.value == []
    assert printed.value is True  # standard input is empty, and the noise did not break the protocol


def test_usable_from_many_threads(pool: WorkerPool) -> None:
    def ask(number: int) -> list[Outcome]:
        return pool.map([("echo", number), ("echo", -number)])

    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(ask, range(40)))
    assert answers == [[Outcome(n), Outcome(-n)] for n in range(40)]
    assert len(pool.worker_pids()) <= 2


def test_large_items_pass(pool: WorkerPool) -> None:
    text = "ü\x00\n\u2028" * 300_000
    assert pool.map([("echo", text)])[0].value == text


def test_closing_ends_the_workers_and_the_pool(target: str) -> None:
    pool = WorkerPool(target, num_workers=2)
    pids = [outcome.value for outcome in pool.map([("pid",)] * 8)]
    pool.close()
    pool.close()
    assert not any(_exists(pid) for pid in pids)
    with pytest.raises(RunError, match="closed"):
        pool.map([("echo", 1)])


def test_a_worker_leaves_by_itself_and_no_file_stays_open(target: str) -> None:
    before, codes = len(_open_files(os.getpid())), []
    for _ in range(3):  # a busy machine may let one miss its second, and it is killed
        pool = WorkerPool(target, num_workers=1)
        pool.map([("echo", 1)])
        (worker,) = pool._workers
        pool.close()
        codes.append(worker._process.returncode)
        assert len(_open_files(os.getpid())) == before
        if codes[-1] == 0:
            break
    assert 0 in codes


def test_a_forgotten_pool_takes_its_workers_with_it(target: str) -> None:
    pool = WorkerPool(target, num_workers=1)
    pid = pool.map([("pid",)])[0].value
    del pool
    assert not _exists(pid)


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_child_gets_workers_of_its_own(target: str, tmp_path: Path) -> None:
    program = f"""
        import os, sys
        sys.path.insert(0, {str(tmp_path)!r})
        from relax_rl.rewards.workers.pool import WorkerPool
        pool = WorkerPool({target!r}, num_workers=1)
        mine = pool.map([("pid",)])[0].value
        if (child := os.fork()) == 0:
            other = pool.map([("pid",)])[0].value
            pool.close()
            os._exit(0 if other not in (None, mine) else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert pool.map([("pid",)])[0].value == mine
    """
    _python("-c", textwrap.dedent(program))


@pytest.mark.slow
def test_a_program_without_main_guard_is_not_run_again(target: str, tmp_path: Path) -> None:
    """multiprocessing's spawn would import the caller's main module in every worker, and train twice."""
    program = tmp_path / "train_without_guard.py"
    program.write_text(
        "print('top level')\nfrom relax_rl.rewards.workers.pool import WorkerPool\n"
        f"pool = WorkerPool({target!r}, num_workers=2)\nprint([o.value for o in pool.map([('echo', 1)] * 4)])\n"
        "print(*pool.worker_pids())\n"
    )
    lines = _python(str(program)).splitlines()
    assert lines[:2] == ["top level", "[1, 1, 1, 1]"]
    assert not any(_exists(int(pid)) for pid in lines[2].split())  # and nothing outlives the program


@pytest.mark.slow
def test_workers_end_with_a_killed_parent(target: str, tmp_path: Path) -> None:
    program = (
        f"import os, sys; sys.path.insert(0, {str(tmp_path)!r}); from relax_rl.rewards.workers.pool import WorkerPool; "
        f"pool = WorkerPool({target!r}, num_workers=1); print(pool.map([('pid',)])[0].value, flush=True); "
        "os.kill(os.getpid(), 9)"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert run.returncode == -9
    deadline = time.monotonic() + 200
    while _exists(int(run.stdout)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _exists(int(run.stdout))


@pytest.mark.parametrize("target_path", ["hostile_functions:missing", "no.such:thing", "not a path", "os:sep"])
def test_a_target_that_cannot_be_imported_is_a_config_error(target: str, target_path: str) -> None:
    with WorkerPool(target_path, num_workers=1) as pool, pytest.raises(ConfigError, match="cannot import"):
        pool.map([("echo", 1)])


def test_an_item_is_tried_again_when_its_worker_is_killed_from_outside(target: str, tmp_path: Path) -> None:
    with WorkerPool(target, num_workers=1) as pool:
        assert pool.map([("killed once", str(tmp_path / "flag"))])[0].reason is None
        died = pool.map([("killed",)])[0]
        assert (died.reason, died.is_of_item) == ("killed", False)
        count = tmp_path / "count"
        assert pool.map([("killed and counted", str(count))])[0].reason == "killed"
        assert count.read_text() == "xxx"
        assert Outcome(reason="crashed").is_of_item


def test_ten_killed_workers_in_a_row_are_one_sentence(target: str, caplog: pytest.LogCaptureFixture) -> None:
    with WorkerPool(target, num_workers=1) as pool:
        with pytest.raises(RunError, match=r"killed 10 times in a row \(signal SIGKILL\).*num_workers"):
            pool.map([("killed",)] * 9)
        assert pool.map([("echo", 1)])[0].value == 1  # and the pool lives on
        assert {outcome.reason for outcome in pool.map([("exit", 3)] * 21)} == {"crashed"}
    assert [record.getMessage() for record in caplog.records] == [
        f"Grading processes crashed 10 times in a row (exit code 3): if it is not the answers, the installation of "
        f"'{target}' is broken."
    ] * 2


SLOW_START = """
import os, sys, time
flag = FLAG
if not os.path.exists(flag):
    open(flag, "w").close()
    FAULT
def act(value): return value
"""


@pytest.mark.parametrize("fault", ["time.sleep(60)", "os._exit(9)", "os.kill(os.getpid(), 9)"])
@pytest.mark.slow
def test_a_start_that_fails_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str) -> None:
    monkeypatch.setattr(pool_module, "_START_LIMIT_S", 10.0)
    name = f"slow_start_{abs(hash(fault))}"
    code = SLOW_START.replace("FLAG", repr(str(tmp_path / "flag"))).replace("FAULT", fault)
    (tmp_path / f"{name}.py").write_text(code)
    monkeypatch.syspath_prepend(str(tmp_path))
    with WorkerPool(f"{name}:act", num_workers=1) as pool:
        assert pool.map([(5,)])[0] == Outcome(5)


@pytest.mark.slow
def test_a_pool_that_never_starts_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_module.time, "sleep", lambda _: None)
    (tmp_path / "dies_at_import.py").write_text("import os; os._exit(9)\ndef act(value): return value\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with (
        WorkerPool("dies_at_import:act", num_workers=1) as pool,
        pytest.raises(RunError, match=r"'dies_at_import:act' did not start in 3 attempts \(exit code 9\); free memory"),
    ):
        pool.map([(5,)])
    assert pool._workers == []


@pytest.mark.slow
def test_one_pool_from_eight_threads_while_its_workers_are_killed(target: str) -> None:
    """Killed at random from outside: every value is right, none is lost."""
    with WorkerPool(target, num_workers=3) as pool, ThreadPoolExecutor(8) as threads:
        asked = [threads.submit(pool.map, [("echo", 8 * number + place) for place in range(8)]) for number in range(40)]
        for number in range(6):
            # Not by the clock: where starting takes long, ten would be killed in a row, which is an error.
            while sum(future.done() for future in asked) <= 5 * number:
                time.sleep(0.01)
            for pid in pool.worker_pids()[:2]:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, 9)
        found = [[outcome.value for outcome in future.result()] for future in asked]
    assert found == [[8 * number + place for place in range(8)] for number in range(40)]


@pytest.mark.slow
def test_the_workers_of_a_parent_that_dies_end_beside_a_forked_child(target: str, tmp_path: Path) -> None:
    """The child of a fork holds no end of their pipes."""
    program = f"""
        import os, sys, time
        sys.path.insert(0, {str(tmp_path)!r})
        from relax_rl.rewards.workers.pool import WorkerPool
        pool = WorkerPool({target!r}, num_workers=1)
        pool.map([("echo", 1)])
        if (child := os.fork()) == 0:
            os.closerange(1, 3)
            time.sleep(250)
            os._exit(0)
        print(child, *pool.worker_pids(), flush=True)
        os.kill(os.getpid(), 9)
    """
    run = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, timeout=60)
    child, worker = map(int, run.stdout.split())
    deadline = time.monotonic() + 120
    while _exists(worker) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert _exists(child)
    os.kill(child, 9)
    assert not _exists(worker)


@pytest.mark.slow
def test_no_shared_memory_is_needed(target: str) -> None:
    """A container's /dev/shm may hold 64 MiB or nothing: neither the pool nor a worker has a file there."""
    with WorkerPool(target, num_workers=2) as pool:
        pool.map([("echo", number) for number in range(4)])
        open_files = [name for pid in [os.getpid(), *pool.worker_pids()] for name in _open_files(pid)]
    assert any(name.startswith("pipe:") for name in open_files)
    assert [name for name in open_files if name.startswith("/dev/shm")] == []


@pytest.mark.parametrize("limit", [{"num_workers": 0}, {"timeout_s": 0}, {"stall_s": -1.0}, {"memory_mb": 1}])
def test_limits_that_mean_nothing_are_refused(limit: dict) -> None:
    with pytest.raises(ConfigError):
        WorkerPool("os:getcwd", **limit)


def test_limits_that_are_not_given_follow_from_the_machine_and_the_time() -> None:
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    usual = WorkerPool("os:getcwd")
    assert (usual.num_workers, usual.timeout_s, usual.stall_s, usual.memory_bytes) == (min(8, cpus), 5.0, 100.0, 2**30)
    own = WorkerPool("os:getcwd", num_workers=cpus + 9, timeout_s=0.1, memory_mb=64)
    assert (own.num_workers, own.stall_s, own.memory_bytes) == (cpus + 9, 10.0, 2**26)
    assert WorkerPool("os:getcwd", num_workers=1, stall_s=0.5).stall_s == 0.5


def _exists(pid: int) -> bool:
    """Whether the process lives; a zombie would count as living."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # An orphan belongs to the system's first process, which in a container may never reap it.
    status = Path(f"/proc/{pid}/stat")
    return not status.exists() or status.read_text().rpartition(")")[2].split()[:2] != ["Z", "1"]


def _open_files(pid: int) -> list[str]:
    names = []
    for descriptor in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(FileNotFoundError):  # that of the listing itself
            names.append(os.readlink(f"/proc/{pid}/fd/{descriptor}"))
    return names


def _python(*arguments: str) -> str:
    run = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr
    return run.stdout
