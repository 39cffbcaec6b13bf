"""Signals that tell the completions of a group apart, by hand and against numpy and scipy."""

import json
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment

from evidence.latent_signals import spectral_novelty
from evidence.latent_signals.spectral_diversity import SpectralDiversity
from evidence.latent_signals.spectral_novelty import SpectralNovelty, SpectrumMemory
from evidence.latent_signals.state_volume import StateVolume
from objectives.batches import present, random_batch
from relax_rl.errors import ConfigError
from relax_rl.koopman import KoopmanDictionary, dynamic_spectral_dispersion
from relax_rl.objectives import Objective, RolloutBatch, UpdateTotals, build_objective
from relax_rl.objectives.advantages import GroupRelativeAdvantage
from relax_rl.objectives.aggregation import TokenMean
from relax_rl.objectives.probe import LiftedStates
from relax_rl.objectives.surrogates import ClippedSurrogate
from relax_rl.objectives.updates import UpdateReport

H, F = 6, 3
SIGNAL_METHODS = {"spectral_diversity": "diversity", "state_volume": "volume"}
EVERY_WAY = [(method, {"form": form}) for method in SIGNAL_METHODS for form in ("advantage", "regularizer")]
EVERY_WAY.append(("spectral_novelty", {}))


def build_signal(name, **settings):
    """A method of the folder, by its import path."""
    return build_objective(f"evidence.latent_signals.signal_methods:{name}", **settings)


@pytest.fixture(scope="module")
def dictionary():
    generator = torch.Generator().manual_seed(0)
    states = [torch.randn(60, H, generator=generator).cumsum(0) * 0.1 for _ in range(8)]
    return KoopmanDictionary.fit(states, num_observables=F, steps=5, seed=0)


