"""The refusal of a method that takes rewards of 0 and 1 alone, where training is known to pay others."""

from __future__ import annotations

from relax_rl.errors import ConfigError
from relax_rl.rewards.base import as_verifier
from relax_rl.rewards.functions import Rewards
from relax_rl.tasks.base import BaseTask

__all__ = ["require_whole_rewards"]


def require_whole_rewards(method: str, task: BaseTask, rewards: Rewards, num_graders: int) -> None:
    """Refuse a method that takes rewards of 0 and 1 alone where they are a sum, or where the task pays for a part.

    A reward function or verifier of one's own may pay anything, which shows only when it is called.

    Args:
        num_graders: verifiers and reward functions that the settings name; the rewards of several are summed.

    Raises:
        ConfigError: naming what pays otherwise.
    """
    num_graders = max(num_graders, len(rewards.functions) + (rewards.verifier is not None))
    is_own = rewards.verifier is not None and as_verifier(rewards.verifier).name == task.verifier.name
    if num_graders > 1:
        paid = f"training pays the weighted sum of {num_graders} graders"
    elif task.pays_parts and is_own:
        paid = f"the task {task.name!r} also pays between 0 and 1"
    else:
        return
    raise ConfigError(
        f"The objective {method!r} takes rewards of 0 and 1, but {paid}; pay by one grader of right and wrong, or "
        "choose an objective that takes others, such as tailrl."
    )
