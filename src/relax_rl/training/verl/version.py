"""The version of verl that this engine fits."""

from __future__ import annotations

from importlib import metadata

from relax_rl.errors import ConfigError

__all__ = ["check_version"]


def check_version() -> None:
    """Refuse a verl whose seam was never looked at.

    Raises:
        ConfigError: verl is absent, or not of the 0.9 line.
    """
    try:
        version = metadata.version("verl")
    except metadata.PackageNotFoundError as error:
        raise ConfigError(
            "verl is not installed; install relax-rl[verl] in an environment of its own (docs/guides/scaling.md)."
        ) from error
    if version.split(".")[:2] != ["0", "9"]:
        raise ConfigError(
            f"verl {version} is installed, but relax_rl.training.verl fits verl 0.9 only; install verl>=0.9.1,<0.10."
        )
