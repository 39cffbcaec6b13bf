"""DAPO's soft punishment of completions that come near the length limit."""

from __future__ import annotations

from relax_rl.errors import ConfigError, DataError
from relax_rl.rewards.base import BaseVerifier, Verdict
from relax_rl.rewards.batch import GradingBatch

__all__ = ["SoftOverlongPenalty"]


class SoftOverlongPenalty(BaseVerifier):
    """Between 0 and ``-factor``, by the length L of a completion in tokens (DAPO, arXiv:2503.14476, section 3.4)::

        0                                    L <= max_length - cache
        factor * (max_length - cache - L) / cache        up to max_length
        -factor                              beyond

    A part of a reward, to be added to that of a verifier by :class:`.WeightedVerifiers`.

    Args:
        max_length: tokens of the longest completion (the paper: 20480).
        cache: tokens before it over which the penalty grows (the paper: 4096).
        factor: of the penalty.

    Raises:
        ConfigError: unless 0 < cache <= max_length and the factor is not negative.
    """

    name = "soft_overlong"

    def __init__(self, *, max_length: int, cache: int, factor: float = 1.0) -> None:
        if not 0 < cache <= max_length:
            raise ConfigError(
                f"The verifier 'soft_overlong' has cache = {cache} and max_length = {max_length}; the cache is the "
                "last part of the length, at least one token and at most all of it."
            )
        if not 0 <= factor < float("inf"):
            raise ConfigError(f"The verifier 'soft_overlong' has factor = {factor}; it must be a number of at least 0.")
        self.max_length = max_length
        self.cache = cache
        self.factor = float(factor)

    def penalty(self, num_tokens: int) -> float:
        """Of a completion of so many tokens."""
        excess = num_tokens - (self.max_length - self.cache)
        return -self.factor * min(max(excess / self.cache, 0.0), 1.0) + 0.0  # never -0.0

    def verdicts(self, batch: GradingBatch) -> list[Verdict]:
        """The penalties. Raises DataError without ``num_tokens``."""
        if batch.num_tokens is None:
            raise DataError(
                "The verifier 'soft_overlong' needs the number of tokens of each completion, which a text does not "
                "tell; a trainer passes it, an evaluation does not."
            )
        return [Verdict(self.penalty(count)) for count in batch.num_tokens]
