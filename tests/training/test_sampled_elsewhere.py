"""Completions of an engine whose probabilities are not quite the policy's, as vLLM's: TRL's weights reach our loss."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from relax_rl.objectives import build_objective
from support.scripted import ScriptedTrainer, make_trainer


class SampledElsewhere(ScriptedTrainer):
    """TRL weighs each token by exp(policy - engine), at most 2, and by 1 where the engine tells nothing (NaN)."""

    told = math.nan
    weights: list[tuple[Tensor, Tensor]]

    def _generate_single_turn(self, prompt_ids: Any, *args: Any, **kwargs: Any) -> Any:
        completions, _ = super()._generate_single_turn(prompt_ids, *args, **kwargs)
        # The first half alone was sampled from far smaller probabilities.
        halves = [(len(ids) // 2, len(ids) - len(ids) // 2) for ids in completions]
        return completions, [[self.told] * first + [math.nan] * rest for first, rest in halves]

    def rollout_batch(self, *args: Any) -> Any:
        batch = super().rollout_batch(*args)
        assert batch.sampling_weights is not None
        self.weights.append((batch.sampling_weights, batch.mask))
        return batch


def step(folder: Path, told: float, mode: str) -> tuple[Tensor, Any]:
    """The change of all parameters in one update of plain descent."""
    trainer = make_trainer(
        build_objective("grpo", beta=0.0),
        folder,
        trainer_class=SampledElsewhere,
        max_steps=1,
        optim="sgd",
        learning_rate=0.1,
        max_grad_norm=0.0,
        vllm_importance_sampling_mode=mode,
        vllm_importance_sampling_clip_max=2.0,
    )
    trainer.told, trainer.weights, trainer.use_vllm = told, [], True
    before = torch.nn.utils.parameters_to_vector(trainer.model.parameters()).detach().clone()
    trainer.train()
    return torch.nn.utils.parameters_to_vector(trainer.model.parameters()).detach() - before, trainer


def test_weights_of_whole_completions_multiply_the_gradient(tmp_path: Path) -> None:
    plain, _ = step(tmp_path / "plain", math.nan, "sequence_truncate")
    doubled, _ = step(tmp_path / "doubled", -1000.0, "sequence_truncate")
    assert float(plain.norm()) > 0.01
    torch.testing.assert_close(doubled, 2 * plain, atol=1e-6, rtol=1e-4)


def test_weights_of_tokens_stay_with_their_tokens(tmp_path: Path) -> None:
    change, trainer = step(tmp_path / "run", -1000.0, "token_truncate")
    assert len(trainer.weights) == 2
    for weights, mask in trainer.weights:
        lengths = mask.sum(-1, keepdim=True)
        places = torch.arange(mask.shape[-1])
        expected = torch.where(places < lengths // 2, 2.0, 1.0)
        assert torch.equal(weights[mask], expected[mask])
    plain, _ = step(tmp_path / "plain", math.nan, "token_truncate")
    assert float((change - plain).norm()) > 0.1 * float(plain.norm())
