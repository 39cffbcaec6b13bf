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

from relax_rl.errors import ConfigError
from relax_rl.evaluation.samplers.protocol import SamplingSettings
from relax_rl.evaluation.samplers.transformers import sample_completions

__all__ = ["GroupSampler", "group_sampler"]

_SWITCH = "set sampling.engine = generate"
# What would change which tokens `generate` draws, and the sampler does not know, with the values that ask for nothing.
_ASKS_NOTHING: dict[str, tuple[Any, ...]] = {
    "top_k": (None, 0),
    "min_p": (None, 0.0),
    "repetition_penalty": (None, 1.0),
    "generation_kwargs": (None, {}),
}


@dataclass(frozen=True)
class GroupSampler:
    """Samples whole groups.

    Attributes:
        settings: how completions are drawn; ``num_samples`` is G.
    """

    settings: SamplingSettings

    def completions(
        self, model: Any, tokenizer: Any, prompts: Sequence[Sequence[int]], occasions: Sequence[str]
    ) -> list[list[int]]:
        """Token ids of a completion for each of ``prompts`` (B), the stop token included.

        Args:
            model: unwrapped; it is in evaluation mode meanwhile.
            prompts: token ids, each prompt G times in a row.
            occasions: what names the random streams of each of the B / G groups; all different.
        """
        settings = self.settings
        groups = sample_completions(
            model,
            tokenizer,
            prompts[:: settings.num_samples],
            settings.num_samples,
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
            rows: of the data set, each G times; ``problem_id`` names the problem, or else its prompt does.
            occasion: sets this lot of rows apart from every other one of the run.
        """
        met: Counter[str] = Counter()
        names: list[str] = []
        for row in rows[:: self.settings.num_samples]:
            problem = str(row.get("problem_id") or json.dumps(row["prompt"], sort_keys=True, default=str))
            names.append(f"{occasion}/{met[problem]}/{problem}")
            met[problem] += 1
        return names


def group_sampler(args: Any) -> GroupSampler:
    """The sampler for a run.

    Args:
        args: TRL's configuration.

    Raises:
        ConfigError: something is asked for that the sampler cannot do.
    """
    if args.use_vllm:
        raise ConfigError("sampling.engine = relax and trainer.use_vllm name two engines; leave one of them out.")
    for name, values in _ASKS_NOTHING.items():
        if getattr(args, name) not in values:
            raise ConfigError(
                f"sampling.engine = relax does not know trainer.{name} = {getattr(args, name)}; leave it out, or "
                f"{_SWITCH}."
            )
    settings = SamplingSettings(
        args.num_generations, args.max_completion_length, args.temperature, args.top_p, args.seed
    )
    return GroupSampler(settings)
