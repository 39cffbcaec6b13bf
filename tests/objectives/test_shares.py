"""Groups split over micro-batches, lifted states in place of hidden ones: the loss and its gradient stay the same."""

from dataclasses import fields, replace
from typing import Any

import pytest
import torch
from torch import Tensor

from objectives.batches import random_batch
from objectives.test_every_method import OPTIONS
from relax_rl.errors import DataError
from relax_rl.koopman import KoopmanDictionary
from relax_rl.objectives import METHODS, RolloutBatch, UpdateTotals, build_objective
from relax_rl.objectives.groups import grouped, joined
from relax_rl.objectives.inputs import HIDDEN_STATES, LATENT_KEYS, LIFTED_STATES, LOG_PARTITION, MODES, PROMPT_KEYS
from relax_rl.objectives.shares import LOG_PROBS, shares_of

PROMPTS, GROUP, TOKENS, WIDTH = 4, 4, 24, 3
DICTIONARY = KoopmanDictionary(torch.randn(WIDTH, 2, generator=torch.Generator().manual_seed(1)))
LATENT = {"relax": {"xi": 0.15, "dictionary": DICTIONARY}, "relax_as_run": {"xi": 0.5, "dictionary": DICTIONARY}}
"""Bounds that some dispersions lie above and some below."""

INTERLEAVED = torch.arange(PROMPTS * GROUP).view(PROMPTS, GROUP).T.flatten()
"""Each row beside those of the other groups. The order within a group stays: clip_cov draws by it."""


def objective_of(method: str, whole: RolloutBatch):
    options = LATENT[method] if method in LATENT else OPTIONS.get(method, {})
    objective = build_objective(method, beta=0.1, **options)
    return objective.before_rollout(
        whole.extras[PROMPT_KEYS], whole.rewards, whole.extras[MODES], whole.lengths, whole.extras[LATENT_KEYS]
    )


