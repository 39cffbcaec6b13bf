"""The settings of a run's evaluations."""

from __future__ import annotations

import re

from pydantic import Field, model_validator

from relax_rl.config.section import Section

__all__ = ["EvaluationConfig"]

_CHOOSES = re.compile(r"mean@1|pass@(\d+)")


class EvaluationConfig(Section):
    """Samples before and after training that say how good the policy is."""

    enabled: bool = True
    """Evaluate the policy at all."""
    before: bool = True
    """Also before training; false where the start is known, as when many runs share it."""
    split: str = "test"
    """Split of the task that is evaluated."""
    num_problems: int = Field(default=128, ge=1)
    """Problems of the split."""
    num_samples: int = Field(default=16, ge=1)
    """Completions of a problem: the k of mean@k and pass@k."""
    temperature: float = Field(default=1.0, ge=0)
    """Temperature of the samples; 0 is greedy."""
    top_p: float = Field(default=1.0, gt=0, le=1)
    """Nucleus of the samples."""
    batch_size: int = Field(default=256, ge=1)
    """Completions generated at once."""
    seed: int = Field(default=0, ge=0)
    """Seed of the sampling; apart from the run's seed, so that runs with several seeds are evaluated alike."""
    every: int | None = Field(default=None, ge=1)
    """Also after so many updates each, on problems that are neither trained on nor in the split above; the best policy
    is kept in ``best``."""
    held_out: int | None = Field(default=None, ge=1)
    """Problems of the training split that are left out of training for that; null: 64."""
    selection_split: str | None = None
    """A split of the task for that, in place of problems left out of training."""
    best_by: str = "mean@1"
    """Metric that chooses the best policy: mean@1, or pass@k for a power of two up to ``num_samples``."""

    @property
    def num_selecting(self) -> int:
        """Problems of an evaluation during training."""
        return 64 if self.held_out is None else self.held_out

    @model_validator(mode="after")
    def _check_selection(self) -> EvaluationConfig:
        for name in ("held_out", "selection_split", "best_by"):
            if self.every is None and getattr(self, name) != type(self).model_fields[name].default:
                raise ValueError(
                    f"evaluation.{name} is about evaluations during training; set evaluation.every, or leave it out"
                )
        if self.every is not None and not self.enabled:
            raise ValueError("evaluation.every needs evaluations, and evaluation.enabled is false; choose one")
        if self.selection_split == self.split:
            raise ValueError(
                f"evaluation.selection_split and evaluation.split are both {self.split!r}, and a policy that is chosen "
                "on the problems that it is judged by looks better than it is; leave selection_split out"
            )
        self._check_metric()
        return self

    def _check_metric(self) -> None:
        found = _CHOOSES.fullmatch(self.best_by)
        k = int((found and found[1]) or 1)
        if found is None or k > self.num_samples or k & (k - 1):
            raise ValueError(
                f"evaluation.best_by is {self.best_by!r}; choose mean@1, or pass@k with k a power of two up to "
                f"evaluation.num_samples = {self.num_samples}"
            )
