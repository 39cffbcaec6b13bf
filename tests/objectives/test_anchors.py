"""Anchors on a bank: golden values, the one-sided term and its multiplier."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch

from objectives.batches import random_batch
from relax_rl.errors import ConfigError
from relax_rl.objectives import build_objective
from relax_rl.objectives.anchors import OneSidedAnchor, one_step_error, token_divergence
from relax_rl.objectives.base import Measurements
from relax_rl.objectives.inputs import BANK_TERM, BankTerm
from relax_rl.objectives.updates import UpdateReport


@pytest.mark.parametrize(
    ("kind", "ratio", "expected"),
    [
        *[("js", 1.0, 0.0), ("js", 0.5, 0.08495), ("js", 2.0, 0.16990), ("js", 4.0, 0.96372)],
        *[("alpha", 1.0, 0.0), ("alpha", 0.5, 0.16032), ("alpha", 2.0, 0.36812), ("alpha", 4.0, 2.30354)],
        # u - log u - 1, bounded by 10.
        *[("forward", 1.0, 0.0), ("forward", 0.5, 0.5 + math.log(2) - 1), ("forward", 1e4, 10.0)],
        ("forward", 1e-30, 10.0),
    ],
)
def test_the_divergences_of_a_token(kind: str, ratio: float, expected: float) -> None:
    found = token_divergence(torch.tensor(math.log(ratio), dtype=torch.float64), kind)
    assert float(found) == pytest.approx(expected, abs=5e-6)


def test_the_one_step_error() -> None:
    operator = torch.tensor([[0.0, 1.0], [-1.0, 0.0]])  # a quarter turn
    turning = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]])
    halved = turning * torch.tensor([1.0, 0.5, 1.0, 9.0]).unsqueeze(-1)
    mask = torch.tensor([[True] * 4, [True, True, True, False], [True, False, False, False]])
    found = one_step_error(torch.stack([turning, halved, halved]), mask, operator)
    # (1/2, missed by 1/2) and (1, missed by 1/2), of sizes 1/2 and 1.
    assert found.tolist() == pytest.approx([0.0, 0.5 / 1.25, 0.0])
    values = torch.stack([turning, halved, halved]).masked_fill(~mask.unsqueeze(-1), math.nan).requires_grad_()
    spoiled = one_step_error(values, mask, operator)
    torch.testing.assert_close(spoiled.detach(), found)
    spoiled.sum().backward()
    assert values.grad is not None
    assert values.grad[mask].isfinite().all()


def batch_with(*terms: float):
    batch = random_batch(prompts=len(terms))
    values = torch.tensor(terms, dtype=torch.float64, requires_grad=True)
    return replace(batch, extras={**batch.extras, BANK_TERM: values}), values


def test_a_trace_above_the_floor_feels_no_force() -> None:
    floor = OneSidedAnchor(BankTerm(), sign=-1.0, shift=math.log(0.5), weight=2.0)
    batch, terms = batch_with(0.0, math.log(0.5), -3.0)
    share, figures = floor(batch, Measurements(batch.rewards))
    assert share.item() == pytest.approx(2.0 * (3.0 - math.log(2)) / 3)
    share.backward()
    assert terms.grad is not None
    assert terms.grad.tolist() == pytest.approx([0.0, 0.0, -2.0 / 3])
    assert figures["anchor/held"].item() == pytest.approx(2 / 3)
    assert figures["anchor/violation"].item() == pytest.approx((3.0 - 2 * math.log(2)) / 3)


def test_the_weight_rises_with_the_violation_and_falls_without() -> None:
    anchor = OneSidedAnchor(BankTerm(), weight=0.2, ascent=0.5, most=1.0)

    def after(anchor: OneSidedAnchor, violation: float) -> OneSidedAnchor:
        return anchor.after(UpdateReport(1, 10, 1.0, metrics={"anchor/violation": violation}))

    raised = after(anchor, 0.4)
    assert raised.weight == pytest.approx(0.4)
    assert after(raised, 9.0).weight == 1.0
    gone = after(anchor, -2.0)
    assert gone.weight == 0.0
    assert gone.is_active
    assert after(gone, 0.4).weight == pytest.approx(0.2)
    assert after(anchor, math.nan) is anchor
    assert anchor.restored(raised.state()) == raised


@pytest.mark.parametrize("method", ["dph_rl", "recoverability_floor", "latent_anchor"])
def test_the_rest_is_grpo(method: str) -> None:
    batch, _terms = batch_with(0.5, -4.0, 0.25)
    output = build_objective(method)(batch)
    grpo = build_objective("grpo")(batch)
    (share,) = [value for name, value in output.terms.items() if name not in grpo.terms]
    torch.testing.assert_close(output.loss.detach(), grpo.loss.detach() + share)
    expected = {
        "dph_rl": 0.02 * (0.5 - 4.0 + 0.25) / 3,
        "recoverability_floor": 0.01 * (4.0 + math.log(0.1)) / 3,
        "latent_anchor": 0.1 * 0.75 / 3,
    }
    assert share.item() == pytest.approx(expected[method])


def test_what_is_refused() -> None:
    cases: list[tuple[str, dict[str, Any]]] = [
        ("dph_rl", {"coefficient": 0.0}),
        ("dph_rl", {"divergence": "alpha", "alpha": 1.0}),
        ("recoverability_floor", {"share": 0.0}),
        ("recoverability_floor", {"weight": 2.0}),
        ("latent_anchor", {"slack": -0.1}),
        ("latent_anchor", {"num_observables": 0}),
    ]
    for method, options in cases:
        with pytest.raises(ConfigError):
            build_objective(method, **options)
