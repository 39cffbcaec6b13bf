"""Location of a model's files, and readers of those that are needed before the model is loaded."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

from transformers.utils.hub import cached_file

from relax_rl.errors import ConfigError, ModelError
from relax_rl.remote_code import needs_remote_code

__all__ = [
    "EMBEDDED",
    "SMOLLM2_DIRECTORY",
    "check_revision",
    "find_file",
    "first_line",
    "model_location",
    "read_json",
]

SMOLLM2_DIRECTORY = Path("models/smollm2")
EMBEDDED = ("tiny", "figures")
"""Policies that come with the package: one that reads words, one that also sees images."""


def model_location(name: str) -> str:
    """Location of a model's files: a path for "tiny", "figures", "smollm2" and local folders, else the name on the Hub.

    Raises:
        ModelError: when the name is a path that does not exist, or "smollm2" has not been prepared.
    """
    if name in EMBEDDED:
        return str(files("relax_rl.assets") / name)
    if name == "smollm2":
        if not (SMOLLM2_DIRECTORY / "config.json").is_file():
            raise ModelError(f"The model 'smollm2' is not at {SMOLLM2_DIRECTORY}; prepare it with `make smollm2`.")
        return str(SMOLLM2_DIRECTORY)
    looks_like_path = name.startswith((".", "/", "~")) or name.count("/") > 1
    path = Path(name).expanduser()
    if path.is_dir():
        return str(path)
    if looks_like_path:
        raise ModelError(f"There is no model folder at {name}; give a folder in Hugging Face layout or a Hub name.")
    return name


def check_revision(name: str, revision: str | None) -> None:
    """Refuse the revision of a model that is on this disk: its files have none, and it would be ignored.

    Raises:
        ConfigError: naming the model.
        ModelError: as `model_location`.
    """
    if revision is not None and Path(model_location(name)).is_dir():
        raise ConfigError(
            f"The revision {revision!r} is of a model on the Hub, and the files of {name} are on this disk; leave the "
            "revision out."
        )


def find_file(location: str, file: str, revision: str | None = None, *, download: bool = True) -> Path | None:
    """A file of a model, of a folder or of the Hub; None where the model does not have it, or it is not at hand.

    Args:
        download: a file on the Hub; False looks into the local cache only.
    """
    if Path(location).is_dir():
        path = Path(location, file)
        return path if path.is_file() else None
    found = cached_file(
        location,
        file,
        revision=revision,
        local_files_only=not download,
        _raise_exceptions_for_gated_repo=False,
        _raise_exceptions_for_missing_entries=False,
        _raise_exceptions_for_connection_errors=False,
    )
    return None if found is None else Path(found)


def read_json(location: str, file: str, revision: str | None = None, *, download: bool = True) -> dict[str, Any] | None:
    """Contents of a JSON file of a model; None without the file.

    Raises:
        ModelError: the file is cut, or is no JSON object.
    """
    path = find_file(location, file, revision, download=download)
    if path is None:
        return None
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} cannot be read as JSON ({first_line(error)}); download it again.") from error
    if not isinstance(held, dict):
        raise ModelError(f"{path} holds no JSON object; download it again.")
    return held


def first_line(error: Exception) -> str:
    """An error of a library in one line."""
    if isinstance(error, UnpicklingError):
        return "its weights are in a pickle that holds more than tensors, which could run code; use safetensors"
    if needs_remote_code(error):
        return (
            "it brings Python code of its own, which runs only if you trust it; read that code, then add "
            "--trust-remote-code (in Python: relax_rl.remote_code.trusting_remote_code)"
        )
    lines = [line for line in str(error).strip().splitlines() if line.strip()]
    return lines[0].strip() if lines else type(error).__name__
