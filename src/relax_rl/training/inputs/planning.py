"""Positions of a completion's planning phrases, token by token."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor

from relax_rl.objectives.inputs import Input, PlanningMask
from relax_rl.training.inputs.provider import MicroBatch, Provider, Rows, Trainer

__all__ = ["PlanningPhrases", "planning_mask"]


def planning_mask(tokenizer: Any, token_ids: Sequence[Sequence[int]], grams: Sequence[str], width: int) -> Tensor:
    """(B, T) bool, True at each token that a planning phrase reaches into.

    Args:
        tokenizer: tokenizer of the tokens; byte-level and SentencePiece vocabularies are read.
        token_ids: token ids of each completion, without padding.
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


class PlanningPhrases(Provider):
    """The mask of the phrases that the objective names, found once in each completion."""

    def __init__(self, wanted: Input, trainer: Trainer) -> None:
        super().__init__(wanted, trainer)
        self._grams = cast(PlanningMask, wanted).grams

    def sampled(self, given: list[dict[str, Any]], output: Rows) -> dict[str, Tensor]:
        ids, kept = output["completion_ids"], output["completion_mask"].bool()
        token_ids = [row[keep].tolist() for row, keep in zip(ids, kept, strict=True)]
        mask = planning_mask(self.trainer.text_tokenizer, token_ids, self._grams, ids.shape[1])
        return {"planning_mask": mask.to(self.trainer.accelerator.device)}

    def tensor(self, micro: MicroBatch) -> Tensor | None:
        return micro.rows.get("planning_mask")
