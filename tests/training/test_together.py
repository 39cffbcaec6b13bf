"""What several processes sample and fit together, as each of them sees it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from relax_rl.evaluation.samplers.protocol import Completion, Draw, SamplingSettings
from relax_rl.tasks.base import Problem
from relax_rl.tasks.countdown import CountdownTask
from relax_rl.training import together
from relax_rl.training.together import SharingSampler, made_once, raised_by_all


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
