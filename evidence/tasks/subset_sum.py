"""A second task family, so that a finding is not an accident of countdown: which of five numbers add up to a target?

The task is ``--task evidence.tasks.subset_sum:SubsetSumTask`` from the repository's root;
evidence/policies/subset_sum_policy.py builds its starting policy.

    s3 8 11 15 20>31:                                     the prompt
    3+15=18 no3+8+20=31 yes<answer>3+8+20</answer>        the completion
"""

from __future__ import annotations

import hashlib
import random
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from relax_rl.rewards.base import Verifier
from relax_rl.tasks.base import Problem

NUM_NUMBERS, MAX_NUMBER = 5, 30
_ANSWER = re.compile(r"<answer>(\d{1,3}(?:\+\d{1,3}){1,4})</answer>", re.ASCII)


class SubsetSumVerifier:
    """1.0 if the last answer is a sum of at least two of the given numbers, none used twice, that equals the target."""

    name = "subset_sum"

    def score(self, completions: Sequence[str], answers: Sequence[str]) -> list[float | None]:
        return [self._score(*pair) for pair in zip(completions, answers, strict=True)]

    @staticmethod
    def _score(completion: str, answer: str) -> float:
        numbers, target = answer.split(">")
        found = _ANSWER.findall(completion)
        if not found:
            return 0.0
        terms = found[-1].split("+")
        spare = Counter(terms) - Counter(numbers.split())
        return float(not spare and sum(map(int, terms)) == int(target))


@dataclass(frozen=True)
class SubsetSumTask:
    """Problems without end; the item seeds and the split of a problem come from digests, as in countdown."""

    name: str = field(default="subset_sum", init=False)
    verifier: Verifier = field(default_factory=SubsetSumVerifier, init=False, compare=False, repr=False)

    def problems(self, split: str, count: int | None = None, seed: int = 0) -> list[Problem]:
        """The first ``count`` problems of "train" (2048 without a count) or "test" (256)."""
        problems: dict[str, Problem] = {}
        index = 0
        while len(problems) < (count if count is not None else {"train": 2048, "test": 256}[split]):
            rng = random.Random(_digest("item", split, seed, index))
            index += 1
            numbers = sorted(rng.sample(range(1, MAX_NUMBER + 1), NUM_NUMBERS))
            subset = sorted(rng.sample(numbers, rng.choice((2, 3))))
            answer = f"{' '.join(map(str, numbers))}>{sum(subset)}"
            if (_digest("split", answer) % 5 == 0) == (split == "test"):
                solution = f"<answer>{'+'.join(map(str, subset))}</answer>"
                problems.setdefault(
                    answer, Problem(f"{split}-{seed}-{index}", f"s{answer}:", answer, solution=solution)
                )
        return list(problems.values())


def _digest(*parts: object) -> int:
    text = "|".join(map(str, ("subset_sum", *parts)))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")
