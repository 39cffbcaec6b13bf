"""What holds for every method next to ReLaX."""

import math
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from objectives.batches import fields_of, random_batch, with_inputs
from relax_rl.errors import ConfigError, DataError
from relax_rl.objectives import METHODS, RolloutBatch, UpdateTotals, build_objective, method_options
from relax_rl.objectives.inputs import LATENT_KEYS, MODES, PROMPT_KEYS

BASELINES = [name for name in METHODS if name not in ("grpo", "relax", "relax_as_run")]
LEARN_FROM_EQUAL_REWARDS = {
    *("dmpo", "flow_rl", "g2rl", "sr_grpo", "log_det", "w_reinforce"),
    *("differential_smoothing", "outcome_exploration", "elliptical_counts", "papo", "vppo"),
}
"""These ask for a uniform policy over the group or for the reference, are rewarded for their hidden states, have no
baseline, explore where nothing is right, or have a term on all tokens."""
OPTIONS = {
    "pass_at_k": {"k": 2},
    "pkpo": {"k": 2},
    "kl_cov": {"k_ratio": 0.2},
    "clip_cov": {"ratio": 0.2, "cov_low": 0.0},
    "coverage": {"k": 2},
    "latent_coverage": {"k": 2},
    "poly_epo": {"n": 2},
    "mara": {"strength": 0.1},
}
"""Settings that make a small batch feel the method."""


@pytest.mark.parametrize("method", BASELINES)
def test_padding_and_what_is_behind_the_mask_do_not_matter(method):
    batch = random_batch()
    objective = build_objective(method, beta=0.1, **OPTIONS.get(method, {}))
    expected = objective(batch)

    def padded(tensor):
        if tensor.dim() < 3 or tensor.shape[:3] != batch.mask.shape:
            return tensor
        fill = False if tensor.dtype == torch.bool else float("nan")
        mask, side = (batch.mask, (0, 5)) if tensor.dim() == 3 else (batch.mask.unsqueeze(-1), (0, 0, 0, 5))
        kept = tensor.detach() if tensor.dtype == torch.bool else torch.where(mask, tensor.detach(), fill)
        wider = torch.nn.functional.pad(kept, side, value=fill)
        return wider if tensor.dtype == torch.bool else wider.requires_grad_(tensor.requires_grad)

    longer = RolloutBatch(**fields_of(batch, padded))
    out = objective(longer)
    torch.testing.assert_close(out.loss, expected.loss)
    assert out.metrics == pytest.approx(expected.metrics, nan_ok=True)
    out.loss.backward()
    expected.loss.backward()
    torch.testing.assert_close(longer.log_probs.grad[..., :6], batch.log_probs.grad)
    assert (longer.log_probs.grad[..., 6:] == 0).all()


@pytest.mark.parametrize("method", BASELINES)
def test_micro_batches_add_up_to_the_whole(method):
    whole = random_batch(prompts=4)
    told = (whole.extras[PROMPT_KEYS], whole.rewards, whole.extras[MODES], whole.lengths, whole.extras[LATENT_KEYS])
    objective = build_objective(method, beta=0.1, **OPTIONS.get(method, {})).before_rollout(*told)
    expected = objective(whole).loss
    (gradient,) = torch.autograd.grad(expected, whole.log_probs)
    totals = UpdateTotals(4, 16, float(whole.mask.sum()))
    micros = [
        RolloutBatch(**fields_of(whole, lambda tensor, part=part: _leaf(tensor[part])), totals=totals)
        for part in (slice(0, 1), slice(1, 4))
    ]
    loss, gradients = 0.0, []
    for micro in _with_choices(objective, micros):
        share = objective(micro).loss
        share.backward()
        loss += share.detach()
        gradients.append(micro.log_probs.grad)
    torch.testing.assert_close(loss, expected.detach())
    torch.testing.assert_close(torch.cat(gradients), gradient)


def _with_choices(objective, micros):
    """The micro-batches with what the objective makes of the tokens of all of them, as a trainer does it."""
    if objective.selector is None:
        return micros
    choice = objective.choose(torch.cat([objective.survey(micro) for micro in micros]))
    parts = choice.split([int(micro.mask.sum()) for micro in micros])
    zeros = [torch.zeros(micro.mask.shape, dtype=choice.dtype) for micro in micros]
    return [
        with_inputs(micro, token_choice=zero.masked_scatter(micro.mask, part))
        for micro, zero, part in zip(micros, zeros, parts, strict=True)
    ]


