"""Countdown: reach the target from the given numbers with ``+ - * /``, each number used exactly once.

The problems are made, not stored. Two rules keep them honest:

- The random stream of an item comes from a digest of (task parameters, split, seed, index). Seed arithmetic such as
  ``seed + index`` would make the lists of seeds 0 and 1 nearly equal.
- A problem, that is its sorted numbers and its target, belongs to one split by its own digest. What is in ``train``
  for one seed or one setting of the task can therefore be in ``test`` for none.
"""

from __future__ import annotations

import functools
import hashlib
import random
from dataclasses import dataclass, field
from typing import Any, ClassVar

from relax_rl.errors import ConfigError, DataError
from relax_rl.rewards.base import Verifier
from relax_rl.rewards.countdown import MAX_NUMBERS, CountdownAnswer, CountdownVerifier
from relax_rl.tasks.base import BaseTask, Problem

__all__ = ["LEVELS", "CountdownTask", "random_expression", "split_of", "worded"]

LEVELS = {
    1: {"num_numbers": 2, "max_number": 20, "max_target": 60},
    2: {"num_numbers": 3, "max_number": 20, "max_target": 60},
    3: {"num_numbers": 4, "max_number": 50, "max_target": 100},
    4: {"num_numbers": 5, "max_number": 99, "max_target": 300},
    5: {"num_numbers": 6, "max_number": 99, "max_target": 999},
}
"""Parameters by difficulty; 2 is the default of the task and what the embedded policy was built for."""

DEFAULT_SIZES = {"train": 2048, "test": 256}
TEST_SHARE = 0.2
# Draws for one item before we say that the task has run out of new problems.
MAX_DRAWS = 5000

_INSTRUCTION = (
    "Using the numbers {numbers}, write an expression that equals {target}. Use each number exactly once, and only "
    "the signs +, -, *, / and brackets. Think step by step, then give the expression alone between <answer> and "
    "</answer>, for example <answer>(1 + 2) * 3</answer>."
)


def split_of(numbers: tuple[int, ...], target: int) -> str:
    """The one split that a problem belongs to, whatever the seed and the parameters of the task.

    The order of ``numbers`` does not matter: two orders are the same problem.
    """
    digest = _digest("split", sorted(numbers), target)
    return "test" if digest < TEST_SHARE * 2**64 else "train"


def _digest(*parts: object) -> int:
    """64 bits of blake2b over the parts."""
    text = "countdown" + "".join(f"|{part}" for part in parts)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")


@dataclass(frozen=True)
class CountdownTask(BaseTask):
    """Problems of ``num_numbers`` numbers from 1 to ``max_number`` and a target from 1 to ``max_target``.

    The target is the value of a random expression over the numbers in which every intermediate result is a positive
    whole number, so every problem can be solved, and targets that many expressions reach are more frequent. The prompt
    for a plain model is ``11 1 3>14:``; a chat model is asked in words (``Problem.instruction``). Both splits have as
    many problems as the parameters allow; without a count ``train`` gives 2048 and ``test`` 256. A list holds no
    problem twice.

    Raises:
        ConfigError: A parameter out of range.
    """

    num_numbers: int = 3
    max_number: int = 20
    max_target: int = 60
    name: str = field(default="countdown", init=False)
    is_endless: ClassVar[bool] = True
    verifier: Verifier = field(default_factory=CountdownVerifier, init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        limits = {"num_numbers": (2, MAX_NUMBERS), "max_number": (1, 10**6), "max_target": (1, 10**6)}
        for parameter, (low, high) in limits.items():
            value = getattr(self, parameter)
            if not low <= value <= high:
                raise ConfigError(f"Countdown's {parameter} is {value}; choose a whole number from {low} to {high}.")

    @classmethod
    def of_level(
        cls,
        level: int = 2,
        num_numbers: int | None = None,
        max_number: int | None = None,
        max_target: int | None = None,
    ) -> CountdownTask:
        """The task of a difficulty from 1 to 5; a parameter that is given replaces that of the level."""
        if level not in LEVELS:
            raise ConfigError(f"Countdown has no level {level!r}; choose a whole number from 1 to {max(LEVELS)}.")
        given = {"num_numbers": num_numbers, "max_number": max_number, "max_target": max_target}
        return cls(**LEVELS[level] | {name: value for name, value in given.items() if value is not None})

    def problems(self, split: str, count: int | None = None, seed: int = 0) -> list[Problem]:
        """The first ``count`` problems of ``split`` (``"train"`` or ``"test"``) for this seed.

        A longer list begins with the shorter one.

        Raises:
            DataError: No such split, a negative count, or more problems asked for than the parameters allow.
        """
        if split not in DEFAULT_SIZES:
            raise DataError(f"Countdown has no split {split!r}; choose one of {', '.join(DEFAULT_SIZES)}.")
        count = DEFAULT_SIZES[split] if count is None else count
        if count < 0:
            raise DataError(f"Countdown was asked for {count} problems; ask for 0 or more.")
        return list(_drawn(self, split, seed, count))

    def _problem(self, split: str, seed: int, index: int, seen: set[tuple[tuple[int, ...], int]]) -> Problem:
        """Draw until a problem comes that belongs to the split and is not in ``seen``; put it there."""
        rng = random.Random(_digest(self.num_numbers, self.max_number, self.max_target, split, seed, index))
        for _ in range(MAX_DRAWS):
            numbers = tuple(rng.randint(1, self.max_number) for _ in range(self.num_numbers))
            expression, target = random_expression(numbers, rng)
            key = (tuple(sorted(numbers)), target)
            if target > self.max_target or key in seen or split_of(*key) != split:
                continue
            seen.add(key)
            return worded(f"countdown-{split}-{seed}-{index}", CountdownAnswer(numbers, target), expression)
        raise DataError(
            f"Countdown with num_numbers={self.num_numbers}, max_number={self.max_number}, max_target="
            f"{self.max_target} ran out of new {split} problems after {len(seen)}; ask for fewer or raise max_number."
        )


def worded(identity: str, gold: CountdownAnswer, expression: str, **columns: Any) -> Problem:
    """A problem of countdown in its words, with an expression that solves it."""
    numbers = ", ".join(map(str, gold.numbers))
    return Problem(
        id=identity,
        prompt=f"{gold}:",
        answer=str(gold),
        instruction=_INSTRUCTION.format(numbers=numbers, target=gold.target),
        solution=f"<answer>{expression}</answer>",
        mistake=f"<answer>{expression}+1</answer>",
        columns=columns,
    )


@functools.lru_cache(maxsize=8)
def _drawn(task: CountdownTask, split: str, seed: int, count: int) -> tuple[Problem, ...]:
    # A comparison and its evaluations ask for the same problems many times; 2048 of them take 0.16 s.
    draw = task._problem  # pyright: ignore[reportPrivateUsage]
    seen: set[tuple[tuple[int, ...], int]] = set()
    return tuple(draw(split, seed, index, seen) for index in range(count))


def random_expression(numbers: tuple[int, ...], rng: random.Random) -> tuple[str, int]:
    """Join two random terms by a random sign that keeps the result a positive whole number, until one is left."""
    terms = [(str(number), number) for number in numbers]
    while len(terms) > 1:
        rng.shuffle(terms)
        (right, b), (left, a) = terms.pop(), terms.pop()
        signs = [("+", a + b), ("*", a * b)]
        if a > b:
            signs.append(("-", a - b))
        if a % b == 0:
            signs.append(("/", a // b))
        sign, value = rng.choice(signs)
        terms.append((f"({left}{sign}{right})", value))
    expression, value = terms[0]
    return expression[1:-1], value
