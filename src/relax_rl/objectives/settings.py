"""The settings of a method: declared once, inherited, and checked by their declaration.

A method's own settings are a subclass with the paper's defaults. A setting that a method does not have is refused, so
nothing can be asked for that has no effect.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from relax_rl.errors import ConfigError
from relax_rl.objectives.advantages import GroupRelativeAdvantage
from relax_rl.objectives.kl import KLEstimator
from relax_rl.objectives.regularizers import KLReduction, ReferenceKL
from relax_rl.objectives.surrogates import ClippedSurrogate

__all__ = [
    "AdvantageSettings",
    "ClipSettings",
    "CoverageBaseline",
    "CoverageSettings",
    "MethodSettings",
    "RatioSettings",
    "SubsetSettings",
    "nearest",
    "parsed",
]

CoverageBaseline = Literal["mean", "leave_one_out", "none"]
"""Baseline of coverage; see `CoverageSettings`."""


class MethodSettings(BaseModel):
    """Settings of every method: a KL to the reference policy, off unless the paper has one.

    Attributes:
        paper: arXiv number of the source; None for what has no paper.
        verified: whether the formula was read at its source. A method that is known from a note alone says False, and
            a comparison refuses it unless told otherwise.
        beta: coefficient of the KL on all completions.
        kl_estimator: estimate of the KL of a token: "k1", "k2", "k3" (`relax_rl.objectives.kl`).
        match_rms: scale the advantages to the size of GRPO's for the same rewards (`relax_rl.objectives.matching`).
        off_policy: names of the settings that the class itself declares, those without effect where every ratio is 1.
    """

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", arbitrary_types_allowed=True)

    paper: ClassVar[str | None] = None
    verified: ClassVar[bool] = True
    off_policy: ClassVar[frozenset[str]] = frozenset()

    beta: float = 0.0
    kl_estimator: KLEstimator = "k3"
    match_rms: bool = False

    @classmethod
    def idle_on_policy(cls) -> frozenset[str]:
        """The settings without effect where a rollout batch serves one update: every ratio is 1 then."""
        declared = (vars(kind).get("off_policy", ()) for kind in cls.__mro__)
        return frozenset(key for keys in declared for key in keys)

    def kl(self, reduction: KLReduction, max_completion_length: int | None = None) -> tuple[ReferenceKL]:
        """The terms of a method whose only regularizer is a KL on all completions; inactive where ``beta`` is 0."""
        return (ReferenceKL(self.beta, "all", reduction, self.kl_estimator, max_completion_length),)


class AdvantageSettings(MethodSettings):
    """With the group-relative advantage.

    Attributes:
        epsilon: added to the group's standard deviation; TRL's 1e-4 unless the method's code has another.
    """

    epsilon: float = 1e-4

    @property
    def advantage(self) -> GroupRelativeAdvantage:
        return GroupRelativeAdvantage(self.epsilon)


class ClipSettings(MethodSettings):
    """With bounds on the ratio.

    Attributes:
        clip_low, clip_high: bounds on the ratio, as distances from 1.
    """

    off_policy: ClassVar[frozenset[str]] = frozenset({"clip_low", "clip_high"})

    clip_low: float = 0.2
    clip_high: float = 0.2


class RatioSettings(ClipSettings):
    """With PPO's clipped ratio, and the two bounds that close its open side; see `RatioSurrogate`.

    Attributes:
        delta: bound on the ratio of tokens with a negative advantage (TRL's ``delta``); None: off.
        dual_clip: bound on the loss of these tokens, in advantages (verl's ``clip_ratio_c``); None: off.
    """

    off_policy: ClassVar[frozenset[str]] = frozenset({"delta", "dual_clip"})

    delta: float | None = None
    dual_clip: float | None = None

    @property
    def surrogate(self) -> ClippedSurrogate:
        return ClippedSurrogate(self.clip_low, self.clip_high, self.delta, self.dual_clip)


class SubsetSettings(RatioSettings):
    """With credit for what subsets of a group reach.

    Attributes:
        k: size of the subsets; 4 is for groups of 8.
    """

    k: int = 4


class CoverageSettings(SubsetSettings):
    """With credit for the solutions that a completion adds to k - 1 others.

    Attributes:
        baseline: "mean" of the group, "leave_one_out" or "none".
    """

    baseline: CoverageBaseline = "mean"


Settings = TypeVar("Settings", bound=BaseModel)

_REWORDED = {
    "Input should be": "must be",
    "'str' instances are not allowed as a Sequence value": "must be a list",
    "a valid ": "a ",
    "a integer": "an integer",
}
"""Pydantic's words in ours, in this order."""
_RENAMED = {"max_tokens": "max_completion_length", "dual_bound": "dual_clip"}


def parsed(model: type[Settings], method: str, options: Mapping[str, Any]) -> Settings:
    """The settings of a method, each of the declared type.

    Raises:
        ConfigError: for a setting that the method does not have (naming the nearest), or a value of another type.
    """
    for key in options:
        if key not in model.model_fields:
            hint = f" it is {_RENAMED[key]!r} now." if key in _RENAMED else nearest(key, model.model_fields)
            raise ConfigError(f"The objective {method!r} has no setting {key!r};{hint}")
    try:
        return model(**options)
    except ValidationError as error:
        detail = error.errors(include_url=False)[0]
        key = str(detail["loc"][0])
        expected = str(detail["msg"])
        for theirs, ours in _REWORDED.items():
            expected = expected.replace(theirs, ours)
        default = model.model_fields[key].default
        raise ConfigError(
            f"objective.{key} {expected}, but is {options[key]!r}; give a value such as {default!r}."
        ) from None


def nearest(name: str, known: Iterable[str]) -> str:
    """The end of a sentence: the nearest name, or all there are."""
    close = difflib.get_close_matches(name, known, n=1)
    return f" did you mean {close[0]!r}?" if close else f" there are {', '.join(sorted(known))}."
