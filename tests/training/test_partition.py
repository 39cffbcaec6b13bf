"""The head of log Z: its start, its mean, its steps, its file."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import nn

from relax_rl.errors import RunError
from relax_rl.training.inputs.partition import KeyedDropout, PartitionHead


def test_the_head_of_log_z_begins_from_its_seed_and_leaves_the_runs_numbers_alone() -> None:
    before = torch.random.get_rng_state()
    heads = [PartitionHead(4, seed=seed) for seed in (0, 0, 1)]
    assert torch.equal(torch.random.get_rng_state(), before)
    first, again, other = (torch.cat([value.flatten() for value in head.parameters()]) for head in heads)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert [type(layer).__name__ for layer in heads[0].layers] == [
        *["Linear", "GELU", "LayerNorm", "KeyedDropout"] * 2,
        "Linear",
    ]
    dropouts = [layer for layer in heads[0].layers if isinstance(layer, KeyedDropout)]
    for layer in dropouts:
        layer.keys = ["a"]
    masks = [layer(torch.ones(1, 200)) for layer in dropouts]
    assert not torch.equal(*masks)
    assert [float((mask == 0).float().mean()) for mask in masks] == pytest.approx([0.1, 0.1], abs=0.07)


def test_log_z_is_of_the_mean_state_under_the_mask() -> None:
    head = PartitionHead(3).eval()
    states = torch.randn(2, 4, 3)
    mask = torch.tensor([[False, True, True, True], [False] * 4])
    states[0, 0] = math.nan
    found = head(states, mask)
    assert found.shape == (2,)
    assert found[0].item() == pytest.approx(head.layers(states[0, 1:].mean(0)).item(), rel=1e-5)
    assert found[1].item() == pytest.approx(head.layers(torch.zeros(3)).item(), rel=1e-5)


class Doubling:
    """Two processes, of which the other has no gradient."""

    @staticmethod
    def reduce(tensor: torch.Tensor, reduction: str = "sum") -> torch.Tensor:
        return tensor / 2 if reduction == "mean" else tensor


@pytest.mark.parametrize(("max_grad_norm", "moved"), [(0.0, 4.0), (1.0, 1.0), (100.0, 4.0)])
def test_the_optimiser_steps_the_head_by_the_mean_gradient_clipped_by_itself(
    max_grad_norm: float, moved: float
) -> None:
    head, policy = PartitionHead(2), nn.Parameter(torch.zeros(3))
    optimizer = torch.optim.SGD([policy], lr=1.0, weight_decay=0.5)
    head.join(optimizer, Doubling(), max_grad_norm)
    assert optimizer.param_groups[1]["weight_decay"] == 0.0
    before = torch.cat([value.detach().flatten() for value in head.parameters()])
    next(head.parameters()).grad = torch.full((2, 2), 4.0)  # its norm is 8, of both processes 4
    optimizer.step()
    after = torch.cat([value.detach().flatten() for value in head.parameters()])
    assert (after - before).norm().item() == pytest.approx(moved, rel=1e-4)
    assert all(value.grad is None for value in head.parameters())


def test_a_skipped_step_leaves_the_head_once() -> None:
    head = PartitionHead(2)
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    head.join(optimizer, Doubling(), 0.0)
    first = next(head.parameters())
    head.skips_step = True
    first.grad = None
    before = first.detach().clone()
    optimizer.step()
    assert torch.equal(first, before)
    first.grad = torch.ones_like(first)
    optimizer.step()
    torch.testing.assert_close(before - first, torch.full_like(first, 0.5))


def test_a_head_comes_back_from_its_file_or_is_missed(tmp_path: Path) -> None:
    head, other = PartitionHead(2, seed=1), PartitionHead(2, seed=2)
    head.save(tmp_path)
    other.load(tmp_path)
    assert all(torch.equal(a, b) for a, b in zip(head.parameters(), other.parameters(), strict=True))
    for wrong, folder in ((PartitionHead(3), tmp_path), (head, tmp_path / "none")):
        with pytest.raises(RunError, match=r"holds no usable partition\.safetensors"):
            wrong.load(folder)
