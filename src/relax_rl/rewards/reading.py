"""Verifiers that read the answer in a completion by a policy."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, Self

from relax_rl.rewards.base import BaseVerifier
from relax_rl.rewards.extraction import policy_of, stated_forms

__all__ = ["ReadingVerifier"]


class ReadingVerifier(BaseVerifier):
    """Finds the answer as a policy of `relax_rl.rewards.extraction` does; a subclass compares it with the gold answer.

    Args:
        policy: convention of where the answer is.
        allow_bare_number: the policy ``lenient``: the last number of a completion that commits to no answer.

    Raises:
        ConfigError: an unknown policy.
    """

    def __init__(self, *, policy: str = "default", allow_bare_number: bool = False) -> None:
        self._policy = policy_of(policy, allow_bare_number=allow_bare_number)
        self.policy = self._policy.name

    @property
    def grading_options(self) -> Mapping[str, Any]:
        """The policy, where it is not the default; a subclass adds its own options."""
        return {} if self.policy == "default" else {"policy": self.policy}

    def gold_forms(self, gold: str) -> tuple[str, ...]:
        """See `BaseVerifier.gold_forms`."""
        return stated_forms(gold, self.policy)

    def with_policy(self, policy: str | None) -> Self:
        """See `BaseVerifier.with_policy`; the two share all else, worker processes too."""
        if policy is None:
            return self
        other = copy.copy(self)
        other._policy = policy_of(policy)
        other.policy = policy
        return other

    def extract(self, completion: str) -> str | None:
        """The answer that a completion commits to; None if there is none. ``grade`` says how it was found."""
        return self._policy.read(completion, False).text