@pytest.mark.parametrize("method", [name for name in BASELINES if "scope" in method_options(name)])
def test_a_part_of_an_update_is_not_taken_for_the_whole(method):
    batch = random_batch()
    part = replace(batch, totals=UpdateTotals(6, 24, 2 * float(batch.mask.sum())))
    with pytest.raises(DataError, match=r"extras\[TOKEN_CHOICE\]"):
        build_objective(method)(part)
    alone = build_objective(method, scope="micro_batch")
    assert alone.selector is None
    torch.testing.assert_close(2 * alone(part).loss, alone(batch).loss)
    with pytest.raises(ConfigError, match=r"objective\.scope must be 'update' or 'micro_batch', but is 'rank'"):
        build_objective(method, scope="rank")


def _leaf(tensor):
    return tensor.detach().requires_grad_(tensor.requires_grad)


LEARN_FROM_ONE = {"grpo_passk"}
"""A group of random_batch in which two are right teaches these nothing."""


@pytest.mark.parametrize("method", BASELINES)
@pytest.mark.parametrize(
    "change",
    [
        {"spread": 0.0},
        {"tokens": 1},
        {"tokens": 1, "spread": 0.0, "prompts": 1},
    ],
    ids=["ratio 1", "one token", "one token, ratio 1, one prompt"],
)
def test_finite_gradients_at_the_edges(method, change):
    batch = random_batch(**change)
    if method in LEARN_FROM_ONE:
        batch = replace(batch, rewards=torch.tensor([[1.0, 0.0, 0.0, 0.0]]).expand(batch.rewards.shape))
    (gradient,) = torch.autograd.grad(
        build_objective(method, beta=0.1, **OPTIONS.get(method, {}))(batch).loss, batch.log_probs
    )
    assert gradient.isfinite().all()
    assert gradient.abs().sum() > 0


@pytest.mark.parametrize("method", BASELINES)
def test_a_sampler_that_disagrees_wildly_leaves_the_loss_a_number(method):
    fields = fields_of(random_batch())
    old = fields["old_log_probs"].clone()
    old[0, 0, 0] -= 120.0
    loss = build_objective(method, **OPTIONS.get(method, {}))(RolloutBatch(**fields | {"old_log_probs": old})).loss
    assert loss.isfinite()


# sr_grpo has the stable rank of the states for its reward; papo and vppo have a term on all tokens.
@pytest.mark.parametrize("method", [name for name in BASELINES if name not in ("sr_grpo", "papo", "vppo")])
def test_a_completion_without_a_score_teaches_nothing(method):
    fields = fields_of(random_batch(spread=0.0))
    rewards = fields["rewards"].clone()
    rewards[0] = math.nan
    objective = build_objective(method, beta=0.0, **OPTIONS.get(method, {}))
    batch = RolloutBatch(**fields | {"rewards": rewards})
    (gradient,) = torch.autograd.grad(objective(batch).loss, batch.log_probs)
    assert torch.equal(gradient[0], torch.zeros_like(gradient[0]))


@pytest.mark.parametrize("method", [name for name in BASELINES if name not in LEARN_FROM_EQUAL_REWARDS])
@pytest.mark.parametrize("reward", [0.0, math.nan])
def test_equal_or_missing_rewards_give_no_policy_gradient_at_ratio_one(method, reward):
    fields = fields_of(random_batch(spread=0.0))
    batch = replace(RolloutBatch(**fields), rewards=torch.full((3, 4), reward))
    (gradient,) = torch.autograd.grad(
        build_objective(method, beta=0.0, **OPTIONS.get(method, {}))(batch).loss, batch.log_probs
    )
    assert torch.equal(gradient, torch.zeros_like(gradient))


@pytest.mark.parametrize("method", BASELINES)
def test_the_settings_are_listed_and_others_refused(method):
    options = method_options(method)
    assert "beta" in options
    assert build_objective(method, **options).name == method
    with pytest.raises(ConfigError, match="has no setting 'bet'; did you mean 'beta'"):
        build_objective(method, bet=0.1)
    with pytest.raises(ConfigError, match=r"objective\.beta"):
        build_objective(method, beta="much")


def test_a_whole_number_is_asked_for_where_it_must_be_one():
    with pytest.raises(ConfigError, match=r"objective\.max_completion_length must be an integer, but is 2\.5"):
        build_objective("dr_grpo", max_completion_length=2.5)
    with pytest.raises(ConfigError, match="max_completion_length must be at least 1"):
        build_objective("dr_grpo", max_completion_length=0)


def test_every_method_has_a_row_with_a_test_that_is_there():
    folder = Path(__file__).parent
    rows = re.findall(
        r"^\| `(\w+)` \|.*\| (.+) \|$", (folder.parents[1] / "docs/reference/methods.md").read_text("utf-8"), re.M
    )
    assert [name for name, _ in rows if name in METHODS] == [name for name, _ in rows]
    assert {name for name, _ in rows} == set(METHODS)
    tests = "".join(path.read_text("utf-8") for path in folder.glob("test_*.py"))
    for _, golden in rows:
        name = golden.strip("`")
        assert golden.startswith("[") or f"def {name}(" in tests
