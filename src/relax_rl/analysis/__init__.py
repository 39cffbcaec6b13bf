"""Laws of a run: entropy against reward, the change of entropy, scaling with compute."""

from __future__ import annotations

from typing import TYPE_CHECKING

from relax_rl.lazy_names import lazy_names

if TYPE_CHECKING:
    from relax_rl.analysis.entropy_change import bandit_entropy_change, carriers, change_agreement, covariances
    from relax_rl.analysis.entropy_law import fit_entropy_law, forecast_from_start
    from relax_rl.analysis.scaling import fit_scaling_curve

__all__ = [
    "bandit_entropy_change",
    "carriers",
    "change_agreement",
    "covariances",
    "fit_entropy_law",
    "fit_scaling_curve",
    "forecast_from_start",
]

# SciPy takes a second to import; the command line reads its words without it.
__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "entropy_change": ("bandit_entropy_change", "carriers", "change_agreement", "covariances"),
        "entropy_law": ("fit_entropy_law", "forecast_from_start"),
        "scaling": ("fit_scaling_curve",),
    },
)
