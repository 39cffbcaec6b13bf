"""The door for a TRL script: `RelaxTrainer` takes what `GRPOTrainer` takes, and nothing given is silently ignored."""

import dataclasses
import inspect
from typing import Any

import pytest
import torch
from datasets import Dataset
from trl import GRPOConfig, GRPOTrainer

from relax_rl.errors import ConfigError
from relax_rl.objectives import build_objective
from relax_rl.training.models import load_tokenizer, model_location
from relax_rl.training.trl.relax_config import RelaxConfig
from relax_rl.training.trl.replaced import REPLACED
from relax_rl.training.trl.trainer import RelaxTrainer
from support.scripted import GROUP, ScriptedTrainer, parity_reward, tiny_llama

SETTINGS = {
    "per_device_train_batch_size": 2 * GROUP,
    "num_generations": GROUP,
    "max_completion_length": 32,
    "max_steps": 2,
    "learning_rate": 1e-3,
    "report_to": "none",
    "use_cpu": True,
    "bf16": False,
    "save_strategy": "no",
    "logging_steps": 1,
    "disable_tqdm": True,
}
SMALL = {"xi": "quantile:0.5", "dictionary": {"num_observables": 8, "steps": 3}}


class ScriptedGRPO(GRPOTrainer):
    """TRL's own trainer, on the same completions."""

    _generate_single_turn = ScriptedTrainer._generate_single_turn


def prompts():
    return Dataset.from_list([{"prompt": f"{first} {first + 3}>{2 * first}:"} for first in range(2, 34)])


def script(
    folder, trainer_class: Any = ScriptedTrainer, config: Any = RelaxConfig, settings=None, model=None, **arguments: Any
):
    """What a person writes in a TRL script."""
    return trainer_class(
        model=tiny_llama() if model is None else model,
        reward_funcs=parity_reward,
        args=config(output_dir=str(folder), **(SETTINGS | (settings or {}))),
        train_dataset=prompts(),
        processing_class=load_tokenizer("tiny"),
        **arguments,
    )


def logged(trainer, *names):
    return [[row[name] for name in names] for row in trainer.state.log_history if "loss" in row]


@pytest.mark.parametrize("beta", [0.0, 0.04])
def test_grpo_by_this_door_is_trls_own(tmp_path, beta):
    theirs = script(tmp_path / "theirs", ScriptedGRPO, GRPOConfig, {"loss_type": "grpo", "beta": beta})
    theirs.train()
    ours = script(tmp_path / "ours", objective="grpo", objective_options={"beta": beta})
    ours.train()
    names = ("loss", "grad_norm", "reward", *(["kl"] if beta else []))
    torch.testing.assert_close(logged(ours, *names), logged(theirs, *names), atol=1e-5, rtol=1e-3)


def test_relax_works_with_beta_unset(tmp_path):
    trainer = script(tmp_path, objective_options=SMALL)
    assert trainer.ref_model is not None
    assert trainer.beta == trainer.objective.reference_coefficient == 0.01
    trainer.train()
    assert [row["latent/dsd_defined"] for row in trainer.state.log_history if "latent/dsd" in row] == [1.0, 1.0]


def test_no_reference_is_kept_where_none_is_needed(tmp_path):
    assert script(tmp_path, objective="grpo").ref_model is None


def test_the_configuration_given_is_left_as_it_is(tmp_path):
    args = RelaxConfig(output_dir=str(tmp_path), **SETTINGS)
    before = dataclasses.asdict(args)
    options = {"objective_options": SMALL, "processing_class": load_tokenizer("tiny")}
    ScriptedTrainer(tiny_llama(), parity_reward, args, prompts(), **options)
    assert dataclasses.asdict(args) == before


OTHER_VALUES = {
    "loss_type": "dr_grpo",
    "importance_sampling_level": "sequence",
    "scale_rewards": "none",
    "multi_objective_aggregation": "normalize_then_sum",
    "use_adaptive_entropy": True,
    "use_bias_correction_kl": False,
    "use_liger_kernel": True,
}


@pytest.mark.parametrize("name", REPLACED)
def test_every_replaced_option_is_refused(name, tmp_path):
    with pytest.raises(ConfigError, match=f"'{name}' has no effect in RelaxConfig: "):
        RelaxConfig(output_dir=str(tmp_path), **(SETTINGS | {name: OTHER_VALUES.get(name, 0.37)}))


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"beta": 0.04}, "objective_options={'beta': ...}"),
        ({"epsilon": 0.3}, "objective_options={'clip_low': ...}"),
        ({"loss_type": "grpo"}, "RelaxTrainer(objective=...)"),
        ({"use_transformers_continuous_batching": True}, "casts the trained weights for good"),
        ({"per_device_train_batch_size": 6}, "whole groups; use 4 or 8."),
        ({"gradient_accumulation_steps": 2, "steps_per_generation": 3}, "use one batch of rollouts"),
    ],
)
def test_the_refusal_says_what_to_do(settings, sentence, tmp_path):
    with pytest.raises(ConfigError) as refused:
        RelaxConfig(output_dir=str(tmp_path), **(SETTINGS | settings))
    assert sentence in str(refused.value)
    assert "\n" not in str(refused.value)


