"""The bounds of every setting, by the method's own door and by the component's: refused beyond, taken on them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from objectives.batches import input_names, random_batch
from relax_rl.errors import ConfigError
from relax_rl.objectives import METHODS, RunLimits, build_objective
from relax_rl.objectives.methods.clip_cov import CovarianceClippedSurrogate
from relax_rl.objectives.methods.kl_cov import CovarianceKLSurrogate
from relax_rl.objectives.methods.opefo import BalancedFlow
from relax_rl.objectives.methods.relax import LatentExploration
from relax_rl.objectives.probe import DictionarySettings, DispersionBound, DispersionProbe
from relax_rl.objectives.regularizers import ReferenceKL
from relax_rl.objectives.surrogates import ClippedSurrogate
from relax_rl.objectives.updates import Schedule, UpdateReport

BOUNDS: list[tuple[str, str, list[Any], list[Any]]] = [
    ("grpo", "beta", [-0.01], [0.0]),
    ("grpo", "clip_low", [-0.01], [0.0]),
    ("grpo", "clip_high", [-0.01], [0.0]),
    ("grpo", "delta", [1.0, 0.5], [1.01]),
    ("relax", "alpha", [-0.01], [0.0]),
    ("dapo", "overlong_buffer", [-1, 11], [1, 10]),
    ("entropy_bonus", "coefficient", [-0.01], [0.0]),
    ("kl_cov", "k_ratio", [0.0, 1.01], [1.0]),
    ("kl_cov", "coefficient", [-0.01], [0.0]),
    ("clip_cov", "ratio", [0.0, 1.01], [1.0]),
    ("clip_cov", "cov_low", [5.0, 6.0], [4.9]),
    ("r1_zero_div", "coefficient", [-0.01], [0.0]),
    ("entropy_advantage", "scale", [-0.01], [0.0]),
    ("entropy_advantage", "kappa", [1.0], [1.01]),
    ("forking_tokens", "share", [0.0, 1.01], [1.0]),
    ("pass_at_k", "k", [0], [1]),
    ("ce_gppo", "beta_low", [-0.01], [0.0]),
    ("ce_gppo", "beta_high", [-0.01], [0.0]),
    ("aspo", "entropy_quantile", [-0.01, 1.01], [0.0, 1.0]),
    ("aspo", "cap", [0.99], [1.0]),
    ("adaptive_entropy_bonus", "delta", [0.0], [1e-9]),
    ("adaptive_entropy_bonus", "coefficient", [-0.01, 1.01], [0.0, 1.0]),
    ("adaptive_entropy_bonus", "low", [-0.01, 0.01], [0.0]),
    ("scheduled_entropy_bonus", "start", [-0.01], [0.0]),
    ("scheduled_entropy_bonus", "end", [-0.01], [0.0]),
    ("entrocraft", "low_start", [0.71], [0.7]),
    ("entrocraft", "low_end", [0.51], [0.5]),
    ("hicra", "alpha", [-0.01, 1.0], [0.0]),
    ("hicra", "grams", [[], [" "]], [["a b"]]),
    ("htpo", "hard_below", [-0.01, 1.01], [0.0, 1.0]),
    ("htpo", "high_share", [-0.01, 1.01], [0.0, 1.0]),
    ("htpo", "low_dropped", [-0.01, 1.01], [0.0, 1.0]),
    ("htpo", "high_dropped", [-0.01, 1.01], [0.0, 1.0]),
    ("erc", "entropy_low", [0.0], [0.01]),
    ("erc", "entropy_high", [0.0], [0.01]),
    ("dmpo", "coefficient", [-0.01], [0.0]),
    ("dmpo", "temperature", [0.0], [0.01]),
    ("flow_rl", "weight_max", [0.99], [1.0]),
    ("rank_shaping", "kappa", [1.0], [1.01]),
    ("rank_shaping", "smoothing", [0.0, 1.01], [1.0]),
    ("rep_exp", "coefficient", [-0.01], [0.0]),
    ("rep_exp", "dimension", [0], [1]),
    ("rep_exp", "ridge", [0.0], [0.01]),
    ("g2rl", "strength", [-0.01], [0.0]),
    ("log_det", "coefficient", [-0.01], [0.0]),
    ("coverage", "k", [0], [1]),
    ("latent_coverage", "k", [0], [1]),
    ("latent_coverage", "quantile", [0.0, 1.0], [0.01, 0.99]),
    ("poly_epo", "n", [0], [1]),
    ("poly_epo", "num_sets", [0], [1]),
    ("mara", "beta", [0.0], [0.01]),
    ("mara", "strength", [0.0, -0.1], [0.01]),
    ("mara", "max_bonus", [0.0], [0.01]),
    ("differential_smoothing", "right", [-0.01], [0.0]),
    ("differential_smoothing", "wrong", [-0.01], [0.0]),
    ("repo_r", "zeta", [1.01, 1e-5], [1.0, 1e-4]),
    ("outcome_exploration", "coefficient", [-0.01], [0.0]),
    ("elliptical_counts", "coefficient", [-0.01], [0.0]),
    ("elliptical_counts", "dimension", [0], [1]),
    ("elliptical_counts", "ridge", [0.0], [0.01]),
]


@pytest.mark.parametrize(("method", "setting", "refused", "accepted"), BOUNDS)
def test_a_setting_is_refused_outside_its_bounds_and_taken_on_them(
    method: str, setting: str, refused: list[Any], accepted: list[Any]
) -> None:
    limits = RunLimits(max_completion_length=10)
    for value in refused:
        with pytest.raises(ConfigError):
            build_objective(method, limits, **{setting: value})
    for value in accepted:
        assert build_objective(method, limits, **{setting: value}).name == method


@pytest.mark.parametrize(
    ("component", "settings"),
    [
        (ReferenceKL, {"gate": "below_xi"}),
        (ReferenceKL, {"reduction": "mean"}),
        (ReferenceKL, {"estimator": "k4"}),
        (ReferenceKL, {"reduction": "token_sum"}),
        (ReferenceKL, {"max_completion_length": 5}),
        (LatentExploration, {"advantage_shaping": "negative"}),
        (LatentExploration, {"mean_scope": "update"}),
        (CovarianceClippedSurrogate, {"clipped": ClippedSurrogate(), "scope": "rank"}),
        (CovarianceKLSurrogate, {"scope": "rank"}),
        (BalancedFlow, {"scope": "rank"}),
        (DictionarySettings, {"num_observables": 0}),
        (DictionarySettings, {"batch_size": 0}),
        (DictionarySettings, {"max_trajectories": 0}),
        (DictionarySettings, {"steps": -1}),
        (DictionarySettings, {"refit_interval": 0}),
        (DispersionProbe, {"settings": DictionarySettings(), "bound": DispersionBound(1.0), "estimator": "mean"}),
        (DispersionProbe, {"settings": DictionarySettings(), "bound": DispersionBound(1.0), "padding": "ones"}),
        (DispersionProbe, {"settings": DictionarySettings(), "bound": DispersionBound(1.0), "state_alignment": "next"}),
        (Schedule, {"start": 1.0, "end": 0.0, "shape": "step"}),
    ],
)
def test_a_component_refuses_what_it_does_not_know(component: Any, settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        component(**settings)


def test_the_smallest_dictionary_that_can_be_asked_for() -> None:
    settings = DictionarySettings(num_observables=1, batch_size=1, max_trajectories=1, steps=0, refit_interval=1)
    assert DictionarySettings.parse({"steps": None}, settings).steps is None


TARGETS = {"flow_rl", "dmpo", "mara"}
"""Methods whose target is the reference itself, whatever the KL's coefficient, or whose reward is made of it."""


