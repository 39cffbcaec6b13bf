"""What the command line is run with: the settings of every run, in the old dialect."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from side_by_side.dialect import LIMIT_SETTINGS

__all__ = [
    "APART",
    "COMPARE",
    "EVAL",
    "RESUMED",
    "RESUMED_BY_BOTH",
    "SPECTRUM",
    "compare_words",
    "halfway",
    "train_runs",
    "train_words",
]

APART = ("far reference",)
"""Sequences of batches in `cases.py` that are a check of their own: in them the bound of the KL acts."""

LENGTH = 64
"""Longest completion of a training run, in tokens."""

BASE = {
    "--seed": "1",
    # No prompt comes again within the run: TRL shuffles later epochs in another order after a resume.
    "--train-problems": "80",
    "--trainer.num_generations": "8",
    "--trainer.per_device_train_batch_size": "16",
    "--trainer.gradient_accumulation_steps": "2",
    # Twice, so that ratios are not 1 and clips act.
    "--trainer.num_iterations": "2",
    "--trainer.max_completion_length": str(LENGTH),
    "--trainer.save_total_limit": "2",
    "--dictionary.num_observables": "8",
    "--dictionary.steps": "20",
    "--evaluation.num_problems": "8",
    "--evaluation.num_samples": "4",
}

NEAR = {"--trainer.learning_rate": "1e-5"}
"""Keeps the policy near its reference. At the usual rate, 2e-4, the bound on the KL of later revisions acts from the
second update on."""

OF_METHOD: dict[str, dict[str, str]] = {
    "relax": NEAR | {"--objective.xi": "quantile:0.5"},
    "relax_as_run": NEAR | {"--objective.xi": "quantile:0.5"},
    "simple_rl": NEAR,
    "rank_shaping": {"--objective.stride": "4"},
    "pass_at_k": {"--objective.k": "2"},
    "kl_cov": {"--objective.k_ratio": "0.1"},
    "clip_cov": {"--objective.ratio": "0.1", "--objective.cov_low": "0.0"},
    # Around the entropy of the embedded policy, 0.25 nats.
    "adaptive_entropy_bonus": {"--objective.target": "0.25"},
    "entrocraft": {
        "--objective.low_start": "0.24",
        "--objective.low_end": "0.22",
        "--objective.high_start": "0.26",
        "--objective.high_end": "0.24",
    },
    # It remembers prompts, so these come again.
    "dcpo": {"--train-problems": "8"},
    # Refuses to use a rollout batch twice.
    "opefo": {"--trainer.num_iterations": "1"},
}
"""Settings that make a short run feel the method."""

ALSO: dict[str, tuple[str, dict[str, str]]] = {
    "grpo, KL": ("grpo", NEAR | {"--objective.beta": "0.05"}),
    "grpo, KL far from the reference": ("grpo", {"--objective.beta": "0.05"}),
    "grpo, branches": ("grpo", {"--sampling.trunks": "4", "--sampling.branch_top": "5"}),
    "grpo, one update": ("grpo", {"--trainer.num_iterations": "1", "--monitor": "false"}),
    "dr_grpo, constant given": ("dr_grpo", NEAR | {"--objective.max_tokens": str(LENGTH), "--objective.beta": "0.05"}),
    "dapo, overlong": ("dapo", {"--objective.overlong_buffer": "24", "--objective.max_tokens": str(LENGTH)}),
    "dapo, dynamic sampling": ("dapo", {"--sampling.max_batches": "3"}),
    "relax, fitted again": ("relax", {"--dictionary.refit_interval": "6", "--objective.estimator": "robust"}),
}
"""Further runs: the method, and settings on top of its own."""

RESUMED = (
    "dr_grpo",
    "grpo",
    "relax",
    "dcpo",
    "adaptive_entropy_bonus",
    "scheduled_entropy_bonus",
    "entrocraft",
    "rank_shaping",
    "clip_cov",
    "opefo",
    "flow_rl",
    "dapo, dynamic sampling",
    "relax, fitted again",
)
"""Runs that another revision resumes: those with a state of their own, and plain ones beside them."""

RESUMED_BY_BOTH = ("dcpo",)
"""Of these, those whose prompts come again: the reference resumes them too, since no resume equals the whole run."""

EVAL = ("tiny", "--task", "countdown", "-k", "4", "--num-problems", "16", "--max-completion-length", "64")
SPECTRUM = ("tiny", "--num-prompts", "8", "--generate", "64", "--fit-steps", "30")
COMPARE = ("countdown", "--methods", "grpo,relax:xi=quantile:0.5", "--seeds", "2")


def train_runs(methods: Sequence[str]) -> dict[str, tuple[str, dict[str, str]]]:
    """Names of runs, with the method and its settings: one of each method, and further ones of some."""
    runs = {method: (method, OF_METHOD.get(method, {})) for method in methods}
    for name, (method, settings) in ALSO.items():
        if method in methods:
            runs[name] = (method, OF_METHOD.get(method, {}) | settings)
    return runs


def train_words(
    method: str, settings: Mapping[str, str], updates: int, about: Mapping[str, Mapping[str, Any]]
) -> list[str]:
    """The words of ``relax train`` in a revision whose methods are `about`; the place of the run is left out."""
    given = BASE | _steps(updates) | dict(settings)
    # Where the revision has no such method, its command line says so.
    known = about.get(method, {"objective": method, "options": ()})
    for name in LIMIT_SETTINGS:
        # Later revisions take these from the limits of the run, which are the same here.
        if name not in known["options"]:
            given.pop(f"--objective.{name}", None)
    return ["countdown", "--objective", str(known["objective"]), *_flat(given)]


def compare_words(updates: int) -> list[str]:
    """The words of ``relax compare``; the place is left out. A few updates are enough: training is compared apart."""
    shared = {key: value for key, value in (BASE | NEAR | _steps(min(updates, 6))).items() if key != "--seed"}
    return [*COMPARE, *_flat(shared)]


def halfway(updates: int) -> int:
    """The update after which a run is saved: a whole number of rollout batches, so that a resume is exact."""
    return max(2, updates // 4 * 2)


def _steps(updates: int) -> dict[str, str]:
    return {"--trainer.max_steps": str(updates), "--trainer.save_steps": str(halfway(updates))}


def _flat(settings: Mapping[str, str]) -> list[str]:
    return [word for pair in settings.items() for word in pair]
