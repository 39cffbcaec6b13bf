"""Where in a text a mode is active: the size of its eigenfunction at each token."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["ModeActivity", "mode_activity"]

_AVERAGE = 3
"""The digit of a strength that equals the root mean square over all tokens."""


@dataclass(frozen=True)
class ModeActivity:
    """Modes of one operator, and how strong each is at the tokens of some texts.

    Attributes:
        places: places of the modes in their spectrum; a conjugate pair is there once, by its upper mode.
        strengths: one row a text, one string a mode, one digit a token: |g(x)| of the eigenfunction g, where 3 is its
            root mean square over all tokens of the texts, and 9 stands for three times that and more.
    """

    places: tuple[int, ...]
    strengths: tuple[tuple[str, ...], ...]


def mode_activity(
    lifted: Sequence[Tensor], eigenvectors: Tensor, eigenvalues: Sequence[tuple[float, float]], most: int = 24
) -> ModeActivity:
    """The strengths of the first `most` modes at every token.

    Args:
        lifted: observables of each text's states, (T_i, F).
        eigenvectors: (F, R); column r holds the coefficients of eigenfunction r over the observables.
        eigenvalues: R pairs (real, imaginary).
    """
    # The two of a conjugate pair have the same strength everywhere.
    places = [place for place, (_, imaginary) in enumerate(eigenvalues) if imaginary >= 0][:most]
    chosen = eigenvectors[:, places].to(torch.complex128).cpu()
    sizes = [(text.detach().cpu().to(torch.complex128) @ chosen).abs() for text in lifted]
    total = torch.cat(sizes) if sizes else torch.zeros(0, len(places), dtype=torch.float64)
    typical = total.square().mean(0).sqrt().clamp_min(torch.finfo(torch.float64).tiny)
    digits = [(_AVERAGE * size / typical).nan_to_num(0.0).round().clamp(0, 9).long() for size in sizes]
    strengths = tuple(tuple("".join(map(str, column)) for column in text.T.tolist()) for text in digits)
    return ModeActivity(tuple(places), strengths)
