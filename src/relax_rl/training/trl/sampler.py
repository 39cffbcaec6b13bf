"""The order of the prompts of a run: a function of the seed and of the number of updates alone."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass

import torch
from torch.utils.data import Sampler

__all__ = ["PromptPosition", "PromptSampler"]


@dataclass(frozen=True)
class PromptPosition:
    """Position of a run in its prompts.

    Attributes:
        pass_index: passes over the prompts that are complete.
        update: updates of the current pass that are done.
        seed: seed of the permutations.
        num_prompts: in a pass.
        digest: digest of the order of the prompts in the current pass.
    """

    pass_index: int
    update: int
    seed: int
    num_prompts: int
    digest: str

    def to_dict(self) -> dict[str, int | str]:
        """As JSON has it."""
        return asdict(self)


class PromptSampler(Sampler[int]):
    """Indices of prompts as TRL's `RepeatSampler` gives them to an uninterrupted run, at any update.

    `RepeatSampler` keeps the place in its random numbers to itself, so that a new process begins with the first pass
    again. Here the permutation of a pass is found from the seed and the number of the pass, and the number of the pass
    from the updates done.

    Args:
        num_prompts: number of prompts of the training set.
        group_size: G; each index comes G times in a row.
        prompts_per_rollout: prompts of a rollout batch, over all processes. Prompts that do not fill one are left out
            of a pass.
        repeats: times that the indices of a rollout batch come, one for each of its micro-batches.
        updates_per_rollout: updates on one rollout batch.
        updates_done: asked at the beginning of a pass.
        seed: seed of the permutations.
        shuffle: False keeps the order of the training set.
    """

    def __init__(
        self,
        num_prompts: int,
        *,
        group_size: int,
        prompts_per_rollout: int,
        repeats: int,
        updates_per_rollout: int,
        updates_done: Callable[[], int],
        seed: int,
        shuffle: bool = True,
    ) -> None:
        self._num_prompts = num_prompts
        self._group_size = group_size
        self._prompts_per_rollout = prompts_per_rollout
        self._repeats = repeats
        self._rollouts = num_prompts // prompts_per_rollout
        self._updates_per_pass = max(1, self._rollouts * updates_per_rollout)
        self._updates_done = updates_done
        self._seed = seed
        self._shuffle = shuffle
        self._drawn: tuple[int, torch.Generator, list[int]] | None = None

    def __len__(self) -> int:
        return self._rollouts * self._prompts_per_rollout * self._repeats * self._group_size

    def __iter__(self) -> Iterator[int]:
        order = self._order(self._updates_done() // self._updates_per_pass)
        for rollout in range(self._rollouts):
            start = rollout * self._prompts_per_rollout
            for _ in range(self._repeats):
                for index in order[start : start + self._prompts_per_rollout]:
                    for _ in range(self._group_size):
                        yield index

    def position(self, updates: int) -> PromptPosition:
        """Position of a run after so many updates."""
        pass_index, update = divmod(updates, self._updates_per_pass)
        digest = hashlib.sha256(torch.tensor(self._order(pass_index)).numpy().tobytes()).hexdigest()[:16]
        return PromptPosition(pass_index, update, self._seed, self._num_prompts, digest)

    def _order(self, pass_index: int) -> list[int]:
        """The order of a pass: as `RepeatSampler` draws it, from one generator, a permutation for each pass."""
        if not self._shuffle:
            return list(range(self._num_prompts))
        if self._drawn is None or self._drawn[0] > pass_index:
            self._drawn = (-1, torch.Generator().manual_seed(self._seed), [])
        last, generator, order = self._drawn
        for _ in range(last, pass_index):
            order = torch.randperm(self._num_prompts, generator=generator).tolist()
        self._drawn = (pass_index, generator, order)
        return order