def latent_batch(seed=0, prompts=2, group=4, tokens=30, **more):
    batch = random_batch(seed=seed, prompts=prompts, group=group, tokens=tokens)
    generator = torch.Generator().manual_seed(seed + 1)
    states = torch.randn(prompts, group, tokens, H, generator=generator, dtype=torch.float64).cumsum(2) * 0.2
    lengths = torch.randint(tokens // 2, tokens + 1, (prompts, group), generator=generator)
    rewards = torch.tensor([[1.0, 0.0, 1.0, 1.0], [0.0, 1.0, 0.0, 1.0]]).repeat(prompts, 1)[:prompts]
    mask = torch.arange(tokens) < lengths.unsqueeze(-1)
    fields = {"hidden_states": states.requires_grad_(), "mask": mask, "ref_log_probs": None, "rewards": rewards}
    return replace(batch, **fields | more)


def group_of(trajectories, rewards):
    """One prompt whose completions have these lifted states (T, F), with the batch that they belong to."""
    longest = max(len(one) for one in trajectories)
    values = torch.zeros(1, len(trajectories), longest, trajectories[0].shape[-1], dtype=torch.float64)
    mask = torch.zeros(values.shape[:3], dtype=torch.bool)
    for place, one in enumerate(trajectories):
        values[0, place, : len(one)] = one
        mask[0, place, : len(one)] = True
    zeros = torch.zeros(mask.shape, dtype=torch.float64)
    batch = RolloutBatch(zeros, zeros, mask, torch.tensor([rewards], dtype=torch.float64))
    return LiftedStates(values, mask, torch.tensor(0)), batch


def orbit(*poles, tokens=12):
    """(T, F) of x_t = poles^t."""
    return torch.tensor(poles, dtype=torch.float64) ** torch.arange(tokens).unsqueeze(-1)


# Spectral diversity --------------------------------------------------------------------------------------------------


def test_spectral_diversity_by_hand():
    lifted, batch = group_of(
        [orbit(0.9, 0.5), orbit(-0.2, 0.8), orbit(0.5, 0.9), orbit(0.1, 0.2)], [1.0, 1.0, 0.5, 0.0]
    )
    # 0.9 goes with 0.8 and 0.5 with -0.2: (0.1 + 0.7) / 2. The first and third have one spectrum; the last is wrong.
    values = SpectralDiversity(ridge=1e-9)(lifted, batch).values[0]
    assert values[:3].tolist() == pytest.approx([0.2, 0.4, 0.2], abs=1e-6)
    assert values[3].isnan()
    # One observable: K = a G / (G + ridge G).
    lifted, batch = group_of([orbit(0.9), orbit(0.4)], [1.0, 1.0])
    assert SpectralDiversity()(lifted, batch).values[0].tolist() == pytest.approx([0.5 / 1.01] * 2, rel=1e-12)


def test_who_is_alone_or_short_or_not_scored_has_no_diversity():
    members = [orbit(0.9, 0.5), orbit(0.3, 0.7), orbit(0.2, 0.6, tokens=3), orbit(0.2, 0.6)]
    lifted, batch = group_of(members, [1.0, 0.0, 1.0, math.nan])
    assert SpectralDiversity()(lifted, batch).values.isnan().all()  # three tokens are two pairs, of two observables
    lifted, batch = group_of(members, [1.0, 1.0, 1.0, math.nan])
    assert SpectralDiversity()(lifted, batch).values.isnan().tolist() == [[False, False, True, True]]
    with pytest.raises(ConfigError, match="ridge must be positive"):
        SpectralDiversity(ridge=0.0)


def test_gradcheck_of_the_diversity_on_well_separated_spectra():
    generator = torch.Generator().manual_seed(3)
    members = [orbit(0.9, 0.3), orbit(0.6, -0.4), orbit(0.1, 0.75)]
    lifted, batch = group_of(members, [1.0, 1.0, 1.0])
    noise = 0.05 * torch.randn(lifted.values.shape, generator=generator, dtype=torch.float64)
    values = (lifted.values + noise).requires_grad_()

    def diversities(values):
        return SpectralDiversity()(replace(lifted, values=values), batch).values

    assert torch.autograd.gradcheck(diversities, values, atol=1e-6)


def rotating(angle, tokens=12):
    steps = angle * torch.arange(tokens, dtype=torch.float64)
    return torch.stack([steps.cos(), steps.sin()], -1)


@pytest.mark.parametrize(
    "members",
    [
        [orbit(0.9, 0.5)] * 3,
        [torch.eye(4, dtype=torch.float64)[[0, 1, 2, 3, 3, 3]], torch.eye(4, dtype=torch.float64)[[3, 2, 1, 0, 0, 0]]],
        [torch.zeros(8, 2, dtype=torch.float64), torch.ones(8, 2, dtype=torch.float64)],
        [rotating(0.3), rotating(1.2), rotating(-0.3)],
        [orbit(0.9, 0.5, tokens=1)] * 2,
    ],
    ids=["equal", "nilpotent", "constant", "rotations", "one token"],
)
@pytest.mark.parametrize("signal", [SpectralDiversity(), StateVolume()], ids=["spectra", "volume"])
def test_gradients_are_finite_at_the_edges(signal, members):
    lifted, batch = group_of(members, [1.0] * len(members))
    values = lifted.values.clone().requires_grad_()
    found = signal(replace(lifted, values=values), batch).values
    (gradient,) = torch.autograd.grad(found.nansum(), values)
    assert gradient.isfinite().all()
    if members[0] is members[1] and len(members) == 3:
        assert found.tolist() == [pytest.approx([0.0] * 3, abs=1e-12)]
        assert gradient.abs().max() < 1e-9


def spectrum_of(lifted):
    x, y = lifted[:-1], lifted[1:]
    gram = x.T @ x
    shift = 1e-2 * np.trace(gram) / len(gram) * np.eye(len(gram))
    return np.linalg.eigvals(np.linalg.solve(gram + shift, x.T @ y))


def distance(left, right):
    cost = np.abs(left[:, None] - right[None])
    return cost[linear_sum_assignment(cost)].mean()


def diversities_of(batch, dictionary):
    lifted = dictionary(batch.hidden_states.detach()).double().numpy()
    expected = np.full(batch.rewards.shape, np.nan)
    for p, row in enumerate(batch.rewards.tolist()):
        spectra = {g: spectrum_of(lifted[p, g][batch.mask[p, g].numpy()]) for g, reward in enumerate(row) if reward > 0}
        for g, own in spectra.items():
            others = [distance(own, other) for h, other in spectra.items() if h != g]
            expected[p, g] = np.mean(others) if others else np.nan
    return expected


def group_relative(rewards, epsilon=1e-4):
    return (rewards - rewards.mean(-1, keepdims=True)) / (rewards.std(-1, ddof=1, keepdims=True) + epsilon)


def test_spectral_diversity_is_a_bonus_on_the_reward_of_correct_completions(dictionary):
    batch = latent_batch()
    expected = diversities_of(batch, dictionary)
    out = build_signal("spectral_diversity", coefficient=2.0, dictionary=dictionary, xi=1.0)(batch)
    assert out.per_completion["diversity"].numpy() == pytest.approx(expected, rel=1e-5, nan_ok=True)
    rewards = batch.rewards.double().numpy() + 2.0 * np.nan_to_num(expected)
    assert out.per_completion["advantage"].numpy() == pytest.approx(group_relative(rewards), rel=1e-4, abs=1e-5)
    assert out.metrics["latent/diversity"] == pytest.approx(np.nanmean(expected), rel=1e-5)
    assert out.metrics["latent/signal_defined"] == 5 / 8
    assert torch.autograd.grad(out.loss, present(batch.hidden_states), allow_unused=True)[0] is None


def test_the_regularizer_is_the_mean_diversity_and_a_descent_step_raises_it(dictionary):
    batch = latent_batch()
    options = {"form": "regularizer", "dictionary": dictionary, "xi": 1.0}
    objective = build_signal("spectral_diversity", coefficient=0.5, **options)
    out = objective(batch)
    means = np.nanmean(diversities_of(batch, dictionary), axis=-1)
    policy = build_objective("grpo")(batch).loss.item()
    assert out.loss.item() == pytest.approx(policy - 0.5 * means.mean(), rel=1e-5)
    (gradient,) = torch.autograd.grad(out.loss, present(batch.hidden_states))
    is_wrong = batch.rewards == 0
    assert torch.equal(gradient[is_wrong], torch.zeros_like(gradient[is_wrong]))
    assert (gradient[~is_wrong].flatten(1).abs().sum(1) > 0).all()
    moved = (batch.hidden_states - 1e-2 * gradient / gradient.norm()).detach()
    assert objective(replace(batch, hidden_states=moved)).metrics["latent/diversity"] > out.metrics["latent/diversity"]


# Log det of the lifted states ----------------------------------------------------------------------------------------


def test_the_volume_by_hand():
    # Means 1, 0 and -1 on one axis, centred already: I + L = I + c c^T with c = (1, 0, -1), of determinant 1 + 2.
    lifted, batch = group_of([torch.full((4, 1), mean, dtype=torch.float64) for mean in (1.0, 0.0, -1.0)], [1.0] * 3)
    assert StateVolume()(lifted, batch).values[0].tolist() == pytest.approx([math.log(3 / 2), 0.0, math.log(3 / 2)])
    assert StateVolume(scale=3.0)(lifted, batch).values[0, 0].item() == pytest.approx(math.log(7 / 4))


@pytest.mark.parametrize(("among", "space"), [("correct", "lifted"), ("all", "lifted"), ("correct", "hidden")])
def test_the_volume_is_what_a_completion_adds_to_that_of_the_others(among, space, dictionary):
    batch = latent_batch()
    hidden = batch.hidden_states.detach()
    states = (dictionary(hidden) if space == "lifted" else hidden).double().numpy()
    bonus = np.full((2, 4), np.nan)
    for p in range(2):
        members = [g for g in range(4) if among == "all" or batch.rewards[p, g] > 0]
        vectors = np.stack([states[p, g][batch.mask[p, g].numpy()].mean(0) for g in members])
        vectors = vectors - vectors.mean(0)
        whole = np.linalg.slogdet(np.eye(len(members)) + 5.0 * vectors @ vectors.T)[1]
        for place, g in enumerate(members):
            rest = np.delete(vectors, place, axis=0)
            bonus[p, g] = whole - np.linalg.slogdet(np.eye(len(rest)) + 5.0 * rest @ rest.T)[1]
    options = {"scale": 5.0, "among": among, "space": space, "dictionary": dictionary, "xi": 1.0}
    out = build_signal("state_volume", coefficient=3.0, **options)(batch)
    assert out.per_completion["volume"].numpy() == pytest.approx(bonus, rel=1e-4, nan_ok=True)
    rewards = batch.rewards.double().numpy() + 3.0 * np.nan_to_num(bonus)
    assert out.per_completion["advantage"].numpy() == pytest.approx(group_relative(rewards), rel=1e-4, abs=1e-5)
    taught = build_signal("state_volume", coefficient=3.0, form="regularizer", **options)
    expected = build_objective("grpo")(batch).loss.item() - 3.0 * np.nanmean(bonus, -1).mean()
    assert taught(batch).loss.item() == pytest.approx(expected, rel=1e-4)


def test_gradcheck_of_the_volume():
    lifted, batch = group_of([orbit(0.9, 0.3), orbit(0.6, -0.4), orbit(0.1, 0.75)], [1.0, 1.0, 1.0])
    values = lifted.values.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda v: StateVolume(2.0)(replace(lifted, values=v), batch).values, values)
    with pytest.raises(ConfigError, match="but is 'wrong'"):
        build_signal("state_volume", among="wrong")
    with pytest.raises(ConfigError, match="but is 'token'"):
        build_signal("state_volume", space="token")
    with pytest.raises(ConfigError, match="scale must be positive"):
        build_signal("state_volume", scale=0.0)


