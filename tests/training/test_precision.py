"""Weights in float32, computed in bfloat16."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from relax_rl.errors import ConfigError
from relax_rl.evaluation.result import EvaluationResult
from relax_rl.runs import RunDirectory
from relax_rl.training import measurement
from relax_rl.training.models import load_model
from relax_rl.training.precision import computing_in, weight_dtype
from relax_rl.workflows.train import train

SETTINGS = [
    "--trainer.max_steps=1",
    "--trainer.num_generations=4",
    "--trainer.per_device_train_batch_size=8",
    "--trainer.gradient_accumulation_steps=1",
    "--trainer.max_completion_length=24",
    "--trainer.save_steps=1",
    "--dictionary.num_observables=4",
    "--dictionary.steps=2",
    "--objective.xi=quantile:0.5",
    "--trainer.cache_implementation=dynamic",
    "--train_problems=8",
    "--evaluation.num_problems=4",
    "--evaluation.num_samples=4",
]


def trained(path: Path, monkeypatch: pytest.MonkeyPatch, *words: str) -> RunDirectory:
    monkeypatch.setattr(measurement, "_NUM_PROMPTS", 4)
    monkeypatch.setattr(measurement, "_NUM_SAMPLES", 4)
    return RunDirectory(train("countdown", overrides=[*SETTINGS, *words, f"--output={path}"]).output)


def test_the_forward_is_computed_in_bfloat16_and_then_again_as_it_was() -> None:
    model, _ = load_model("tiny", weight_dtype("mixed"))
    ids = torch.arange(12).unsqueeze(0)
    seen: list[torch.dtype] = []
    model.model.layers[0].mlp.up_proj.register_forward_hook(lambda module, args, output: seen.append(output.dtype))
    with torch.no_grad():
        exact = model(ids).logits
        with computing_in("mixed", model):
            rounded = model(ids).logits
        again = model(ids).logits
    assert seen == [torch.float32, torch.bfloat16, torch.float32]
    assert torch.equal(exact, again)
    assert 0 < float((exact - rounded).abs().max()) < 0.5
    assert "forward" not in vars(model)


def test_outside_of_the_forward_nothing_is_rounded() -> None:
    model, _ = load_model("tiny")
    left, right = torch.randn(2, 16, 16)
    with computing_in("mixed", model):
        assert (left @ right).dtype == torch.float32


@pytest.mark.slow
def test_a_mixed_run_keeps_its_weights_whole_and_measures_both_ends_alike(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    still = trained(tmp_path / "still", monkeypatch, "--dtype=mixed", "--trainer.learning_rate=0")
    ends = [EvaluationResult.load(still.evaluations / f"{end}.json").metrics for end in ("before", "after")]
    assert ends[0] == ends[1]
    exact = trained(tmp_path / "exact", monkeypatch, "--trainer.learning_rate=0")
    assert EvaluationResult.load(exact.evaluations / "before.json").metrics["entropy"] != ends[0]["entropy"]


def test_a_cache_of_one_precision_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    words = [*SETTINGS, "--dtype=mixed", "--trainer.cache_implementation=static", f"--output={tmp_path / 'run'}"]
    with pytest.raises(ConfigError, match="cache_implementation dynamic"):
        train("countdown", overrides=words)
    assert not (tmp_path / "run").exists()


def test_an_update_too_small_for_bfloat16_arrives_in_a_mixed_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    moved = {}
    start = dict(load_model("tiny")[0].named_parameters())
    for precision in ("mixed", "bfloat16"):
        words = (f"--dtype={precision}", "--trainer.learning_rate=1e-6", "--evaluation.enabled=false")
        run = trained(tmp_path / precision, monkeypatch, *words)
        tensors = load_file(run.checkpoints / "checkpoint-1" / "model.safetensors")
        assert {tensor.dtype for tensor in tensors.values()} == {getattr(torch, weight_dtype(precision))}
        name = "model.layers.0.mlp.up_proj.weight"
        before = start[name].to(tensors[name].dtype)
        moved[precision] = float((tensors[name] != before).float().mean())
    assert moved["mixed"] > 0.9
    assert moved["bfloat16"] < 0.1
