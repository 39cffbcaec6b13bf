"""Completions as TRL decodes them, with the markers of a thought that it drops with the special tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from relax_rl.evaluation.texts import completion_texts
from relax_rl.latent.contract.template import text_tokenizer

__all__ = ["with_thought_marks"]


def with_thought_marks(tokenizer: Any, completions: Sequence[Any], ids: Sequence[Sequence[int]]) -> list[Any]:
    """Completions as TRL has them, texts or conversations of one turn, as `completion_texts` decodes them.

    A conversation of tools, or one that a parser of responses took apart, stays as it is.

    Args:
        tokenizer: or a processor.
        ids: the tokens of each completion.
    """
    bare = text_tokenizer(tokenizer).batch_decode(ids, skip_special_tokens=True)
    return [
        _with_text(completion, before, after)
        for completion, before, after in zip(completions, bare, completion_texts(tokenizer, ids), strict=True)
    ]


def _with_text(completion: Any, before: str, after: str) -> Any:
    if completion == before:
        return after
    said = {"role": "assistant", "content": before}
    return [{"role": "assistant", "content": after}] if completion == [said] else completion
