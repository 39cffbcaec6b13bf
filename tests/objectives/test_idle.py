"""Settings that act off-policy alone: declared, true to the last bit, and said before a run."""

import dataclasses

import pytest
import torch

from objectives.batches import random_batch
from relax_rl.config import load_config
from relax_rl.objectives import METHODS, RolloutBatch, build_objective, idle_settings, inputs, method_options
from relax_rl.training.objective import build_objective_from, idle_parts
from relax_rl.workflows.train import prepare
from support.scripted import make_trainer

ALL = {name: idle_settings(name, method_options(name))[0] for name in METHODS}
OTHERS = {"scope": "micro_batch", "delta": 1.5, "dual_clip": 1.2, "entropy_quantile": 0.3, "cap": 1.1, "ratio_min": 0.9}
"""Values that a smaller number would not be, or that the setting does not take."""
PLAIN = ["dapo", "cispo", "kl_cov", "ce_gppo", "aspo", "erc"]
"""The policy gradient with the mean over tokens, where every ratio is 1."""
SMALL = {"pass_at_k": {"k": 2}, "kl_cov": {"k_ratio": 0.2}, "clip_cov": {"ratio": 0.2, "cov_low": 0.0}}
SMALL |= {"poly_epo": {"n": 2}}


def changed(method):
    defaults = method_options(method) | SMALL.get(method, {})
    return {key: OTHERS[key] if key in OTHERS else 0.5 * (defaults[key] or 1.0) for key in ALL[method]}


def gradient(method, batch: RolloutBatch, options):
    objective = build_objective(method, **(SMALL.get(method, {}) | options))
    if objective.probe is not None:
        pytest.skip("its surrogate is GRPO's")
    (found,) = torch.autograd.grad(objective(batch).loss, batch.log_probs)
    return found


def on_policy(batch: RolloutBatch) -> RolloutBatch:
    extras = {**batch.extras, inputs.OLD_ENTROPY: batch.required(inputs.ENTROPY).detach()}
    return dataclasses.replace(batch, old_log_probs=batch.log_probs.detach(), extras=extras)


@pytest.mark.parametrize("method", [name for name in METHODS if ALL[name]])
def test_what_is_declared_idle_changes_no_bit_on_policy_and_acts_off_policy(method):
    here = on_policy(random_batch())
    expected = gradient(method, here, {})
    for key, value in changed(method).items():
        assert torch.equal(gradient(method, here, {key: value}), expected), key
    batches = [random_batch(seed, spread=spread) for seed in range(4) for spread in (0.1, 0.4, 1.0)]
    other = [
        not torch.equal(gradient(method, batch, changed(method)), gradient(method, batch, {})) for batch in batches
    ]
    assert any(other)


def test_every_method_with_a_bound_on_the_ratio_declares_it():
    bounds = {"clip_low", "clip_high", "delta", "dual_clip"}
    for name in METHODS:
        assert bounds & set(method_options(name)) <= set(ALL[name]) | (
            {"delta"} if name == "adaptive_entropy_bonus" else set()
        )


def test_those_without_other_settings_leave_the_weights_of_the_plain_policy_gradient(tmp_path):
    weights = []
    for method in PLAIN:
        trainer = make_trainer(build_objective(method), tmp_path / method, max_steps=2)
        trainer.train()
        weights.append(trainer.model.state_dict())
        assert method == "dapo" or idle_settings(method)[1]
    assert all(torch.equal(other[name], value) for other in weights for name, value in weights[0].items())


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (
            ["--objective=kl_cov"],
            ["objective.k_ratio, objective.coefficient, objective.scope of kl_cov have no effect"],
        ),
        (["--objective=kl_cov"], ["kl_cov is the plain policy gradient"]),
        (["--objective=dapo"], ["objective.clip_high of dapo has no effect."]),
        (["--objective=grpo", "--objective.clip_high=0.3"], ["objective.clip_high of grpo has no effect."]),
        (["--objective=grpo"], []),
        (["--objective=relax"], []),
        (["--objective=adaptive_entropy_bonus"], ["adds nothing before an update whose entropy is at most"]),
    ],
)
def test_what_is_said(words, parts):
    config = load_config("countdown", words)
    said = idle_parts(config, build_objective_from(config), 1)
    assert len(said) == len(parts)
    assert all(part in sentence for part, sentence in zip(parts, said, strict=True))
    off_policy = idle_parts(config, build_objective_from(config), 2)
    assert not [sentence for sentence in off_policy if "no effect" in sentence]


def test_a_run_knows_it_before_it_starts_and_nothing_is_said_of_several_updates(tmp_path):
    words = ["--objective=cispo", f"--output={tmp_path / 'run'}"]
    assert (
        "objective.ratio_min, objective.ratio_max of cispo have no effect"
        in prepare("countdown", overrides=words).notices[0]
    )
    assert prepare("countdown", overrides=[*words, "--trainer.num_iterations=2"]).notices == ()
