"""Countdown problems that cannot be solved without one sign, beside problems that can: something to discover.

A policy whose supervised start hardly ever used that sign (``scripts/build_muted_policy.py``) has next to no success on
the former. What it needs stands in its vocabulary all the same.
"""

from __future__ import annotations

import functools
import random
from dataclasses import dataclass, field
from typing import ClassVar, Literal, get_args

from relax_rl.errors import ConfigError, DataError
from relax_rl.rewards.base import Verifier
from relax_rl.rewards.countdown import CountdownAnswer, CountdownVerifier
from relax_rl.tasks.base import BaseTask, Problem, digest
from relax_rl.tasks.countdown import random_expression, split_of, worded
from relax_rl.tasks.solutions import MAX_NUMBERS, countdown_solutions

__all__ = ["SIZES", "MutedCountdownTask", "MutedOperator"]

MutedOperator = Literal["/", "-"]

SIZES = {"train": 512, "test": 128, "hard": 128}
_MAX_DRAWS = 5000


@dataclass(frozen=True)
class MutedCountdownTask(BaseTask):
    """Countdown of which a share ``hard_share`` has no solution without ``operator``; in split ``hard``, none has.

    Whether a problem needs the sign is found by enumeration of its solutions, and is its column ``needs_operator``.
    Only signs can be asked for that no other writing of a solution hides: ``a-(b-c)`` is a sum, ``a/(b/c)`` a product
    without its sign. Problems are in the splits of the task ``countdown``; those of ``hard`` belong to its test split.
    The words, the prompt ``11 1 3>14:`` and the verifier are countdown's. A list holds no problem twice, and a longer
    list begins with the shorter one.

    Attributes:
        operator: "/" or "-".
        hard_share: share of hard problems in ``train`` and ``test``; 1 in the split ``hard``.
        num_numbers: 3, up to 5.
        max_number, max_target: as in countdown.

    Raises:
        ConfigError: A parameter out of range.
    """

    operator: MutedOperator = "/"
    hard_share: float = 0.5
    num_numbers: int = 3
    max_number: int = 20
    max_target: int = 60
    name: str = field(default="countdown_muted", init=False)
    is_endless: ClassVar[bool] = True
    verifier: Verifier = field(default_factory=CountdownVerifier, init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        if self.operator not in get_args(MutedOperator):
            raise ConfigError(
                f"countdown_muted has no operator {self.operator!r}; choose {' or '.join(get_args(MutedOperator))}: a "
                "solution with + or * can be written without it."
            )
        if not 0 <= self.hard_share <= 1:
            raise ConfigError(f"hard_share of countdown_muted is {self.hard_share}; choose a number from 0 to 1.")
        limits = {"num_numbers": (2, MAX_NUMBERS), "max_number": (2, 10**4), "max_target": (1, 10**4)}
        for parameter, (low, high) in limits.items():
            if not low <= getattr(self, parameter) <= high:
                raise ConfigError(
                    f"{parameter} of countdown_muted is {getattr(self, parameter)}; choose a whole number from {low} "
                    f"to {high}."
                )

    def problems(self, split: str, count: int | None = None, seed: int = 0) -> list[Problem]:
        """The first ``count`` problems of ``split`` (``"train"``, ``"test"`` or ``"hard"``) for this seed.

        Raises:
            DataError: No such split, a negative count, or more problems asked for than the parameters allow.
        """
        if split not in SIZES:
            raise DataError(f"countdown_muted has no split {split!r}; choose one of {', '.join(SIZES)}.")
        count = SIZES[split] if count is None else count
        if count < 0:
            raise DataError(f"countdown_muted was asked for {count} problems; ask for 0 or more.")
        return list(_drawn(self, split, seed, count))

    def needs_operator(self, numbers: tuple[int, ...], target: int) -> bool:
        """Whether every solution has the sign, and there is one."""
        found = countdown_solutions(numbers, target).get(target, [])
        return bool(found) and all(self.operator in text for text in found)

    def problem(self, split: str, seed: int, index: int, seen: set[tuple[tuple[int, ...], int]]) -> Problem:
        """Draw until a problem comes that belongs here and is not in ``seen``; put it there."""
        shape = (self.operator, self.hard_share, self.num_numbers, self.max_number, self.max_target)
        rng = random.Random(digest(self.name, *map(str, (*shape, split, seed, index))))
        is_hard = split == "hard" or rng.random() < self.hard_share
        for _ in range(_MAX_DRAWS):
            numbers = tuple(rng.randint(1, self.max_number) for _ in range(self.num_numbers))
            expression, target = random_expression(numbers, rng)
            key = (tuple(sorted(numbers)), target)
            if target > self.max_target or key in seen or (split == "train") != (split_of(*key) == "train"):
                continue
            # What is written without the sign needs it nowhere: no enumeration is made for that.
            if is_hard != (self.operator in expression and self.needs_operator(numbers, target)):
                continue
            seen.add(key)
            identity = f"{self.name}-{split}-{seed}-{index}"
            return worded(identity, CountdownAnswer(numbers, target), expression, needs_operator=is_hard)
        raise DataError(
            f"countdown_muted found no new {split} problem {'that needs' if is_hard else 'without'} {self.operator} "
            f"after {len(seen)}; ask for fewer, or raise max_number."
        )


@functools.lru_cache(maxsize=8)
def _drawn(task: MutedCountdownTask, split: str, seed: int, count: int) -> tuple[Problem, ...]:
    seen: set[tuple[tuple[int, ...], int]] = set()
    return tuple(task.problem(split, seed, index, seen) for index in range(count))
