"""Limits of a run: the numbers that an objective may depend on and cannot read off a batch."""

from __future__ import annotations

from dataclasses import dataclass

from relax_rl.errors import ConfigError

__all__ = ["RunLimits"]


@dataclass(frozen=True)
class RunLimits:
    """Limits of the run that an objective is built for; None where there is no run, as in a script of one's own.

    Attributes:
        max_completion_length: longest completion allowed, in tokens.
        group_size: completions of a prompt.
        updates: optimiser updates of the whole run.
    """

    max_completion_length: int | None = None
    group_size: int | None = None
    updates: int | None = None

    def __post_init__(self) -> None:
        given = {
            "max_completion_length": self.max_completion_length,
            "group_size": self.group_size,
            "updates": self.updates,
        }
        for name, value in given.items():
            if value is not None and value < 1:
                raise ConfigError(f"The limit {name} must be at least 1, but is {value}.")

    def require_subset(self, name: str, size: int, *, others: int = 0) -> None:
        """Refuse a size of subsets that no group of the run can hold.

        Args:
            name: name of the setting.
            others: completions that must be left beside a subset.

        Raises:
            ConfigError: below 1, or more than a group has; the latter is not known without a run.
        """
        if size < 1:
            raise ConfigError(f"{name} must be at least 1, but is {size}.")
        if self.group_size is not None and size > self.group_size - others:
            raise ConfigError(
                f"{name} is {size}, but groups of {self.group_size} completions (trainer.num_generations) take at most "
                f"{self.group_size - others}."
            )
