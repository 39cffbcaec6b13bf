"""The weights of a model: whether its files are whole, fit the model, and hold finite numbers.

Headers are read before the model is loaded, values once afterwards.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from relax_rl.errors import ModelError
from relax_rl.latent.contract.files import find_file, read_json

__all__ = [
    "LoadReport",
    "Weights",
    "check_finite",
    "nonfinite_in_files",
    "nonfinite_parameters",
    "nonfinite_words",
    "read_weights",
]

_LFS = b"version https://git-lfs"
_LONGEST_HEADER = 100 * 2**20
"""Bytes; the limit of the safetensors format itself."""
_SHOWN = 3


@dataclass(frozen=True)
class Weights:
    """The weight files of a model, by their headers.

    Attributes:
        files: names; empty where the weights of a model on the Hub are not in the local cache.
        format: "safetensors", "pickle" or "" for none.
        num_bytes: size of all files.
        num_parameters: number of parameters in the files, each tensor once; None where a header does not say it.
        dtypes: number of tensors by type.
    """

    files: tuple[str, ...] = ()
    format: str = ""
    num_bytes: int = 0
    num_parameters: int | None = None
    dtypes: Mapping[str, int] | None = None


def read_weights(location: str, revision: str | None = None) -> Weights:
    """The weight files of a model, by their headers; those on the Hub as far as they are in the local cache.

    Raises:
        ModelError: a folder without weights, a git-LFS pointer, a file that is cut, a part that is missing.
    """
    for index, single, kind in (
        ("model.safetensors.index.json", "model.safetensors", "safetensors"),
        ("pytorch_model.bin.index.json", "pytorch_model.bin", "pickle"),
    ):
        # transformers takes the single file where both are there.
        path = find_file(location, single, revision, download=False)
        held = None if path is not None else read_json(location, index, revision, download=False)
        if path is None and held is None:
            continue
        paths = [path] if path is not None else _parts(location, revision, index, held or {})
        return _of_files(paths, kind) if paths else Weights()
    if Path(location).is_dir():
        raise ModelError(
            f"There are no weights in {location} (model.safetensors or pytorch_model.bin); download or save them there."
        )
    return Weights()


def _parts(location: str, revision: str | None, index: str, held: Mapping[str, Any]) -> list[Path]:
    """The files that an index names; none where those of a Hub model are not all in the cache."""
    names = sorted(set(held.get("weight_map", {}).values()))
    paths = [find_file(location, name, revision, download=False) for name in names]
    missing = [name for name, path in zip(names, paths, strict=True) if path is None]
    if missing and Path(location).is_dir():
        raise ModelError(
            f"{Path(location, index)} names the file {missing[0]}, which is not there ({len(missing)} of {len(names)} "
            "are missing); download the model again."
        )
    return [] if missing else [path for path in paths if path is not None]


def _of_files(paths: list[Path], kind: str) -> Weights:
    for path in paths:
        _check_no_pointer(path)
    num_bytes = sum(path.stat().st_size for path in paths)
    names = tuple(path.name for path in paths)
    if kind == "pickle":
        return Weights(names, kind, num_bytes)
    dtypes: dict[str, int] = {}
    num_parameters = 0
    for path in paths:
        for entry in safetensors_header(path).values():
            dtypes[entry["dtype"]] = dtypes.get(entry["dtype"], 0) + 1
            num_parameters += prod(entry["shape"])
    return Weights(names, kind, num_bytes, num_parameters, dtypes)


def _check_no_pointer(path: Path) -> None:
    with path.open("rb") as file:
        start = file.read(len(_LFS))
    if start == _LFS:
        raise ModelError(
            f"{path} is a git-LFS pointer and not the weights; fetch them with `git lfs pull` in the model's folder."
        )


def safetensors_header(path: Path) -> dict[str, Any]:
    """Type, shape and place of each tensor of a file: eight bytes of length, then JSON.

    Raises:
        ModelError: the file is cut or is no safetensors file.
    """
    size = path.stat().st_size
    cut = ModelError(
        f"{path} is cut or damaged: its {size:,} bytes are not what its header promises; download it again."
    )
    with path.open("rb") as file:
        prefix = file.read(8)
        if len(prefix) < 8:
            raise cut
        (length,) = struct.unpack("<Q", prefix)
        if length > min(_LONGEST_HEADER, size - 8):
            raise cut
        try:
            header: dict[str, Any] = json.loads(file.read(length))
            header.pop("__metadata__", None)
            end = max((entry["data_offsets"][1] for entry in header.values()), default=0)
        except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
            raise cut from error
    if 8 + length + end != size:
        raise cut
    return header


@dataclass(frozen=True)
class LoadReport:
    """How the tensors of the files fit the model, as transformers reports it after loading.

    Attributes:
        missing: parameters of the model in no file; they would be random.
        unexpected: parameters of the files, not of the model; they are left out.
        mismatched: parameters of another shape than the model's, in words.
    """

    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    mismatched: tuple[str, ...] = ()

    @classmethod
    def of(cls, info: Mapping[str, Any]) -> LoadReport:
        """From what ``from_pretrained(output_loading_info=True)`` returns."""
        shapes = sorted(
            f"{name} is {tuple(found)} and should be {tuple(due)}" for name, found, due in info["mismatched_keys"]
        )
        return cls(tuple(sorted(info["missing_keys"])), tuple(sorted(info["unexpected_keys"])), tuple(shapes))

    def check(self, name: str) -> None:
        """Refuse a model that would run with random weights.

        Raises:
            ModelError: a tensor of the model is missing or of another shape.
        """
        if self.missing:
            raise ModelError(
                f"The weights of {name} lack {_some(self.missing)}, which would be random numbers; download or save "
                "the model again, with its head if it has none."
            )
        if self.mismatched:
            raise ModelError(
                f"The weights of {name} do not fit its config.json: {_some(self.mismatched, '; ')}; take both from one "
                "place."
            )

    @property
    def note(self) -> str | None:
        """A sentence on tensors that are left out; None without any."""
        if not self.unexpected:
            return None
        return f"the files hold {_some(self.unexpected)}, which the model does not have and which are left out"


def _some(names: Sequence[str], separator: str = ", ") -> str:
    more = len(names) - _SHOWN
    return separator.join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


def nonfinite_parameters(model: nn.Module) -> list[str]:
    """Names of the parameters that hold NaN or infinite numbers."""
    readable = [(name, parameter) for name, parameter in model.named_parameters() if _is_readable(parameter)]
    if not readable:
        return []
    # Copied together, so that a model on an accelerator waits once and not once a tensor.
    extremes = torch.stack([pair.cpu() for pair in [_extremes(parameter) for _, parameter in readable]])
    finite = torch.isfinite(extremes).all(dim=1).tolist()
    return [name for (name, _), is_finite in zip(readable, finite, strict=True) if not is_finite]


def check_finite(model: nn.Module, name: str) -> None:
    """Refuse a model whose parameters are not finite.

    Raises:
        ModelError: naming the first of them.
    """
    broken = tuple(nonfinite_parameters(model))
    if broken:
        raise ModelError(nonfinite_words(broken, name))


def nonfinite_words(broken: Sequence[str], name: str) -> str:
    """Sentence about a model with parameters that are not finite."""
    return f"The weights of {name} are not finite: {_some(broken)} hold NaN or infinity; take another checkpoint."


def _is_readable(tensor: Tensor) -> bool:
    return tensor.is_floating_point() and tensor.device.type != "meta" and tensor.numel() > 0


def _extremes(tensor: Tensor) -> Tensor:
    """Smallest and largest entry, NaN if any entry is: one pass and no copy, unlike `isfinite`."""
    if tensor.element_size() == 1:  # the 8-bit floats of quantised weights have no minimum
        tensor = tensor.float()
    least, most = tensor.detach().aminmax()
    return torch.stack([least, most]).float()


def nonfinite_in_files(location: str, revision: str | None = None) -> list[str]:
    """As `nonfinite_parameters`, of the safetensors files of a model, tensor by tensor; none for other formats."""
    from safetensors import safe_open

    weights = read_weights(location, revision)
    if weights.format != "safetensors":
        return []
    broken: list[str] = []
    for name in weights.files:
        path = find_file(location, name, revision, download=False)
        if path is None:
            continue
        with safe_open(path, framework="pt") as file:
            for key in file.keys():  # noqa: SIM118 - no mapping
                tensor = file.get_tensor(key)
                if _is_readable(tensor) and not bool(torch.isfinite(_extremes(tensor)).all()):
                    broken.append(key)
    return broken
