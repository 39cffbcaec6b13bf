"""Whether prompts and completions fit into a model's context, asked before anything runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from relax_rl.errors import ConfigError
from relax_rl.evaluation.lengths import long_prompts
from relax_rl.evaluation.prompts import PromptForm
from relax_rl.tasks.base import Problem

__all__ = ["Overlong", "Room"]

Overlong = Literal["refuse", "cut", "drop"]
"""Treatment of a prompt that leaves no room for a whole completion: ``refuse`` the run, ``cut`` the prompt's
start, or ``drop`` its problem."""


@dataclass(frozen=True)
class Room:
    """The context of a model, shared by a prompt and its completion.

    Attributes:
        context: positions; None where the model has no limit.
        name: name of the model.
        max_completion_length: tokens of a completion.
        overlong: treatment of prompts that are too long.
    """

    context: int | None
    name: str
    max_completion_length: int
    overlong: Overlong = "refuse"

    @property
    def for_prompt(self) -> int | None:
        """Tokens that a prompt may have; None for any number."""
        return None if self.context is None else self.context - self.max_completion_length

    def too_long(self, tokenizer: Any, problems: Sequence[Problem], form: PromptForm) -> list[str]:
        """Ids of the problems whose prompt leaves no room for a whole completion."""
        room = self.for_prompt
        return [] if room is None else list(long_prompts(tokenizer, problems, form, room))

    def longest_completion(self, tokenizer: Any, problems: Sequence[Problem], form: PromptForm) -> int | None:
        """Tokens that the longest prompt leaves for a completion; None where there is no limit, or room enough."""
        if self.context is None:
            return None
        lengths = long_prompts(tokenizer, problems, form, self.context - self.max_completion_length, each=False)
        return self.context - max(lengths.values()) if lengths else None

    def form(self, form: PromptForm) -> PromptForm:
        """The form with its limit, if prompts are cut.

        Raises:
            ConfigError: a completion alone fills the context.
        """
        room = self.for_prompt
        if room is None:
            return form
        if room < 1:
            raise ConfigError(
                f"A completion may have {self.max_completion_length:,} tokens, but {self.name} has a context of "
                f"{self.context:,} for prompt and completion; set a shorter max_completion_length."
            )
        return replace(form, most_tokens=room) if self.overlong == "cut" else form

    def check(self, tokenizer: Any, problems: Sequence[Problem], form: PromptForm, what: str) -> str | None:
        """Refuse prompts that are too long, or say how many are cut.

        Args:
            what: name of the problems, for the sentence: "the training split".

        Returns:
            The sentence; None where all fit.

        Raises:
            ConfigError: prompts that are too long and may not be cut.
        """
        room = self.for_prompt
        if room is None:
            return None
        lengths = long_prompts(tokenizer, problems, replace(form, most_tokens=None), room, each=False)
        if not lengths:
            return None
        longest = max(lengths, key=lambda problem_id: lengths[problem_id])
        shows = any(problem.images for problem in problems if problem.id in lengths)
        if self.overlong != "cut" or shows:
            cut = " (overlong = drop)" if shows else " (overlong = drop), or cut long prompts at their start (= cut)"
            raise ConfigError(
                f"The prompt {longest!r} of {what} has {lengths[longest]:,} tokens and a completion may have "
                f"{self.max_completion_length:,}, but {self.name} has a context of {self.context:,} for both "
                f"({len(lengths)} of {len(problems)} prompts are too long); shorten max_completion_length, leave these "
                f"problems out{cut}."
            )
        return (
            f"{len(lengths)} of {len(problems)} prompts of {what} are cut at their start to {room:,} tokens, the "
            f"longest ({longest}) from {lengths[longest]:,}"
        )
