"""Checks of every `spectrum` before it computes: settings, the output folder, dictionaries."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from relax_rl.errors import ConfigError, RunError

if TYPE_CHECKING:
    from relax_rl.koopman.dictionaries.protocol import StoredDictionary

__all__ = ["ESTIMATORS", "KINDS", "check_figures", "check_file", "check_output", "check_words", "load_dictionaries"]

ESTIMATORS = ("paper", "singular", "robust", "instrumental")
KINDS = ("sigmoid", "random_fourier", "radial_basis")


def check_words(
    store: Any,
    statistics_only: bool,
    fit_steps: int,
    estimators: Sequence[str],
    kind: str,
) -> None:
    """Check everything that can be wrong before torch is loaded and anything is computed.

    Raises:
        ConfigError: naming the setting.
    """
    if statistics_only and store is None:
        raise ConfigError("--statistics-only says what a store keeps; name one with --store DIR.")
    if fit_steps < 0:
        raise ConfigError(f"--fit-steps is {fit_steps}; give 0 or more.")
    unknown = [name for name in estimators if name not in ESTIMATORS]
    if unknown:
        raise ConfigError(f"--estimators has {unknown[0]!r}; choose among {', '.join(ESTIMATORS)}.")
    if kind not in KINDS:
        raise ConfigError(f"--kind is {kind!r}; choose among {', '.join(KINDS)}.")


def check_output(output: Path, overwrite: bool) -> None:
    """Whether a folder of spectra can be written. Raises ``RunError`` if not."""
    if (output / "spectrum.json").is_file():
        if not overwrite:
            raise RunError(
                f"there are spectra in {output} already; replace them with --overwrite, or name another -o DIR"
            )
    elif output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise RunError(f"{output} is not empty and holds no spectra; name another folder with -o DIR")
    _check_writable(output, "-o")


def check_file(output: str | Path | None, name: str, overwrite: bool) -> Path | None:
    """The file of this name in the folder `output`, which may be written; None where nothing is kept on disk.

    Raises:
        RunError: it is there already and `overwrite` is False, or its folder cannot be written.
    """
    if output is None:
        return None
    file = Path(output) / name
    if file.exists() and not overwrite:
        raise RunError(f"there is {file} already; replace it with --overwrite, or name another -o DIR")
    _check_writable(file, "-o")
    return file


def check_figures(folder: Path) -> None:
    """Whether a folder of figures can be written. Raises ``RunError`` if not."""
    if folder.exists() and not folder.is_dir():
        raise RunError(f"{folder} is a file; name a folder with --figures DIR")
    _check_writable(folder, "--figures")


def _check_writable(output: Path, option: str) -> None:
    existing = next(folder for folder in output.absolute().parents if folder.exists())
    if not (existing.is_dir() and os.access(existing, os.W_OK | os.X_OK)):
        raise RunError(
            f"{output} cannot be written: {existing} is a file or forbids it; name another with {option} DIR"
        )


def load_dictionaries(given: Mapping[str, str | Path | StoredDictionary]) -> dict[str, StoredDictionary]:
    """Dictionaries by site, those that are files read."""
    from relax_rl.koopman import load_dictionary

    return {site: load_dictionary(ruler) if isinstance(ruler, str | Path) else ruler for site, ruler in given.items()}
