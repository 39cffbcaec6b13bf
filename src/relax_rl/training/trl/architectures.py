"""TRL's assumptions about a model's architecture, and the remedies where they do not hold."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby
from typing import Any

from transformers.models.recurrent_gemma.configuration_recurrent_gemma import RecurrentGemmaConfig

from relax_rl.errors import ConfigError, ModelError
from relax_rl.latent.caches import CachePlan, cache_plan

__all__ = ["check_architecture", "of_one_length"]

# TRL divides and caps logits in a head of its own, and looks for the cap under Gemma-2's name alone.
RecurrentGemmaConfig.attribute_map = RecurrentGemmaConfig.attribute_map | {"final_logit_softcapping": "logits_soft_cap"}

_OTHER_HEADS = {
    "inkling_text": "divides its hidden states before its head",
    "llama4_text": "does not name its backbone",
    "modernbert-decoder": "has more than one layer in its head",
}
"""Model types from whose hidden states TRL's head does not get their log-probabilities."""


def check_architecture(config: Any, args: Any) -> CachePlan:
    """Refuse, by its configuration alone, a model that cannot be trained, or not by these arguments.

    Args:
        config: configuration of the model.
        args: TRL's configuration.

    Returns:
        How the model is to be read and sampled.

    Raises:
        ModelError: a model whose log-probabilities in training would not be those it samples from, or whose cache is
            none of transformers'.
        ConfigError: arguments under which the model would sample wrong completions, or none.
    """
    plan = cache_plan(config)
    name = config.get_text_config(decoder=True).model_type
    if name in _OTHER_HEADS:
        raise ModelError(
            f"Models of type '{name}' cannot be trained: the type {_OTHER_HEADS[name]}, which TRL's fused head does "
            "not know; choose another model, or measure this one with `relax eval` and `relax spectrum`."
        )
    if args.cache_implementation == "static" and not plan.fits_static and not args.use_vllm:
        raise ConfigError(
            f"trainer.cache_implementation = static does not work with models of type '{name}'; set "
            "--trainer.cache_implementation dynamic."
        )
    if args.pad_to_multiple_of and not plan.pads_prompts:
        raise ConfigError(
            f"trainer.pad_to_multiple_of = {args.pad_to_multiple_of} pads prompts, and models of type '{name}' take "
            "padding into their state; leave it out."
        )
    return plan


def of_one_length(
    prompts: Sequence[Sequence[int]], complete: Callable[[list[Sequence[int]]], list[list[int]]]
) -> list[list[int]]:
    """The completions of all prompts, from calls with prompts of one length each: TRL pads those of several."""
    completions: list[list[int]] = [[] for _ in prompts]
    by_length = sorted(range(len(prompts)), key=lambda index: len(prompts[index]))
    for _, places in groupby(by_length, lambda index: len(prompts[index])):
        part = list(places)
        for place, completion in zip(part, complete([prompts[index] for index in part]), strict=True):
            completions[place] = completion
    return completions
