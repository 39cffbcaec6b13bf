"""The tasks that distinguish the solutions of a problem, and the refusal of a method that needs it on any other."""

from __future__ import annotations

from relax_rl.errors import ConfigError
from relax_rl.rewards.base import as_verifier
from relax_rl.rewards.functions import Rewards

__all__ = ["WITH_MODES", "require_modes"]

WITH_MODES = ("countdown", "many_solutions", "countdown_muted", "maze")
"""Names of the tasks whose problems have several solutions, each a mode (`relax_rl.rewards.Verdict.mode`).

A set of mathematical problems has modes, too: the classes of its answers, of which one is right.
"""


def require_modes(method: str, rewards: Rewards) -> None:
    """Refuse a method that reads modes where training is paid by what has none.

    A reward function may tell modes, which shows only when it is called.

    Raises:
        ConfigError: naming the tasks that have modes.
    """
    verifier = rewards.verifier
    if rewards.functions or (verifier is not None and as_verifier(verifier).has_modes):
        return
    grader = "a run without a verifier" if verifier is None else f"the verifier '{verifier.name}'"
    tasks = f"{', '.join(WITH_MODES)}, or mathematical problems such as gsm8k"
    raise ConfigError(
        f"The objective {method!r} reads the mode of each completion, that is which solution it found, and {grader} "
        f"tells none; train on a task that has modes ({tasks}), set has_modes = True in a verifier of your own and "
        "give each Verdict its mode, or choose latent_coverage, which tells solutions apart by hidden states."
    )
