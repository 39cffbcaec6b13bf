"""Small batches for the tests of the objectives."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from relax_rl.objectives import RolloutBatch, inputs

A = 0.5 / (math.sqrt(0.5) + 1e-4)
"""Advantage of the right one of two completions: rewards 1 and 0 have mean 1/2 and std sqrt(1/2)."""


def two_completions(ratio, rewards=(1.0, 0.0), mask=None, old=None, entropy=None):
    """One prompt, two completions, from their ratios; the sampling policy gave every token probability 1/2."""
    ratio = torch.tensor([ratio], dtype=torch.float64)
    old = torch.full_like(ratio, math.log(0.5)) if old is None else torch.tensor([old], dtype=torch.float64)
    return RolloutBatch(
        log_probs=(old + ratio.log()).requires_grad_(),
        old_log_probs=old,
        mask=torch.ones(ratio.shape, dtype=torch.bool) if mask is None else torch.tensor([mask]),
        rewards=torch.tensor([rewards], dtype=torch.float64),
        entropy=None if entropy is None else torch.tensor([entropy], dtype=torch.float64).requires_grad_(),
    )


INPUTS = {value.name: value for value in vars(inputs).values() if isinstance(value, inputs.Input)}
"""The optional inputs by name."""


def fields_of(batch: RolloutBatch, change: Callable[[Tensor], Tensor] = lambda tensor: tensor) -> dict[str, Any]:
    given = {field.name: getattr(batch, field.name) for field in dataclasses.fields(batch)}
    changed = {name: change(value) for name, value in given.items() if isinstance(value, torch.Tensor)}
    return changed | {"extras": {wanted: change(tensor) for wanted, tensor in batch.extras.items()}}


def present(tensor: Tensor | None) -> Tensor:
    """An optional tensor that a test knows to be there."""
    assert tensor is not None
    return tensor


def with_inputs(batch, **given):
    """The batch with optional inputs by name, fields or extras."""
    fields = {name: tensor for name, tensor in given.items() if INPUTS[name].is_field}
    extras = {INPUTS[name]: tensor for name, tensor in given.items() if not INPUTS[name].is_field}
    return dataclasses.replace(batch, **fields, extras={**batch.extras, **extras})


def input_names(objective):
    return {wanted.name for wanted in objective.inputs}


def random_batch(seed=0, prompts=3, group=4, tokens=6, spread=0.3):
    generator = torch.Generator().manual_seed(seed)
    shape = (prompts, group, tokens)

    def uniform(*size):
        return torch.rand(*size, generator=generator, dtype=torch.float64)

    old = -uniform(*shape)
    log_probs = old + spread * torch.randn(shape, generator=generator, dtype=torch.float64)
    lengths = torch.randint(1, tokens + 1, shape[:2], generator=generator).unsqueeze(-1)
    return RolloutBatch(
        log_probs=log_probs.requires_grad_(),
        old_log_probs=old,
        mask=torch.arange(tokens) < lengths,
        rewards=torch.tensor([[1.0, 0.0, 0.0, 1.0], [0.0, 1.0, 0.0, 0.0]]).repeat(prompts, 1)[:prompts, :group],
        ref_log_probs=old - 0.1 * uniform(*shape),
        entropy=(2 * uniform(*shape)).requires_grad_(),
        extras={
            inputs.OLD_ENTROPY: 2 * uniform(*shape),
            inputs.ENTROPY_FLOW: uniform(*shape) - 0.3,
            inputs.PLANNING_MASK: uniform(*shape) < 0.4,
            inputs.LOG_PARTITION: uniform(prompts).requires_grad_(),
            inputs.SCORE_FEATURES: uniform(prompts, group, 3) - 0.5,
            inputs.PROMPT_KEYS: torch.arange(prompts),
            inputs.BANK_TERM: torch.linspace(-0.5, 1.5, prompts, dtype=torch.float64).requires_grad_(),
            inputs.LATENT_KEYS: 2 * torch.randn(prompts, group, 3, generator=torch.Generator().manual_seed(seed)),
            inputs.MASKED_LOG_PROBS: old
            - 0.7 * torch.rand(shape, generator=torch.Generator().manual_seed(seed)).double(),
            inputs.MODES: torch.tensor([[5, 6, -1, 7], [8, 5, 5, -1]]).repeat(prompts, 1)[:prompts, :group],
        },
        hidden_states=uniform(*shape, 3) - 0.5,
    )
