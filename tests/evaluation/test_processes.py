"""Sampling by several processes: the files of one, also after a death or a stop, and no process left behind."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from relax_rl.cli.main import main
from relax_rl.errors import ConfigError, ModelError, RunError
from relax_rl.evaluation.folder import EvaluationFolder
from relax_rl.evaluation.runner import Evaluation
from relax_rl.evaluation.samplers import processes
from relax_rl.evaluation.samplers.processes import ForkingSampler
from relax_rl.evaluation.samplers.protocol import Draw, SamplingSettings
from relax_rl.evaluation.samplers.transformers import TransformersSampler
from relax_rl.stopping import Stopped, StopRequest
from relax_rl.workflows.processes import check_processes, cores_for

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="processes fork, which is safe under Linux alone")

SETTINGS = SamplingSettings(num_samples=4, max_completion_length=12)
FILES = ("samples.jsonl", "result.json", "settings.json")


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    assert multiprocessing.active_children() == []
    assert torch.get_num_threads() == threads


class Sampling(TransformersSampler):
    """Does something before the block of a number is decoded."""

    def __init__(self, model: Any, tokenizer: Any, before: dict[int, Callable[[], object]] | None = None) -> None:
        super().__init__(model, tokenizer, batch_size=4)
        self._before = before or {}

    def sample(self, problems: Any, settings: Any, done: Any = frozenset(), takes: Any = None) -> Generator[list[Draw]]:
        def taken(number: int) -> bool:
            is_mine = takes is None or takes(number)
            if is_mine and number in self._before:
                self._before[number]()
            return is_mine

        yield from super().sample(problems, settings, done, taken)


def run(sampler: Any, task: Any, folder: Path | None, **options: Any) -> Any:
    evaluation = Evaluation(sampler, task, SETTINGS, num_problems=8, name="letters")
    return evaluation.run(None if folder is None else EvaluationFolder(folder), **options)


def same(first: Path, second: Path) -> bool:
    return all((first / name).read_bytes() == (second / name).read_bytes() for name in FILES)


@pytest.mark.parametrize("count", [2, 3, 20])
def test_the_files_are_those_of_one_process(count: int, model: Any, tokenizer: Any, task: Any, tmp_path: Path) -> None:
    pids: set[int] = set()
    alone = run(Sampling(model, tokenizer), task, tmp_path / "one")
    seen: list[tuple[int, int]] = []
    shared = ForkingSampler(Sampling(model, tokenizer, {0: lambda: pids.add(os.getpid())}), count)
    together = run(shared, task, tmp_path / "many", on_progress=lambda *numbers: seen.append(numbers))
    assert together == alone
    assert same(tmp_path / "one", tmp_path / "many")
    assert seen == [(done, 32) for done in range(4, 33, 4)]
    assert pids == set()  # the set of this process: no block was decoded in it


def test_a_process_that_is_killed_is_one_sentence_and_its_samples_are_drawn_again(
    model: Any, tokenizer: Any, task: Any, tmp_path: Path
) -> None:
    run(Sampling(model, tokenizer), task, tmp_path / "one")
    dying = Sampling(model, tokenizer, {3: lambda: os.kill(os.getpid(), signal.SIGKILL)})
    with pytest.raises(RunError, match=r"A process that samples .* \(SIGKILL\).*run the same command again"):
        run(ForkingSampler(dying, 2), task, tmp_path / "many")
    kept = (tmp_path / "many" / "partial.jsonl").read_text("utf-8").splitlines()
    assert len(kept) % 4 == 0
    assert not (tmp_path / "many" / "result.json").exists()
    run(ForkingSampler(Sampling(model, tokenizer), 2), task, tmp_path / "many")
    assert same(tmp_path / "one", tmp_path / "many")


def test_a_process_that_ends_by_itself_is_named_by_its_exit_code(model: Any, tokenizer: Any, task: Any) -> None:
    with pytest.raises(RunError, match=r"A process that samples .* \(exit code 3\)"):
        run(ForkingSampler(Sampling(model, tokenizer, {1: lambda: os._exit(3)}), 2), task, None)


def test_what_a_process_raises_is_raised_here(model: Any, tokenizer: Any, task: Any, tmp_path: Path) -> None:
    def fail() -> None:
        raise ModelError("the logits are not finite")

    with pytest.raises(ModelError, match="the logits are not finite") as caught:
        run(ForkingSampler(Sampling(model, tokenizer, {2: fail}), 2), task, tmp_path / "many")
    assert "in fail" in "".join(caught.value.__notes__)


def test_a_stop_keeps_the_samples_and_leaves_no_process(model: Any, tokenizer: Any, task: Any, tmp_path: Path) -> None:
    run(Sampling(model, tokenizer), task, tmp_path / "one")
    shared = ForkingSampler(Sampling(model, tokenizer), 2)
    with StopRequest() as request, pytest.raises(Stopped) as stopped:
        run(shared, task, tmp_path / "many", on_progress=lambda *_: request.ask())
    # The traceback is alive here, and with it whatever the frames hold.
    assert stopped.value.reason.exit_code == 143
    assert multiprocessing.active_children() == []
    assert len((tmp_path / "many" / "partial.jsonl").read_text("utf-8").splitlines()) == 4
    run(ForkingSampler(Sampling(model, tokenizer), 2), task, tmp_path / "many")
    assert same(tmp_path / "one", tmp_path / "many")


def test_a_signal_of_the_terminal_is_left_to_the_parent(model: Any, tokenizer: Any, task: Any, tmp_path: Path) -> None:
    def interrupt() -> None:
        for number in (signal.SIGINT, signal.SIGHUP, signal.SIGUSR1):
            os.kill(os.getpid(), number)

    run(Sampling(model, tokenizer), task, tmp_path / "one")
    run(ForkingSampler(Sampling(model, tokenizer, {1: interrupt}), 2), task, tmp_path / "many")
    assert same(tmp_path / "one", tmp_path / "many")


@pytest.mark.timeout(120)
def test_a_process_does_not_wait_for_threads_that_the_fork_left_behind(model: Any, tokenizer: Any, task: Any) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    try:
        torch.randn(4_000_000).exp().sum()  # starts them
        lots = list(ForkingSampler(Sampling(model, tokenizer), 2).sample(task.problems("test", 4), SETTINGS))
    finally:
        torch.set_num_threads(before)
    assert sum(len(lot) for lot in lots) == 16


def test_a_single_block_needs_no_process(model: Any, tokenizer: Any, task: Any) -> None:
    pids: list[int] = []
    sampler = ForkingSampler(Sampling(model, tokenizer, {0: lambda: pids.append(os.getpid())}), 2)
    list(sampler.sample(task.problems("test", 1), SETTINGS))
    assert pids == [os.getpid()]


@pytest.mark.slow
def test_the_command_takes_their_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started = []
    fork = processes._Fork
    monkeypatch.setattr(processes, "_Fork", lambda *given: started.append(given) or fork(*given))
    words = ["eval", "tiny", "--task", "countdown", "-n", "4", "-k", "2", "--batch-size", "2"]
    for count in ("1", "2"):
        assert main([*words, "--processes", count, "-o", str(tmp_path / count)]) == 0
    assert same(tmp_path / "1", tmp_path / "2")
    assert len(started) == 2


@pytest.mark.parametrize(
    ("number", "backend", "said"),
    [(0, "transformers", "at least 1"), (2, "server", "--backend server has its own"), (2, "vllm", "leave it out")],
)
def test_a_number_that_would_be_ignored_is_refused(number: int, backend: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        check_processes(number, backend)
    check_processes(1, backend)


def test_the_threads_of_a_process_follow_from_the_batches_and_short_memory_is_said(
    model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []

    def cores(asked: int | None, num_samples: int, free: int = 8 << 30) -> tuple[int, int]:
        monkeypatch.setattr("relax_rl.workflows.processes._free_bytes", lambda: free)
        found = cores_for(asked, model, 4, 22, num_samples, lambda step: said.append(step.message))
        return found.processes, found.threads

    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    assert cores(None, num_samples=4) == (1, 4)
    assert cores(None, num_samples=8) == (2, 1)
    assert [cores(asked, num_samples=64) for asked in (None, 1, 2, 9)] == [(4, 1), (1, 1), (2, 1), (9, 1)]
    assert cores(9, num_samples=4) == (1, 4)
    assert said == []
    assert cores(None, num_samples=64, free=600 << 20) == (2, 1)
    assert cores(3, num_samples=64, free=600 << 20) == (3, 1)
    assert cores(1, num_samples=64, free=0) == (1, 1)
    assert [words.partition(" that sample need")[0] for words in said] == ["4 processes", "3 processes"]


class Pipe:
    """The end of a pipe that a process has, with the numbers that it is told."""

    def __init__(self, *numbers: int) -> None:
        self.numbers = list(numbers)
        self.sent: list[Any] = []
        self.is_closed = False

    def recv(self) -> int:
        if not self.numbers:
            raise EOFError
        return self.numbers.pop(0)

    def send(self, message: Any) -> None:
        self.sent.append(message)

    def close(self) -> None:
        self.is_closed = True


def test_the_inside_of_a_process_does_what_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "end_with_parent", lambda: None)
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "true")

    def work(takes: Any) -> Any:
        yield from (number for number in range(6) if takes(number))

    own, other = Pipe(1, 4, 7), Pipe()
    processes._serve(work, own, other)
    assert own.sent == [1, 4, None]
    assert other.is_closed
    assert os.environ["TOKENIZERS_PARALLELISM"] == "false"
    # Its parent is gone: it ends, and says nothing.
    own = Pipe(1)
    with pytest.raises(SystemExit) as ended:
        processes._serve(work, own, Pipe())
    assert (ended.value.code, own.sent) == (1, [1])

    def failing(takes: Any) -> Any:
        raise ValueError("a block")
        yield

    own = Pipe(1)
    processes._serve(failing, own, Pipe())
    (error,) = own.sent
    assert "a block" in str(error)
    assert "Traceback" in error.__notes__[0]
