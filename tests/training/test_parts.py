"""Parts of an image-text model that do not learn, and budgets of its prompts, in real families."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from relax_rl.cli.main import main
from relax_rl.config import PeftConfig, load_config
from relax_rl.errors import ConfigError
from relax_rl.latent.images.parts import part_of
from relax_rl.training.models import load_model
from relax_rl.training.parts import excluded_from_adapter, freeze
from relax_rl.workflows.train import prepare
from support.families import build
from support.family_parts import measure
from support.images import llava_folder
from support.launching import ENVIRONMENT, launched
from workflows.test_families import VISION

EXPECTED = {
    "lengths": True,
    "moved": {"full": ["language", "projector"], "adapter": ["language", "projector"]},
    "told": ["sized/train: 1 of 12 problem is left out, whose prompt is too long: train-11"] * 2,
    "left_out": [11, "test-11"],
    "excludes": True,
}


def test_parts_are_named_with_commas_or_as_a_list() -> None:
    for words in ("vision, projector", ["vision", "projector"]):
        assert load_config(overrides={"freeze": words}).freeze == ["vision", "projector"]
    assert load_config().freeze == []
    with pytest.raises(ConfigError, match="freeze"):
        load_config(overrides={"freeze": "eyes"})
    with pytest.raises(ConfigError, match="freeze names every part of the model, so that nothing would learn"):
        load_config(overrides={"freeze": "vision,projector,language"})


def test_a_text_model_has_no_parts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["train", "countdown", "--freeze", "vision", "--dry-run", "--output", str(tmp_path / "run")]
    assert main(words) == 2
    assert capsys.readouterr().err == (
        "relax: error: freeze names vision, but tiny reads text only and has no such parts; leave freeze out.\n"
    )


@pytest.mark.parametrize("method", ["papo", "vppo", "image_credit"])
def test_a_method_that_masks_images_is_refused_on_words(
    method: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["train", "countdown", "--objective", method, "--dry-run", "--output", str(tmp_path / "run")]
    assert main(words) == 2
    assert capsys.readouterr().err == (
        f"relax: error: The objective '{method}' compares an image with a masked one, and no training problem shows an "
        "image; name a task with images, or another objective.\n"
    )


@pytest.mark.slow
def test_what_is_frozen_gets_no_adapter_beside_what_the_user_excludes() -> None:
    model, _ = load_model(llava_folder())
    peft = pytest.importorskip("peft")
    for given in (["q_proj"], r".*\.q_proj"):
        settings = PeftConfig(r=2, exclude_modules=given)
        pattern = excluded_from_adapter(settings, model, ["vision", "projector"])
        config = peft.LoraConfig(r=2, target_modules="all-linear", exclude_modules=pattern)
        adapted = peft.get_peft_model(load_model(llava_folder())[0], config)
        names = [name for name, value in adapted.named_parameters() if value.requires_grad]
        assert names
        assert all("language_model" in name and "q_proj" not in name for name in names)
        assert any("k_proj" in name for name in names)
    assert excluded_from_adapter(PeftConfig(r=2, exclude_modules=["q_proj"]), model, []) == ["q_proj"]


@pytest.mark.slow
def test_each_part_can_be_frozen() -> None:
    for part in ("vision", "projector", "language"):
        model, _ = load_model(llava_folder())
        freeze(model, [part])
        parts = part_of(model)
        assert all(value.requires_grad != (parts[name] == part) for name, value in model.named_parameters())


@pytest.mark.slow
def test_a_copy_that_would_learn_in_a_frozen_part_is_refused(tmp_path: Path) -> None:
    overrides = {"model": llava_folder(), "task": "support.images:SquareTask", "freeze": "projector", "peft.r": 2}
    overrides |= {"peft.modules_to_save": ["multi_modal_projector"], "output": str(tmp_path / "run")}
    overrides |= {"trainer.per_device_train_batch_size": 8, "trainer.num_generations": 4}
    overrides |= {"trainer.gradient_accumulation_steps": 1, "trainer.max_completion_length": 8}
    overrides |= {"objective": "grpo", "evaluation.enabled": False, "monitor": False}
    with pytest.raises(ConfigError, match=r"freeze names projector, but peft\.modules_to_save makes .* learn"):
        prepare(overrides=overrides)
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_llava_learns_without_its_tower_and_leaves_long_prompts_out(tmp_path: Path) -> None:
    assert measure(str(build("LLaVA", tmp_path / "model")), tmp_path) == EXPECTED


IN_A_PROCESS = """
import json, logging, sys
from pathlib import Path
logging.disable(logging.WARNING)
# Before anything imports torchvision.
from support.torchvision_without_operators import declare_operators
declare_operators()
from support.families import build
from support.family_parts import measure
folder = Path(sys.argv[2])
print(json.dumps(measure(str(build(sys.argv[1], folder / "model")), folder)))
"""


@pytest.mark.slow
@pytest.mark.skipif(not (VISION / ".installed").is_file(), reason="torchvision is not installed; 'make vision' does so")
@pytest.mark.parametrize("name", ["Qwen2.5-VL", "SmolVLM"])
def test_other_families_do_too(name: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", IN_A_PROCESS, name, str(tmp_path)],
        env=ENVIRONMENT | {"PYTHONPATH": os.pathsep.join([ENVIRONMENT["PYTHONPATH"], str(VISION)])},
        capture_output=True,
        text=True,
        timeout=560,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert json.loads(done.stdout.splitlines()[-1]) == EXPECTED


@pytest.mark.distributed
@pytest.mark.timeout(600)
@pytest.mark.parametrize("frozen", ["vision,projector", "language"])
def test_two_processes_train_words_without_waiting_for_a_gradient_of_the_tower(frozen: str, tmp_path: Path) -> None:
    """One of the four prompts shows an image, so that processes and micro-batches with and without one differ."""
    words: dict[str, Any] = {
        "model": llava_folder(), "task": "support.family_matrix:Mixed", "freeze": frozen, "objective": "grpo",
        "output": tmp_path / "run", "trainer.max_steps": 2, "trainer.save_steps": 2, "trainer.num_generations": 4,
        "trainer.per_device_train_batch_size": 4, "trainer.gradient_accumulation_steps": 2,
        "trainer.max_completion_length": 8, "trainer.learning_rate": 1e-2, "monitor": False,
        "evaluation.enabled": False,
    }  # fmt: skip
    flags = [f"--{name}={value}" for name, value in words.items()]
    launched(["-m", "relax_rl.cli.main", "train", *flags], 2)
    rows = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    assert len(rows) == 2
    before, _ = load_model(llava_folder())
    after, _ = load_model(str(tmp_path / "run/checkpoints/checkpoint-2"))
    old, parts = before.state_dict(), part_of(before)
    moved = {parts[key] for key, value in after.named_parameters() if not torch.equal(old[key], value)}
    assert moved == {"vision", "projector", "language"} - set(frozen.split(","))
