"""CURE's rollout plan: some completions of a group begin where another one was least sure (arXiv 2508.11016, stage 1).

Of the G completions of a prompt, ``trunks`` are sampled as usual. In each, one of the tokens of highest entropy is
picked, and what comes before it is completed again, (G - trunks) / trunks times. All G form one group; of a branch only
what is new is learned from. By the released code (bytedance/CURE c904b38), whose second stage is plain DAPO.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from relax_rl.config.settings import SamplingConfig
from relax_rl.errors import ConfigError

__all__ = ["Branching", "branching_from"]

Ids = list[list[int]]


@dataclass(frozen=True)
class Branching:
    """How a group is made of trunks and branches.

    Attributes:
        group_size: G.
        trunks: 4, with 3 branches each (the authors' script, for G = 16).
        top: the token is one of so many of highest entropy, 20 (the authors' script), each as likely. The first token,
            special tokens and those of at most one character besides spaces are never picked.
        max_completion_length: branches are cut here, trunk's part included.
    """

    group_size: int
    trunks: int = 4
    top: int = 20
    max_completion_length: int = 8192

    def __post_init__(self) -> None:
        if self.trunks < 1 or self.group_size % self.trunks or self.group_size == self.trunks:
            raise ConfigError(
                f"sampling.trunks = {self.trunks} must divide trainer.num_generations = {self.group_size} and leave "
                "room for branches; CURE takes 4 of 16."
            )

    @property
    def branches(self) -> int:
        """Branches of a trunk."""
        return self.group_size // self.trunks - 1

    def completed(
        self,
        prompts: Ids,
        complete: Callable[[Ids], Ids],
        entropies: Callable[[Ids, Ids], Sequence[Tensor]],
        tokenizer: Any,
    ) -> tuple[Ids, list[int]]:
        """Completions (B) of whole groups of prompts (B), and how many tokens of each are the trunk's.

        Args:
            prompts: token ids, each prompt G times.
            complete: samples a completion for each of some prompts.
            entropies: (T_i) for each of some completions of some prompts.
            tokenizer: says which tokens may be picked.
        """
        rows = range(len(prompts))
        trunk_rows = [row for row in rows if row % self.group_size < self.trunks]
        branch_rows = [row for row in rows if row % self.group_size >= self.trunks]
        trunk_prompts = [prompts[row] for row in trunk_rows]
        trunks = complete(trunk_prompts)
        starts = [self.start(*pair, tokenizer) for pair in zip(trunks, entropies(trunk_prompts, trunks), strict=True)]
        stems = {row: trunk[:start] for row, trunk, start in zip(trunk_rows, trunks, starts, strict=True)}
        prefixes = [stems[self._trunk_of(row)] for row in branch_rows]
        grown = complete([prompts[row] + prefix for row, prefix in zip(branch_rows, prefixes, strict=True)])
        completions: Ids = [[] for _ in rows]
        lengths = [0 for _ in rows]
        for row, trunk in zip(trunk_rows, trunks, strict=True):
            completions[row] = trunk
        for row, prefix, rest in zip(branch_rows, prefixes, grown, strict=True):
            completions[row] = (prefix + rest)[: self.max_completion_length]
            lengths[row] = len(prefix)
        return completions, lengths

    def _trunk_of(self, row: int) -> int:
        first, member = row - row % self.group_size, row % self.group_size
        return first + (member - self.trunks) // self.branches

    def start(self, completion: list[int], entropy: Tensor, tokenizer: Any) -> int:
        """Position at which the branches of a completion begin; 0, the whole of it, where no token may be picked."""
        special = set(tokenizer.all_special_ids)
        found: list[int] = []
        for place in torch.argsort(entropy[: len(completion)], descending=True).tolist():
            token = completion[place]
            if place > 0 and token not in special and len(tokenizer.decode([token]).strip()) > 1:
                found.append(place)
            if len(found) == self.top:
                break
        return found[int(torch.randint(len(found), (1,)))] if found else 0


def branching_from(sampling: SamplingConfig, group_size: int, max_completion_length: int) -> Branching | None:
    """CURE's rollout plan where the settings ask for it. Raises ConfigError for groups that it does not fit."""
    if sampling.trunks is None:
        return None
    return Branching(group_size, sampling.trunks, sampling.branch_top, max_completion_length)
