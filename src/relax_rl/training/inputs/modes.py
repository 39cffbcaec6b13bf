"""The solution that each completion found, as its verifier tells."""

from __future__ import annotations

import hashlib
from typing import Any

import torch
from torch import Tensor

from relax_rl.errors import DataError
from relax_rl.training.inputs.provider import MicroBatch, Provider, Rows

__all__ = ["Modes", "mode_number"]


def mode_number(mode: str | None) -> int:
    """A number below 2^63 that stands for a mode, the same in every process and every run; -1 for none."""
    return -1 if mode is None else int.from_bytes(hashlib.sha256(mode.encode()).digest()[:8]) >> 1


class Modes(Provider):
    """A digest of the key that the verifier's verdict has, or a reward function's extra column ``mode``."""

    def sampled(self, given: list[dict[str, Any]], output: Rows) -> dict[str, Tensor]:
        modes = self.trainer.sampled_modes
        if not modes:
            raise DataError(
                f"The objective {self.trainer.objective.name!r} reads the mode of each completion, but no reward "
                "function tells it; use a verifier that has modes, or call log_extra('mode', [...]) in a reward "
                "function, with a text or None for each completion."
            )
        numbers = [mode_number(mode) for mode in modes]
        return {"mode": torch.tensor(numbers, dtype=torch.int64, device=self.trainer.accelerator.device)}

    def tensor(self, micro: MicroBatch) -> Tensor | None:
        return micro.rows["mode"]
