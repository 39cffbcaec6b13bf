"""The text of each token of a completion."""

from __future__ import annotations

from collections.abc import Callable, Sequence

__all__ = ["MOST_TOKENS", "pieces_of"]

MOST_TOKENS = 256
"""Tokens of a completion that are kept one by one, for reading."""


def pieces_of(token_ids: Sequence[int], decode: Callable[[list[int]], str]) -> tuple[str, ...]:
    """The text of each token such that together they are the text; "" inside a character of several tokens."""
    pieces, begin, shown = [], 0, ""
    for end in range(1, len(token_ids) + 1):
        text = decode(list(token_ids[begin:end]))
        # Half a character decodes to the replacement sign, and is complete with one of the next tokens.
        piece = "" if text.endswith("\ufffd") and end < len(token_ids) else text[len(shown) :]
        pieces.append(piece)
        shown += piece
        if piece and end - begin > 8:
            # Some tokenizers drop the space before the first token of a text: keep one token as its context.
            begin, shown = end - 1, decode(list(token_ids[end - 1 : end]))
    return tuple(pieces)
