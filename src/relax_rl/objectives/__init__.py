"""Objectives: tensors in, a loss and metrics out. No trainer and no files.

Dimension letters: P prompts, G completions of a prompt, B = P*G, T completion tokens, H hidden width, F observables.
"""

from relax_rl.objectives.batch import RolloutBatch, UpdateTotals
from relax_rl.objectives.limits import RunLimits
from relax_rl.objectives.methods import METHODS, build_objective, idle_settings, is_verified, method_options
from relax_rl.objectives.objective import Objective

__all__ = [
    "METHODS",
    "Objective",
    "RolloutBatch",
    "RunLimits",
    "UpdateTotals",
    "build_objective",
    "idle_settings",
    "is_verified",
    "method_options",
]
