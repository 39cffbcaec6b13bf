"""Packages that the processors of image-text models need, in one sentence where one is missing."""

from __future__ import annotations

import importlib
import re
from importlib.metadata import PackageNotFoundError, version

__all__ = ["TORCHVISION_FOR_TORCH", "missing_packages", "torchvision_for"]

_ASKED_FOR = re.compile(r"requires the (\w+) library|Package `(\w+)` is required|No module named '(\w+)'")
_KNOWN = ("torchvision", "num2words")
TORCHVISION_FOR_TORCH = 15
"""torch 2.N and torchvision 0.(N + 15) belong together, and no other two."""


def torchvision_for(torch_version: str) -> str | None:
    """The release of torchvision for a release of torch, such as "0.28"; None for another series than 2."""
    found = re.match(r"2\.(\d+)", torch_version)
    return None if found is None else f"0.{int(found[1]) + TORCHVISION_FOR_TORCH}"


def missing_packages(error: Exception, name: str) -> str | None:
    """The sentence for a processor that could not be loaded for want of a package; None for another reason.

    Args:
        error: error of transformers.
        name: name of the model.
    """
    asked = {word.lower() for match in _ASKED_FOR.findall(str(error)) for word in match if word} & set(_KNOWN)
    absent = [package for package in _KNOWN if not _is_installed(package)]
    if asked & set(absent):
        fitting = torchvision_for(version("torch"))
        pinned = f" 'torchvision=={fitting}.*'" if "torchvision" in absent and fitting is not None else ""
        which = " and ".join(absent)
        verb = "is" if len(absent) == 1 else "are"
        return (
            f"The processor of images of {name} needs {' and '.join(sorted(asked))}, and {which} {verb} not installed; "
            f"install what image-text models need with: pip install 'relax-rl[vision]'{pinned}"
        )
    return _broken(name) if "torchvision" not in absent else None


def _is_installed(package: str) -> bool:
    try:
        version(package)
    except PackageNotFoundError:
        return False
    return True


def _broken(name: str) -> str | None:
    """For a torchvision that cannot be imported: transformers says only that some module could not be."""
    try:
        importlib.import_module("torchvision")
    except (ImportError, RuntimeError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        return (
            f"The processor of images of {name} needs torchvision, and the installed {version('torchvision')} does not "
            f"fit torch {version('torch')} ({reason}); install the release {torchvision_for(version('torch'))} of "
            "torchvision from the index that torch came from."
        )
    return None
