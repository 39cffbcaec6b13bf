"""A processor's missing package is named in one whole sentence."""

from __future__ import annotations

import sys
from importlib.metadata import version
from pathlib import Path
from types import ModuleType

import pytest
from transformers import AutoProcessor

from relax_rl.cli.main import main
from relax_rl.latent.contract import packages
from relax_rl.latent.contract.packages import missing_packages, torchvision_for
from support.images import llava_folder

TORCHVISION = ImportError(
    "\nQwen2VLVideoProcessor requires the Torchvision library but it was not found in your environment. Check out the "
    "instructions on the\ninstallation page: ..."
)
NUM2WORDS = ImportError(
    "Package `num2words` is required to run SmolVLM processor. Install it with `pip install num2words`."
)


SMALL = [
    "--trainer.per_device_train_batch_size=8",
    "--trainer.gradient_accumulation_steps=1",
    "--trainer.num_generations=4",
]


def _installed(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    monkeypatch.setattr(packages, "_is_installed", lambda package: package in names)


def test_each_release_of_torch_has_its_torchvision() -> None:
    assert [torchvision_for(of) for of in ("2.6.0", "2.13.0+cpu", "3.0")] == ["0.21", "0.28", None]


def test_what_is_missing_is_named_with_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    _installed(monkeypatch)
    fitting = torchvision_for(version("torch"))
    assert missing_packages(TORCHVISION, "m") == (
        "The processor of images of m needs torchvision, and torchvision and num2words are not installed; install what "
        f"image-text models need with: pip install 'relax-rl[vision]' 'torchvision=={fitting}.*'"
    )
    _installed(monkeypatch, "torchvision")
    assert missing_packages(NUM2WORDS, "m") == (
        "The processor of images of m needs num2words, and num2words is not installed; install what image-text models "
        "need with: pip install 'relax-rl[vision]'"
    )


def test_a_torchvision_for_another_torch_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """transformers says only that a module could not be imported."""

    class Broken:
        def find_spec(self, name: str, *_: object) -> ModuleType | None:
            if name == "torchvision":
                raise RuntimeError("operator torchvision::nms does not exist\nmore")
            return None

    _installed(monkeypatch, "torchvision", "num2words")
    monkeypatch.setattr(packages, "version", lambda package: {"torch": "2.13.0", "torchvision": "0.29.1"}[package])
    monkeypatch.delitem(sys.modules, "torchvision", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Broken(), *sys.meta_path])
    assert missing_packages(ModuleNotFoundError("Could not import module 'Qwen2VLProcessor'."), "m") == (
        "The processor of images of m needs torchvision, and the installed 0.29.1 does not fit torch 2.13.0 (operator "
        "torchvision::nms does not exist); install the release 0.28 of torchvision from the index that torch came from."
    )


def test_another_error_is_left_to_what_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    _installed(monkeypatch)
    assert missing_packages(OSError("no such file"), "m") is None


@pytest.mark.parametrize(
    "words",
    [
        ["train", "--task", "support.images:SquareTask", "--model", "MODEL", "--dry-run", *SMALL],
        ["eval", "MODEL", "--task", "support.images:SquareTask", "-k", "1"],
    ],
    ids=lambda words: words[0],
)
def test_it_is_said_before_weights_are_loaded_and_in_a_rehearsal(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def missing(*_: object, **__: object) -> None:
        raise TORCHVISION

    def loaded(*_: object, **__: object) -> None:
        raise AssertionError("the weights were loaded")

    _installed(monkeypatch, "num2words")
    monkeypatch.chdir(tmp_path)
    folder = llava_folder()
    monkeypatch.setattr(AutoProcessor, "from_pretrained", missing)
    monkeypatch.setattr("relax_rl.training.models._load", loaded)
    assert main([folder if word == "MODEL" else word for word in words]) == 2
    error = capsys.readouterr().err
    assert "needs torchvision, and torchvision is not installed; install what image-text models need with:" in error
    assert error.count("error:") == 1
    assert list(tmp_path.iterdir()) == []
