"""ReLaX's terms by hand, and every mechanism switched."""

import math
from typing import Any

import pytest
import torch

from objectives.batches import input_names, present
from relax_rl.errors import ConfigError, DataError
from relax_rl.koopman import KoopmanDictionary, dynamic_spectral_dispersion
from relax_rl.objectives import RolloutBatch, UpdateTotals, build_objective
from relax_rl.objectives.base import Measurements
from relax_rl.objectives.methods.relax import LatentExploration
from relax_rl.objectives.probe import DictionarySettings, DispersionBound, GroupDispersion
from relax_rl.objectives.regularizers import ReferenceKL

P, G, T, H, F = 2, 3, 40, 6, 4


@pytest.fixture(scope="module")
def dictionary():
    generator = torch.Generator().manual_seed(0)
    states = [torch.randn(60, H, generator=generator).cumsum(0) * 0.1 for _ in range(8)]
    return KoopmanDictionary.fit(states, num_observables=F, steps=5, seed=0)


def latent_batch(seed=0, prompts=P, ref=True, **more):
    generator = torch.Generator().manual_seed(seed)
    shape = (prompts, G, T)
    old = -torch.rand(shape, generator=generator)
    lengths = torch.randint(20, T + 1, shape[:2], generator=generator)
    rewards = torch.tensor([[1.0, 0.0, 0.0], [1.0, 1.0, 0.0]]).repeat(prompts, 1)[:prompts]
    return RolloutBatch(
        log_probs=(old + 0.1 * torch.randn(shape, generator=generator)).requires_grad_(),
        old_log_probs=old,
        mask=torch.arange(T) < lengths.unsqueeze(-1),
        rewards=rewards,
        ref_log_probs=old - 0.2 * torch.rand(shape, generator=generator) if ref else None,
        hidden_states=(torch.randn((*shape, H), generator=generator).cumsum(2) * 0.2).requires_grad_(),
        **more,
    )


def measured_by(values, advantages, is_defined=None, xi=math.inf):
    values = torch.as_tensor(values, dtype=torch.float64)
    defined = torch.ones_like(values, dtype=torch.bool) if is_defined is None else torch.as_tensor(is_defined)
    dispersion = GroupDispersion(values, defined, torch.ones_like(values), torch.tensor(0), torch.tensor(0))
    return Measurements(torch.as_tensor(advantages, dtype=torch.float64), dispersion, xi)


def empty_batch(shape=(1, 2), tokens=2, mask=None, **more):
    zeros = torch.zeros(*shape, tokens, dtype=torch.float64)
    mask = torch.ones_like(zeros, dtype=torch.bool) if mask is None else torch.as_tensor(mask)
    return RolloutBatch(zeros, zeros, mask, torch.zeros(shape), **more)


# The exploration term ----------------------------------------------------------------------------------------------


def test_exploration_by_hand():
    values = torch.tensor([[2.0, 3.0]], dtype=torch.float64, requires_grad=True)
    share, _ = LatentExploration(alpha=0.1)(empty_batch(), measured_by(values, [[0.5, -0.5]]))
    # log((exp(-0.5 * 2) + exp(0)) / 2)
    assert share.item() == pytest.approx(0.1 * math.log((math.exp(-1) + 1) / 2), rel=1e-12)
    share.backward()
    softmax = math.exp(-1) / (math.exp(-1) + 1)
    assert values.grad.tolist() == [pytest.approx([-0.1 * 0.5 * softmax, 0.0], rel=1e-12)]


def test_without_shaping_every_completion_counts_alike():
    share, _ = LatentExploration(1.0, advantage_shaping="none")(empty_batch(), measured_by([[2.0, 3.0]], [[0.5, -0.5]]))
    assert share.item() == pytest.approx(math.log((math.exp(-2) + math.exp(-3)) / 2), rel=1e-12)


def test_as_run_weights_grow_with_length():
    mask = [[[True, False], [True, True]]]
    weights = LatentExploration(advantage_shaping="positive_by_length").weights(
        empty_batch(mask=mask), torch.tensor([[0.8, 0.4]])
    )
    assert weights.tolist() == [pytest.approx([0.4, 0.4])]


