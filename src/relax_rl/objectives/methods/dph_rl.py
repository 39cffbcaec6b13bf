"""DPH-RL: a divergence on correct traces of the start policy in place of a KL on the rollouts (arXiv 2509.07430)."""

from __future__ import annotations

from typing import ClassVar, Literal

from relax_rl.errors import ConfigError
from relax_rl.objectives.aggregation import SequenceMeanTokenMean
from relax_rl.objectives.anchors import BankDivergence
from relax_rl.objectives.inputs import BankTerm
from relax_rl.objectives.objective import Objective
from relax_rl.objectives.settings import AdvantageSettings, RatioSettings

__all__ = ["DPHRLSettings", "dph_rl"]


class DPHRLSettings(AdvantageSettings, RatioSettings):
    """GRPO and a divergence on a bank. The authors train on bank batches alone between updates; here it is a term of
    each update, with one trace for each prompt.

    Attributes:
        bank: folder of an evaluation of the start policy on the same task (`relax eval ... -o DIR`).
        coefficient: .01 to .05 for "forward", .05 to .2 for "js" in the paper.
        divergence: "forward", "js" or "alpha".
        alpha: parameter of the divergence "alpha".
    """

    paper: ClassVar[str | None] = "2509.07430"

    bank: str = ""
    coefficient: float = 0.02
    divergence: Literal["forward", "js", "alpha"] = "forward"
    alpha: float = 0.2


def dph_rl(settings: DPHRLSettings) -> Objective:
    """GRPO's loss with `BankDivergence`. Raises ConfigError for an alpha of 0 or 1."""
    if settings.divergence == "alpha" and not 0 < settings.alpha < 1:
        raise ConfigError(f"objective.alpha must be between 0 and 1, but is {settings.alpha}.")
    term = BankTerm(path=settings.bank, kind=settings.divergence, alpha=settings.alpha)
    return Objective(
        name="dph_rl",
        advantage=settings.advantage,
        surrogate=settings.surrogate,
        aggregation=SequenceMeanTokenMean(),
        regularizers=(*settings.kl("completion_mean"), BankDivergence(settings.coefficient, term)),
    )
