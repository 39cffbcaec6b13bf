"""LoRA and QLoRA through the doors that a user takes: train, resume, evaluate, merge, load elsewhere."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from relax_rl.cli.main import main
from relax_rl.config import load_config
from relax_rl.errors import ConfigError, DependencyError
from relax_rl.runs import RunDirectory
from relax_rl.training.models import load_model, model_location
from relax_rl.workflows.merge import merge
from relax_rl.workflows.train import prepare, train

peft = pytest.importorskip("peft", reason="the extra 'dev' installs peft, and this environment lacks it")

SMALL: dict[str, Any] = {
    "trainer.max_steps": 2,
    "trainer.save_steps": 1,
    "trainer.num_generations": 4,
    "trainer.per_device_train_batch_size": 8,
    "trainer.gradient_accumulation_steps": 1,
    "trainer.max_completion_length": 24,
    "trainer.learning_rate": 1e-2,
    "evaluation.enabled": False,
    "dictionary.num_observables": 4,
    "dictionary.steps": 2,
}
LORA = SMALL | {"peft.r": 4}
IDS = torch.tensor([[10, 11, 12, 13, 14, 15]])


def varied(completions: list[str], answers: list[str]) -> list[float]:
    """Rewards that differ within each group, so that the adapter learns."""
    return [float(len(text) % 5) for text in completions]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two updates of an adapter on the embedded policy."""
    path = tmp_path_factory.mktemp("adapters") / "run"
    train("countdown", overrides=LORA | {"output": str(path)}, verifier=varied)
    return path


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(IDS).logits


def test_a_checkpoint_is_an_adapter_of_the_base_that_has_learned(run: Path) -> None:
    folder = run / "checkpoints" / "checkpoint-2"
    held = json.loads((folder / "adapter_config.json").read_text())
    assert (held["r"], held["base_model_name_or_path"]) == (4, model_location("tiny"))
    assert not (folder / "model.safetensors").exists()
    adapted, _ = load_model(str(folder))
    base, _ = load_model("tiny")
    assert (logits(adapted) - logits(base)).abs().max() > 1e-3


def test_full_adapter_and_merged_checkpoints_load_in_transformers(run: Path, tmp_path: Path) -> None:
    """vLLM reads the same folders; it was not run here."""
    full, adapter = tmp_path / "full", run / "checkpoints" / "checkpoint-2"
    merged = merge(run, tmp_path / "merged")
    train("countdown", overrides=SMALL | {"trainer.max_steps": 1, "output": str(full)})
    full = full / "checkpoints" / "checkpoint-1"
    for folder in (full, merged.output):
        model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
        assert model.generate(IDS, max_new_tokens=2, do_sample=False).shape == (1, 8)
        assert tokenizer.eos_token_id is not None
    beside = peft.AutoPeftModelForCausalLM.from_pretrained(adapter)
    assert torch.allclose(logits(AutoModelForCausalLM.from_pretrained(merged.output)), logits(beside), atol=1e-4)
    assert (merged.base, merged.dtype, merged.note) == (model_location("tiny"), "float32", None)


