"""Findings on a model under several conditions, with intervals over independent questions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from relax_rl.statistics.intervals import Estimate

__all__ = ["ConditionSight", "SightResult", "SiteSight", "TokenSight"]


@dataclass(frozen=True)
class SiteSight:
    """One site under one condition. An estimate of None does not exist.

    Attributes:
        distance: distance of the states from those under the true image, as a share of the distance between the states
            of two problems at the same token number.
        error: share of the variance of the next lifted state that the operator of the true image leaves unexplained;
            the operator is fitted on other questions.
        error_change: the same less that under the true image.
        angle: mean principal angle in degrees between the leading modes of the operator of this condition and those of
            the true image; 95 % of the resamples lie in the interval.
        dsd: by estimator.
        dsd_change: less that under the true image, in the same problems.
    """

    site: str
    distance: Estimate | None = None
    error: Estimate | None = None
    error_change: Estimate | None = None
    angle: Estimate | None = None
    dsd: Mapping[str, Estimate | None] = field(default_factory=dict[str, Estimate | None])
    dsd_change: Mapping[str, Estimate | None] = field(default_factory=dict[str, Estimate | None])


@dataclass(frozen=True)
class ConditionSight:
    """One condition.

    Attributes:
        name, about: name and description of the condition.
        num_problems: number of problems that can be shown under it.
        kl: mean over tokens of the divergence, in nats, from the distribution under the true image; None for itself.
        kl_first, kl_last: divergence of the first and of the last eight tokens of each completion.
        kl_profile: means over tenths of the completions, in order.
        same_choice: share of tokens at which the most likely token is that under the true image.
        sites: in order of depth.
    """

    name: str
    about: str
    num_problems: int
    kl: Estimate | None
    kl_first: Estimate | None
    kl_last: Estimate | None
    kl_profile: tuple[float | None, ...]
    same_choice: Estimate | None
    sites: tuple[SiteSight, ...]


@dataclass(frozen=True)
class TokenSight:
    """One completion, token by token.

    Attributes:
        id: id of the problem.
        question: its words.
        tokens: tokens of the completion, decoded one by one; untrusted text.
        kl: by condition, in nats, one number a token.
    """

    id: str
    question: str
    tokens: tuple[str, ...]
    kl: Mapping[str, tuple[float, ...]]


@dataclass(frozen=True)
class SightResult:
    """The conditions of one model, "true" first.

    Attributes:
        model: its name.
        source: the texts that were read, in a sentence.
        chance_angle: by site, the mean angle in degrees between the leading modes of two halves of the questions, both
            under the true image.
        num_modes: leading modes that span a subspace, at least.
        num_observables: by site.
        tokens: the first completions.
    """

    model: str
    source: str
    conditions: tuple[ConditionSight, ...]
    chance_angle: Mapping[str, float | None]
    num_modes: int
    num_observables: Mapping[str, int]
    tokens: tuple[TokenSight, ...] = field(default=(), repr=False)

    def to_dict(self) -> dict[str, Any]:
        """As plain tables and lists."""
        return asdict(self)