# Spectral novelty ----------------------------------------------------------------------------------------------------


def test_spectral_novelty_by_hand():
    lifted, batch = group_of([orbit(0.9), orbit(0.4), orbit(-0.5)], [1.0, 1.0, 0.0])
    signal = SpectralNovelty(neighbours=2, ridge=1e-12)
    first = signal(lifted, batch)
    assert first.values[0, :2].tolist() == [0.0, 0.0]
    assert first.values[0, 2].isnan()
    assert first.to_remember.flatten().tolist() == pytest.approx([0.9, 0.4])
    one = signal.after_rollout(torch.tensor([[0.6 + 0.4j]]))
    assert one(lifted, batch).values[0, 0].item() == pytest.approx(0.5)  # |0.9 - 0.6 - 0.4i|
    more = one.after_rollout(torch.tensor([[0.5], [0.0]], dtype=torch.complex128))
    # From 0.9: 0.5, 0.4, 0.9. From 0.4: |0.2 + 0.4i|, 0.1, 0.4.
    assert more(lifted, batch).values[0, :2].tolist() == pytest.approx([0.45, 0.25])
    with pytest.raises(ConfigError, match="neighbours must be at least 1"):
        build_signal("spectral_novelty", neighbours=0)
    with pytest.raises(ConfigError, match="memory must be at least 1"):
        build_signal("spectral_novelty", memory=0)