def test_defaults_of_replaced_options_are_no_offence(tmp_path):
    assert RelaxConfig(output_dir=str(tmp_path), beta=0.0, epsilon=0.2, use_cpu=True, bf16=False).beta == 0.0


def test_other_entry_points_are_refused_in_one_sentence(tmp_path):
    with pytest.raises(ConfigError, match=r"args is a GRPOConfig.*use relax_rl\.RelaxConfig"):
        script(tmp_path, config=GRPOConfig)
    with pytest.raises(ConfigError, match="did you mean 'grpo'"):
        script(tmp_path, objective="grppo")
    with pytest.raises(ConfigError, match="no setting 'alfa'"):
        script(tmp_path, objective_options={"alfa": 1.0})
    with pytest.raises(ConfigError, match="objective is a int"):
        script(tmp_path, objective=3)
    with pytest.raises(ConfigError, match="set them where the objective is built"):
        script(tmp_path, objective=build_objective("grpo"), objective_options={"beta": 0.1})
    with pytest.raises(ConfigError, match=r"\['num_observables'\] = 50 .* max_completion_length = 32"):
        script(tmp_path)
    settings = {"per_device_eval_batch_size": 6}
    with pytest.raises(ConfigError, match="per_device_eval_batch_size = 6"):
        script(tmp_path, objective="grpo", settings=settings, eval_dataset=prompts())
    model = tiny_llama()
    model.config._name_or_path = ""
    with pytest.raises(ConfigError, match="made in memory; save it and load it again"):
        script(tmp_path, model=model, objective_options=SMALL)


def test_a_training_is_resumed_from_a_checkpoint(tmp_path):
    settings = {"save_strategy": "steps", "save_steps": 2, "max_steps": 4}
    whole = script(tmp_path / "whole", settings=settings, objective_options=SMALL)
    whole.train()
    again = script(tmp_path / "again", settings=settings, objective_options=SMALL)
    again.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-2"))
    assert again.objective.probe.dictionary.digest == whole.objective.probe.dictionary.digest
    assert again.objective.probe.bound == whole.objective.probe.bound
    for ours, theirs in zip(again.model.parameters(), whole.model.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_a_model_is_given_by_its_place_and_the_policy_samples(tmp_path):
    """As in a first TRL script: a place, a reward function, no tokenizer; evaluation on the way."""
    args = RelaxConfig(
        output_dir=str(tmp_path),
        **(SETTINGS | {"max_steps": 1, "eval_strategy": "steps", "eval_steps": 1, "per_device_eval_batch_size": GROUP}),
    )
    trainer = RelaxTrainer(
        model_location("tiny"),
        [parity_reward, parity_reward],
        args,
        prompts(),
        eval_dataset=prompts().select(range(2)),
        objective_options=SMALL,
    )
    trainer.train()
    assert any("eval_reward" in row for row in trainer.state.log_history)


def test_positions_are_those_of_trls_trainer():
    def named(function):
        return [p for p in inspect.signature(function).parameters.values() if p.kind is not p.KEYWORD_ONLY]

    ours, theirs = named(RelaxTrainer.__init__), named(GRPOTrainer.__init__)
    assert [parameter.name for parameter in ours] == [parameter.name for parameter in theirs]
    assert [parameter.default for parameter in ours] == [parameter.default for parameter in theirs]


def test_lora_trains_saves_and_resumes(tmp_path):
    peft = pytest.importorskip("peft", reason="the extra 'dev' installs peft, and this environment lacks it")
    lora = peft.LoraConfig(r=2, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM", init_lora_weights=False)
    settings = {"save_strategy": "steps", "save_steps": 1}
    trainer = script(tmp_path, settings=settings, objective_options=SMALL, peft_config=lora)
    assert trainer.ref_model is None
    trainer.train()
    assert (tmp_path / "checkpoint-1" / "adapter_config.json").is_file()
    again = script(tmp_path / "again", settings=settings, objective_options=SMALL, peft_config=lora)
    again.train(resume_from_checkpoint=str(tmp_path / "checkpoint-1"))
    assert again.objective.probe.dictionary.digest == trainer.objective.probe.dictionary.digest
    for ours, theirs in zip(again.model.parameters(), trainer.model.parameters(), strict=True):
        assert torch.equal(ours, theirs)
