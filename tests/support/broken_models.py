"""Model folders with one fault each, made of the package's own policy."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

__all__ = ["FAULTS", "copy_of_tiny", "edit_json"]


def copy_of_tiny(folder: Path, **config: Any) -> Path:
    """The package's policy in a folder of its own, with other entries in its config.json."""
    shutil.copytree(str(files("relax_rl.assets") / "tiny"), folder)
    if config:
        edit_json(folder / "config.json", **config)
    return folder


def edit_json(path: Path, **entries: Any) -> None:
    """Set entries of a JSON file; None takes one out."""
    held = json.loads(path.read_text()) if path.is_file() else {}
    held |= entries
    path.write_text(json.dumps({key: value for key, value in held.items() if value is not None}))


def _edit_weights(folder: Path, edit: Callable[[dict[str, torch.Tensor]], Any]) -> None:
    path = folder / "model.safetensors"
    weights = load_file(path)
    edit(weights)
    save_file(weights, path, metadata={"format": "pt"})


def _half_a_file(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _no_header(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"\x00" * 4)


def _pointer(folder: Path) -> None:
    text = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2\nsize 3354048\n"
    (folder / "model.safetensors").write_text(text)


def _missing_part(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")
    names = {"model.norm.weight": "model-00002-of-00002.safetensors"}
    names["model.embed_tokens.weight"] = "model-00001-of-00002.safetensors"
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": names}))


def _missing_tensor(folder: Path) -> None:
    _edit_weights(folder, lambda weights: weights.pop("model.layers.1.input_layernorm.weight"))


def _other_shape(folder: Path) -> None:
    edit_json(folder / "config.json", intermediate_size=350)


def _nan(folder: Path) -> None:
    _edit_weights(folder, lambda weights: weights["model.layers.2.mlp.up_proj.weight"][3].fill_(float("nan")))


def _infinity(folder: Path) -> None:
    _edit_weights(folder, lambda weights: weights["model.layers.0.mlp.up_proj.weight"][3].fill_(float("-inf")))


def _no_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def _no_end(folder: Path) -> None:
    edit_json(folder / "tokenizer_config.json", eos_token=None, bos_token=None)
    config = json.loads((folder / "config.json").read_text())
    # Not left out: the class of the configuration has a default.
    (folder / "config.json").write_text(json.dumps(config | {"eos_token_id": None, "bos_token_id": None}))
    edit_json(folder / "generation_config.json", eos_token_id=None, bos_token_id=None)


FAULTS: dict[str, tuple[Callable[[Path], None], str]] = {
    "half a file": (_half_a_file, "is cut or damaged"),
    "a file of four bytes": (_no_header, "is cut or damaged"),
    "a git-LFS pointer": (_pointer, "git lfs pull"),
    "a part that is not there": (_missing_part, "model-00002-of-00002.safetensors"),
    "no weights": (_no_weights, "no weights"),
    "a missing tensor": (_missing_tensor, "model.layers.1.input_layernorm.weight"),
    "a tensor of another shape": (_other_shape, "should be (350, 128)"),
    "NaN": (_nan, "model.layers.2.mlp.up_proj.weight"),
    "infinity": (_infinity, "model.layers.0.mlp.up_proj.weight"),
    "no end token": (_no_end, "no end token"),
}
"""What is done to a folder, and what the sentence about it holds."""
