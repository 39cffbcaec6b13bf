"""ReLaX with every choice of the authors' working code, where it differs from the paper (arXiv 2512.07558).

Singular values in place of eigenvalues, the padded tail inside the trajectory, weights that grow with length, the mean
over the micro-batch, a KL only for completions with positive advantage, the ratio clipped to [0, 2], means over tokens
(verl's default), and a dictionary refitted every 50 updates, for one epoch, by their loss.

The padded width is that of the batch it is given. verl pads to the longest response allowed, TRL to the longest of the
rollout batch: there the tail is shorter and the weights are larger.
"""

from __future__ import annotations

from relax_rl.objectives.aggregation import TokenMean
from relax_rl.objectives.methods.relax import AdvantageShaping, MeanScope, RelaxSettings
from relax_rl.objectives.objective import Objective
from relax_rl.objectives.probe import DictionarySettings, Padding, StateAlignment
from relax_rl.objectives.regularizers import KLGate, KLReduction

__all__ = ["RelaxAsRunSettings", "relax_as_run"]


AS_RUN_DICTIONARY = DictionarySettings(
    steps=None, learning_rate=1e-3, batch_size=64, fit_objective="as_run", max_positions=512, refit_interval=50
)


class RelaxAsRunSettings(RelaxSettings):
    """ReLaX's, as run."""

    xi: float | str = 10.0
    estimator: str = "singular"
    advantage_shaping: AdvantageShaping = "positive_by_length"
    mean_scope: MeanScope = "micro_batch"
    kl_gate: KLGate = "above_xi_and_positive"
    kl_reduction: KLReduction = "token_mean"
    state_alignment: StateAlignment = "predicting"
    padding: Padding = "zeros"
    clip_low: float = 1.0
    clip_high: float = 1.0
    epsilon: float = 1e-6


def relax_as_run(settings: RelaxAsRunSettings) -> Objective:
    """ReLaX's terms on means over tokens."""
    return Objective(
        name="relax_as_run",
        advantage=settings.advantage,
        surrogate=settings.surrogate,
        aggregation=TokenMean(),
        regularizers=settings.latent_terms,
        probe=settings.probe(AS_RUN_DICTIONARY),
    )