class Policy:
    """Numbers of a batch that depend on shared parameters, as those of a network do."""

    def __init__(self, batch: RolloutBatch) -> None:
        self.parameters = [
            torch.full(size, 0.1, dtype=torch.float64, requires_grad=True) for size in ((), (), (3,), ())
        ]
        self._batch = batch

    def __call__(self, rows: Tensor) -> RolloutBatch:
        """The batch's completions of some rows, with group ids, as wide as the longest of them."""
        shift, heat, direction, level = self.parameters
        whole, width = self._batch, int(self._batch.lengths.flatten()[rows].max())

        def own(tensor: Tensor) -> Tensor:
            tensor = tensor.detach()
            of_rows = tensor.repeat_interleave(GROUP) if tensor.dim() == 1 else tensor.flatten(0, 1)
            return of_rows[rows][:, :width] if of_rows.dim() > 1 and of_rows.shape[1] == TOKENS else of_rows[rows]

        given = {one.name: getattr(whole, one.name) for one in fields(whole)}
        found: dict[str, Any] = {name: own(value) for name, value in given.items() if isinstance(value, Tensor)}
        found["log_probs"] = found["log_probs"] + shift * found["log_probs"].cos()
        found["entropy"] = found["entropy"] * heat.exp()
        found["hidden_states"] = found["hidden_states"] * (1 + direction)
        extras = {of: own(tensor) for of, tensor in whole.extras.items()}
        extras[LOG_PARTITION] = extras[LOG_PARTITION] * level
        return RolloutBatch(**found, extras=extras, group_ids=rows // GROUP)

    def gradients(self) -> list[Tensor]:
        found = [torch.zeros_like(one) if one.grad is None else one.grad for one in self.parameters]
        for one in self.parameters:
            one.grad = None
        return found


def read(batch: RolloutBatch) -> dict[str, Tensor]:
    given = {one.name: getattr(batch, one.name) for one in fields(batch)}
    tensors = {name: value.detach() for name, value in given.items() if isinstance(value, Tensor)}
    return tensors | {f"extra {of.name}": tensor.detach() for of, tensor in batch.extras.items()}


def brought_together(parts: list[RolloutBatch], totals: UpdateTotals | None = None) -> RolloutBatch:
    columns = [read(part) for part in parts]
    together = joined({name: [part[name] for part in columns] for name in columns[0]})
    extras = {of: together.pop(f"extra {of.name}") for of in parts[0].extras}
    return RolloutBatch(**together, extras=extras, totals=totals)


@pytest.mark.parametrize("method", METHODS)
def test_split_groups_have_the_loss_and_the_gradient_of_whole_ones(method):
    batch = random_batch(prompts=PROMPTS, tokens=TOKENS)
    objective = objective_of(method, batch)
    policy = Policy(batch)
    whole = objective(policy(torch.arange(PROMPTS * GROUP)))
    whole.loss.backward()
    expected = policy.gradients()
    order = INTERLEAVED
    micros = order.split([1, 5, 3, 7])
    with torch.no_grad():
        first = brought_together([policy(rows) for rows in micros])
    shares, output = shares_of(objective, first)
    total, place = 0.0, 0
    for rows in micros:
        micro = policy(rows)
        own = shares.of_rows(torch.arange(place, place + len(rows)))
        share = own.loss({LOG_PROBS: micro.log_probs, **micro.given})
        share.backward()
        total, place = total + share.detach(), place + len(rows)
    torch.testing.assert_close(total, whole.loss.detach().double(), rtol=1e-9, atol=1e-12)
    for found, wanted in zip(policy.gradients(), expected, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-6, atol=1e-9)
    assert any(wanted.abs().sum() > 0 for wanted in expected)
    for name, values in whole.per_completion.items():
        torch.testing.assert_close(output.per_completion[name], values[order], equal_nan=True)
    assert output.metrics == pytest.approx(whole.metrics, nan_ok=True)


@pytest.mark.parametrize("method", METHODS)
def test_an_update_of_two_ranks_with_split_micro_batches_adds_up(method):
    batch = random_batch(prompts=PROMPTS, tokens=TOKENS)
    objective = objective_of(method, batch)
    if objective.selector is not None or objective.reads_layout:
        pytest.skip("compares the tokens of the update, or of a micro-batch, which are all in one place above")
    policy = Policy(batch)
    objective(policy(torch.arange(PROMPTS * GROUP))).loss.backward()
    expected = policy.gradients()
    totals = UpdateTotals(PROMPTS, PROMPTS * GROUP, float(batch.mask.sum()))
    for rank in torch.arange(PROMPTS * GROUP).split(2 * GROUP):
        with torch.no_grad():
            shares, _ = shares_of(objective, brought_together([policy(rows) for rows in rank.split(3)], totals))
        for places, rows in zip(torch.arange(2 * GROUP).split(3), rank.split(3), strict=True):
            micro = policy(rows)
            shares.of_rows(places).loss({LOG_PROBS: micro.log_probs, **micro.given}).backward()
    for found, wanted in zip(policy.gradients(), expected, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("method", METHODS)
def test_group_ids_stand_for_the_group_axis(method):
    batch = random_batch(prompts=PROMPTS, tokens=TOKENS)
    objective, policy = objective_of(method, batch), Policy(batch)
    with_axis = grouped(policy(torch.arange(PROMPTS * GROUP))).batch
    assert with_axis.group_ids is None
    assert torch.equal(with_axis.rewards, batch.rewards)
    assert torch.equal(with_axis.extras[PROMPT_KEYS], batch.extras[PROMPT_KEYS])
    expected, found = objective(with_axis), objective(policy(INTERLEAVED))
    torch.testing.assert_close(found.loss, expected.loss, rtol=1e-9, atol=1e-12)
    for name, values in expected.per_completion.items():
        torch.testing.assert_close(found.per_completion[name], values.flatten()[INTERLEAVED], equal_nan=True)


def lifted(batch: RolloutBatch, objective) -> RolloutBatch:
    assert objective.probe is not None
    return replace(batch, hidden_states=None, lifted_states=objective.probe.lifted_columns(batch.hidden_states))


@pytest.mark.parametrize("method", LATENT)
def test_lifted_states_stand_for_hidden_ones(method):
    batch = random_batch(tokens=TOKENS)
    states = present(batch.hidden_states).clone()
    states[1, 2, 0] = float("inf")
    batch = replace(batch, hidden_states=states.requires_grad_())
    objective = objective_of(method, batch)
    assert objective.reads_lifted_states
    expected = objective(batch)
    found = objective(lifted(batch, objective))
    torch.testing.assert_close(found.loss, expected.loss, rtol=1e-9, atol=0)
    assert found.metrics == pytest.approx(expected.metrics, nan_ok=True)
    assert found.metrics["latent/num_nonfinite"] == 1
    gradients = [torch.autograd.grad(output.loss, states)[0] for output in (expected, found)]
    assert gradients[0].abs().sum() > 0
    torch.testing.assert_close(gradients[1], gradients[0])


def present(tensor: Tensor | None) -> Tensor:
    assert tensor is not None
    return tensor


def test_what_reads_the_states_themselves_is_not_satisfied_by_lifted_ones():
    batch = random_batch(tokens=TOKENS)
    objective = build_objective("sr_grpo")
    assert not objective.reads_lifted_states
    with pytest.raises(DataError, match=r"needs RolloutBatch\.hidden_states"):
        objective(replace(batch, hidden_states=None, lifted_states=torch.zeros(3, 4, TOKENS, 2)))


def test_columns_of_another_dictionary_are_refused():
    batch = replace(random_batch(tokens=TOKENS), hidden_states=None, lifted_states=torch.zeros(3, 4, TOKENS, 5))
    with pytest.raises(DataError, match="has 5 columns, but the dictionary 2 observables"):
        build_objective("relax", **LATENT["relax"])(batch)


def test_broken_groups_are_refused():
    batch = random_batch(prompts=PROMPTS, tokens=TOKENS)
    policy, objective = Policy(batch), build_objective("grpo")
    with pytest.raises(DataError, match="groups of 3, 4 completions; bring the completions"):
        objective(policy(torch.arange(7)))
    half = policy(torch.tensor([0, 1, 4, 5]))
    totals = UpdateTotals(PROMPTS, PROMPTS * GROUP, float(batch.mask.sum()))
    with pytest.raises(DataError, match="groups of 2 completions, where the update has groups of 4"):
        objective(replace(half, totals=totals))
    with pytest.raises(DataError, match=r"log_probs must have shape \(completions, tokens\), as group_ids are given"):
        replace(batch, group_ids=torch.arange(PROMPTS * GROUP))


def test_a_share_says_what_it_lacks_and_ignores_what_it_does_not_need():
    batch = random_batch(tokens=TOKENS)
    objective = objective_of("relax", batch)
    shares, output = shares_of(objective, lifted(batch, objective))
    values = present(batch.log_probs).flatten(0, 1)
    with pytest.raises(DataError, match="needs lifted_states of its completions"):
        shares.loss({LOG_PROBS: values})
    broken = torch.where(batch.mask.flatten(0, 1), values, torch.nan)
    states = present(lifted(batch, objective).lifted_states).flatten(0, 1)
    share = shares.loss({LOG_PROBS: broken, LIFTED_STATES: states, HIDDEN_STATES: states * torch.nan})
    torch.testing.assert_close(share, output.loss.double())
    (gradient,) = torch.autograd.grad(share, batch.log_probs)
    assert gradient.isfinite().all()
