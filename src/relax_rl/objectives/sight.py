"""The effect of a masked image on the tokens of a completion, and terms of methods that look at it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from relax_rl.errors import ConfigError
from relax_rl.objectives.base import Measurements, Regularizer
from relax_rl.objectives.batch import RolloutBatch
from relax_rl.objectives.entropy import require_coefficient
from relax_rl.objectives.inputs import Input, MaskedLogProbs
from relax_rl.objectives.kl import token_kl

__all__ = ["SurprisalPenalty", "image_information", "require_mask", "token_dependence"]


def require_mask(share: float, patch: int) -> None:
    """Raises ConfigError for a mask that hides nothing, or more than everything."""
    if not 0 < share <= 1:
        raise ConfigError(f"mask_share is the share of an image that is black, above 0 and at most 1, not {share}.")
    if patch < 1:
        raise ConfigError(f"mask_patch is the side of a black square in pixels, at least 1, not {patch}.")


def token_dependence(batch: RolloutBatch, masked: MaskedLogProbs) -> Tensor:
    """(P, G, T) k3 estimate of KL(policy || policy with the masked image), no gradient, 0 where masked.

    Of the policy that sampled the tokens, in nats, at most 10.
    """
    hidden = batch.required(masked).detach()
    seen = batch.old_log_probs.detach().masked_fill(~batch.mask, 0.0)
    return token_kl(seen, hidden.to(seen.dtype)).masked_fill(~batch.mask, 0.0)


def image_information(batch: RolloutBatch, masked: MaskedLogProbs) -> Tensor:
    """(P, G) mean over tokens of log pi(token) - log pi(token, masked image), no gradient; 0 without tokens.

    Nats a token by which the image makes the completion more likely.
    """
    hidden = batch.required(masked).detach()
    seen = batch.old_log_probs.detach().masked_fill(~batch.mask, 0.0)
    return (seen - hidden.to(seen.dtype)).masked_fill(~batch.mask, 0.0).sum(-1) / batch.lengths.clamp(min=1)


@dataclass(frozen=True)
class SurprisalPenalty(Regularizer):
    """coefficient times the mean of -log pi over all sampled tokens of the update.

    PAPO and VPPO call it an entropy loss; as a value it estimates the entropy. Its gradient makes sampled tokens more
    likely, whatever they are worth.
    """

    coefficient: float

    def __post_init__(self) -> None:
        require_coefficient(self.coefficient)

    def inputs(self) -> frozenset[Input]:
        return frozenset()

    @property
    def is_active(self) -> bool:
        return self.coefficient != 0

    def __call__(self, batch: RolloutBatch, measured: Measurements) -> tuple[Tensor, dict[str, Tensor]]:
        surprisal = -batch.log_probs.masked_fill(~batch.mask, 0.0)
        share = surprisal.sum() / max(batch.update_totals.num_tokens, 1.0)
        mean = surprisal.detach().sum() / batch.mask.sum().clamp(min=1)
        return self.coefficient * share, {"sight/surprisal": torch.as_tensor(mean)}
