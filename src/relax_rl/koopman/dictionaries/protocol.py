"""Protocol of every dictionary of observables: a frozen function of a hidden state, with a digest and a file."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self, runtime_checkable

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from relax_rl.errors import DataError
from relax_rl.koopman.inputs import as_channels, as_tensor, require_real

__all__ = ["Dictionary", "DictionaryFitReport", "StoredDictionary", "load_dictionary"]

_FORMAT = "relax-rl koopman dictionary 2"


@runtime_checkable
class Dictionary(Protocol):
    """Observables of hidden states: anything of this form can be measured by, and saved."""

    @property
    def hidden_size(self) -> int:
        """H, the width of the states it takes."""
        ...

    @property
    def num_observables(self) -> int:
        """F."""
        ...

    @property
    def digest(self) -> str:
        """SHA-256 of everything that decides its values; equal on every device."""
        ...

    def __call__(self, states: Tensor) -> Tensor:
        """Lift (..., H) to (..., F), float32, differentiable in the states."""
        ...

    def save(self, path: str | Path) -> None:
        """Write it to a file that :func:`load_dictionary` reads."""
        ...


@dataclass(frozen=True)
class DictionaryFitReport:
    """Result of a fit, measured on all the trajectories before and after."""

    objective: str
    """"none" for a dictionary that is set up from the states rather than optimised."""
    steps: int
    num_trajectories: int
    num_pairs: int
    num_nonfinite: int
    """Trajectories left out because they hold NaN or Inf."""
    loss_before: float
    loss_after: float
    """The objective asked for."""
    relative_residual_before: float
    relative_residual_after: float
    """Mean squared relative residual of the eigenpairs, whichever objective was asked for."""
    condition_before: float
    condition_after: float
    """Condition number of the lifted states X."""
    num_validation: int = 0
    """Trajectories held out of the optimisation, to choose the step by; 0: the last step was taken."""
    validation_before: float | None = None
    validation_after: float | None = None
    """Mean squared relative residual, on the trajectories held out, of the eigenpairs of the others."""
    best_step: int | None = None
    """The step that did best on them."""

    @classmethod
    def from_json(cls, text: str) -> DictionaryFitReport:
        """From what a file holds, whichever version wrote it."""
        known = {field.name for field in fields(cls)}
        return cls(**{name: value for name, value in json.loads(text).items() if name in known})


class StoredDictionary(ABC):
    """A dictionary made of named tensors and settings, which is all that its digest and its file need.

    Args:
        tensors: finite, kept in float32; "mean" and "scale" (H,), where present, standardise the states first.
        settings: plain values that the lift depends on beside the tensors.
        report: record of the fit, if it was fitted.
    """

    kind: ClassVar[str] = ""
    """Its name in a file; empty for what is no dictionary yet."""

    def __init__(
        self,
        tensors: Mapping[str, Tensor],
        settings: Mapping[str, Any] | None = None,
        report: DictionaryFitReport | None = None,
    ) -> None:
        tensors = {name: as_tensor(tensor, f"Dictionary {name}") for name, tensor in tensors.items()}
        for name, tensor in tensors.items():
            require_real(tensor, f"Dictionary {name}")
            if not torch.isfinite(tensor).all():
                raise DataError(f"Dictionary {name} must be finite, but holds NaN or Inf.")
        # A copy: the tensor given may be a parameter that goes on being trained, under a digest that is cached.
        self._tensors = {name: tensor.detach().clone().to(torch.float32) for name, tensor in tensors.items()}
        self._settings = dict(settings or {})
        self.report = report

    @property
    @abstractmethod
    def hidden_size(self) -> int:
        """H."""

    @property
    @abstractmethod
    def num_observables(self) -> int:
        """F."""

    @abstractmethod
    def _lift(self, states: Tensor) -> Tensor:
        """Observables (..., F) of float32 states (..., H), standardised where the dictionary has a mean and scale."""

    @property
    def device(self) -> torch.device:
        return next(iter(self._tensors.values())).device

    @property
    def digest(self) -> str:
        """SHA-256 of everything that decides its values; equal on every device."""
        return self._digest

    # Cached behind a property: to a type checker a cached property is a field that one may write to, which is not what
    # `Dictionary` promises.
    @cached_property
    def _digest(self) -> str:
        """SHA-256 of kind, settings and tensors."""
        digest = hashlib.sha256(f"{self.kind} {json.dumps(self._settings, sort_keys=True)}".encode())
        for name in sorted(self._tensors):
            tensor = self._tensors[name].cpu().contiguous()
            digest.update(f"{name} {tuple(tensor.shape)}".encode() + tensor.numpy().tobytes())
        return digest.hexdigest()

    def __call__(self, states: Tensor) -> Tensor:
        """Lift hidden states (..., H) to (..., F), in float32 whatever the dtype or autocast.

        Complex ones count as (..., 2 H) real ones, in fits and here.
        """
        states = as_channels(as_tensor(states, "Hidden states"))
        if states.ndim < 1 or states.shape[-1] != self.hidden_size:
            raise DataError(
                f"The dictionary was fitted on hidden states of width {self.hidden_size}, but these have shape "
                f"{tuple(states.shape)}; fit it on states of the same model and site."
            )
        with torch.autocast(states.device.type, enabled=False):
            # float32 before the mean is taken off: in bfloat16 the difference would keep two digits.
            if "mean" in self._tensors:
                states = (states.float() - self._tensors["mean"]) / self._tensors["scale"]
            return self._lift(states)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(H={self.hidden_size}, F={self.num_observables}, digest={self.digest[:12]})"

    def to(self, device: torch.device | str) -> Self:
        """The same dictionary on another device."""
        return self._rebuilt({name: tensor.to(device) for name, tensor in self._tensors.items()}, self._settings)

    def save(self, path: str | Path) -> None:
        """Write a safetensors file with the fit report in its metadata; all of it or, if interrupted, nothing."""
        path = Path(path)
        metadata = self._metadata() | {"digest": self.digest}
        if self.report is not None:
            metadata["report"] = json.dumps(asdict(self.report))
        # In the folder of the target, as a rename is atomic only within one file system.
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        os.close(descriptor)
        try:
            tensors = {name: tensor.cpu().contiguous() for name, tensor in self._tensors.items()}
            save_file(tensors, temporary, metadata=metadata)
            os.replace(temporary, path)
        # An interrupt as well: what is unfinished must not stay.
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise

    def _metadata(self) -> dict[str, str]:
        return {"format": _FORMAT, "kind": self.kind, "settings": json.dumps(self._settings, sort_keys=True)}

    def _rebuilt(self, tensors: Mapping[str, Tensor], settings: Mapping[str, Any]) -> Self:
        # Past __init__, whose arguments each kind chooses for itself.
        rebuilt = type(self).__new__(type(self))
        StoredDictionary.__init__(rebuilt, tensors, settings, self.report)
        return rebuilt


def load_dictionary(path: str | Path, device: torch.device | str = "cpu") -> StoredDictionary:
    """Read a dictionary of any kind that its `save` wrote.

    Raises:
        DataError: no such file, not a dictionary, of an unknown kind, or tensors that do not match their digest.
    """
    metadata, tensors = read_dictionary_file(path)
    kinds = {kind.kind: kind for kind in _kinds(StoredDictionary) if kind.kind}
    kind = kinds.get(metadata["kind"])
    if kind is None:
        raise DataError(
            f"{path} holds a dictionary of kind {metadata['kind']!r}; known are {', '.join(sorted(kinds))}."
        )
    report = DictionaryFitReport.from_json(metadata["report"]) if "report" in metadata else None
    # Past __init__, as in `_rebuilt`; the digest below then says whether the tensors are those that were saved.
    dictionary = kind.__new__(kind)
    StoredDictionary.__init__(dictionary, tensors, json.loads(metadata["settings"]), report)
    if dictionary.digest != metadata.get("digest"):
        raise DataError(f"The weights in {path} do not match their digest; the file is damaged, fit again.")
    return dictionary.to(device)


def read_dictionary_file(path: str | Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Metadata and tensors of a dictionary file; those of the first format are of kind "sigmoid".

    Raises:
        DataError: no such file, or none that a dictionary wrote.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"There is no dictionary file at {path}.")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise DataError(f"{path} is not a readable safetensors file ({error}).") from error
    if metadata.get("format") == "relax-rl koopman dictionary 1":
        metadata = metadata | {"kind": "sigmoid", "settings": "{}"}
    elif metadata.get("format") != _FORMAT or not {"kind", "settings"} <= set(metadata):
        raise DataError(f"{path} is not a Koopman dictionary; it was not written by KoopmanDictionary.save.")
    return metadata, tensors


def _kinds(parent: type[StoredDictionary]) -> list[type[StoredDictionary]]:
    return [kind for child in parent.__subclasses__() for kind in (child, *_kinds(child))]
