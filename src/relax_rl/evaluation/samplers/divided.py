"""Common part of samplers that divide their blocks among processes."""

from __future__ import annotations

from relax_rl.evaluation.samplers.transformers import TransformersSampler
from relax_rl.tasks.base import Problem

__all__ = ["DividedSampler"]


class DividedSampler:
    """A model whose blocks (see `.transformers.sample_blocks`) several processes decode; the rest is its own.

    Args:
        sampler: sampler of one process.
    """

    backend = TransformersSampler.backend

    def __init__(self, sampler: TransformersSampler) -> None:
        self._sampler = sampler

    @property
    def fingerprint(self) -> str:
        return self._sampler.fingerprint

    def render(self, problem: Problem) -> str:
        """The text that the model reads."""
        return self._sampler.render(problem)
