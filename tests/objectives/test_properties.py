"""What holds for every method on any batch: shapes, masks with holes, missing scores, either precision."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from objectives.batches import INPUTS, fields_of, random_batch, with_inputs
from relax_rl.koopman import KoopmanDictionary
from relax_rl.objectives import METHODS, Objective, RolloutBatch, UpdateTotals, build_objective

RIGHT_OR_WRONG = {"pass_at_k", "pkpo", "maxrl", "f_grpo", "w_reinforce", "mode_max_rl", "coverage", "latent_coverage"}
"""These take rewards of 0 and 1."""
OPTIONS: dict[str, dict[str, Any]] = {
    "pass_at_k": {"k": 2},
    "pkpo": {"k": 2, "baseline": "none"},
    "kl_cov": {"k_ratio": 0.2},
    "clip_cov": {"ratio": 0.2, "cov_low": 0.0},
    "coverage": {"k": 2},
    "latent_coverage": {"k": 2},
    "poly_epo": {"n": 2},
}
LATENT = ("relax", "relax_as_run")
GO_BY_ORDER = {"clip_cov", "kl_cov"}
"""Which tokens are chosen is a draw that goes by their order, or of those that are tied the first."""
OF_ALL_COMPLETIONS = {"relax_as_run"}
"""As its authors ran it, a mean over the completions of a micro-batch, and a trajectory that holds the padding."""

few = settings(max_examples=4, deadline=None, database=None, derandomize=True)


@st.composite
def batches(draw: st.DrawFn) -> Callable[[str], RolloutBatch]:
    """A batch of any shape, made for a method: with holes in its mask, empty completions and missing scores."""
    seed = draw(st.integers(0, 2**16))
    prompts, group = draw(st.integers(1, 4)), draw(st.integers(2, 4))
    tokens = draw(st.sampled_from([1, 2, 4, 5, 7, 9]))  # not 3, as many as the features of a completion
    share, missing = draw(st.sampled_from([1.0, 0.7, 0.3])), draw(st.sampled_from([0.0, 0.3]))

    def of(method: str) -> RolloutBatch:
        # Of a method's own: the examples of a test are the same for all of them.
        own = seed + zlib.crc32(method.encode())
        batch = random_batch(own, prompts, group, tokens)
        generator = torch.Generator().manual_seed(own)
        levels = 2 if method in RIGHT_OR_WRONG else 3
        rewards = torch.randint(0, levels, (prompts, group), generator=generator).double() / (levels - 1)
        is_missing = torch.rand((prompts, group), generator=generator) < missing
        return replace(
            batch,
            mask=batch.mask & (torch.rand(batch.mask.shape, generator=generator) < share),
            rewards=rewards.masked_fill(is_missing, math.nan),
        )

    return of


def objective_of(method: str, **options: Any) -> Objective:
    if method in LATENT:
        weight = torch.tensor([[1.0, -0.5], [0.5, 2.0], [-1.5, 0.5]])
        options |= {"dictionary": KoopmanDictionary(weight), "xi": 0.01}
    return build_objective(method, beta=0.1, **OPTIONS.get(method, {}), **options)


def result(objective: Objective, batch: RolloutBatch) -> tuple[Tensor, Tensor]:
    """Loss and its gradient in the log-probabilities."""
    leaves = RolloutBatch(
        **fields_of(batch, lambda tensor: tensor.detach().requires_grad_(tensor.requires_grad)), totals=batch.totals
    )
    loss = objective(leaves).loss
    if loss.requires_grad:
        loss.backward()
    gradient = leaves.log_probs.grad
    return loss.detach(), torch.zeros_like(batch.log_probs) if gradient is None else gradient


def changed(batch: RolloutBatch, change: Callable[[Tensor], Tensor]) -> RolloutBatch:
    return RolloutBatch(**fields_of(batch, lambda tensor: change(tensor.detach()).requires_grad_(tensor.requires_grad)))


@pytest.mark.parametrize("method", METHODS)
@given(make=batches())
@few
def test_nothing_reaches_a_masked_token_and_nothing_behind_it_matters(
    method: str, make: Callable[[str], RolloutBatch]
) -> None:
    batch, objective = make(method), objective_of(method)
    loss, gradient = result(objective, batch)
    assert loss.isfinite()
    assert gradient.isfinite().all()
    assert (gradient[~batch.mask] == 0).all()
    if method in OF_ALL_COMPLETIONS:
        return

    def spoiled(tensor: Tensor) -> Tensor:
        """NaN behind the mask, and four more columns of it."""
        if tensor.dim() < 3 or tensor.shape[:3] != batch.mask.shape:
            return tensor
        fill = False if tensor.dtype == torch.bool else math.nan
        mask = batch.mask if tensor.dim() == 3 else batch.mask.unsqueeze(-1)
        side = (0, 4) if tensor.dim() == 3 else (0, 0, 0, 4)
        return torch.nn.functional.pad(torch.where(mask, tensor, fill), side, value=fill)

    other_loss, other_gradient = result(objective, changed(batch, spoiled))
    torch.testing.assert_close(other_loss, loss)
    torch.testing.assert_close(other_gradient[..., : batch.mask.shape[-1]], gradient)
    assert (other_gradient[..., batch.mask.shape[-1] :] == 0).all()


@pytest.mark.parametrize("method", [method for method in METHODS if method not in GO_BY_ORDER])
@given(make=batches(), data=st.data())
@few
def test_the_order_of_prompts_and_of_the_completions_of_each_does_not_matter(
    method: str, make: Callable[[str], RolloutBatch], data: st.DataObject
) -> None:
    batch, objective = make(method), objective_of(method)
    prompts, group = batch.rewards.shape
    rows = torch.tensor(data.draw(st.permutations(range(prompts))))
    members = torch.tensor(data.draw(st.permutations(range(group))))

    def moved(tensor: Tensor) -> Tensor:
        return tensor[rows] if tensor.dim() == 1 else tensor[rows][:, members]

    loss, gradient = result(objective, batch)
    moved_loss, moved_gradient = result(objective, changed(batch, moved))
    torch.testing.assert_close(moved_loss, loss)
    torch.testing.assert_close(moved_gradient, moved(gradient))
    expected = objective(batch).per_completion
    for name, values in objective(changed(batch, moved)).per_completion.items():
        torch.testing.assert_close(values, moved(expected[name]), equal_nan=True)


@pytest.mark.parametrize("method", [method for method in METHODS if method not in OF_ALL_COMPLETIONS])
@given(make=batches(), data=st.data())
@few
def test_any_cut_into_micro_batches_gives_the_loss_of_the_whole(
    method: str, make: Callable[[str], RolloutBatch], data: st.DataObject
) -> None:
    batch, objective = make(method), objective_of(method)
    cut = data.draw(st.integers(0, batch.num_prompts))
    told = (batch.extras[INPUTS["prompt_keys"]], batch.rewards, batch.extras[INPUTS["modes"]], batch.lengths)
    told += (batch.extras[INPUTS["latent_keys"]],)
    objective = objective.before_rollout(*told)
    loss, gradient = result(objective, batch)
    totals = UpdateTotals(batch.num_prompts, batch.rewards.numel(), float(batch.mask.sum()))
    parts = [slice(0, cut), slice(cut, batch.num_prompts)]
    micros = [
        replace(changed(batch, lambda tensor, part=part: tensor[part]), totals=totals)
        for part in parts
        if part.start < part.stop
    ]
    if objective.selector is not None:
        choice = objective.choose(torch.cat([objective.survey(micro) for micro in micros]))
        chosen = choice.split([int(micro.mask.sum()) for micro in micros])
        micros = [
            with_inputs(
                micro, token_choice=torch.zeros_like(micro.mask, dtype=choice.dtype).masked_scatter(micro.mask, part)
            )
            for micro, part in zip(micros, chosen, strict=True)
        ]
    shares = [result(objective, micro) for micro in micros]
    torch.testing.assert_close(sum(share for share, _ in shares), loss)
    torch.testing.assert_close(torch.cat([part for _, part in shares]), gradient)


@pytest.mark.parametrize("method", [method for method in METHODS if method not in GO_BY_ORDER])
@given(make=batches())
@few
def test_single_precision_is_double_precision_to_its_rounding(method: str, make: Callable[[str], RolloutBatch]) -> None:
    batch, objective = make(method), objective_of(method)
    loss, gradient = result(objective, batch)
    single, single_gradient = result(
        objective, changed(batch, lambda tensor: tensor.float() if tensor.is_floating_point() else tensor)
    )
    assert single_gradient.dtype == torch.float32
    torch.testing.assert_close(single.double(), loss.double(), rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(single_gradient.double(), gradient, rtol=1e-2, atol=1e-4)


@pytest.mark.parametrize("method", METHODS)
@given(make=batches())
@few
def test_a_batch_without_a_token_has_a_loss_and_no_gradient(method: str, make: Callable[[str], RolloutBatch]) -> None:
    batch = make(method)
    loss, gradient = result(objective_of(method), replace(batch, mask=torch.zeros_like(batch.mask)))
    assert loss.isfinite()
    assert (gradient == 0).all()


@pytest.mark.parametrize("method", METHODS)
@given(make=batches())
@few
def test_what_a_method_does_not_list_as_an_input_it_does_not_read(
    method: str, make: Callable[[str], RolloutBatch]
) -> None:
    batch, objective = make(method), objective_of(method)
    listed = objective.inputs
    given = replace(
        batch,
        extras={wanted: tensor for wanted, tensor in batch.extras.items() if wanted in listed},
        **{wanted.name: None for wanted in INPUTS.values() if wanted.is_field and wanted not in listed},
    )
    loss, gradient = result(objective, batch)
    other_loss, other_gradient = result(objective, given)
    assert torch.equal(other_loss, loss)
    assert torch.equal(other_gradient, gradient)
