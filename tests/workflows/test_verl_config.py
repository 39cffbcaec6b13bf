"""What `relax verl-config` writes for verl, and what it refuses."""

import importlib.util
import json

import pyarrow.parquet
import pytest

from relax_rl.cli.main import main
from relax_rl.objectives import METHODS
from relax_rl.tasks.registry import build_task
from relax_rl.training.verl.methods import trainable_methods

SMALL = ["--trainer.num_generations", "4", "--trainer.per_device_train_batch_size", "8", "--train-problems", "32"]
SMALL += ["--evaluation.num_problems", "4", "--trainer.gradient_accumulation_steps", "2", "--trainer.max_steps", "6"]


def written(tmp_path, *words):
    folder = tmp_path / "verl"
    assert main(["verl-config", "countdown", "--output", str(folder), "--gpus", "2", *SMALL, *words]) == 0
    lines = (folder / "overrides.txt").read_text().splitlines()[1:]
    return folder, dict(line.split("=", 1) for line in lines)


def test_the_run_is_the_same_number_of_completions_by_the_same_method(tmp_path, capsys):
    folder, overrides = written(tmp_path, "--objective.alpha", "0.3", "--trainer.steps_per_generation", "4")
    assert "start with: bash" in capsys.readouterr().out
    assert overrides["data.train_batch_size"] == "16"  # 8 x 4 x 2 completions, 4 of a prompt
    assert overrides["actor_rollout_ref.actor.ppo_mini_batch_size"] == "8"
    assert overrides["trainer.total_training_steps"] == "3"
    assert overrides["+actor_rollout_ref.actor.policy_loss.objective"] == "relax"
    options = overrides["+actor_rollout_ref.actor.policy_loss.options"]
    assert options == "{xi:'quantile:0.9',alpha:0.3,dictionary:{num_observables:16}}"
    assert overrides["actor_rollout_ref.actor.use_kl_loss"] == "true"
    assert overrides["actor_rollout_ref.actor.kl_loss_coef"] == "0"
    assert overrides["actor_rollout_ref.model.external_lib"] == "relax_rl.training.verl.plugin"
    rows = pyarrow.parquet.read_table(folder / "train.parquet").to_pylist()
    problems = build_task("countdown").problems("train", 32)
    assert [row["reward_model"]["ground_truth"] for row in rows] == [problem.answer for problem in problems]
    assert rows[0]["prompt"] == [{"content": problems[0].prompt, "role": "user"}]
    assert "main_ppo" in (folder / "launch.sh").read_text()


def test_the_reward_function_grades_as_training_does(tmp_path):
    from relax_rl.training.verl.reward import reward_function

    folder, _ = written(tmp_path)
    score = reward_function(folder / "run.json")
    problem = build_task("countdown").problems("train", 1)[0]
    told = {"options": [], "truncated": False}
    assert score("countdown", problem.solution, problem.answer, told)["score"] == 1.0
    assert score("countdown", problem.mistake, problem.answer, told)["score"] == 0.0
    folder, _ = written(tmp_path / "numeric", "--verifier", "numeric")
    score = reward_function(folder / "run.json")
    whole, cut = ({"options": [], "truncated": is_cut} for is_cut in (False, True))
    assert score("countdown", "The answer is 12", "12", whole)["score"] == 1.0
    assert score("countdown", "The answer is 12", "12", cut)["score"] == 0.0


def test_an_adapter_is_carried_over(tmp_path):
    model = "actor_rollout_ref.model"
    _, without = written(tmp_path)
    assert not any("lora" in key for key in without)
    words = ["--peft.r", "4", "--peft.lora_alpha", "8", "--peft.target_modules", '["q_proj", "v_proj"]']
    _, overrides = written(tmp_path, *words)
    assert {key: one for key, one in overrides.items() if key not in without} == {
        f"{model}.lora_rank": "4",
        f"{model}.lora_alpha": "8",
        f"{model}.target_modules": "[q_proj,v_proj]",
        f"{model}.lora.merge": "true",
    }


def test_switches_of_the_template_and_the_attention_are_carried_over(tmp_path):
    words = ["--trainer.model_init_kwargs.attn_implementation", "sdpa"]
    words += ["--trainer.chat_template_kwargs.enable_thinking", "false"]
    _, overrides = written(tmp_path, *words)
    assert overrides["+data.apply_chat_template_kwargs.enable_thinking"] == "false"
    assert overrides["+actor_rollout_ref.model.override_config.attn_implementation"] == "sdpa"


def test_verl_loads_the_reward_function_by_its_file(tmp_path):
    folder, _ = written(tmp_path)
    spec = importlib.util.spec_from_file_location("reward", folder / "reward.py")
    assert spec is not None
    text = (folder / "reward.py").read_text()
    assert "reward_function(Path(__file__)" in text
    assert json.loads((folder / "run.json").read_text())["task"]["name"] == "countdown"


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--objective", "dcpo"], "'dcpo' reads the input 'prompt_keys'"),
        (["--objective", "flow_rl"], "'flow_rl' reads the input 'log_partition'"),
        (["--trainer.torch_compile", "true"], "'trainer.torch_compile' is TRL's and is not carried over to verl"),
        (["--trainer.lr_scheduler_type", "linear"], "verl knows constant and cosine"),
        (["--peft.r", "4", "--peft.use_dora", "true"], "'peft.use_dora' is not carried over to verl"),
        (["--trainer.disable_dropout", "false"], "'trainer.disable_dropout' is not carried over to verl"),
        (["--trainer.model_init_kwargs.use_kernels", "true"], "'trainer.model_init_kwargs.use_kernels' is not carried"),
        (["--sampling.max_batches", "4"], "'sampling.max_batches' is not carried over to verl"),
    ],
)
def test_what_has_no_counterpart_is_refused_and_nothing_is_written(tmp_path, capsys, words, sentence):
    folder = tmp_path / "verl"
    assert main(["verl-config", "countdown", "--output", str(folder), *SMALL, *words]) == 2
    assert sentence in capsys.readouterr().err
    assert not folder.exists()


def test_every_method_is_trainable_or_refused_by_name():
    able, refused = trainable_methods()
    assert {*able, *refused} == set(METHODS)
    assert {"grpo", "kl_cov", "relax", "relax_as_run", "gspo", "dapo", "sr_grpo"} <= set(able)
    for name, sentence in refused.items():
        assert f"{name!r} reads the input" in sentence
