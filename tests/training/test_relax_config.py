"""TRL's configuration for whole groups, and the copy that TRL is given."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from relax_rl.config import TrainerConfig
from relax_rl.errors import ConfigError
from relax_rl.training.trl import config, relax_config
from relax_rl.training.trl.config import grpo_config
from relax_rl.training.trl.relax_config import RelaxConfig, arguments_for
from relax_rl.training.trl.replaced import REPLACED, REPLACED_BY_RUN

BATCHES: dict[str, Any] = {
    "per_device_train_batch_size": 4,
    "num_generations": 4,
    "gradient_accumulation_steps": 2,
    "use_cpu": True,
    "bf16": False,
}


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"per_device_train_batch_size": 6, "gradient_accumulation_steps": 1}, "use 4 or 8."),
        ({"per_device_train_batch_size": 2, "gradient_accumulation_steps": 1}, "groups; use 4."),
        ({"per_device_train_batch_size": 3, "gradient_accumulation_steps": 2}, "of one process must hold whole groups"),
        ({"steps_per_generation": 3}, "steps_per_generation = 3 is not a multiple"),
    ],
)
def test_batches_that_would_break_groups_are_refused_with_the_nearest(
    settings: dict, words: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=words):
        RelaxConfig(output_dir=str(tmp_path), **(BATCHES | settings))


def test_an_evaluation_holds_whole_groups_too_and_the_given_arguments_stay(tmp_path: Path) -> None:
    args = RelaxConfig(output_dir=str(tmp_path), per_device_eval_batch_size=6, **BATCHES)
    with pytest.raises(ConfigError, match="not a multiple of the 4 completions"):
        arguments_for(args, 0.0, evaluates=True)
    before = args.beta
    own = arguments_for(args, 0.25, evaluates=False)
    assert (own.beta, own.loss_type, own.router_aux_loss_coef) == (0.25, "grpo", 0.0)
    assert args.beta == before
    args.num_generations_eval = 3
    assert arguments_for(args, 0.0, evaluates=True).beta == 0.0
    assert args.disable_dropout


@pytest.mark.parametrize("name", sorted(REPLACED | REPLACED_BY_RUN))
def test_an_option_that_is_replaced_has_a_setting_or_words_in_its_place(name: str) -> None:
    replacement = (REPLACED | REPLACED_BY_RUN)[name]
    assert bool(replacement.setting) is not bool(replacement.advice)
    for sentence in (replacement.in_settings, replacement.in_script):
        assert (replacement.setting or replacement.advice) in sentence or "objective=" in sentence


@pytest.mark.parametrize("name", ["disable_tqdm", "logging_first_step", "save_strategy"])
def test_what_a_run_sets_is_not_for_its_settings(name: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"'trainer.{name}' has no effect here"):
        grpo_config(TrainerConfig.model_validate({name: "no"}), tmp_path)


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "mixed"])
def test_what_a_run_sets_by_itself(precision: Any, tmp_path: Path) -> None:
    made = grpo_config(TrainerConfig(max_steps=7), tmp_path / "out", seed=3, precision=precision, use_cpu=True)
    found = {name: getattr(made, name) for name in ("output_dir", "seed", "bf16", "max_steps", "use_cpu")}
    assert found == {
        "output_dir": str(tmp_path / "out"),
        "seed": 3,
        "bf16": precision == "mixed",
        "max_steps": 7,
        "use_cpu": True,
    }
    assert (made.disable_tqdm, made.logging_first_step, made.save_strategy) == (True, True, "steps")
    assert made.activation_checkpointing is True
    for name in ("activation_checkpointing", "gradient_checkpointing"):
        without = TrainerConfig.model_validate({name: False})
        assert not grpo_config(without, tmp_path, precision=precision, use_cpu=True).activation_checkpointing


def test_transformers_before_5_23_knows_the_old_name_of_checkpointing_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fields = [field for field in dataclasses.fields(RelaxConfig) if field.name != "activation_checkpointing"]
    monkeypatch.setattr(config.dataclasses, "fields", lambda _: fields)
    given: list[dict[str, Any]] = []
    monkeypatch.setattr(relax_config, "RelaxConfig", lambda **settings: given.append(settings))
    grpo_config(TrainerConfig(), tmp_path)
    for name in ("activation_checkpointing", "gradient_checkpointing"):
        grpo_config(TrainerConfig.model_validate({name: False}), tmp_path)
    names = [{name: value for name, value in one.items() if "checkpointing" in name} for one in given]
    assert names == [{"gradient_checkpointing": value} for value in (True, False, False)]


def test_values_that_trl_refuses_and_a_cache_of_one_precision(tmp_path: Path) -> None:
    static = TrainerConfig(cache_implementation="static")  # pyright: ignore[reportCallIssue]
    assert grpo_config(static, tmp_path, use_cpu=True).cache_implementation == "static"
    with pytest.raises(ConfigError, match="cache_implementation = static holds values of one precision"):
        grpo_config(static, tmp_path, precision="mixed", use_cpu=True)
    with pytest.raises(ConfigError, match="TRL refuses the settings under 'trainer': "):
        grpo_config(TrainerConfig(lr_scheduler_type="none such"), tmp_path, use_cpu=True)
