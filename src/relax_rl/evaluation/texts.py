"""The words of completions: special tokens left out, but for those that mark a thought."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from relax_rl.latent.contract.template import text_tokenizer
from relax_rl.rewards.extraction.thoughts import thought_marks

__all__ = ["completion_texts", "token_pieces"]

_WINDOW = 6
"""Tokens before one that decide how it is spelled: white space in front, the bytes of one character."""


def completion_texts(tokenizer: Any, completions: Sequence[Sequence[int]]) -> list[str]:
    """Decode the token ids of some completions.

    A tokenizer may declare the markers of a thought special. A text without them does not show where the thought ends,
    and an answer inside it would pass for the policy's last word.

    Args:
        tokenizer: or a processor.
    """
    reader = text_tokenizer(tokenizer)
    bare: list[str] = reader.batch_decode(completions, skip_special_tokens=True)
    whole: list[str] = reader.batch_decode(completions, skip_special_tokens=False)
    return [
        _marked(reader, ids) if len(thought_marks(full)) > len(thought_marks(text)) else text
        for ids, text, full in zip(completions, bare, whole, strict=True)
    ]


def token_pieces(tokenizer: Any, token_ids: Sequence[int]) -> list[str]:
    """The piece of text that each token adds, special tokens included; joined, the pieces are the text.

    A token alone would lose the space in front of it with some tokenizers, so each is decoded behind the few before it.

    Args:
        tokenizer: or a processor.
    """
    reader = text_tokenizer(tokenizer)
    ids = list(token_ids)
    starts = [max(0, place - _WINDOW) for place in range(len(ids))]
    before: list[str] = reader.batch_decode([ids[start:place] for place, start in enumerate(starts)])
    whole: list[str] = reader.batch_decode([ids[start : place + 1] for place, start in enumerate(starts)])
    return [text[len(known) :] for known, text in zip(before, whole, strict=True)]


def _marked(reader: Any, ids: Sequence[int]) -> str:
    """A completion without the special tokens that mark no thought."""
    dropped = {id_ for id_ in set(ids) if _is_dropped(reader, id_)}
    return reader.decode([id_ for id_ in ids if id_ not in dropped], skip_special_tokens=False)


def _is_dropped(reader: Any, token: int) -> bool:
    # Not `added_tokens_decoder`, which not every tokenizer has.
    text: str = reader.decode([token], skip_special_tokens=False)
    is_special = bool(text) and not reader.decode([token], skip_special_tokens=True)
    # Gemma writes the name of its channel behind the token that opens it.
    return is_special and not thought_marks(f"{text}thought")
