"""Latent anchor: the dynamics of the start policy's correct traces are held, while token probabilities may move.

A hypothesis of ours (docs/research/evidence/plan.md, I4). Refuted where, at equal pass@64, its mean@1 is no higher
than that of a plain KL, or where the error of the bank stays at the start's while problems are lost all the same.
"""

from __future__ import annotations

from typing import ClassVar

from relax_rl.errors import ConfigError
from relax_rl.objectives.aggregation import SequenceMeanTokenMean
from relax_rl.objectives.anchors import OneSidedAnchor
from relax_rl.objectives.inputs import BankTerm
from relax_rl.objectives.objective import Objective
from relax_rl.objectives.settings import AdvantageSettings, RatioSettings

__all__ = ["LatentAnchorSettings", "latent_anchor"]


class LatentAnchorSettings(AdvantageSettings, RatioSettings):
    """GRPO and weight relu(E / E_start - 1 - slack) over traces of a bank.

    E is the error with which the start policy's Koopman operator predicts each lifted state of a trace by the one
    before, relative to their size. Dictionary and operator are fitted on the bank before the first update, and frozen.

    Attributes:
        bank: folder of an evaluation of the start policy on the same task (`relax eval ... -o DIR`).
        slack: permitted growth of the relative error.
        weight: at the start; dual ascent moves it.
        ascent: step of the dual ascent.
        most: bound on the weight.
        num_observables: number of observables of the dictionary.
    """

    paper: ClassVar[str | None] = None

    bank: str = ""
    slack: float = 0.0
    weight: float = 0.1
    ascent: float = 0.1
    most: float = 10.0
    num_observables: int = 16


def latent_anchor(settings: LatentAnchorSettings) -> Objective:
    """GRPO's loss with `OneSidedAnchor`. Raises ConfigError for settings out of range."""
    if settings.slack < 0 or settings.num_observables < 1:
        raise ConfigError(
            f"latent_anchor needs slack >= 0 and num_observables >= 1, but they are {settings.slack} and "
            f"{settings.num_observables}."
        )
    term = BankTerm(path=settings.bank, kind="latent", num_observables=settings.num_observables)
    anchor = OneSidedAnchor(term, 1.0, -settings.slack, settings.weight, settings.ascent, settings.most)
    return Objective(
        name="latent_anchor",
        advantage=settings.advantage,
        surrogate=settings.surrogate,
        aggregation=SequenceMeanTokenMean(),
        regularizers=(*settings.kl("completion_mean"), anchor),
    )
