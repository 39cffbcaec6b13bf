"""Runs of several processes evaluate together, whether the weights are whole or sharded."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from relax_rl.evaluation.samplers.protocol import Completion, Draw, SamplingSettings
from relax_rl.tasks.base import Problem
from relax_rl.tasks.countdown import CountdownTask
from relax_rl.training import together
from relax_rl.training.together import SharingSampler, made_once, raised_by_all
from training.test_processes import ENVIRONMENT, ROOT

SETTINGS = (
    *("--trainer.per_device_train_batch_size=16", "--trainer.num_generations=8", "--trainer.max_completion_length=24"),
    *("--trainer.max_steps=2", "--trainer.save_steps=2", "--sampling.engine=generate", "--model=tiny"),
    *("--dictionary.steps=5", "--dictionary.num_observables=4", "--objective.xi=quantile:0.5"),
    *("--evaluation.num_problems=6", "--evaluation.num_samples=2", "--evaluation.batch_size=4"),
)


def trained(output: Path, processes: int, *words: str) -> dict[str, Any]:
    """The evaluations of a run, by name."""
    script = str(ROOT / "tests/support/fsdp_ranks.py")
    launcher = [] if processes == 1 else ["-m", "torch.distributed.run", f"--nproc_per_node={processes}"]
    command = [sys.executable, *launcher, script, "train", "countdown", "--output", str(output), *SETTINGS, *words]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-4000:]
    return {path.stem: json.loads(path.read_text()) for path in (output / "evaluations").glob("*.json")}


@pytest.mark.distributed
@pytest.mark.timeout(2800)
def test_a_run_of_several_processes_and_a_sharded_one_evaluate_as_one_process_does(tmp_path: Path) -> None:
    alone = trained(tmp_path / "alone", 1, "--trainer.gradient_accumulation_steps=2")
    whole = trained(tmp_path / "whole", 2, "--trainer.gradient_accumulation_steps=1")
    sharded = trained(tmp_path / "sharded", 2, "--trainer.gradient_accumulation_steps=1", "--trainer.fsdp=true")
    assert list(alone["before"]["metrics"])
    assert whole["before"] == alone["before"]
    assert sharded["before"]["samples"] == alone["before"]["samples"]
    for name, value in alone["before"]["metrics"].items():
        assert sharded["before"]["metrics"][name] == pytest.approx(value, rel=1e-4), name
    # `generate` draws by process, so one process trains on other completions than two.
    assert [row["completion"] for row in sharded["after"]["samples"]] == [
        row["completion"] for row in whole["after"]["samples"]
    ]


class Processes:
    """Stands for one of several processes; what the others bring is given."""

    def __init__(self, rank: int, count: int, others: list[Any]) -> None:
        self.process_index, self.num_processes = rank, count
        self.is_main_process = rank == 0
        self.others = others

    def join(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(together, "PartialState", lambda: self)
        monkeypatch.setattr(together, "gather_object", lambda given: [*given, *self.others.pop(0)])


class Blocks:
    """A sampler of blocks of one completion, of which block 3 can be broken."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error

    def sample(
        self,
        problems: list[Problem],
        settings: SamplingSettings,
        done: Any = frozenset(),
        takes: Callable[[int], bool] = lambda number: True,
    ) -> Any:
        for number in range(len(problems)):
            if takes(number):
                if number == 3 and self.error is not None:
                    raise self.error
                yield [Draw(number, 0, Completion(str(number), (number,), 1, False))]


def places(sampler: SharingSampler) -> list[int]:
    problems = CountdownTask().problems("test", 5)
    return [draw.prompt for lot in sampler.sample(problems, SamplingSettings(1, 4)) for draw in lot]


@pytest.mark.parametrize(("rank", "expected"), [(0, [0, 3]), (1, [1, 4]), (2, [2])])
def test_each_process_decodes_every_third_block_and_gets_all(
    rank: int, expected: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = [Draw(number, 0, Completion("", (), 0, False)) for number in range(5) if number not in expected]
    Processes(rank, 3, [[], theirs]).join(monkeypatch)
    found = places(SharingSampler(Blocks()))  # pyright: ignore[reportArgumentType]
    assert found[: len(expected)] == expected
    assert sorted(found) == list(range(5))


def test_sharded_weights_are_read_by_all_in_step(monkeypatch: pytest.MonkeyPatch) -> None:
    Processes(1, 3, []).join(monkeypatch)
    assert places(SharingSampler(Blocks(), is_sharded=True)) == list(range(5))  # pyright: ignore[reportArgumentType]


def test_a_failure_of_one_process_is_raised_by_all(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = ValueError("block 3")
    Processes(0, 3, [[]]).join(monkeypatch)
    with pytest.raises(ValueError, match="block 3"):
        places(SharingSampler(Blocks(broken)))  # pyright: ignore[reportArgumentType]
    Processes(1, 3, [[broken]]).join(monkeypatch)
    with pytest.raises(ValueError, match="block 3"):
        places(SharingSampler(Blocks(broken)))  # pyright: ignore[reportArgumentType]
    Processes(1, 3, [[]]).join(monkeypatch)
    raised_by_all([])


def test_what_the_first_process_cannot_make_fails_on_all() -> None:
    def impossible() -> None:
        raise torch.linalg.LinAlgError("singular")

    assert made_once(lambda: 7) == 7
    with pytest.raises(torch.linalg.LinAlgError, match="singular"):
        made_once(impossible)
