"""vLLM's engine beside the policy of a run: an evaluation draws its completions there."""

from __future__ import annotations

from collections.abc import Container, Generator, Sequence
from contextlib import contextmanager
from typing import Any

from accelerate import PartialState
from accelerate.utils import gather_object

from relax_rl.evaluation.samplers.protocol import Draw, SamplingSettings
from relax_rl.evaluation.samplers.vllm import EngineSampler
from relax_rl.tasks.base import Problem
from relax_rl.training.together import raised_by_all

__all__ = ["ColocatedEngine", "SharingEngine"]


class ColocatedEngine:
    """The engine of one process with the weights of the policy.

    Args:
        generation: TRL's `VLLMGeneration`, colocated.
    """

    def __init__(self, generation: Any) -> None:
        self._generation = generation

    @property
    def llm(self) -> Any:
        return self._generation.llm

    @property
    def processes_of_engine(self) -> int:
        """Consecutive processes that one engine is spread over."""
        return self._generation.tensor_parallel_size

    @contextmanager
    def with_weights(self) -> Generator[None]:
        """With the weights of the policy, gathered where they are sharded, adapters merged. Collective at its start.

        An engine that sleeps between rollouts is awake meanwhile.
        """
        generation = self._generation
        generation.sync_weights()
        if not generation.enable_sleep_mode:
            yield
            return
        generation.llm.wake_up(tags=["kv_cache"])
        try:
            yield
        finally:
            generation.llm.sleep(level=2)
            # By which TRL knows that the weights are gone.
            generation._llm_weights_sleeping = True


class SharingEngine:
    """The engines of all processes: each draws some of the samples, and all get every one.

    Args:
        sampler: sampler of this process's engine.
        engine: engine of this process, `with_weights` while it is sampled.
    """

    backend = EngineSampler.backend
    fingerprint = EngineSampler.fingerprint

    def __init__(self, sampler: EngineSampler, engine: ColocatedEngine) -> None:
        self._sampler = sampler
        self._engine = engine

    def render(self, problem: Problem) -> str:
        """The text that the model reads."""
        return self._sampler.render(problem)

    def sample(
        self, problems: Sequence[Problem], settings: SamplingSettings, done: Container[tuple[int, int]] = frozenset()
    ) -> Generator[list[Draw]]:
        """See `relax_rl.evaluation.samplers.protocol.Sampler`. Collective.

        Raises:
            Exception: on every process, the first that was raised on any.
        """
        processes, spread = PartialState(), self._engine.processes_of_engine
        number, count = processes.process_index // spread, processes.num_processes // spread
        draws: list[Draw] = []
        failures: list[Exception] = []
        try:
            for lot in self._sampler.sample(problems, settings, done, lambda place: place % count == number):
                draws += lot
        except Exception as error:
            failures.append(error)
        raised_by_all(failures)
        # The processes of one engine have the same ones.
        found = {(draw.prompt, draw.index): draw for draw in gather_object(draws)}
        yield [found[place] for place in sorted(found)]