def test_the_command_merges_a_run(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "merged"
    assert main(["merge", str(run), str(out), "--dtype", "bfloat16"]) == 0
    assert capsys.readouterr().out == f"{out}\n"
    assert AutoModelForCausalLM.from_pretrained(out).dtype == torch.bfloat16
    assert main(["merge", str(run), str(out)]) == 2
    assert "is there already" in capsys.readouterr().err
    assert main(["merge", str(out), str(tmp_path / "again")]) == 2
    assert "is a whole model and no adapter" in capsys.readouterr().err
    assert main(["merge", str(run), str(tmp_path / "typed"), "--dtype", "int8"]) == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["merged"]


def test_merging_leaves_nothing_where_it_fails(run: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert main(["merge", str(run), str(tmp_path / "file" / "merged")]) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_the_reference_is_the_model_with_its_adapter_off(run: Path) -> None:
    settings = LORA | {"objective.beta": 0.1, "output": str(run.parent / "none")}
    prepared = prepare("countdown", overrides=settings)
    trainer, base = prepared.trainer, load_model("tiny")[0]
    assert trainer.ref_model is None
    for name, parameter in trainer.model.named_parameters():
        assert parameter.requires_grad == ("lora_" in name), name
        if "lora_B" in name:
            torch.nn.init.normal_(parameter)
    assert not torch.allclose(logits(trainer.model), logits(base), atol=1e-2)
    with trainer.model.disable_adapter():
        assert torch.equal(logits(trainer.model), logits(base))


def test_an_adapter_run_is_resumed_bit_for_bit(run: Path, tmp_path: Path) -> None:
    again = tmp_path / "again"
    shutil.copytree(run, again)
    shutil.rmtree(again / "checkpoints" / "checkpoint-2")
    train(None, overrides={"output": str(again)}, resume=True, verifier=varied)
    weights = [folder / "checkpoints/checkpoint-2/adapter_model.safetensors" for folder in (run, again)]
    assert weights[0].read_bytes() == weights[1].read_bytes()


@pytest.mark.slow
def test_an_adapter_is_a_model_everywhere(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    adapter = str(run / "checkpoints" / "checkpoint-2")
    few = ["--num-problems", "2", "--num-samples", "2", "--max-completion-length", "24"]
    assert main(["model", adapter]) == 0
    assert "LORA on" in capsys.readouterr().out
    assert main(["eval", str(run), *few, "--output", str(tmp_path / "eval")]) == 0
    assert main(["eval", adapter, "--task", "countdown", *few, "--output", str(tmp_path / "eval2")]) == 0
    spectrum = ["--task", "countdown", "--num-problems", "4", "--output", str(tmp_path / "spectrum")]
    assert main(["spectrum", adapter, *spectrum]) == 0
    settings = SMALL | {"trainer.max_steps": 1}
    more = train("countdown", overrides=settings | {"model": adapter, "output": str(tmp_path / "more")})
    assert (more.output / "checkpoints/checkpoint-1/adapter_model.safetensors").is_file()
    assert main(["eval", adapter, "--task", "countdown", "--backend", "vllm", "--output", str(tmp_path / "no")]) == 2
    assert "merge it first" in capsys.readouterr().err


def test_a_second_adapter_is_refused(run: Path, tmp_path: Path) -> None:
    adapter = str(run / "checkpoints" / "checkpoint-2")
    with pytest.raises(ConfigError, match="is an adapter already"):
        prepare("countdown", overrides=LORA | {"model": adapter, "output": str(tmp_path / "run")})


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"peft.lora_alpha": 64}, "peft.lora_alpha needs an adapter; set its rank, --peft.r 16"),
        ({"peft.load_in_4bit": True}, "peft.load_in_4bit needs an adapter"),
        ({"peft.r": 4, "peft.load_in_4bit": True, "peft.load_in_8bit": True}, "cannot be both true"),
        ({"peft.r": 4, "peft.rank": 4}, "unknown key 'peft.rank'"),
        ({"peft.r": 4, "peft.init_lora_weights": "pissa"}, "peft.init_lora_weights"),
        ({"trainer.peft_config": {}}, "peft"),
    ],
)
def test_settings_of_adapters_that_do_not_do(settings: dict[str, Any], sentence: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=sentence):
        prepare("countdown", overrides=SMALL | settings | {"output": str(tmp_path / "run")})


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"peft.target_modules": ["q_porj"]}, "under 'trainer' or 'peft': Target modules"),
        ({"peft.target_modules": ["lm_head"]}, "lm_head"),
        ({"peft.modules_to_save": ["lm_head"]}, "shares between embedding and head"),
        ({"peft.modules_to_save": ["model.embed_tokens"]}, "shares between embedding and head"),
    ],
)
def test_modules_that_cannot_have_an_adapter(settings: dict[str, Any], sentence: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=sentence):
        prepare("countdown", overrides=LORA | settings | {"output": str(tmp_path / "run")})


@pytest.mark.parametrize(
    ("package", "settings", "extra"),
    [("peft", {}, r"relax-rl\[peft\]"), ("bitsandbytes", {"peft.load_in_4bit": True}, r"relax-rl\[qlora\]")],
)
def test_a_missing_package_is_told_before_anything_is_loaded(
    package: str, settings: dict[str, Any], extra: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from importlib.util import find_spec

    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == package else find_spec(name))
    monkeypatch.setattr("relax_rl.workflows.build.load_model", lambda *args, **options: pytest.fail("loaded"))
    with pytest.raises(DependencyError, match=extra):
        prepare("countdown", overrides=LORA | settings | {"output": str(tmp_path / "run")})


def test_an_adapter_needs_little_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from relax_rl.training.adapters import saved_parameters
    from relax_rl.workflows.surroundings import bytes_of_run

    prepared = prepare("countdown", overrides=LORA | {"output": str(tmp_path / "run")})
    checkpoint, _ = bytes_of_run(saved_parameters(prepared.trainer.model), prepared.settings.trainer, prepared.plan)
    learning = sum(p.numel() for p in prepared.trainer.model.parameters() if p.requires_grad)
    assert checkpoint == 3 * 4 * learning


def test_the_settings_of_an_adapter_are_kept_and_read_back(tmp_path: Path) -> None:
    words = ["--peft.r", "16", "--peft.target_modules", '["q_proj", "v_proj"]', "--peft.use_rslora", "true"]
    config = load_config("countdown", words)
    assert (config.peft.r, config.peft.target_modules, config.peft.use_rslora) == (16, ["q_proj", "v_proj"], True)
    assert load_config(json.loads(config.to_json())) == config
    assert load_config("countdown", ["--peft.target_modules", "all-linear"]).peft.target_modules == "all-linear"


def test_adapters_learn_beside_quantised_weights(tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes", reason="the extra 'qlora' installs bitsandbytes, and this environment lacks it")
    done = train(
        "countdown", overrides=LORA | {"peft.load_in_8bit": True, "output": str(tmp_path / "run")}, verifier=varied
    )
    assert RunDirectory.open(str(done.output)).read_config().peft.bits == 8
    assert done.metrics["grad_norm"] > 0
    merged = merge(done.output, tmp_path / "merged")
    assert merged.note is not None
    assert "8 bits" in merged.note
    assert AutoModelForCausalLM.from_pretrained(merged.output).dtype == torch.float32


def test_four_bits_are_refused_on_the_cpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """bitsandbytes 0.50 packs them for inference there, after which the gradient is wrong and nothing says so."""
    monkeypatch.setattr("relax_rl.workflows.build.check_packages", lambda settings: None)
    with pytest.raises(ConfigError, match="wrong gradients on the CPU"):
        prepare("countdown", overrides=LORA | {"peft.load_in_4bit": True, "output": str(tmp_path / "run")})
