"""Where a completion is cut into steps: at line breaks, at a marker, or where the policy is least sure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Literal

import numpy as np

from relax_rl.errors import ConfigError

__all__ = ["LEAST_TOKENS", "SegmentRule", "cut"]

LEAST_TOKENS = 8
"""Least tokens of a segment: seven pairs, for at most three modes. A shorter one is a part of the one before it."""
_SHARE = 0.05


@dataclass(frozen=True)
class SegmentRule:
    """How completions are cut.

    Attributes:
        kind: "newline": behind each line break; "marker": in front of each occurrence of `marker`; "entropy": in front
            of the tokens whose distribution has the highest entropy.
        marker: words that begin a segment.
        share: share of all completions' tokens that begin a segment by entropy.
    """

    kind: Literal["newline", "marker", "entropy"]
    marker: str = ""
    share: float = _SHARE

    @classmethod
    def parse(cls, words: str) -> SegmentRule:
        """From ``newline``, ``marker=TEXT``, ``entropy`` or ``entropy=SHARE``.

        Raises:
            ConfigError: anything else.
        """
        name, equals, value = words.partition("=")
        if name == "newline" and not equals:
            return cls("newline")
        if name == "marker" and value:
            # A shell passes \n as two characters.
            return cls("marker", marker=value.replace("\\n", "\n"))
        if name == "entropy":
            share = _number(value) if equals else _SHARE
            if 0 < share < 1:
                return cls("entropy", share=share)
        raise ConfigError(
            f"--segments is {words!r}; give newline, marker=TEXT, entropy, or entropy=SHARE with a share between 0 "
            "and 1."
        )

    def words(self) -> str:
        """The same for a reader."""
        return {
            "newline": "behind each line break",
            "marker": f"in front of each {self.marker!r}",
            "entropy": f"in front of the {100 * self.share:g} % of tokens with the highest entropy",
        }[self.kind]

    def threshold(self, entropies: Sequence[Sequence[float]]) -> float:
        """The entropy above which a token begins a segment, from those of all completions."""
        pooled = [value for row in entropies for value in row]
        return float(np.quantile(pooled, 1 - self.share)) if pooled else np.inf


def cut(
    rule: SegmentRule, pieces: Sequence[str], entropy: Sequence[float], threshold: float = np.inf
) -> list[tuple[int, int]]:
    """The segments of one completion, as (start, end) in tokens: adjoining, in order, all of the completion.

    Args:
        pieces: text of each token.
        entropy: nats of the distribution that each token was drawn from.
        threshold: see :meth:`SegmentRule.threshold`; of the rule "entropy" alone.
    """
    starts = [0]
    for place in _wanted(rule, pieces, entropy, threshold):
        if place - starts[-1] >= LEAST_TOKENS and len(pieces) - place >= LEAST_TOKENS:
            starts.append(place)
    return list(zip(starts, [*starts[1:], len(pieces)], strict=True))


def _wanted(rule: SegmentRule, pieces: Sequence[str], entropy: Sequence[float], threshold: float) -> list[int]:
    if rule.kind == "entropy":
        return [place for place, value in enumerate(entropy) if value > threshold]
    if rule.kind == "newline":
        # Blank lines belong to what they end.
        return [place for place in range(1, len(pieces)) if "\n" in pieces[place - 1] and pieces[place].strip("\n")]
    ends = list(accumulate(len(piece) for piece in pieces))
    text, found, place = "".join(pieces), [], 0
    at = text.find(rule.marker)
    while at >= 0:
        # The token that holds the first character of the marker.
        while ends[place] <= at:
            place += 1
        found.append(place)
        at = text.find(rule.marker, at + len(rule.marker))
    return found


def _number(words: str) -> float:
    try:
        return float(words)
    except ValueError:
        return float("nan")