def test_the_memory_keeps_the_last_spectra_and_survives_as_json(dictionary):
    batch = latent_batch()
    objective = build_signal("spectral_novelty", memory=7, dictionary=dictionary, xi=1.0)
    first = objective(batch)
    assert first.metrics["latent/novelty"] == 0.0
    assert torch.equal(first.loss, build_objective("grpo")(batch).loss)
    assert first.to_remember.shape == (5, F)
    spectra = present(first.to_remember)
    moved = objective.after_rollout(spectra).after_rollout(spectra[:4])
    expected = [*spectra[2:].tolist(), *spectra[:4].tolist()]
    assert [list(entry) for entry in moved.signal.memory.entries] == expected
    assert moved.after(UpdateReport(step=1, num_steps=2, entropy=0.0)).signal == moved.signal
    assert objective.restored(json.loads(json.dumps(moved.state()))).signal == moved.signal
    other = latent_batch(seed=5)
    assert torch.equal(objective.restored(moved.state())(other).loss, moved(other).loss)
    spectra = np.array(expected)
    lifted = dictionary(other.hidden_states.detach()).double().numpy()
    bonus = np.zeros((2, 4))
    for p, g in (other.rewards > 0).nonzero().tolist():
        own = spectrum_of(lifted[p, g][other.mask[p, g].numpy()])
        bonus[p, g] = np.mean(sorted(distance(own, known) for known in spectra)[:4])
    rewards = other.rewards.double().numpy() + 0.1 * bonus
    assert moved(other).per_completion["advantage"].numpy() == pytest.approx(group_relative(rewards), rel=1e-4)