def test_as_run_weights_divide_by_the_padded_length_not_by_the_longest():
    mask = [[[True, False, False, False], [True, True, False, False]]]
    by_length = LatentExploration(alpha=1.0, advantage_shaping="positive_by_length")
    share, _ = by_length(empty_batch(tokens=4, mask=mask), measured_by([[2.0, 3.0]], [[0.8, 0.4]]))
    # w = (0.8 / 4, 0.4 * 2 / 4)
    assert share.item() == pytest.approx(math.log((math.exp(-0.2 * 2) + math.exp(-0.2 * 3)) / 2), rel=1e-12)


def test_above_xi_the_dispersion_counts_but_carries_no_gradient():
    values = torch.tensor([[2.0, 30.0]], dtype=torch.float64, requires_grad=True)
    measured = measured_by(values, [[0.5, 0.5]], xi=25.0)
    share, _ = LatentExploration(1.0)(empty_batch(), measured)
    assert share.item() == pytest.approx(math.log((math.exp(-1) + math.exp(-15)) / 2), rel=1e-12)
    share.backward()
    assert values.grad[0, 1].item() == 0.0
    assert values.grad[0, 0].item() != 0.0
    values.grad = None
    LatentExploration(1.0, suspend_above_xi=False)(empty_batch(), measured)[0].backward()
    assert values.grad[0, 1].item() != 0.0


def test_a_dispersion_of_just_xi_is_still_encouraged():
    values = torch.tensor([[2.0, 2.0 + 1e-9]], dtype=torch.float64, requires_grad=True)
    share, _ = LatentExploration(alpha=1.0, advantage_shaping="none")(
        empty_batch(), measured_by(values, [[0.5, 0.5]], xi=2.0)
    )
    share.backward()
    assert values.grad[0, 0] < 0
    assert values.grad[0, 1] == 0


def test_the_residual_that_is_logged_is_the_mean_of_those_of_the_completions(dictionary):
    batch = latent_batch()
    objective = build_objective("relax", xi=1.0, dictionary=dictionary)
    measured, _ = objective.probe.measure(objective.probe.lift(batch))
    expected = measured.median_residual[measured.is_defined].mean().item()
    assert 0 < expected < 1
    assert objective(batch).metrics["latent/residual"] == pytest.approx(expected)


def test_what_is_only_monitored_reads_the_states_too_and_is_surveyed_without_a_signal():
    settings = DictionarySettings(num_observables=F, steps=2)
    batch = latent_batch()
    plain = build_objective("kl_cov")
    watched = plain.monitored(settings)
    assert {wanted.name for wanted in watched.inputs} == {wanted.name for wanted in plain.inputs} | {"hidden_states"}
    assert torch.equal(watched.survey(batch), plain.survey(batch))


@pytest.mark.parametrize(
    ("gate", "reads_states"), [("above_xi", True), ("above_xi_and_positive", True), ("all", False)]
)
def test_a_kl_behind_a_gate_reads_the_states(gate, reads_states):
    names = {wanted.name for wanted in ReferenceKL(gate=gate).inputs()}
    assert names == {"ref_log_probs"} | ({"dispersion"} if reads_states else set())


def test_scope_of_the_mean():
    measured = measured_by([[1.0, 2.0], [3.0, 4.0]], [[1.0, 1.0], [1.0, 1.0]])
    batch = empty_batch((2, 2))
    group, _ = LatentExploration(1.0)(batch, measured)
    micro, _ = LatentExploration(1.0, mean_scope="micro_batch")(batch, measured)

    def lme(*values):
        return math.log(sum(math.exp(-v) for v in values) / len(values))

    assert group.item() == pytest.approx((lme(1, 2) + lme(3, 4)) / 2, rel=1e-12)
    assert micro.item() == pytest.approx(lme(1, 2, 3, 4), rel=1e-12)


def test_undefined_completions_take_no_part_even_if_all_are():
    values = torch.tensor([[2.0, 0.0]], dtype=torch.float64, requires_grad=True)
    share, _ = LatentExploration(1.0)(empty_batch(), measured_by(values, [[1.0, 1.0]], [[True, False]]))
    assert share.item() == pytest.approx(-2.0)
    nothing, _ = LatentExploration(1.0)(empty_batch(), measured_by(values, [[1.0, 1.0]], [[False, False]]))
    nothing.backward()
    assert nothing.item() == 0.0
    assert torch.equal(present(values.grad), torch.zeros_like(values))


