"""From the settings of a run by TRL to one by verl: overrides, data, reward function and launch script."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from relax_rl.config import PeftConfig, TrainConfig
from relax_rl.config.batches import batch_arithmetic
from relax_rl.errors import ConfigError
from relax_rl.evaluation.prompts import PromptForm, prompt_words
from relax_rl.objectives import RunLimits, method_options
from relax_rl.rewards.turns import opened_thought
from relax_rl.tasks.base import Problem
from relax_rl.tasks.registry import build_task
from relax_rl.training.models import load_tokenizer, model_location
from relax_rl.training.verl.methods import objective_named

__all__ = ["VerlFiles", "write_verl_config"]

_PLAIN_TEMPLATE = "{% for message in messages %}{{ message['content'] }}{% endfor %}"
_CARRIED = frozenset(
    {"activation_checkpointing", "gradient_checkpointing", "use_vllm", "vllm_mode", "pad_to_multiple_of"}
)
"""Fields of TRL under ``trainer`` that have a counterpart here, or none to have."""
_ADAPTER = ("r", "lora_alpha", "target_modules", "exclude_modules")
"""Settings under ``peft`` that verl has, too."""
_LOADABLE = "attn_implementation"
_SCHEDULES = ("constant", "cosine", "constant_with_warmup")

_LAUNCH = """\
#!/usr/bin/env bash
# Written by relax verl-config. Run it in an environment with relax-rl[verl], on the first node of the Ray cluster, if
# there are several. Further overrides go behind it: bash launch.sh trainer.nnodes=2
set -euo pipefail
cd "$(dirname "$0")"
mapfile -t overrides < <(grep -v -e '^#' -e '^$' overrides.txt)
exec python -m verl.trainer.main_ppo "${{overrides[@]}}" "$@"
"""

_REWARD = '''\
"""Written by relax verl-config: the verifier of the run, as verl calls a reward function."""

from pathlib import Path

from relax_rl.training.verl.reward import reward_function
from relax_rl.training.verl.reward_manager import RelaxRewardManager  # named by overrides.txt

compute_score = reward_function(Path(__file__).with_name("run.json"))
'''


@dataclass(frozen=True)
class VerlFiles:
    """The files that were written.

    Attributes:
        folder: with ``overrides.txt``, ``launch.sh``, ``reward.py``, ``run.json``, ``train.parquet``, ``test.parquet``.
        overrides: overrides of verl's configuration, in the order of the file.
    """

    folder: Path
    overrides: list[str]


def write_verl_config(settings: TrainConfig, folder: Path, gpus: int = 8, nodes: int = 1) -> VerlFiles:
    """Write what verl needs for the same run: the same completions an update, the same method, verifier and data.

    Args:
        gpus: gpus of a node.

    Raises:
        ConfigError: a setting that has no counterpart in verl, or a method whose inputs verl does not give.
        DataError: as the task.
    """
    _check_carried(settings)
    tokenizer = load_tokenizer(settings.model, settings.model_revision)
    overrides = [
        f"{key}={_hydra(value)}" for key, value in _overrides(settings, folder, gpus, nodes, tokenizer).items()
    ]
    task = build_task(settings.task.name, **settings.task.options)
    form = _form(settings)
    data = {"train": task.problems(settings.train_split, settings.train_problems, settings.seed)}
    data["test"] = task.problems(settings.evaluation.split, settings.evaluation.num_problems)
    folder.mkdir(parents=True, exist_ok=True)
    for name, problems in data.items():
        _write_rows([_row(settings, tokenizer, form, problem) for problem in problems], folder / f"{name}.parquet")
    kept = settings.model_dump(mode="json")
    texts = {
        "run.json": json.dumps(kept, indent=2) + "\n",
        "reward.py": _REWARD,
        "overrides.txt": "# An override of verl's configuration in each line.\n"
        + "".join(f"{one}\n" for one in overrides),
        "launch.sh": _LAUNCH.replace("{{", "{").replace("}}", "}"),
    }
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    return VerlFiles(folder, overrides)


def _check_carried(settings: TrainConfig) -> None:
    trainer = settings.trainer
    for key in trainer.model_extra or {}:
        if key not in _CARRIED:
            raise ConfigError(
                f"'trainer.{key}' is TRL's and is not carried over to verl; leave it out, and set what it stands for "
                "as an override behind launch.sh."
            )
    if trainer.lr_scheduler_type not in _SCHEDULES:
        raise ConfigError(
            f"trainer.lr_scheduler_type = {trainer.lr_scheduler_type!r}, but verl knows constant and cosine."
        )
    for key, is_set in (
        ("sampling.max_batches", settings.sampling.max_batches > 1),
        ("sampling.trunks", settings.sampling.trunks is not None),
        ("model_revision", settings.model_revision is not None),
        ("freeze", bool(settings.freeze)),
        ("prompts.max_prompt_length", settings.prompts.max_prompt_length is not None),
        ("prompts.overlong", settings.prompts.overlong == "drop"),
        ("trainer.disable_dropout", not trainer.disable_dropout),
        *((f"trainer.model_init_kwargs.{key}", key != _LOADABLE) for key in trainer.model_init_kwargs or {}),
        *((f"peft.{key}", key not in _ADAPTER) for key in settings.peft.model_dump(exclude_defaults=True)),
    ):
        if is_set:
            raise ConfigError(f"'{key}' is not carried over to verl; leave it out, or train with `relax train`.")


def _overrides(settings: TrainConfig, folder: Path, gpus: int, nodes: int, tokenizer: Any) -> dict[str, Any]:
    trainer, plan = settings.trainer, batch_arithmetic(settings, gpus * nodes)
    rollouts = plan.rollouts
    limits = RunLimits(trainer.max_completion_length, trainer.num_generations, trainer.max_steps)
    options = dict(settings.objective.options)
    if "dictionary" in method_options(settings.objective.name):
        options["dictionary"] = {
            key: value for key, value in settings.dictionary.model_dump().items() if value is not None
        }
    objective = objective_named(settings.objective.name, options, limits)
    actor, rollout, here = "actor_rollout_ref.actor", "actor_rollout_ref.rollout", folder.resolve()
    extra = trainer.model_extra or {}
    checkpointing = extra.get("gradient_checkpointing", extra.get("activation_checkpointing", True))
    warmup = int(trainer.warmup_steps) if trainer.warmup_steps >= 1 else -1
    found: dict[str, Any] = {
        "algorithm.adv_estimator": "grpo",
        "algorithm.use_kl_in_reward": False,
        "data.train_files": str(here / "train.parquet"),
        "data.val_files": str(here / "test.parquet"),
        "data.train_batch_size": plan.prompts_per_rollout,
        "data.max_response_length": trainer.max_completion_length,
        "data.filter_overlong_prompts": False,
        "data.truncation": "error",
        "data.seed": settings.seed,
        "actor_rollout_ref.model.path": _model_path(settings.model),
        "actor_rollout_ref.model.external_lib": "relax_rl.training.verl.plugin",
        "actor_rollout_ref.model.enable_gradient_checkpointing": bool(checkpointing),
        f"{actor}.strategy": "fsdp2",
        "actor_rollout_ref.ref.strategy": "fsdp2",
        f"{actor}.policy_loss._target_": "relax_rl.training.verl.policy_loss.RelaxPolicyLossConfig",
        f"{actor}.policy_loss.loss_mode": "relax_rl",
        f"+{actor}.policy_loss.objective": settings.objective.name,
        f"+{actor}.policy_loss.options": options,
        f"+{actor}.policy_loss.max_completion_length": trainer.max_completion_length,
        f"+{actor}.policy_loss.updates": trainer.max_steps,
        # With a coefficient of 0, so that verl computes the reference's log-probabilities and adds no KL of its own.
        f"{actor}.use_kl_loss": objective.reference_coefficient > 0,
        f"{actor}.kl_loss_coef": 0,
        f"{actor}.entropy_coeff": 0,
        f"{actor}.ppo_mini_batch_size": plan.prompts_per_update,
        f"{actor}.ppo_micro_batch_size_per_gpu": trainer.per_device_train_batch_size,
        f"{actor}.ppo_epochs": trainer.num_iterations,
        f"{actor}.optim.lr": trainer.learning_rate,
        f"{actor}.optim.lr_scheduler_type": trainer.lr_scheduler_type.partition("_")[0],
        f"{actor}.optim.lr_warmup_steps": warmup,
        f"{actor}.optim.weight_decay": trainer.weight_decay,
        f"{actor}.optim.betas": [trainer.adam_beta1, trainer.adam_beta2],
        f"{actor}.optim.clip_grad": trainer.max_grad_norm,
        f"{actor}.fsdp_config.seed": settings.seed,
        f"{actor}.fsdp_config.dtype": "float32" if settings.dtype == "float32" else "bfloat16",
        f"{rollout}.name": "vllm",
        f"{rollout}.n": trainer.num_generations,
        f"{rollout}.temperature": trainer.temperature,
        f"{rollout}.top_p": trainer.top_p,
        f"{rollout}.top_k": trainer.top_k or -1,
        f"{rollout}.log_prob_micro_batch_size_per_gpu": trainer.per_device_train_batch_size,
        "actor_rollout_ref.ref.log_prob_micro_batch_size_per_gpu": trainer.per_device_train_batch_size,
        "reward.custom_reward_function.path": str(here / "reward.py"),
        "reward.custom_reward_function.name": "compute_score",
        "reward.reward_manager.source": "importlib",
        "reward.reward_manager.module.path": str(here / "reward.py"),
        "reward.reward_manager.name": "RelaxRewardManager",
        "trainer.total_training_steps": rollouts,
        "trainer.total_epochs": rollouts,
        "trainer.save_freq": max(1, math.ceil(trainer.save_steps / plan.updates_per_rollout)),
        "trainer.test_freq": -1,
        "trainer.val_before_train": settings.evaluation.enabled and settings.evaluation.before,
        "trainer.n_gpus_per_node": gpus,
        "trainer.nnodes": nodes,
        "trainer.logger": ["console"],
        "trainer.project_name": "relax-rl",
        "trainer.experiment_name": f"{settings.task.name}-{settings.objective.name}-seed{settings.seed}",
        "trainer.default_local_dir": str(here / "checkpoints"),
    }
    if settings.peft.r is not None:
        found |= _adapter(settings.peft)
    if attention := (trainer.model_init_kwargs or {}).get(_LOADABLE):
        found[f"+actor_rollout_ref.model.override_config.{_LOADABLE}"] = attention
    if trainer.chat_template_kwargs:
        found |= {f"+data.apply_chat_template_kwargs.{key}": one for key, one in trainer.chat_template_kwargs.items()}
    if not _form(settings).uses_template(tokenizer):
        found["actor_rollout_ref.model.custom_chat_template"] = _PLAIN_TEMPLATE
    if trainer.save_total_limit is not None:
        found["trainer.max_actor_ckpt_to_keep"] = trainer.save_total_limit
    return found


def _adapter(peft: PeftConfig) -> dict[str, Any]:
    model = "actor_rollout_ref.model"
    found = {
        f"{model}.lora_rank": peft.r,
        f"{model}.lora_alpha": peft.lora_alpha,
        f"{model}.target_modules": peft.target_modules,
        # vLLM gets whole weights, with the adapter merged into them, as from TRL. verl 0.9.1 hands the adapter itself
        # to some versions of vLLM only.
        f"{model}.lora.merge": True,
    }
    return found if peft.exclude_modules is None else found | {f"{model}.exclude_modules": peft.exclude_modules}


def _form(settings: TrainConfig) -> PromptForm:
    return PromptForm(plain=settings.prompts.plain, switches=settings.trainer.chat_template_kwargs or {})


def _model_path(name: str) -> str:
    location = model_location(name)
    return str(Path(location).resolve()) if Path(location).is_dir() else location


def _row(settings: TrainConfig, tokenizer: Any, form: PromptForm, problem: Problem) -> dict[str, Any]:
    if problem.images:
        raise ConfigError("Problems with images are not carried over to verl; train them with `relax train`.")
    words = prompt_words(tokenizer, problem, form)
    is_plain = not form.uses_template(tokenizer)
    messages = [{"role": "user", "content": problem.prompt}] if is_plain else list(words)
    text = (
        problem.prompt
        if is_plain
        else tokenizer.apply_chat_template(words, add_generation_prompt=True, tokenize=False, **form.switches)
    )
    return {
        "prompt": messages,
        "data_source": settings.task.name,
        "reward_model": {"style": "rule", "ground_truth": problem.answer},
        "extra_info": {
            "problem_id": problem.id,
            "options": list(problem.options),
            "opened_thought": opened_thought(text),
            "truncated": False,
        },
    }


def _write_rows(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    from datasets import Dataset, disable_progress_bars

    disable_progress_bars()
    Dataset.from_list([dict(row) for row in rows]).to_parquet(path)


def _hydra(value: Any) -> str:
    """A value in the grammar of Hydra's overrides."""
    if value is None:
        return "null"
    if value is True or value is False:
        return str(value).lower()
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{key}:{_hydra(one)}" for key, one in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(_hydra(one) for one in value) + "]"
    if isinstance(value, int | float):
        return repr(value)
    text = str(value)
    return text if text.replace("_", "").replace(".", "").replace("/", "").replace("-", "").isalnum() else _quoted(text)


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
