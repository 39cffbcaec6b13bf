"""The faults of a run, read from its log: the symptom with its number, the cause, and the setting to change.

Every rule reads the rows of ``metrics.jsonl`` and the settings. The beginning of a run is its first five updates with a
figure, the end the last fifth, at least three and at most twenty. A rule that lacks its figures says nothing.
docs/guides/troubleshooting.md has a section for each symptom.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from relax_rl.config import TrainConfig
from relax_rl.objectives import METHODS, idle_settings

__all__ = ["Ending", "Symptom", "symptoms_of"]

_TRUNCATED = 0.2
_EQUAL_GROUPS = 0.5
_CLIPPED = 0.2
_UNSCORED = 0.05
_LOST_ENTROPY = 0.2
_FIRST_KL = 1e-3
_ROWS_TO_BE_FLAT = 30
_ROLLOUT_SHARE = 0.9
_STRAGGLING_SHARE = 0.6
_REWARD_SHARE = 0.3
_ROWS_TO_BE_SLOW = 5
_MEMORY_ERRORS = ("OutOfMemoryError", "MemoryError")
_MEMORY_WORDS = ("out of memory", "can't allocate memory", "cannot allocate memory")


@dataclass(frozen=True)
class Symptom:
    """One thing that is wrong.

    Attributes:
        name: the heading in docs/guides/troubleshooting.md, as words.
        found: the number that shows it, with the metric's name.
        cause: why, as far as the log tells.
        change: the setting to change, with its present value.
    """

    name: str
    found: str
    cause: str
    change: str


@dataclass(frozen=True)
class Ending:
    """How a run ended before its last update.

    Attributes:
        update: update that was logged last.
        error: type of the exception; empty where the process is gone without one, as it is when it is killed.
        message: message of the exception.
        process: process that is gone, in words; empty where it said why.
    """

    update: int
    error: str = ""
    message: str = ""
    process: str = ""

    @property
    def is_memory(self) -> bool:
        """Whether memory ran out, as far as can be told: nothing but the system kills a process without a word."""
        is_reported = self.error in _MEMORY_ERRORS or any(words in self.message.lower() for words in _MEMORY_WORDS)
        return is_reported or bool(self.process)


class _Log:
    """The figures of a run's log, without what was not logged or is not finite."""

    def __init__(self, rows: Sequence[Mapping[str, Any]]) -> None:
        self.rows = rows

    def values(self, key: str) -> np.ndarray:
        found = [float(row[key]) for row in self.rows if row.get(key) is not None]
        return np.array([value for value in found if math.isfinite(value)])

    def begin(self, key: str) -> float:
        """Mean of the first five values; NaN without any."""
        values = self.values(key)[:5]
        return float(values.mean()) if len(values) else math.nan

    def share(self, key: str) -> float:
        """Share of the logged time of the updates; NaN without enough of them. The first one warms up."""
        part, whole = self.values(key)[1:], self.values("step_time")[1:]
        if len(part) < _ROWS_TO_BE_SLOW or len(part) != len(whole) or not whole.sum() > 0:
            return math.nan
        return float(part.sum() / whole.sum())

    def end(self, key: str) -> float:
        """Mean of the last values; NaN without any."""
        values = self.values(key)
        return float(values[-min(20, max(3, len(values) // 5)) :].mean()) if len(values) else math.nan


_Rule = Callable[[TrainConfig, _Log], Symptom | None]


def symptoms_of(config: TrainConfig, rows: Sequence[Mapping[str, Any]], ending: Ending | None = None) -> list[Symptom]:
    """Everything that is wrong, in the order in which it should be fixed; empty for a healthy log.

    Args:
        config: the run's settings.
        rows: rows of ``metrics.jsonl``, in order.
        ending: how the run ended before its last update; None if it did not.
    """
    log = _Log(rows)
    found = [_memory(config, ending), *(rule(config, log) for rule in _RULES)]
    symptoms = [one for one in found if one is not None]
    if not symptoms and (flat := _flat_reward(config, log)):
        symptoms.append(flat)
    return symptoms


def _memory(config: TrainConfig, ending: Ending | None) -> Symptom | None:
    if ending is None or not ending.is_memory:
        return None
    where = f"after update {ending.update}" if ending.update else "before its first update was logged"
    if ending.process:
        found = f"{ending.process} is gone without a word {where}, and its lock is still there (.lock)"
        cause = (
            "the process was killed: a system does that when its memory runs out (the kernel's log then says 'Out of "
            "memory: Killed process'), and a scheduler when a job is over its limit"
        )
    else:
        found = f"the run ended {where} with {ending.error}: {ending.message} (ends.jsonl)"
        cause = "the memory of the device, or of the machine, is too small for a micro-batch or a rollout batch"
    batch, length = config.trainer.per_device_train_batch_size, config.trainer.max_completion_length
    return Symptom(
        "out of memory",
        found,
        cause,
        f"ask 'relax train RUN/config.json --dry-run' what takes it; halve trainer.per_device_train_batch_size "
        f"({batch}), lower trainer.max_completion_length ({length}), or set trainer.activation_checkpointing to true",
    )


def _slow_rollouts(config: TrainConfig, log: _Log) -> Symptom | None:
    share = log.share("time/rollout")
    longest, mean = log.end("completions/max_length"), log.end("completions/mean_length")
    is_straggling = longest > 4 * mean
    if not (share > _ROLLOUT_SHARE or (share > _STRAGGLING_SHARE and is_straggling)):
        return None
    cause = "sampling is slower than everything else together"
    if is_straggling:
        cause = f"the longest completion holds up its batch: {longest:.0f} tokens, where the mean is {mean:.0f}"
    uses_vllm = (config.trainer.model_extra or {}).get("use_vllm", False)
    faster = "" if uses_vllm else "set trainer.use_vllm to true where vLLM runs; "
    return Symptom(
        "rollouts are slow",
        f"{share:.0%} of the time went into rollouts (time/rollout), {log.end('time/rollout'):.3g} s an update at the "
        "end",
        cause,
        f"{faster}lower trainer.max_completion_length ({config.trainer.max_completion_length}), or raise "
        f"trainer.per_device_train_batch_size ({config.trainer.per_device_train_batch_size}) so that more are sampled "
        "at once",
    )


def _slow_rewards(config: TrainConfig, log: _Log) -> Symptom | None:
    share = log.share("time/reward")
    if not share > _REWARD_SHARE:
        return None
    return Symptom(
        "rewards are slow",
        f"{share:.0%} of the time went into rewards (time/reward), {log.end('time/reward'):.3g} s an update at the end",
        "the verifier or a reward function takes long, or waits for a service",
        f"score the completions of a call in parallel (trainer.num_generations is {config.trainer.num_generations}), "
        "or cache what repeats",
    )


def _not_finite(config: TrainConfig, log: _Log) -> Symptom | None:
    skipped = [int(row["step"]) for row in log.rows if row.get("guard/skipped")]
    if not skipped:
        return None
    return Symptom(
        "numbers are not finite",
        f"{len(skipped)} of {len(log.rows)} updates were skipped (guard/skipped), the first was update {skipped[0]}",
        "the loss, a log-probability or the gradient was NaN or infinite; the run said which completion and layer",
        f"lower trainer.learning_rate ({config.trainer.learning_rate:g}); with dtype {config.dtype}, try float32",
    )


def _unscored(config: TrainConfig, log: _Log) -> Symptom | None:
    nothing = sum("reward" in row and row["reward"] is None for row in log.rows)
    share = 1.0 if nothing and nothing == len(log.rows) else log.end("grading/unscored")
    if not share > _UNSCORED:
        return None
    return Symptom(
        "the verifier says None",
        f"{share:.0%} of the completions had no score (grading/unscored)",
        "the gold answers cannot be read, or the grader stopped; such completions give no gradient",
        f"run 'relax tasks validate {config.task.name}' with the run's --task options, and fix the rows it names",
    )


def _truncated(config: TrainConfig, log: _Log) -> Symptom | None:
    share = log.end("completions/clipped_ratio")
    if not share > _TRUNCATED:
        return None
    ended = log.end("completions/mean_terminated_length")
    length = f"; those that ended took {ended:.0f} tokens on average" if share < 1 and ended > 0 else ""
    return Symptom(
        "completions are truncated",
        f"{share:.0%} of the completions reach the length limit (completions/clipped_ratio)",
        f"an answer that is cut off scores 0{length}",
        f"raise trainer.max_completion_length ({config.trainer.max_completion_length}), or ask for shorter answers",
    )


def _equal_groups(config: TrainConfig, log: _Log) -> Symptom | None:
    share, reward = log.end("frac_reward_zero_std"), log.end("reward")
    if not share > _EQUAL_GROUPS:
        return None
    found = f"{share:.0%} of the groups have equal rewards (frac_reward_zero_std), and give no gradient"
    group = f"trainer.num_generations ({config.trainer.num_generations})"
    if reward < 0.5:
        cause, change = "the problems are too hard", f"train on easier problems, raise {group}, or check the verifier"
    else:
        cause, change = "the problems are too easy", f"train on harder problems, or raise {group}"
    return Symptom(
        "all groups are equal",
        found,
        f"{cause}: the mean reward is {reward:.2f}",
        f"{change}; sampling.max_batches ({config.sampling.max_batches}) above 1 samples until groups differ",
    )


def _no_entropy(config: TrainConfig, log: _Log) -> Symptom | None:
    first, last = log.begin("entropy"), log.end("entropy")
    if not last < _LOST_ENTROPY * first:
        return None
    return Symptom(
        "the entropy is gone",
        f"the entropy fell from {first:.3g} to {last:.3g} nats (entropy)",
        _cause_by_covariance(log),
        f"use --objective kl_cov, raise objective.beta, or lower trainer.learning_rate "
        f"({config.trainer.learning_rate:g}); resume from an earlier checkpoint",
    )


def _much_entropy(config: TrainConfig, log: _Log) -> Symptom | None:
    first, last = log.begin("entropy"), log.end("entropy")
    if not (last > 2 * first and last > first + 0.3):
        return None
    return Symptom(
        "the entropy explodes",
        f"the entropy rose from {first:.3g} to {last:.3g} nats (entropy)",
        _cause_by_covariance(log),
        f"lower the bonus of {config.objective.name} (objective.coefficient or objective.alpha), or "
        f"trainer.learning_rate ({config.trainer.learning_rate:g})",
    )


def _cause_by_covariance(log: _Log) -> str:
    values = log.values("entropy/covariance")
    if not len(values):
        return "the log has no covariance (entropy/covariance)"
    positive = float((values > 0).mean())
    if values.mean() > 0:
        what = "tokens that were likely already were rewarded"
    else:
        what = "the reward does not lower it; a bonus, or the noise of large steps, raises it"
    return (
        f"the covariance of log-probability and advantage is {values.mean():.2g} on average, above 0 in "
        f"{positive:.0%} of the updates (entropy/covariance): {what}"
    )


def _clipped(config: TrainConfig, log: _Log) -> Symptom | None:
    share = log.end("clip_ratio/region_mean")
    if not share > _CLIPPED:
        return None
    return Symptom(
        "most tokens are clipped",
        f"{share:.0%} of the tokens are outside the clip range (clip_ratio/region_mean)",
        f"the policy moves far within one rollout batch, which serves {_updates_per_rollout(config)} updates",
        f"lower trainer.learning_rate ({config.trainer.learning_rate:g}), trainer.num_iterations or "
        "trainer.steps_per_generation",
    )


def _dispersion(config: TrainConfig, log: _Log) -> Symptom | None:
    first, last, radius = log.begin("latent/dsd"), log.end("latent/dsd"), log.end("latent/spectral_radius")
    if not (last > 5 * first or radius > 1.5):
        return None
    return Symptom(
        "DSD explodes",
        f"DSD went from {first:.3g} to {last:.3g} (latent/dsd), the spectral radius is {radius:.3g} "
        "(latent/spectral_radius)",
        "the fit is ill-posed, or the policy raises the estimate without changing its dynamics",
        "set objective.estimator to robust, lower objective.alpha or dictionary.num_observables",
    )


def _first_kl(config: TrainConfig, log: _Log) -> Symptom | None:
    first = log.rows[0] if log.rows else {}
    kl = first.get("kl")
    if first.get("step") != 1 or kl is None or not kl > _FIRST_KL:
        return None
    return Symptom(
        "KL is not 0 at step 1",
        f"the KL is {kl:.3g} in the first update (kl), where policy and reference are the same model",
        f"dropout is on, or both are computed in other precisions (dtype {config.dtype})",
        f"set trainer.disable_dropout ({config.trainer.disable_dropout}) to true, and use dtype float32 or mixed",
    )


def _no_gate(config: TrainConfig, log: _Log) -> Symptom | None:
    gates = log.values("latent/kl_gate")
    if len(gates) < 3 or gates.max() > 0:
        return None
    return Symptom(
        "the KL never acts",
        f"no completion was above xi in {len(gates)} updates (latent/kl_gate)",
        f"the largest DSD is {log.end('latent/dsd_max'):.3g} (latent/dsd_max), below the bound xi",
        "set objective.xi to quantile:0.9",
    )


def _inert(config: TrainConfig, log: _Log) -> Symptom | None:
    # A method of one's own would have to be imported, and its code is not ours to run here.
    if _updates_per_rollout(config) > 1 or config.objective.name not in METHODS:
        return None
    idle, is_all = idle_settings(config.objective.name, config.objective.options)
    if not idle:
        return None
    plain = f", so {config.objective.name} is the plain policy gradient" if is_all else ""
    clipped = log.values("clip_ratio/region_mean")
    share = f" and the clip share is {clipped.max():.0%} (clip_ratio/region_mean)" if len(clipped) else ""
    return Symptom(
        "settings have no effect",
        f"a rollout batch serves 1 update{share}",
        f"every ratio is 1: {', '.join(f'objective.{key}' for key in idle)} cannot act{plain}",
        f"raise trainer.steps_per_generation or trainer.num_iterations ({_iterations(config)})",
    )


def _flat_reward(config: TrainConfig, log: _Log) -> Symptom | None:
    rewards = log.values("reward")
    if len(rewards) < _ROWS_TO_BE_FLAT:
        return None
    steps = np.arange(len(rewards))
    slope, error = _slope(steps, rewards)
    if slope > 2 * error:
        return None
    return Symptom(
        "the reward stays flat",
        f"the reward changes by {slope * len(rewards):+.3f} +- {2 * error * len(rewards):.3f} over "
        f"{len(rewards)} logged updates (reward)",
        "the steps are too small for this many updates, or the reward is at its limit",
        f"raise trainer.learning_rate ({config.trainer.learning_rate:g}) or trainer.max_steps "
        f"({config.trainer.max_steps}), or enlarge the batch",
    )


def _slope(steps: np.ndarray, values: np.ndarray) -> tuple[float, float]:
    """Slope of the least-squares line and its standard error."""
    (slope, offset), squares = np.polyfit(steps, values, 1), float(((steps - steps.mean()) ** 2).sum())
    rest = values - (slope * steps + offset)
    return float(slope), float(np.sqrt((rest**2).sum() / (len(values) - 2) / squares))


def _iterations(config: TrainConfig) -> int:
    return int(config.trainer.num_iterations)


def _updates_per_rollout(config: TrainConfig) -> int:
    accumulated = config.trainer.gradient_accumulation_steps
    return max(1, (config.trainer.steps_per_generation or accumulated) // accumulated) * _iterations(config)


_RULES: tuple[_Rule, ...] = (
    _not_finite,
    _unscored,
    _truncated,
    _equal_groups,
    _no_entropy,
    _much_entropy,
    _clipped,
    _dispersion,
    _first_kl,
    _no_gate,
    _inert,
    _slow_rollouts,
    _slow_rewards,
)