@pytest.mark.parametrize("method", [method for method in METHODS if method not in TARGETS])
def test_beta_is_the_coefficient_of_a_pull_to_the_reference(method: str) -> None:
    """Of every method, whatever else it adds; 0 asks for no reference at all."""
    latent = {"xi": 0.0, "kl_gate": "all"} if method in ("relax", "relax_as_run") else {}
    with_kl, without = (build_objective(method, beta=beta, **latent) for beta in (0.25, 0.0))
    assert with_kl.reference_coefficient == 0.25
    assert "ref_log_probs" in input_names(with_kl)
    assert without.reference_coefficient == 0.0
    assert "ref_log_probs" not in input_names(without)


def test_whose_states_are_those_that_predict_each_token() -> None:
    assert build_objective("relax_as_run").reads_predicting_states
    assert not build_objective("relax").reads_predicting_states
    assert build_objective("relax", state_alignment="predicting").reads_predicting_states
    assert not build_objective("grpo").reads_predicting_states


def test_progress_is_the_share_of_the_updates_and_never_more_than_all() -> None:
    def progress(step: int, num_steps: int) -> float:
        return UpdateReport(step=step, num_steps=num_steps, entropy=1.0).progress

    assert [progress(1, 4), progress(4, 4), progress(5, 4), progress(3, 0)] == [0.25, 1.0, 1.0, 1.0]


def test_a_kl_is_in_the_loss_of_relax_as_run_and_its_exploration_too() -> None:
    terms = [build_objective("relax_as_run", alpha=alpha, beta=beta).regularizers for alpha, beta in ((0.3, 0.2),)]
    assert [(term.alpha, kl.beta) for term, kl in terms] == [(0.3, 0.2)]  # pyright: ignore[reportAttributeAccessIssue]
    dapo = build_objective("dapo", beta=0.5)
    near = random_batch()
    far = replace(near, ref_log_probs=near.old_log_probs - 3.0)
    torch.testing.assert_close(build_objective("dapo")(near).loss, build_objective("dapo")(far).loss)
    assert dapo(far).loss > dapo(near).loss + 0.1