# The KL ------------------------------------------------------------------------------------------------------------


def test_adaptive_kl_sums_over_the_gated_completions_of_a_prompt():
    ref = torch.log(torch.tensor([[[0.5, 0.5], [0.25, 1.0]]], dtype=torch.float64))
    mask = [[[True, True], [True, False]]]
    batch = empty_batch(mask=mask, ref_log_probs=ref)
    measured = measured_by([[30.0, 30.0]], [[1.0, -1.0]], xi=25.0)

    def k3(ratio):  # log_probs are 0, so d = -log(ref)
        return ratio - 1 - math.log(ratio)

    first, second = k3(0.5), k3(0.25)
    both, metrics = ReferenceKL(0.01)(batch, measured)
    assert both.item() == pytest.approx(0.01 * (first + second), rel=1e-12)
    assert metrics["latent/kl_gate"].item() == 1.0
    positive, _ = ReferenceKL(0.01, gate="above_xi_and_positive")(batch, measured)
    assert positive.item() == pytest.approx(0.01 * first, rel=1e-12)
    mean, _ = ReferenceKL(0.01, reduction="completion_mean")(batch, measured)
    assert mean.item() == pytest.approx(0.01 * (first + second) / 2, rel=1e-12)
    tokens, _ = ReferenceKL(0.01, reduction="token_mean")(batch, measured)
    assert tokens.item() == pytest.approx(0.01 * (2 * first + second) / 3, rel=1e-12)
    below, _ = ReferenceKL(0.01)(batch, measured_by([[20.0, 24.0]], [[1.0, -1.0]], xi=25.0))
    assert below.item() == 0.0


def test_kl_without_reference_says_so():
    with pytest.raises(DataError, match="ref_log_probs"):
        ReferenceKL(0.01)(empty_batch(), measured_by([[30.0, 30.0]], [[1.0, 1.0]], xi=25.0))


# The whole ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["relax", "relax_as_run"])
def test_zero_coefficients_are_bit_identical_to_the_policy_loss_alone(method, dictionary):
    settings: dict[str, Any] = {"clip_low": 0.2, "clip_high": 0.2, "epsilon": 1e-4}
    batch = latent_batch()
    ours = build_objective(method, alpha=0.0, beta=0.0, xi=25.0, dictionary=dictionary, **settings)(batch)
    if method == "relax":
        reference = build_objective("grpo", **settings)(batch)
        assert torch.equal(ours.loss, reference.loss)
        expected = torch.autograd.grad(reference.loss, batch.log_probs)[0]
        assert torch.equal(torch.autograd.grad(ours.loss, batch.log_probs, retain_graph=True)[0], expected)
    assert torch.autograd.grad(ours.loss, present(batch.hidden_states), allow_unused=True)[0] is None
    assert math.isfinite(ours.metrics["latent/dsd"])


def test_relax_is_the_sum_of_its_parts(dictionary):
    batch = latent_batch()
    dispersion = dynamic_spectral_dispersion(batch.hidden_states.flatten(0, 1), batch.mask.flatten(0, 1), dictionary)
    values = dispersion.values.view(P, G)
    xi = values.median().item()
    out = build_objective("relax", alpha=0.3, beta=0.05, xi=xi, dictionary=dictionary)(batch)
    advantages = out.per_completion["advantage"]
    latent = torch.log(torch.exp(-advantages.clamp(min=0) * values).mean(-1)).mean()
    d = batch.log_probs - present(batch.ref_log_probs)
    kl = ((torch.exp(-d) - 1 + d) * batch.mask).sum(-1) / batch.mask.sum(-1)
    expected = build_objective("grpo")(batch).loss + 0.3 * latent + 0.05 * (kl * (values > xi)).sum(-1).mean()
    torch.testing.assert_close(out.loss, expected.float(), rtol=1e-5, atol=1e-7)
    assert torch.equal(out.per_completion["dsd"], values.detach())


