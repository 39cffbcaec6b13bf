"""torchvision beside a torch that its operators were not compiled for: its transforms of images need none of them.

A package index may offer torchvision for CUDA only, and a machine without a GPU have torch for CPU. Importing it then
fails, since it describes operators that are not there. They are declared here, before torchvision is imported.
"""

from __future__ import annotations

import torch

__all__ = ["declare_operators"]

_kept: list[torch.library.Library] = []


def declare_operators() -> None:
    """Declare the operators that torchvision describes on import, unless its own can be loaded."""
    if _kept or torch.version.cuda is not None:
        return
    library = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _kept.append(library)
