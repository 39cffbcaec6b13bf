"""Killing an evaluation at any moment and going on: nothing lost, nothing twice, the same files in the end."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Container, Generator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from relax_rl.errors import DataError, RunError
from relax_rl.evaluation import EvaluationFolder, EvaluationResult, evaluate, rescore
from relax_rl.evaluation.records import Sample
from relax_rl.evaluation.runner import Evaluation
from relax_rl.evaluation.samplers.protocol import Completion, Draw, SamplingSettings
from relax_rl.rewards import Verdict
from relax_rl.tasks.base import Problem

FILES = ("samples.jsonl", "result.json", "settings.json")
SETTINGS = SamplingSettings(num_samples=3, max_completion_length=9)


@dataclass
class LetterSampler:
    """A policy without a model, in lots of two; dies in the middle of the lot that it is told to."""

    dies_in_lot: int | None = None
    asked: list[tuple[int, int]] = field(default_factory=list)
    backend: str = "letters"
    fingerprint: str = "v1"

    def render(self, problem: Problem) -> str:
        return problem.prompt

    def sample(
        self, problems: Sequence[Problem], settings: SamplingSettings, done: Container[tuple[int, int]] = frozenset()
    ) -> Generator[list[Draw]]:
        rows = [(place, index) for index in range(settings.num_samples) for place in range(len(problems))]
        wanted = [row for row in rows if row not in done]
        for lot, start in enumerate(range(0, len(wanted), 2)):
            if lot == self.dies_in_lot:
                raise KeyboardInterrupt
            self.asked += wanted[start : start + 2]
            yield [Draw(*row, self._completion(*row)) for row in wanted[start : start + 2]]

    @staticmethod
    def _completion(place: int, index: int) -> Completion:
        return Completion("abcdefghij"[(place * 3 + index) % 10] + "\ud800\x00\u2028é", (place, index), 2, False)


def run(task: Any, folder: EvaluationFolder | None, sampler: LetterSampler | None = None, **changes: Any):
    evaluation = Evaluation(sampler or LetterSampler(), task, SETTINGS, num_problems=5, name="letters")
    return replace(evaluation, **changes).run(folder)


@pytest.fixture
def whole(task, tmp_path: Path) -> EvaluationFolder:
    folder = EvaluationFolder(tmp_path / "whole")
    run(task, folder)
    return folder


def contents(folder: EvaluationFolder) -> list[bytes]:
    return [(folder.path / name).read_bytes() for name in FILES]


@pytest.mark.parametrize("lot", range(8))
def test_interrupted_in_any_lot(task, whole, tmp_path: Path, lot: int) -> None:
    folder = EvaluationFolder(tmp_path / "broken")
    with pytest.raises(KeyboardInterrupt):
        run(task, folder, LetterSampler(dies_in_lot=lot))
    again = LetterSampler()
    run(task, folder, again)
    assert len(again.asked) == 15 - 2 * lot
    assert contents(folder) == contents(whole)
    assert not folder.partial_path.exists()


@pytest.mark.parametrize("lot", [1, 6])
def test_killed_by_the_system_in_any_lot(task, whole, tmp_path: Path, lot: int) -> None:
    folder = EvaluationFolder(tmp_path / "broken")
    child = os.fork()
    if child == 0:
        try:
            run(task, folder, LetterSampler(dies_in_lot=lot))
        finally:
            os.kill(os.getpid(), signal.SIGKILL)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    again = LetterSampler()
    run(task, folder, again)
    assert len(again.asked) == 15 - 2 * lot
    assert contents(folder) == contents(whole)


@pytest.mark.parametrize("cut", [0, 1, 7, 200, 333, 500, -1])
def test_a_file_cut_at_any_byte(task, whole, tmp_path: Path, cut: int) -> None:
    """What is left of a write that the machine did not live to finish."""
    folder = EvaluationFolder(tmp_path / "broken")
    with pytest.raises(KeyboardInterrupt):
        run(task, folder, LetterSampler(dies_in_lot=5))
    folder.partial_path.write_bytes(folder.partial_path.read_bytes()[:cut])
    run(task, folder)
    assert contents(folder) == contents(whole)


def test_cut_and_interrupted_and_started_again(task, whole, tmp_path: Path) -> None:
    """What comes after a half line is not glued to it, or the second interruption would lose the evaluation."""
    folder = EvaluationFolder(tmp_path / "broken")
    with pytest.raises(KeyboardInterrupt):
        run(task, folder, LetterSampler(dies_in_lot=3))
    folder.partial_path.write_bytes(folder.partial_path.read_bytes()[:-9])
    with pytest.raises(KeyboardInterrupt):
        run(task, folder, LetterSampler(dies_in_lot=2))
    last = LetterSampler()
    run(task, folder, last)
    assert len(last.asked) == 15 - 5 - 4
    assert contents(folder) == contents(whole)


@dataclass
class Disk:
    """Room for so many bytes in all; then a write takes a part, and the next one none."""

    room: int
    write: Any = os.write

    def __call__(self, file: int, data: Any) -> int:
        if len(data) and self.room <= 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        taken = self.write(file, bytes(data)[: self.room])
        self.room -= taken
        return taken


@pytest.mark.parametrize("room", [0, 1, 350, 700, 1100, 2000])
def test_a_full_disk_is_one_sentence_and_loses_no_whole_line(
    task, whole, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: int
) -> None:
    folder = EvaluationFolder(tmp_path / "full")
    monkeypatch.setattr(os, "write", Disk(room))
    with pytest.raises(RunError, match=r"full cannot be written \(No space left on device\); make room"):
        run(task, folder)
    kept = folder.partial_path.read_bytes()
    assert kept == b"" or kept.endswith(b"\n")
    assert len(kept) <= room
    monkeypatch.undo()
    again = LetterSampler()
    run(task, folder, again)
    assert len(again.asked) == 15 - kept.count(b"\n")
    assert contents(folder) == contents(whole)


def test_a_write_in_small_parts_is_finished(task, whole, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, write = EvaluationFolder(tmp_path / "slow"), os.write
    monkeypatch.setattr(os, "write", lambda file, data: write(file, bytes(data)[:7]))
    run(task, folder)
    assert contents(folder) == contents(whole)


def glued(lines: list[bytes]) -> bytes:
    return b"".join([*lines[:2], lines[2][:40], *lines[3:]])


@pytest.mark.parametrize(
    ("poisoned", "num_kept"),
    [
        (glued, 6),
        (lambda lines: b"".join([lines[0], b"\xff\xfe\x00\n", *lines[1:]]), 8),
        (lambda lines: b"".join([lines[0], b"[" * 100_000 + b"\n", *lines[1:]]), 8),
        (lambda lines: b"".join([lines[0], b"\n", b"null\n", b"7\n", *lines[1:]]), 8),
        (
            lambda lines: b"".join(
                [*lines[:3], json.dumps(json.loads(lines[3]) | {"completion": [1]}).encode(), b"\n"]
            ),
            3,
        ),
        (lambda lines: b"".join(lines * 2), 8),
    ],
)
def test_a_poisoned_file_gives_back_every_whole_line(task, whole, tmp_path: Path, poisoned: Any, num_kept: int) -> None:
    """Lines glued together by an earlier version on a full disk, bytes that are no text, replies of another type."""
    folder = EvaluationFolder(tmp_path / "broken")
    with pytest.raises(KeyboardInterrupt):
        run(task, folder, LetterSampler(dies_in_lot=4))
    folder.partial_path.write_bytes(poisoned(folder.partial_path.read_bytes().splitlines(keepends=True)))
    again = LetterSampler()
    run(task, folder, again)
    assert len(again.asked) == 15 - num_kept
    assert contents(folder) == contents(whole)


def test_killed_between_the_two_last_writes(task, whole, tmp_path: Path) -> None:
    folder = EvaluationFolder(tmp_path / "broken")
    run(task, folder)
    folder.partial_path.write_text(folder.samples_path.read_text())
    folder.result_path.unlink()
    again = LetterSampler()
    run(task, folder, again)
    assert again.asked == []
    assert contents(folder) == contents(whole)
    assert not folder.partial_path.exists()


def test_a_complete_evaluation_is_read_not_sampled(task, whole) -> None:
    sampler = LetterSampler(dies_in_lot=0)
    assert run(task, whole, sampler) == EvaluationResult.load(whole.result_path)
    assert sampler.asked == []


def test_every_sample_is_on_disk_as_it_was(task, whole) -> None:
    samples = whole.read_samples()
    assert [(sample.problem_id, sample.index) for sample in samples] == [
        (f"test/{place}", index) for place in range(5) for index in range(3)
    ]
    for place, sample in enumerate(samples):
        assert sample.completion == LetterSampler._completion(*divmod(place, 3)).text
        assert sample.score == float(sample.answer in sample.completion)
        assert (sample.extracted, sample.how) == (sample.completion[0], "first letter")
        assert Sample.from_json(sample.to_json()) == sample


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"settings": replace(SETTINGS, temperature=0.5)}, "temperature is 1.0 there and 0.5 here"),
        ({"sampler": LetterSampler(fingerprint="v2")}, "fingerprint is 'v1' there and 'v2' here"),
        ({"num_problems": 4}, "num_problems is 5 there and 4 here"),
        ({"split": "train"}, "split is 'test' there and 'train' here"),
    ],
)
def test_another_evaluation_is_refused(task, whole, changes: dict, words: str) -> None:
    before = contents(whole)
    with pytest.raises(RunError, match=rf"holds another evaluation: .*{words}.*-o DIR.*--overwrite"):
        run(task, whole, **changes)
    assert contents(whole) == before
    evaluation = Evaluation(LetterSampler(), task, SETTINGS, num_problems=5, name="letters")
    assert replace(evaluation, **changes).run(whole, overwrite=True).num_samples == 3


def test_a_place_that_cannot_hold_it(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="is a file or forbids it"):
        EvaluationFolder(tmp_path / "file" / "x").check()
    with pytest.raises(RunError, match="holds something else than an evaluation"):
        EvaluationFolder(tmp_path).check()
    EvaluationFolder(tmp_path / "new" / "folder").check()
    assert not (tmp_path / "new").exists()


def test_two_problems_of_one_id_cannot_be_told_apart(task) -> None:
    class Twice(type(task)):
        def problems(self, split: str, count: int | None = None, seed: int = 0) -> list[Problem]:
            return super().problems(split, 1) * 2

    with pytest.raises(DataError, match="two problems of the same id"):
        run(Twice(), None)


def test_an_incomplete_evaluation_is_not_graded_again(task, tmp_path: Path) -> None:
    folder = EvaluationFolder(tmp_path / "broken")
    with pytest.raises(KeyboardInterrupt):
        run(task, folder, LetterSampler(dies_in_lot=2))
    with pytest.raises(DataError, match=r"is not complete: .*run its command again"):
        rescore(folder, task)


def test_a_damaged_line_is_named(task, whole) -> None:
    lines = whole.samples_path.read_text().splitlines()
    whole.samples_path.write_text("\n".join([lines[0], '{"problem_id": 3}', *lines[2:]]) + "\n")
    with pytest.raises(DataError, match=r"Line 2 of .*samples.jsonl: this is no record of a sample"):
        whole.read_samples()
    with pytest.raises(DataError, match="is not complete"):
        EvaluationFolder(whole.path / "nowhere").read_samples()


def test_grading_again_changes_verdicts_and_nothing_else(model, tokenizer, task, tmp_path: Path) -> None:
    """The same grader gives the same bytes; a stricter one gives what a new evaluation with it gives."""
    settings: dict[str, Any] = {"num_problems": 6, "num_samples": 4, "max_completion_length": 16}
    folder = EvaluationFolder(tmp_path / "old")
    evaluate(model, tokenizer, task, folder=folder, **settings)
    before = contents(folder)
    assert rescore(folder, task).num_changed == 0
    assert contents(folder) == before
    strict = replace(task, verifier=replace(task.verifier, unscorable="b"))
    expected = evaluate(model, tokenizer, strict, **settings)
    found = rescore(folder, strict)
    assert found.result == expected
    assert found.num_changed == sum("b" in sample.completion for sample in folder.read_samples()) > 0
    assert EvaluationResult.load(folder.result_path) == expected
    with pytest.raises(DataError, match="no longer has the problems"):
        rescore(folder, Renamed())

    class Unsure(type(task.verifier)):
        def _verdict(self, completion: str, answer: str) -> Verdict:
            return replace(super()._verdict(completion, answer), score=None, reason="unsure")

    assert rescore(folder, replace(task, verifier=Unsure())).result.reasons == {"unsure": 24}
    assert EvaluationResult.load(folder.result_path).reasons == {"unsure": 24}


class Renamed:
    name = "renamed"
    verifier: Any = None

    def problems(self, split: str, count: int | None = None, seed: int = 0) -> list[Problem]:
        return [Problem(f"other/{index}", "?", "!") for index in range(count or 1)]


KILLED = """
import sys
from relax_rl.cli.main import main
words = "eval tiny --task countdown -k 4 --num-problems 12 --max-completion-length 48 --batch-size 8".split()
sys.exit(main([*words, "-o", sys.argv[1]]))
"""


@pytest.mark.slow
def test_killed_by_the_system_and_started_again(tmp_path: Path) -> None:
    """SIGKILL in the middle of sampling, twice, through the command line; then the same files as in one go."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}

    def start(folder: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-c", KILLED, folder]
        return subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def num_kept() -> int:
        partial = tmp_path / "broken" / "partial.jsonl"
        return partial.read_bytes().count(b"\n") if partial.is_file() else 0

    for _ in range(2):
        before = num_kept()
        process = start("broken")
        while num_kept() <= before and process.poll() is None:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    assert 0 < num_kept() < 48
    for name in ("broken", "whole"):
        process = start(name)
        _, errors = process.communicate(timeout=240)
        assert process.returncode == 0, errors.decode()
    broken, whole = (EvaluationFolder(tmp_path / name) for name in ("broken", "whole"))
    assert contents(broken) == contents(whole)
    assert len({(sample.problem_id, sample.index) for sample in broken.read_samples()}) == 48
