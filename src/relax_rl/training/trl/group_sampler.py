"""Rollouts by the sampler of the evaluation, in place of TRL's `generate`.

It reads a prompt once for its G completions, drops finished rows, and gives each (problem, sample) a random stream of
its own. So a completion depends on the update, the problem and its place in the group, and neither on the batch nor on
the number of processes.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from relax_rl.config.settings import Engine
from relax_rl.errors import ConfigError
from relax_rl.evaluation.samplers.protocol import SamplingSettings
from relax_rl.evaluation.samplers.transformers import sample_completions

__all__ = ["GroupSampler", "group_sampler"]

_SWITCH = "set sampling.engine = generate"
# Settings of `generate` that the sampler does not know, with the values that ask for nothing.
_ASKS_NOTHING: dict[str, tuple[Any, ...]] = {
    "top_k": (None, 0),
    "min_p": (None, 0.0),
    "repetition_penalty": (None, 1.0),
    "generation_kwargs": (None, {}),
    "cache_implementation": (None,),
}


@dataclass(frozen=True)
class GroupSampler:
    """Samples whole groups.

    Attributes:
        settings: settings of the sampling; ``num_samples`` is G.
    """

    settings: SamplingSettings

    def completions(
        self,
        model: Any,
        tokenizer: Any,
        prompts: Sequence[Sequence[int]],
        occasions: Sequence[str],
        num_samples: int | None = None,
    ) -> list[list[int]]:
        """Token ids of a completion for each of ``prompts`` (B), the stop token included.

        Args:
            model: unwrapped; it is in evaluation mode meanwhile.
            prompts: token ids, each prompt `num_samples` times in a row.
            occasions: names of the random streams of each of the B / num_samples prompts; all different.
            num_samples: G when None.
        """
        settings = self.settings
        count = settings.num_samples if num_samples is None else num_samples
        groups = sample_completions(
            model,
            tokenizer,
            prompts[::count],
            count,
            max_completion_length=settings.max_completion_length,
            temperature=settings.temperature,
            top_p=settings.top_p,
            batch_size=len(prompts),
            seed=settings.seed,
            keys=occasions,
        )
        return [list(completion.token_ids) for group in groups for completion in group]

    def occasions(self, rows: Sequence[Mapping[str, Any]], occasion: str) -> list[str]:
        """A name for each group of some rows, (B) -> (B / G): its problem, and how often that was met among them.

        Args:
            rows: rows of the data set, each G times; ``problem_id`` names the problem, or else its prompt does.
            occasion: sets this lot of rows apart from every other one of the run.
        """
        met: Counter[str] = Counter()
        names: list[str] = []
        for row in rows[:: self.settings.num_samples]:
            problem = str(row.get("problem_id") or json.dumps(row["prompt"], sort_keys=True, default=str))
            names.append(f"{occasion}/{met[problem]}/{problem}")
            met[problem] += 1
        return names


def group_sampler(args: Any, engine: Engine = "relax") -> GroupSampler | None:
    """The sampler for a run; None where TRL samples.

    Args:
        args: TRL's configuration.
        engine: `SamplingConfig.engine`.

    Raises:
        ConfigError: the engine is "relax", and something is asked for that the sampler cannot do.
    """
    if engine == "generate":
        return None
    objection = _objection(args)
    if objection is not None:
        if engine == "auto":
            return None
        raise ConfigError(objection)
    return GroupSampler(
        SamplingSettings(args.num_generations, args.max_completion_length, args.temperature, args.top_p, args.seed)
    )


def _objection(args: Any) -> str | None:
    """The first thing that is asked for and that the sampler cannot do, in a sentence."""
    if args.use_vllm:
        return "sampling.engine = relax and trainer.use_vllm name two engines; leave one of them out."
    for name, values in _ASKS_NOTHING.items():
        if getattr(args, name) not in values:
            return (
                f"sampling.engine = relax does not know trainer.{name} = {getattr(args, name)}; leave it out, or "
                f"{_SWITCH}."
            )
    if not args.ds3_gather_for_generation:
        return f"sampling.engine = relax gathers weights, and trainer.ds3_gather_for_generation is false; {_SWITCH}."
    return None
