"""Where the planning phrases of a completion are, token by token."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

__all__ = ["planning_mask"]


def planning_mask(tokenizer: Any, token_ids: Sequence[Sequence[int]], grams: Sequence[str], width: int) -> Tensor:
    """(B, T) bool, True at each token that a planning phrase reaches into.

    Args:
        tokenizer: whose tokens these are; byte-level and SentencePiece vocabularies are read.
        token_ids: of each completion, without padding.
        grams: the phrases; case and the width of spaces do not matter, and a phrase begins and ends with a word.
        width: T.
    """
    phrases = (r"\s+".join(re.escape(word) for word in gram.split()) for gram in grams)
    pattern = re.compile(rf"(?<!\w)(?:{'|'.join(phrases)})(?!\w)", re.IGNORECASE)
    mask = torch.zeros(len(token_ids), width, dtype=torch.bool)
    for row, ids in enumerate(token_ids):
        pieces = [_text(piece) for piece in tokenizer.convert_ids_to_tokens(list(ids))]
        ends = torch.tensor([len(piece) for piece in pieces]).cumsum(0)
        starts = ends - torch.tensor([len(piece) for piece in pieces])
        for match in pattern.finditer("".join(pieces)):
            mask[row, : len(pieces)] |= (starts < match.end()) & (ends > match.start())
    return mask


def _text(piece: str | None) -> str:
    """A token as text: byte-level vocabularies write a space as G with a dot, SentencePiece as a low line."""
    piece = "" if piece is None else piece
    for sign, meant in (("\u0120", " "), ("\u2581", " "), ("\u010a", "\n"), ("\u00e2\u0122\u013b", "'")):
        piece = piece.replace(sign, meant)
    return piece
