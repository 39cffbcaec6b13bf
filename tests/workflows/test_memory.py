"""The memory of a run: against measured peaks, and what is said of runs that do not fit."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, Qwen2Config, Qwen3Config

from relax_rl.cli.main import main
from relax_rl.config import load_config
from relax_rl.errors import ConfigError
from relax_rl.training.models import empty_model, model_location
from relax_rl.workflows.memory.estimate import estimated
from relax_rl.workflows.memory.hardware import GIB, Hardware, parse_hardware
from relax_rl.workflows.memory.plan import memory_plan
from relax_rl.workflows.memory.rehearsal import memory_of, plan_for
from relax_rl.workflows.memory.shape import shape_of
from relax_rl.workflows.train import prepare
from support.measured_memory import MALLOC
from support.shapes import CONFIGS, PARAMETERS, folder_of

SMALL: dict[str, Any] = {
    "trainer.max_steps": 2,
    "trainer.save_steps": 100,
    "trainer.num_generations": 4,
    "trainer.per_device_train_batch_size": 8,
    "trainer.gradient_accumulation_steps": 2,
    "trainer.max_completion_length": 120,
    "evaluation.enabled": False,
    "dictionary.num_observables": 8,
    "dictionary.steps": 2,
}
ENDS: dict[str, Any] = {"bos_token_id": 257, "eos_token_id": 257, "pad_token_id": 256, "max_position_embeddings": 1024}
MODELS = {
    "llama, all weights": (
        LlamaConfig(
            vocab_size=4096,
            hidden_size=512,
            intermediate_size=1408,
            num_hidden_layers=8,
            num_attention_heads=8,
            num_key_value_heads=2,
            tie_word_embeddings=False,
            **ENDS,
        ),
        {"trainer.activation_checkpointing": False},
    ),
    "qwen2, recomputed": (
        Qwen2Config(
            vocab_size=32000,
            hidden_size=384,
            intermediate_size=2048,
            num_hidden_layers=6,
            num_attention_heads=6,
            num_key_value_heads=2,
            tie_word_embeddings=True,
            **ENDS,
        ),
        {"trainer.activation_checkpointing": True},
    ),
    "qwen3, an adapter": (
        Qwen3Config(
            vocab_size=8192,
            hidden_size=512,
            intermediate_size=1536,
            num_hidden_layers=6,
            num_attention_heads=8,
            num_key_value_heads=4,
            head_dim=64,
            tie_word_embeddings=True,
            **ENDS,
        ),
        {"trainer.activation_checkpointing": False, "peft.r": 8},
    ),
}


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the high-water mark is read as Linux keeps it")
@pytest.mark.parametrize("name", MODELS)
def test_the_estimate_is_the_measured_peak(name: str, tmp_path: Path) -> None:
    """Within 15 %; we measured differences up to 5 %."""
    config, more = MODELS[name]
    folder = tmp_path / "model"
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    AutoTokenizer.from_pretrained(model_location("tiny")).save_pretrained(folder)
    settings = SMALL | more
    run = prepare("countdown", overrides=settings | {"model": str(folder), "output": str(tmp_path / "rehearsal")})
    plan = memory_of(run)
    assert plan is not None
    script = Path(__file__).parents[1] / "support" / "measured_memory.py"
    command = [sys.executable, str(script), str(folder), str(tmp_path / "run"), json.dumps(settings)]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | MALLOC, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    measured = json.loads(done.stdout.splitlines()[-1])["peak"]
    assert plan.estimate.peak.total == pytest.approx(measured, rel=0.15)


def test_sizes_are_those_of_the_models(tmp_path: Path) -> None:
    for model in CONFIGS:
        shape = shape_of(empty_model(str(folder_of(model, tmp_path))))
        assert shape.num_parameters == pytest.approx(PARAMETERS[model], rel=0.01), model


def planned(tmp_path: Path, hardware: str, **settings: Any) -> Any:
    folder = tmp_path / "Qwen2.5-7B"
    if not folder.exists():
        folder_of("Qwen/Qwen2.5-7B", tmp_path)
    given = {"model": str(folder), "task": "countdown", "trainer.max_completion_length": 3072, "dtype": "mixed"}
    return plan_for(None, hardware, overrides=given | settings)


def test_static_memory_of_seven_billion_parameters_is_that_of_the_arithmetic(tmp_path: Path) -> None:
    """Weights, gradients and Adam over 8 devices: 15.2 GB each, as 16 bytes a parameter come to."""
    update = planned(tmp_path, "8x80GB", **{"trainer.fsdp": True}).memory.estimate.moments[0].parts
    assert sum(update[name] for name in ("weights", "gradients", "optimizer")) == pytest.approx(15.2e9, rel=0.01)
    assert update["reference"] == update["weights"]
    whole = planned(tmp_path, "8x80GB").memory
    assert whole.load.strategy == "DDP"
    assert whole.estimate.moments[0].parts["weights"] == pytest.approx(8 * update["weights"])


def test_strategies_share_out_what_they_say(tmp_path: Path) -> None:
    config = tmp_path / "ds.json"
    parts = {}
    for stage in (2, 3):
        config.write_text(json.dumps({"zero_optimization": {"stage": stage}}))
        memory = planned(tmp_path, "8x80GB", **{"trainer.deepspeed": str(config)}).memory
        assert memory.load.strategy == f"ZeRO-{stage}"
        parts[stage] = memory.estimate.moments[0].parts
    assert parts[2]["weights"] == pytest.approx(8 * parts[3]["weights"])
    assert parts[2]["optimizer"] == parts[3]["optimizer"]


def test_what_does_not_fit_is_said_with_changes_that_make_it_fit(tmp_path: Path) -> None:
    memory = planned(tmp_path, "24GB").memory
    assert not memory.fits
    assert memory.changes
    assert "does not fit" in memory.words()
    assert f"to fit: {'; then '.join(memory.changes)}" in memory.words()
    assert "peft.r = 16 with dtype = bfloat16" in memory.changes
    tiny = planned(tmp_path, "1GB").memory
    assert tiny.changes == ()
    assert "take more devices" in tiny.words()


def test_each_part_answers_to_its_setting() -> None:
    shape = shape_of(empty_model("tiny"))
    hardware = Hardware(1, 1, 24 * GIB, False, "here")
    words = {"prompt_tokens": 20, "has_reference": True, "reads_states": True}

    def total(**settings: Any) -> float:
        return memory_plan(load_config("countdown", settings), shape, hardware, **words).estimate.moments[0].total

    base = total()
    assert total(**{"trainer.activation_checkpointing": True}) < base
    assert total(**{"trainer.per_device_train_batch_size": 32}) < base
    assert total(**{"trainer.max_completion_length": 192}) > base
    assert total(**{"peft.r": 4}) < base
    assert total(**{"trainer.optim": "sgd"}) < total(**{"trainer.optim": "adamw_8bit"}) < base
    load = memory_plan(load_config("countdown"), shape, hardware, **words).load
    assert estimated(replace(load, has_reference=False)).moments[0].total < base
    assert estimated(replace(load, weight_bytes=0.5)).moments[0].total < base


def test_vllm_takes_its_share_and_sleeps(tmp_path: Path) -> None:
    given = {"trainer.use_vllm": True, "trainer.vllm_gpu_memory_utilization": 0.5, "trainer.fsdp": True}
    awake = planned(tmp_path, "8x80GB", **given).memory.estimate.moments
    asleep = planned(tmp_path, "8x80GB", **given, **{"trainer.vllm_enable_sleep_mode": True}).memory.estimate.moments
    assert [moment.parts.get("vLLM", 0) / GIB for moment in awake] == [40, 40, 40]
    assert [moment.parts.get("vLLM", 0) / GIB for moment in asleep] == [0, 40, 0]
    assert "cache" not in awake[1].parts


def test_a_rehearsal_says_what_the_run_needs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "countdown", "--dry-run", "--output", str(tmp_path / "run")]) == 0
    shown = capsys.readouterr().out
    assert "memory    the memory of this machine" in shown
    assert "(fits; an estimate" in shown
    assert main(["train", "countdown", "--dry-run", "--hardware", "2x8x80GB"]) == 0
    shown = capsys.readouterr().out
    assert "update    256 prompts, 4,096 completions: 16 processes x 4 micro-batches of 64" in shown
    assert "memory    2x8x80GB, DDP" in shown
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--hardware", "24GB"], "add --dry-run"),
        (["--hardware", "24GB", "--dry-run", "--resume"], "leave --resume and --overwrite out"),
        (["--hardware", "much", "--dry-run"], "write 24GB, 8x80GB"),
        (["--hardware", "0x80GB", "--dry-run"], "names no device"),
        (["--hardware", "24GB", "--dry-run", "--trainer.max_stepz", "3"], "max_stepz"),
        (["--hardware", "24GB", "--dry-run", "--objective.alfa", "3"], "alfa"),
    ],
)
def test_a_rehearsal_for_other_hardware_that_cannot_be(words: list[str], sentence: str, capsys: Any) -> None:
    assert main(["train", "countdown", *words]) == 2
    assert sentence in capsys.readouterr().err


def test_hardware_in_words() -> None:
    found = parse_hardware("2x8x80GB")
    assert (found.nodes, found.devices, found.ranks, found.size) == (2, 8, 16, 80 * GIB)
    assert parse_hardware("24gb").ranks == 1
    with pytest.raises(ConfigError):
        parse_hardware("8x")
