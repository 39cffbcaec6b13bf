"""Memory of a process between two updates, kept with a checkpoint as JSON and safetensors."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor

from relax_rl.errors import RunError

__all__ = ["load_rank_state", "save_rank_state"]

_TENSOR = "tensor"


def save_rank_state(state: Mapping[str, Any], folder: Path, rank: int) -> None:
    """Write lists and tables of numbers, strings, None and tensors.

    Args:
        state: state of one process; its keys are strings.
        folder: folder of the checkpoint.
        rank: rank of the process.

    Raises:
        TypeError: for anything else in it.
    """
    tensors: dict[str, Tensor] = {}
    text = json.dumps(_without_tensors(state, tensors))
    json_path, tensor_path = _paths(folder, rank)
    json_path.write_text(text, encoding="utf-8")
    save_file(tensors, tensor_path)


def load_rank_state(folder: Path, rank: int, device: Any) -> dict[str, Any] | None:
    """State that `save_rank_state` wrote, with its tensors on a device; None where there is none.

    Raises:
        RunError: it cannot be read.
    """
    json_path, tensor_path = _paths(folder, rank)
    if not json_path.exists():
        return None
    try:
        tensors = load_file(tensor_path)
        return _with_tensors(json.loads(json_path.read_text("utf-8")), tensors, device)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(
            f"{json_path} and {tensor_path.name} cannot be read ({error}); resume from an older checkpoint"
        ) from error


def _paths(folder: Path, rank: int) -> tuple[Path, Path]:
    return folder / f"rank_{rank}.json", folder / f"rank_{rank}.safetensors"


def _without_tensors(value: Any, tensors: dict[str, Tensor]) -> Any:
    """The tree with a table of one number in place of each tensor, which is put aside."""
    if isinstance(value, Tensor):
        name = str(len(tensors))
        # A copy: safetensors takes no views that share memory.
        tensors[name] = value.cpu().clone().contiguous()
        return {_TENSOR: name}
    if isinstance(value, Mapping):
        return {"table": {str(key): _without_tensors(inner, tensors) for key, inner in value.items()}}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_without_tensors(inner, tensors) for inner in value]
    return value


def _with_tensors(value: Any, tensors: Mapping[str, Tensor], device: Any) -> Any:
    if isinstance(value, list):
        return [_with_tensors(inner, tensors, device) for inner in value]
    if not isinstance(value, dict):
        return value
    if _TENSOR in value:
        return tensors[value[_TENSOR]].to(device)
    return {key: _with_tensors(inner, tensors, device) for key, inner in value["table"].items()}
