"""Position at which a completion commits to its answer."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from relax_rl.evaluation.texts import completion_texts

__all__ = ["answer_span", "answer_tokens"]


def answer_span(text: str, answer: str) -> tuple[int, int] | None:
    """The characters of a completion that a verifier took for the answer; None where the text does not hold them.

    The last ``<answer>`` that is followed by them, else the last ``\\boxed{``, else their last occurrence: a sentence
    behind the box may repeat the answer.
    """
    words = re.escape(answer)
    for marker in (r"<answer>\s*", r"\\boxed\s*\{\s*", ""):
        found = None
        for found in re.finditer(f"{marker}({words})", text):  # noqa: B007 - the last one
            pass
        if found is not None and answer:
            return found.span(1)
    return None


def answer_tokens(tokenizer: Any, ids: Sequence[int], answer: str | None) -> tuple[int, int] | None:
    """The first and the last token of the answer of a completion; None without one.

    Counted by decoding beginnings, so that it holds for any tokenizer.

    Args:
        tokenizer: or a processor.
        ids: token ids of the completion, without padding.
        answer: as the verifier extracted it.
    """
    span = None if answer is None else answer_span(completion_texts(tokenizer, [ids])[0], answer)
    if span is None:
        return None
    return _token_of(tokenizer, ids, span[0]), _token_of(tokenizer, ids, span[1] - 1)


def _token_of(tokenizer: Any, ids: Sequence[int], character: int) -> int:
    """The token that brings a character: the shortest beginning whose text reaches past it."""
    low, high = 1, len(ids)
    while low < high:
        middle = (low + high) // 2
        # A beginning may end within a character of several bytes, which decodes to a mark of replacement: that is one
        # character, too.
        if len(completion_texts(tokenizer, [ids[:middle]])[0]) > character:
            high = middle
        else:
            low = middle + 1
    return low - 1
