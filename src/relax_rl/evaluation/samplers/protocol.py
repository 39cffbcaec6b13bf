"""Protocol of every sampler of completions: in this process, in vLLM, or on a server."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Container, Generator, Sequence
from dataclasses import dataclass
from typing import Protocol

from relax_rl.errors import ConfigError
from relax_rl.tasks.base import Problem

__all__ = ["Completion", "Draw", "Sampler", "SamplingSettings", "refuse_images", "request_seed"]


@dataclass(frozen=True)
class Completion:
    """One sampled completion.

    Attributes:
        text: decoded without special tokens other than the markers of a thought.
        token_ids: with the stop token, if one was drawn; empty where the backend does not tell them.
        num_tokens: length in tokens, the stop token included.
        is_truncated: the length limit was reached before a stop token.
        entropy: in nats, summed over the tokens, of the full-vocabulary distribution that each was drawn from, before
            top-p (of temperature 1 for greedy decoding); None where the backend does not tell it.
    """

    text: str
    token_ids: tuple[int, ...]
    num_tokens: int
    is_truncated: bool
    entropy: float | None = None


@dataclass(frozen=True)
class Draw:
    """The completion that is sample ``index`` of the prompt at position ``prompt``."""

    prompt: int
    index: int
    completion: Completion


@dataclass(frozen=True)
class SamplingSettings:
    """How completions are drawn.

    Attributes:
        num_samples: completions of each prompt.
        max_completion_length: length limit of a completion.
        temperature: 0 is greedy decoding.
        top_p: nucleus; the smallest set of tokens whose probability reaches it.
        seed: a sample's random numbers follow from (seed, problem id, sample index) alone.

    Raises:
        ConfigError: a setting out of range.
    """

    num_samples: int
    max_completion_length: int
    temperature: float = 1.0
    top_p: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("num_samples", "max_completion_length"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} = {getattr(self, name)} must be at least 1.")
        if self.seed < 0:
            raise ConfigError(f"seed = {self.seed} must not be negative.")
        if not 0.0 <= self.temperature < math.inf:
            raise ConfigError(
                f"temperature = {self.temperature} must be finite and not negative; 0 is greedy decoding."
            )
        if not 0.0 < self.top_p <= 1.0:
            raise ConfigError(f"top_p = {self.top_p} must lie in (0, 1]; 1 samples from the whole vocabulary.")


class Sampler(Protocol):
    """A policy that can be sampled, wherever it runs."""

    @property
    def backend(self) -> str:
        """``transformers``, ``vllm`` or ``server``."""
        ...

    @property
    def fingerprint(self) -> str:
        """Tells one policy from another of the same name; empty where that cannot be known."""
        ...

    def render(self, problem: Problem) -> str:
        """The prompt of a problem as text: the subject of the prompt digest."""
        ...

    def sample(
        self, problems: Sequence[Problem], settings: SamplingSettings, done: Container[tuple[int, int]] = frozenset()
    ) -> Generator[list[Draw]]:
        """Draw every completion that is not in ``done``, a set of (position of the problem, sample index).

        Yields them in lots, in any order, each as soon as it is there. Closing the generator lets go of what it works
        with, such as processes. Raises ``ModelError`` if the policy cannot be sampled.
        """
        ...


def request_seed(seed: int, problem_id: str, index: int) -> int:
    """The seed, from 0 to 2^31 - 1, that a backend with streams of its own is given for one sample."""
    # A digest, not seed + index: neighbouring seeds must not share streams.
    digest = hashlib.blake2b(f"{seed}/{index}/{problem_id}".encode(), digest_size=8).digest()
    return int.from_bytes(digest) % 2**31


def refuse_images(problem: Problem, backend: str) -> None:
    """For a backend that is sent words only. Raises ConfigError for a problem with images."""
    if problem.images:
        raise ConfigError(
            f"The problem {problem.id!r} shows an image, which --backend {backend} does not send; leave --backend out, "
            "so that the model runs in this process."
        )
