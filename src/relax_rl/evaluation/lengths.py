"""How many tokens prompts have. Images are counted by their size, and decoded only near the limit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from relax_rl.evaluation.prompts import PromptForm, encode_prompt, render_prompt, text_tokenizer
from relax_rl.tasks.base import Problem

__all__ = ["long_prompts"]

_SPARE_BYTES = 16
"""For tokens that a tokenizer adds in front."""
_PROBES = 4
"""Prompts with images that are read in full, to prove the count by size."""
_NEAR = 16
"""Tokens from the limit within which a prompt is read in full: words beside an image may merge with its frame."""


def long_prompts(
    tokenizer: Any, problems: Sequence[Problem], form: PromptForm, room: int, *, each: bool = True
) -> dict[str, int]:
    """Tokens of each prompt that has more than `room`, by the id of its problem.

    A token stands for at least one byte, so that short words need no tokenizer: a pass over the words of a large data
    set costs next to nothing.

    Args:
        tokenizer: or the processor of an image-text model.
        each: look at each problem with images; False: the one with most pixels stands for all.
    """
    overhead = len(render_prompt(tokenizer, Problem("", "x", ""), form).encode()) + _SPARE_BYTES
    # A template wraps each turn, so that a conversation has the overhead once a turn.
    chosen = [p for p in problems if not p.images and overhead * (1 + len(p.turns)) + _num_bytes(p) > room]
    shown = [problem for problem in problems if problem.images]
    if shown and not each:
        shown = [max(shown, key=_num_pixels)]
    lengths = {problem.id: len(encode_prompt(tokenizer, problem, form)) for problem in chosen}
    lengths |= _with_images(tokenizer, shown, form, room)
    return {problem_id: length for problem_id, length in lengths.items() if length > room}


def _with_images(tokenizer: Any, problems: Sequence[Problem], form: PromptForm, room: int) -> dict[str, int]:
    by_size = _BySize.proven(tokenizer, problems, form)
    lengths: dict[str, int] = {}
    for problem in problems:
        length = None if by_size is None else by_size.length(problem)
        if length is None or abs(length - room) <= _NEAR:
            length = len(encode_prompt(tokenizer, problem, form))
        lengths[problem.id] = length
    return lengths


@dataclass(frozen=True)
class _BySize:
    """Counts the tokens of a prompt from its words and the sizes of its images, as the processor says.

    Attributes:
        processor, form: processor and form of the prompts.
        an_image: tokens that each image adds to what the processor says: its mark is a token of the words already.
    """

    processor: Any
    form: PromptForm
    an_image: int

    @classmethod
    def proven(cls, processor: Any, problems: Sequence[Problem], form: PromptForm) -> _BySize | None:
        """A count that is right for some of the problems, of all sizes; None where there is none."""
        by_pixels = sorted(problems, key=_num_pixels)
        step = max(1, (len(by_pixels) - 1) // (_PROBES - 1))
        probes = [*by_pixels[::step], *by_pixels[-1:]]
        # So few prompts are read in full anyway.
        if len(problems) <= 2 * _PROBES or "_get_num_multimodal_tokens" not in dir(processor):
            return None
        found: set[int] = set()
        for problem in probes:
            excess = len(encode_prompt(processor, problem, form)) - cls(processor, form, 0).length(problem)
            if excess % len(problem.images):
                return None
            found.add(excess // len(problem.images))
        return cls(processor, form, found.pop()) if len(found) == 1 else None

    def length(self, problem: Problem) -> int:
        """Tokens of the prompt of a problem with images."""
        words = text_tokenizer(self.processor)(
            render_prompt(self.processor, problem, self.form), add_special_tokens=False, verbose=False
        )["input_ids"]
        sizes = [picture.size[::-1] for picture in problem.pictures]
        counted = self.processor._get_num_multimodal_tokens(image_sizes=sizes)["num_image_tokens"]
        return len(words) + sum(counted) + self.an_image * len(sizes)


def _num_pixels(problem: Problem) -> int:
    return sum(picture.size[0] * picture.size[1] for picture in problem.pictures)


def _num_bytes(problem: Problem) -> int:
    # The longer of both: which one is read depends on the template.
    spoken = "".join(text for _, text in problem.turns) + problem.question
    words = max(problem.prompt, spoken, key=len) + (problem.system or "")
    return len(words.encode("utf-8", "surrogatepass"))