def test_the_nearest_are_found_among_many(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    matrices = torch.randn(150, 8, 8, generator=generator, dtype=torch.float64) / 3
    spectra = torch.linalg.eigvals(matrices * torch.linspace(0.2, 1.0, 150)[:, None, None])
    pairs = []
    exact = spectral_novelty.spectral_wasserstein
    monkeypatch.setattr(
        spectral_novelty, "spectral_wasserstein", lambda left, right: pairs.append(len(left)) or exact(left, right)
    )
    found = SpectrumMemory(140).after(spectra[:140]).nearest(spectra[140:], 3)
    values = spectra.numpy()
    expected = [np.mean(sorted(distance(own, known) for known in values[:140])[:3]) for own in values[140:]]
    assert found.tolist() == pytest.approx(expected, rel=1e-12)
    assert sum(pairs) < 10 * 140  # most are ruled out by a bound


def test_a_new_dictionary_empties_the_memory():
    batch = latent_batch()
    states, mask = batch.hidden_states.detach().flatten(0, 1).float(), batch.mask.flatten(0, 1)
    objective = build_signal("spectral_novelty", dictionary={"num_observables": F, "steps": 1})
    first = objective.calibrated(states, mask)
    moved = first.after_rollout(present(first(batch).to_remember))
    assert len(moved.signal.memory.entries) == 5
    assert moved.calibrated(2 * states, mask).signal.memory.entries == ()


# What holds for all --------------------------------------------------------------------------------------------------

every_signal = pytest.mark.parametrize("method", SIGNAL_METHODS)
every_way = pytest.mark.parametrize(("method", "options"), EVERY_WAY)


@every_way
def test_coefficient_zero_is_grpo_bit_for_bit(method, options, dictionary):
    batch = latent_batch()
    ours = build_signal(method, coefficient=0.0, dictionary=dictionary, xi=1.0, **options)(batch)
    reference = build_objective("grpo")(batch)
    assert torch.equal(ours.loss, reference.loss)
    expected = torch.autograd.grad(reference.loss, batch.log_probs)[0]
    assert torch.equal(torch.autograd.grad(ours.loss, batch.log_probs, retain_graph=True)[0], expected)
    assert torch.autograd.grad(ours.loss, present(batch.hidden_states), allow_unused=True)[0] is None
    assert math.isfinite(ours.metrics[f"latent/{SIGNAL_METHODS.get(method, 'novelty')}"])


@every_signal
def test_the_regularizer_ignores_padding_and_how_an_update_is_cut(method, dictionary):
    batch = latent_batch(prompts=4)
    objective = build_signal(method, form="regularizer", coefficient=0.7, dictionary=dictionary, xi=1.0)
    (expected,) = torch.autograd.grad(objective(batch).loss, present(batch.hidden_states))

    def gradient(part, wider=0, totals=None):
        states = batch.hidden_states[part].detach()
        states = torch.where(batch.mask[part].unsqueeze(-1), states, torch.nan)
        states = torch.nn.functional.pad(states, (0, 0, 0, wider), value=math.nan).requires_grad_()
        rows: dict[str, Any] = {
            name: torch.nn.functional.pad(getattr(batch, name)[part].detach(), (0, wider))
            for name in ("log_probs", "old_log_probs", "mask")
        }
        micro = RolloutBatch(**rows, rewards=batch.rewards[part], hidden_states=states, totals=totals)
        return torch.autograd.grad(objective(micro).loss, states)[0]

    found = gradient(slice(0, 4), wider=7)
    torch.testing.assert_close(found[..., :30, :], expected)
    assert (found[..., 30:, :] == 0).all()
    totals = UpdateTotals(4, 16, float(batch.mask.sum()))
    torch.testing.assert_close(
        torch.cat([gradient(part, totals=totals) for part in (slice(0, 1), slice(1, 4))]), expected
    )


@every_way
@pytest.mark.parametrize("rewards", [0.0, 1.0, math.nan], ids=["all wrong", "all right", "none scored"])
@pytest.mark.parametrize("tokens", [1, 30])
def test_gradients_of_the_methods_are_finite_at_the_edges(method, options, rewards, tokens, dictionary):
    batch = latent_batch(tokens=30, rewards=torch.full((2, 4), rewards))
    states = batch.hidden_states.detach().clone()
    states[0, 1, 3] = math.inf
    mask = batch.mask & (torch.arange(30) < tokens)
    batch = replace(batch, mask=mask, hidden_states=states.requires_grad_())
    out = build_signal(method, dictionary=dictionary, xi=1.0, **options)(batch)
    assert out.loss.isfinite()
    gradients = torch.autograd.grad(out.loss, (batch.log_probs, states), allow_unused=True)
    assert gradients[0].isfinite().all()
    assert gradients[1] is None or gradients[1].isfinite().all()
    if rewards != 1.0:
        assert torch.equal(gradients[0], torch.zeros_like(gradients[0]))


@every_way
def test_the_states_are_lifted_once_and_the_dispersion_is_what_it_was(method, options, dictionary, monkeypatch):
    batch = latent_batch()
    calls = []
    lift = KoopmanDictionary.__call__
    monkeypatch.setattr(KoopmanDictionary, "__call__", lambda self, states: calls.append(1) or lift(self, states))
    out = build_signal(method, dictionary=dictionary, xi=1.0, **options)(batch)
    assert len(calls) == 1
    states, mask = batch.hidden_states.detach().flatten(0, 1), batch.mask.flatten(0, 1)
    expected = dynamic_spectral_dispersion(states, mask, dictionary).values.view(2, 4)
    assert torch.equal(out.per_completion["dsd"], expected)


def test_what_does_not_exist_is_refused():
    with pytest.raises(ConfigError, match="but is 'both'"):
        build_signal("spectral_diversity", form="both")
    with pytest.raises(ConfigError, match="coefficient must not be negative"):
        build_signal("state_volume", coefficient=-1.0)
    with pytest.raises(ConfigError, match="give it a probe"):
        Objective("bare", GroupRelativeAdvantage(), ClippedSurrogate(0.2, 0.2), TokenMean(), signal=StateVolume())
