"""How sure a number is: intervals and tests that evaluation and analysis share."""

from __future__ import annotations

from typing import TYPE_CHECKING

from relax_rl.lazy_names import lazy_names

if TYPE_CHECKING:
    from relax_rl.statistics.auc import area_under_curve, bootstrap_auc
    from relax_rl.statistics.frontier import FrontierTest, frontier_distances, frontier_height, frontier_tests
    from relax_rl.statistics.intervals import Estimate, bootstrap_difference, bootstrap_mean
    from relax_rl.statistics.seeded_means import SeededMean, detectable_difference, holm, seeded_mean, seeds_needed
    from relax_rl.statistics.sign_flip import SignFlipTest, sign_flip_test

__all__ = [
    "Estimate",
    "FrontierTest",
    "SeededMean",
    "SignFlipTest",
    "area_under_curve",
    "bootstrap_auc",
    "bootstrap_difference",
    "bootstrap_mean",
    "detectable_difference",
    "frontier_distances",
    "frontier_height",
    "frontier_tests",
    "holm",
    "seeded_mean",
    "seeds_needed",
    "sign_flip_test",
]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "auc": ("area_under_curve", "bootstrap_auc"),
        "frontier": ("FrontierTest", "frontier_distances", "frontier_height", "frontier_tests"),
        "intervals": ("Estimate", "bootstrap_difference", "bootstrap_mean"),
        "seeded_means": ("SeededMean", "detectable_difference", "holm", "seeded_mean", "seeds_needed"),
        "sign_flip": ("SignFlipTest", "sign_flip_test"),
    },
)