def test_a_descent_step_on_the_exploration_term_raises_the_dispersion_of_the_good_completions(dictionary):
    batch = latent_batch(ref=False)
    objective = build_objective("relax", alpha=1.0, beta=0.0, xi=1e9, dictionary=dictionary)
    out = objective(batch)
    (gradient,) = torch.autograd.grad(out.loss, present(batch.hidden_states))
    is_good = out.per_completion["advantage"] > 0
    assert torch.equal(gradient[~is_good], torch.zeros_like(gradient[~is_good]))
    moved = (batch.hidden_states - 1e-3 * gradient / gradient.norm()).detach()
    after = dynamic_spectral_dispersion(moved.flatten(0, 1), batch.mask.flatten(0, 1), dictionary).values.view(P, G)
    assert after[is_good].sum() > out.per_completion["dsd"][is_good].sum()


@pytest.mark.parametrize("method", ["relax", "relax_as_run"])
def test_padding_invariance_of_the_masked_reading(method, dictionary):
    batch = latent_batch()

    def padded(tensor):
        return torch.nn.functional.pad(tensor.detach(), (0, 0, 0, 7) if tensor.dim() == 4 else (0, 7))

    longer = RolloutBatch(
        padded(batch.log_probs),
        padded(batch.old_log_probs),
        padded(batch.mask),
        batch.rewards,
        ref_log_probs=padded(batch.ref_log_probs),
        hidden_states=padded(batch.hidden_states),
    )
    options = {"padding": "masked", "advantage_shaping": "positive", "xi": 0.05, "dictionary": dictionary}
    objective = build_objective(method, **options)
    torch.testing.assert_close(objective(longer).loss, objective(batch).loss.detach())


def test_the_padded_tail_is_part_of_the_trajectory_as_run(dictionary):
    batch = latent_batch()
    mask = torch.zeros_like(batch.mask)
    mask[..., :20] = True
    short = RolloutBatch(
        batch.log_probs,
        batch.old_log_probs,
        mask,
        batch.rewards,
        batch.ref_log_probs,
        hidden_states=batch.hidden_states,
    )
    states = torch.where(mask.unsqueeze(-1), present(batch.hidden_states), 0.0).flatten(0, 1)
    everything = torch.ones(P * G, T, dtype=torch.bool)
    expected = dynamic_spectral_dispersion(states, everything, dictionary, estimator="singular").values.view(P, G)
    out = build_objective("relax_as_run", xi=1e9, dictionary=dictionary)(short)
    torch.testing.assert_close(out.per_completion["dsd"], expected.detach())


def test_whole_groups_in_micro_batches_add_up(dictionary):
    whole = latent_batch(prompts=4)
    objective = build_objective("relax", alpha=0.5, beta=0.1, xi=0.05, dictionary=dictionary)
    expected = torch.autograd.grad(objective(whole).loss, present(whole.hidden_states))[0]
    totals = UpdateTotals(4, 4 * G, float(whole.mask.sum()))
    gradients = []
    for part in (slice(0, 1), slice(1, 4)):
        states = whole.hidden_states[part].detach().requires_grad_()
        micro = RolloutBatch(
            whole.log_probs[part],
            whole.old_log_probs[part],
            whole.mask[part],
            whole.rewards[part],
            whole.ref_log_probs[part],
            hidden_states=states,
            totals=totals,
        )
        gradients.append(torch.autograd.grad(objective(micro).loss, states)[0])
    torch.testing.assert_close(torch.cat(gradients), expected)


def test_nan_states_are_left_out_counted_and_do_not_reach_the_gradient(dictionary):
    batch = latent_batch()
    states = batch.hidden_states.detach().clone()
    states[0, 0, 3] = float("nan")
    states.requires_grad_()
    broken = RolloutBatch(
        batch.log_probs, batch.old_log_probs, batch.mask, batch.rewards, batch.ref_log_probs, hidden_states=states
    )
    out = build_objective("relax", xi=0.05, dictionary=dictionary)(broken)
    (gradient,) = torch.autograd.grad(out.loss, states)
    assert out.loss.isfinite()
    assert gradient.isfinite().all()
    assert out.metrics["latent/num_nonfinite"] == 1.0
    assert out.metrics["latent/dsd_defined"] == pytest.approx(5 / 6)
    assert out.per_completion["dsd"][0, 0].isnan()


