"""Problems with many solutions, all of them known: where a policy may lose breadth within a problem, and it shows.

The problems are made, not stored, by the two rules of `relax_rl.tasks.countdown`: a digest seeds each item, and a
digest of the problem decides its split.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import ClassVar, Literal, get_args

from relax_rl.errors import ConfigError, DataError
from relax_rl.rewards.base import Verifier
from relax_rl.rewards.countdown import CountdownAnswer, CountdownVerifier
from relax_rl.rewards.subset_sum import SubsetSumVerifier
from relax_rl.tasks.base import BaseTask, Problem, digest
from relax_rl.tasks.countdown import split_of
from relax_rl.tasks.solutions import MAX_NUMBERS, countdown_solutions, subset_sums

__all__ = ["SIZES", "ManySolutionsTask", "SolutionKind"]

SolutionKind = Literal["countdown", "subset_sum"]

SIZES = {"train": 512, "test": 128}
DEFAULTS = {"countdown": {"num_numbers": 4, "max_number": 12}, "subset_sum": {"num_numbers": 8, "max_number": 20}}
_MOST_NUMBERS = {"countdown": MAX_NUMBERS, "subset_sum": 12}
_MAX_DRAWS = 2000

_INSTRUCTIONS = {
    "countdown": "Using the numbers {numbers}, write an expression that equals {target}. Use each number exactly once, "
    "and only the signs +, -, *, / and brackets. Think step by step, then give the expression alone between <answer> "
    "and </answer>, for example <answer>(1 + 2) * 3</answer>.",
    "subset_sum": "Choose some of the numbers {numbers} whose sum is {target}, each at most as often as it is given. "
    "Think step by step, then give the sum alone between <answer> and </answer>, for example <answer>1 + 2</answer>.",
}


@dataclass(frozen=True)
class ManySolutionsTask(BaseTask):
    """Countdown problems or subset sums with at least ``min_solutions`` different solutions.

    Solutions that differ in the order and grouping of sums and products alone are one (`relax_rl.rewards.solutions`).
    They are counted by enumeration, and their number is the column ``num_solutions`` of a problem, so that the share of
    them that a policy finds is exact. The prompt of a plain model is that of countdown, ``11 1 3>14:``; a countdown
    problem is in the same split as in the task ``countdown``. Without a count ``train`` gives 512 problems and ``test``
    128. A list holds no problem twice, and a longer list begins with the shorter one.

    Attributes:
        kind: "countdown" or "subset_sum".
        num_numbers: 4 of countdown, up to 5; 8 of subset sums, up to 12.
        max_number: 12 of countdown, 20 of subset sums; the numbers are from 2 on.
        max_target: largest target.
        min_solutions: least number of solutions of each problem.

    Raises:
        ConfigError: A parameter out of range.
    """

    kind: SolutionKind = "countdown"
    num_numbers: int | None = None
    max_number: int | None = None
    max_target: int = 60
    min_solutions: int = 6
    name: str = field(default="many_solutions", init=False)
    is_endless: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.kind not in get_args(SolutionKind):
            kinds = " or ".join(get_args(SolutionKind))
            raise ConfigError(f"many_solutions has no kind {self.kind!r}; choose {kinds}.")
        limits = {
            "num_numbers": (self._numbers, 2, _MOST_NUMBERS[self.kind]),
            "max_number": (self._largest, 2, 10**4),
            "max_target": (self.max_target, 1, 10**4),
            "min_solutions": (self.min_solutions, 1, 10**4),
        }
        for parameter, (value, low, high) in limits.items():
            if not low <= value <= high:
                raise ConfigError(
                    f"{parameter} of many_solutions is {value}; choose a whole number from {low} to {high}."
                )

    @property
    def verifier(self) -> Verifier:  # type: ignore[override]
        return CountdownVerifier() if self.kind == "countdown" else SubsetSumVerifier()

    @property
    def _numbers(self) -> int:
        return DEFAULTS[self.kind]["num_numbers"] if self.num_numbers is None else self.num_numbers

    @property
    def _largest(self) -> int:
        return DEFAULTS[self.kind]["max_number"] if self.max_number is None else self.max_number

    def problems(self, split: str, count: int | None = None, seed: int = 0) -> list[Problem]:
        """The first ``count`` problems of ``split`` (``"train"`` or ``"test"``) for this seed.

        Raises:
            DataError: No such split, a negative count, or more problems asked for than the parameters allow.
        """
        if split not in SIZES:
            raise DataError(f"many_solutions has no split {split!r}; choose one of {', '.join(SIZES)}.")
        count = SIZES[split] if count is None else count
        if count < 0:
            raise DataError(f"many_solutions was asked for {count} problems; ask for 0 or more.")
        seen: set[tuple[tuple[int, ...], int]] = set()
        return [self._problem(split, seed, index, seen) for index in range(count)]

    def _problem(self, split: str, seed: int, index: int, seen: set[tuple[tuple[int, ...], int]]) -> Problem:
        settings = (self.kind, self._numbers, self._largest, self.max_target, self.min_solutions, split, seed, index)
        rng = random.Random(digest(self.name, *map(str, settings)))
        for _ in range(_MAX_DRAWS):
            # Without 1: 7*1 and 7/1 would be two solutions that are hardly different.
            numbers = tuple(rng.randint(2, self._largest) for _ in range(self._numbers))
            solutions = self._solutions(numbers)
            targets = [
                target
                for target, found in solutions.items()
                if len(found) >= self.min_solutions
                and (tuple(sorted(numbers)), target) not in seen
                and self._split_of(numbers, target) == split
            ]
            if targets:
                target = rng.choice(targets)
                seen.add((tuple(sorted(numbers)), target))
                identity = f"{self.name}-{self.kind}-{split}-{seed}-{index}"
                return self._worded(identity, numbers, target, solutions[target])
        raise DataError(
            f"many_solutions found no new {split} problem of {self._numbers} numbers up to {self._largest} with "
            f"{self.min_solutions} solutions after {len(seen)}; ask for fewer problems, or lower min_solutions."
        )

    def _solutions(self, numbers: tuple[int, ...]) -> dict[int, list[str]]:
        if self.kind == "countdown":
            return countdown_solutions(numbers, self.max_target)
        return {target: found for target, found in subset_sums(numbers).items() if target <= self.max_target}

    def _split_of(self, numbers: tuple[int, ...], target: int) -> str:
        if self.kind == "countdown":
            return split_of(numbers, target)
        return "test" if digest(self.kind, *map(str, sorted(numbers)), str(target)) < 0.2 * 2**64 else "train"

    def _worded(self, identity: str, numbers: tuple[int, ...], target: int, solutions: list[str]) -> Problem:
        gold = CountdownAnswer(numbers, target)
        # One that begins with a minus sign cannot be written so.
        written = next((text for text in solutions if not text.startswith("-")), None)
        return Problem(
            id=identity,
            prompt=f"{gold}:",
            answer=str(gold),
            instruction=_INSTRUCTIONS[self.kind].format(numbers=", ".join(map(str, numbers)), target=target),
            solution=None if written is None else f"<answer>{written}</answer>",
            mistake=f"<answer>{solutions[0]}+1</answer>",
            columns={"num_solutions": len(solutions)},
        )
