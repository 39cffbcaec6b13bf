"""Whether prompts and completions fit into a model's context, asked before anything runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from relax_rl.errors import ConfigError
from relax_rl.evaluation.prompts import PromptForm, encode_prompt, render_prompt
from relax_rl.tasks.base import Problem

__all__ = ["Overlong", "Room"]

Overlong = Literal["refuse", "cut"]
"""Treatment of a prompt that leaves no room for a whole completion; ``cut`` takes its start away."""
_SPARE_BYTES = 16
"""For tokens that a tokenizer adds in front."""


@dataclass(frozen=True)
class Room:
    """The context of a model, shared by a prompt and its completion.

    Attributes:
        context: positions; None where the model has no limit.
        name: name of the model.
        max_completion_length: tokens of a completion.
        overlong: what becomes of prompts that are too long.
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
        return [] if room is None else list(_long_prompts(tokenizer, problems, form, room))

    def longest_completion(self, tokenizer: Any, problems: Sequence[Problem], form: PromptForm) -> int | None:
        """Tokens that the longest prompt leaves for a completion; None where there is no limit, or room enough."""
        if self.context is None:
            return None
        lengths = _long_prompts(tokenizer, problems, form, self.context - self.max_completion_length)
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
        lengths = _long_prompts(tokenizer, problems, replace(form, most_tokens=None), room)
        if not lengths:
            return None
        longest = max(lengths, key=lambda problem_id: lengths[problem_id])
        shows = any(problem.images for problem in problems if problem.id in lengths)
        if self.overlong == "refuse" or shows:
            cut = "" if shows else ", or cut long prompts at their start (overlong = cut)"
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


def _long_prompts(tokenizer: Any, problems: Sequence[Problem], form: PromptForm, room: int) -> dict[str, int]:
    """Tokens of each prompt that has more than `room`, by the id of its problem.

    A token stands for at least one byte, so that short words need no tokenizer: a pass over the words of a large data
    set costs next to nothing. Of problems with images, the one with most pixels stands for all.
    """
    overhead = len(render_prompt(tokenizer, Problem("", "x", ""), form).encode()) + _SPARE_BYTES
    shown = [problem for problem in problems if problem.images]
    # A template wraps each turn, so that a conversation has the overhead once a turn.
    chosen = [p for p in problems if not p.images and overhead * (1 + len(p.turns)) + _num_bytes(p) > room]
    if shown:
        chosen.append(max(shown, key=lambda problem: sum(one.size[0] * one.size[1] for one in problem.pictures)))
    lengths = {problem.id: len(encode_prompt(tokenizer, problem, form)) for problem in chosen}
    return {problem_id: length for problem_id, length in lengths.items() if length > room}


def _num_bytes(problem: Problem) -> int:
    # The longer of both: which one is read depends on the template.
    spoken = "".join(text for _, text in problem.turns) + problem.question
    words = max(problem.prompt, spoken, key=len) + (problem.system or "")
    return len(words.encode("utf-8", "surrogatepass"))