# Calibration -------------------------------------------------------------------------------------------------------


def test_an_objective_without_dictionary_says_what_to_do():
    with pytest.raises(ConfigError, match="calibrated"):
        build_objective("relax", xi=1.0)(latent_batch())


def test_calibration_fits_the_dictionary_and_reads_xi_off_the_batch():
    batch = latent_batch()
    objective = build_objective("relax", xi="quantile:0.5", dictionary={"num_observables": F, "steps": 3})
    assert not objective.is_calibrated
    ready = objective.calibrated(batch.hidden_states.flatten(0, 1), batch.mask.flatten(0, 1))
    assert ready.is_calibrated
    values = ready(batch).per_completion["dsd"]
    assert ready.probe.bound.value == pytest.approx(torch.quantile(values, 0.5).item())
    again = ready.calibrated(2 * batch.hidden_states.flatten(0, 1), batch.mask.flatten(0, 1))
    assert again.probe.bound.value == ready.probe.bound.value
    assert again.probe.dictionary.digest != ready.probe.dictionary.digest


def test_calibration_takes_no_notice_of_what_stands_behind_the_mask():
    batch = latent_batch()
    objective = build_objective("relax", xi="quantile:0.5", dictionary={"num_observables": F, "steps": 3})
    mask = batch.mask.flatten(0, 1)
    states = batch.hidden_states.detach().flatten(0, 1)
    assert not mask.all()
    clean = objective.calibrated(states, mask)
    for filler in (0.0, math.nan, math.inf):
        found = objective.calibrated(states.masked_fill(~mask.unsqueeze(-1), filler), mask)
        assert found.probe.dictionary.digest == clean.probe.dictionary.digest
        assert found.probe.bound == clean.probe.bound


def test_a_measurement_names_the_dictionary_that_it_was_made_by(dictionary):
    objective = build_objective("relax", xi=1.0, dictionary=dictionary)
    found, xi = objective.probe.measure(objective.probe.lift(latent_batch()))
    assert (found.dictionary_digest, xi) == (dictionary.digest, 1.0)


def test_calibration_does_not_touch_the_runs_random_numbers():
    batch = latent_batch()
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    build_objective("relax", xi="quantile:0.5", dictionary={"num_observables": F, "steps": 2}).calibrated(
        batch.hidden_states.flatten(0, 1), batch.mask.flatten(0, 1)
    )
    assert torch.equal(torch.rand(3), expected)


def test_a_bound_out_of_reach_is_pointed_out():
    batch = latent_batch()
    objective = build_objective("relax", xi=25.0, dictionary={"num_observables": F, "steps": 1})
    with pytest.warns(UserWarning, match="quantile:0.9"):
        fitted = objective.calibrated(batch.hidden_states.flatten(0, 1), batch.mask.flatten(0, 1))
    assert objective.probe is not None
    assert fitted.probe is not None
    assert fitted.probe.bound == objective.probe.bound


@pytest.mark.parametrize("xi", ["quantile:1.5", "quantile:", "much", -1.0, "nan"])
def test_a_bound_that_is_none_is_refused(xi):
    with pytest.raises(ConfigError, match="quantile:q"):
        DispersionBound.parse(xi)


def test_settings_that_do_not_exist_are_refused():
    with pytest.raises(ConfigError, match=r"dictionary\.observables"):
        DictionarySettings.parse({"observables": 3}, DictionarySettings())
    options: list[dict[str, Any]] = [
        {"estimator": "best"},
        {"state_alignment": "next"},
        {"padding": "left"},
        {"kl_gate": "some"},
    ]
    for option in options:
        with pytest.raises(ConfigError, match=r"choose one of|must be"):
            build_objective("relax", **option)


def test_needs_follow_the_coefficients():
    assert input_names(build_objective("grpo")) == set()
    assert input_names(build_objective("grpo", beta=0.1)) == {"ref_log_probs"}
    assert input_names(build_objective("relax", beta=0.0)) == {"hidden_states"}
    assert input_names(build_objective("relax")) == {"hidden_states", "ref_log_probs"}
    assert build_objective("relax").reference_coefficient == 0.01
