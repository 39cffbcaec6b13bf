"""The options of TRL that an objective replaces, with the setting to use in their place: one table for both doors."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["CASTS_WEIGHTS", "REPLACED", "REPLACED_BY_RUN", "Replacement"]


@dataclass(frozen=True)
class Replacement:
    """Replacement of an option.

    Attributes:
        setting: the objective's setting that does the same; None where there is none.
        advice: in words, where there is none.
    """

    setting: str | None = None
    advice: str = ""

    @property
    def in_settings(self) -> str:
        """For the settings of `relax train`."""
        return self.advice if self.setting is None else f"set objective.{self.setting} instead"

    @property
    def in_script(self) -> str:
        """For the arguments of `RelaxTrainer`."""
        if self.setting is None:
            return self.advice
        if self.setting == "name":
            return "name the method with RelaxTrainer(objective=...) instead"
        return f"set it with RelaxTrainer(objective_options={{'{self.setting}': ...}}) instead"


_ENTROPY_BONUS = Replacement(advice="the objective decides whether there is an entropy bonus; leave it out")
_LOSS_OF_TRL = Replacement(advice="it belongs to a loss of TRL that the objective replaces; leave it out")

REPLACED = {
    "loss_type": Replacement("name"),
    "beta": Replacement("beta"),
    "epsilon": Replacement("clip_low"),
    "epsilon_high": Replacement("clip_high"),
    "delta": Replacement("delta"),
    "use_bias_correction_kl": Replacement("kl_estimator"),
    "importance_sampling_level": Replacement(advice="the objective decides it; leave it out"),
    "scale_rewards": Replacement(advice="the objective decides how rewards become advantages; leave it out"),
    "multi_objective_aggregation": Replacement(
        advice="rewards are summed, then normalised by the objective; leave it out"
    ),
    "top_entropy_quantile": Replacement(advice="the objective decides which tokens count; leave it out"),
    "entropy_coef": _ENTROPY_BONUS,
    "use_adaptive_entropy": _ENTROPY_BONUS,
    "entropy_coef_min": _ENTROPY_BONUS,
    "entropy_coef_max": _ENTROPY_BONUS,
    "entropy_coef_delta": _ENTROPY_BONUS,
    "entropy_target": _ENTROPY_BONUS,
    "off_policy_mask_threshold": Replacement(advice="no method here masks off-policy completions; leave it out"),
    "router_aux_loss_coef": Replacement(
        advice="our loss does not carry a router loss; leave it out and train a dense model"
    ),
    "use_liger_kernel": Replacement(advice="a fused loss hides the hidden states; leave it out"),
    "sapo_temperature_neg": _LOSS_OF_TRL,
    "sapo_temperature_pos": _LOSS_OF_TRL,
    "vespo_k_pos": _LOSS_OF_TRL,
    "vespo_lambda_pos": _LOSS_OF_TRL,
    "vespo_k_neg": _LOSS_OF_TRL,
    "vespo_lambda_neg": _LOSS_OF_TRL,
}

REPLACED_BY_RUN = {
    "log_completions": Replacement(
        advice="completions are written to the run directory at every rollout; leave it out"
    ),
    "disable_tqdm": Replacement(advice="the run shows its own progress; leave it out"),
    "logging_first_step": Replacement(advice="the first update of a run is always logged; leave it out"),
    "save_strategy": Replacement(advice="a run saves every trainer.save_steps updates and at its end; set that"),
}
"""Options that `relax train` sets itself; a script of one's own sets these as it likes."""

CASTS_WEIGHTS = "casts the trained weights for good; use plain generation"
"""Continuous batching by transformers, with bf16."""
