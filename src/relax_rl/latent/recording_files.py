"""Files of hidden states that other programs wrote, each as the trajectories that it holds.

==============================  ==========================================================================
``.safetensors``                vLLM's hidden-state extraction: ``hidden_states`` (T, L, H) and ``token_ids`` (T,)
``.safetensors``, ``.npz``      arrays by name, (T, H) or (B, T, H)
``.pt``, ``.pth``               the same in a dictionary, as nnsight and TransformerLens caches are saved; a tensor; or
                                a list of tensors or dictionaries, one a trajectory. Loaded with ``weights_only``
``.npy``                        (T, H) or (B, T, H)
``.parquet``                    a row a trajectory (cells of lists of lists), or a row a token (cells of lists, or plain
                                columns of numbers), grouped by the first column named as in `ID_COLUMNS`
==============================  ==========================================================================

``attention_mask`` (B, T) beside arrays (B, T, H) says which positions are tokens.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from relax_rl.errors import DataError
from relax_rl.latent.sites import EMBED, FINAL_NORM

__all__ = ["ID_COLUMNS", "RECORDING_SUFFIXES", "RecordedStates", "read_recording_file"]

ID_COLUMNS = ("id", "key", "request_id", "trajectory", "sequence", "text")
_TOKENS = ("token_ids", "input_ids")
_STACKED = "hidden_states"
_MASK = "attention_mask"
_BLOCK = re.compile(r"(?:.*\.)?(?:layers|blocks|block|h|layer)\.(\d+)(?:\.output|\.hook_resid_post)?")
_LAYER_ID = re.compile(r"\d+")


@dataclass(frozen=True)
class RecordedStates:
    """One trajectory of a file.

    Attributes:
        name: in its file; empty for the only one.
        states: (T, H) by site; names that are no site of ours are kept as they are.
        stacked: (T, L, H), layers without names, or None.
        token_ids: token ids of the T states, or None.
    """

    name: str
    states: Mapping[str, Tensor]
    stacked: Tensor | None = None
    token_ids: tuple[int, ...] | None = None

    @property
    def num_tokens(self) -> int:
        """T."""
        return len(next(iter(self.states.values()), self.stacked if self.stacked is not None else ()))


def read_recording_file(path: Path) -> list[RecordedStates]:
    """The trajectories of a file, in its order.

    Raises:
        DataError: a file that cannot be read, or that holds no states.
    """
    read = _READERS[path.suffix.lower()]
    try:
        found = read(path)
    except (
        OSError,
        ValueError,
        RuntimeError,
        EOFError,
        SafetensorError,
        pickle.UnpicklingError,
        pa.ArrowException,
    ) as e:
        if isinstance(e, DataError):
            raise
        reason = str(e).splitlines()[0] if str(e) else type(e).__name__
        raise DataError(f"The states in '{path}' cannot be read: {reason}; write the file again.") from e
    if not found:
        raise DataError(f"There are no states in '{path}': it needs floating arrays (T, H) or (B, T, H).")
    return found


def _safetensors(path: Path) -> list[RecordedStates]:
    return _from_arrays(load_file(path), path)


def _npy(path: Path) -> list[RecordedStates]:
    return _from_arrays({"states": np.load(path, allow_pickle=False)}, path)


def _npz(path: Path) -> list[RecordedStates]:
    with np.load(path, allow_pickle=False) as arrays:
        return _from_arrays({name: arrays[name] for name in arrays.files}, path)


def _pt(path: Path) -> list[RecordedStates]:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise DataError(
            f"'{path}' holds Python objects beside tensors, which are not loaded from a file: save a plain dictionary "
            "of tensors, such as torch.save({name: tensor for name, tensor in cache.items()}, FILE)."
        ) from error
    if isinstance(content, Tensor):
        return _from_arrays({"states": content}, path)
    if isinstance(content, Mapping):
        return _from_arrays({str(name): value for name, value in content.items()}, path)
    if not isinstance(content, list | tuple):
        raise DataError(
            f"'{path}' holds a {type(content).__name__}; save a tensor, or a dictionary or list of tensors."
        )
    found: list[RecordedStates] = []
    for place, part in enumerate(content):
        named = part if isinstance(part, Mapping) else {"states": part}
        inner = _from_arrays({str(name): value for name, value in named.items()}, path)
        found += [
            RecordedStates(f"{place}{_joint(each.name)}", each.states, each.stacked, each.token_ids) for each in inner
        ]
    return found


def _joint(name: str) -> str:
    return f".{name}" if name else ""


def _from_arrays(arrays: Mapping[str, Any], path: Path) -> list[RecordedStates]:
    """Trajectories from arrays by name; what is no state (tokens, masks, attention patterns, weights) is left out."""
    tokens = next((torch.as_tensor(arrays[name]) for name in _TOKENS if name in arrays), None)
    stacked = arrays.get(_STACKED)
    if isinstance(stacked, list | tuple):
        # transformers: a tensor for the embedding and each layer, of which the last has passed the final norm.
        names = [EMBED, *(f"layer_{layer}_out" for layer in range(len(stacked) - 2)), FINAL_NORM]
        return _rows(
            {name: torch.as_tensor(part) for name, part in zip(names, stacked, strict=True)}, arrays, tokens, path
        )
    is_one_text = tokens is not None and tokens.ndim == 1
    if is_one_text and stacked is not None and (layers := torch.as_tensor(stacked)).ndim == 3:
        return [RecordedStates("", {}, layers, _ids(tokens, len(layers), path))]
    states: dict[str, Tensor] = {}
    for name, value in arrays.items():
        # A layer's output in nnsight is often the tuple that the layer returned.
        part = value[0] if isinstance(value, list | tuple) and value else value
        tensor = part if isinstance(part, Tensor) else _numeric(part)
        if tensor is not None and tensor.is_floating_point() and tensor.ndim in (2, 3) and name != _MASK:
            states[_site_of(name)] = tensor
    return _rows(states, arrays, tokens, path)


def _numeric(value: Any) -> Tensor | None:
    return torch.from_numpy(value) if isinstance(value, np.ndarray) and value.dtype.kind == "f" else None


def _rows(
    states: Mapping[str, Tensor], arrays: Mapping[str, Any], tokens: Tensor | None, path: Path
) -> list[RecordedStates]:
    if not states:
        return []
    shapes = {name: tuple(value.shape[:-1]) for name, value in states.items()}
    if len(set(shapes.values())) > 1:
        shown = ", ".join(f"{name} {shape}" for name, shape in list(shapes.items())[:4])
        raise DataError(f"The states in '{path}' are of different numbers of tokens: {shown}; save one text a file.")
    if len(next(iter(shapes.values()))) == 1:
        length = next(iter(shapes.values()))[0]
        return [RecordedStates("", dict(states), None, _ids(tokens, length, path))]
    batch, length = next(iter(shapes.values()))
    mask = arrays.get(_MASK)
    keep = torch.ones((batch, length), dtype=torch.bool) if mask is None else torch.as_tensor(mask).bool()
    if keep.shape != (batch, length):
        raise DataError(f"The {_MASK} in '{path}' is {tuple(keep.shape)}, but its states are {(batch, length)}.")
    return [
        RecordedStates(
            str(row) if batch > 1 else "",
            {name: value[row, keep[row]] for name, value in states.items()},
            None,
            _ids(None if tokens is None else tokens.reshape(-1, length)[row], length, path, keep[row]),
        )
        for row in range(batch)
    ]


def _ids(tokens: Tensor | None, length: int, path: Path, keep: Tensor | None = None) -> tuple[int, ...] | None:
    if tokens is None:
        return None
    if len(tokens.flatten()) != length:
        raise DataError(f"'{path}' has {len(tokens.flatten())} token ids for {length} states; save both of one text.")
    tokens = tokens.flatten()
    return tuple(int(token) for token in (tokens if keep is None else tokens[keep]))


def _site_of(name: str) -> str:
    """Our name of a place that nnsight or TransformerLens names in its own way; any other as it is."""
    if name == "blocks.0.hook_resid_pre":
        return EMBED
    if match := _BLOCK.fullmatch(name):
        return f"layer_{match[1]}_out"
    # Sites become names of files.
    return f"state_{name}" if _LAYER_ID.fullmatch(name) else re.sub(r"[^\w.-]+", "_", name)


def _parquet(path: Path) -> list[RecordedStates]:
    table = pq.read_table(path)
    group = next((name for name in ID_COLUMNS if name in table.column_names), None)
    by_token: dict[str, Tensor] = {}
    plain: list[str] = []
    for field in table.schema:
        depth, kind = _nesting(field.type)
        if depth == 2 and pa.types.is_floating(kind):
            return _parquet_trajectories(table, group, path)
        if depth == 1 and pa.types.is_floating(kind):
            rows = [np.asarray(row, dtype=np.float64) for row in table.column(field.name).to_pylist()]
            by_token[_site_of(field.name)] = _stack(rows, f"column '{field.name}' of '{path}'")
        elif depth == 0 and pa.types.is_floating(kind):
            plain.append(field.name)
    if not by_token and plain:
        by_token["states"] = torch.from_numpy(
            np.column_stack([table.column(name).to_numpy() for name in plain])
        ).double()
    if not by_token:
        return []
    if group is None:
        return [RecordedStates("", by_token)]
    names = [str(name) for name in table.column(group).to_pylist()]
    return [
        RecordedStates(
            name, {site: values[[i for i, n in enumerate(names) if n == name]] for site, values in by_token.items()}
        )
        for name in dict.fromkeys(names)
    ]


def _parquet_trajectories(table: pa.Table, group: str | None, path: Path) -> list[RecordedStates]:
    columns = [field.name for field in table.schema if _nesting(field.type)[0] == 2]
    found = []
    for place, row in enumerate(table.to_pylist()):
        name = str(place if group is None else row[group])
        where = f"row {place} of '{path}'"
        states = {
            _site_of(column): _stack([np.asarray(state, dtype=np.float64) for state in row[column]], where)
            for column in columns
        }
        tokens = next((tuple(row[key]) for key in _TOKENS if row.get(key) is not None), None)
        found.append(RecordedStates(name, states, None, tokens))
    return found


def _nesting(kind: Any) -> tuple[int, Any]:
    """How many lists are within each other in a column, and of what."""
    depth = 0
    while pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        depth, kind = depth + 1, kind.value_type
    return depth, kind


def _stack(rows: Sequence[np.ndarray], where: str) -> Tensor:
    widths = sorted({row.shape for row in rows})
    if len(widths) > 1:
        raise DataError(f"The states in {where} are of different widths, {widths[:3]}; a site has one.")
    return torch.from_numpy(np.stack(rows)) if rows else torch.zeros((0, 1), dtype=torch.float64)


_READERS: dict[str, Callable[[Path], list[RecordedStates]]] = {
    ".safetensors": _safetensors,
    ".pt": _pt,
    ".pth": _pt,
    ".npy": _npy,
    ".npz": _npz,
    ".parquet": _parquet,
}
RECORDING_SUFFIXES = tuple(_READERS)
