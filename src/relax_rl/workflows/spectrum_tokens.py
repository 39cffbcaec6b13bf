"""The texts of the tokens whose states were measured, so that a page can show where a mode is active."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from relax_rl.spectra.measure import LatentSpectra
    from relax_rl.spectra.reading import LatentText

__all__ = ["with_pieces"]


def with_pieces(spectra: LatentSpectra, texts: Sequence[LatentText], tokenizer: Any) -> LatentSpectra:
    """Spectra with the texts of the first tokens of the first texts, for which they have the activity of modes.

    Args:
        texts: those that were measured, in order.
        tokenizer: or processor, of the model.
    """
    from relax_rl.evaluation.pieces import MOST_TOKENS, pieces_of

    measured = [text.token_ids[text.start :][:MOST_TOKENS] for text in texts[: spectra.settings.num_paths]]
    return replace(spectra, pieces=tuple(pieces_of(ids, lambda part: str(tokenizer.decode(part))) for ids in measured))
