"""Devices to train on, named in words or found here."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

from relax_rl.errors import ConfigError

__all__ = ["GIB", "Hardware", "hardware_here", "parse_hardware"]

GIB = 2**30
_WORDS = re.compile(r"(?:(\d+)x)?(?:(\d+)x)?(\d+(?:\.\d+)?)(?:GB|GiB)", re.IGNORECASE)
_USABLE = 0.95
"""Share of an accelerator's memory; the rest is lost to fragments."""


@dataclass(frozen=True)
class Hardware:
    """Devices of one kind.

    Attributes:
        nodes, devices: machines, and devices of each.
        size: bytes of one device.
        is_accelerator: has a runtime that takes its share.
        name: for people.
    """

    nodes: int
    devices: int
    size: float
    is_accelerator: bool
    name: str

    @property
    def ranks(self) -> int:
        return self.nodes * self.devices

    @property
    def usable(self) -> float:
        """Bytes of one device."""
        return self.size * _USABLE

    @property
    def runtime(self) -> float:
        """Bytes that the runtime takes, and the communication between devices."""
        if not self.is_accelerator:
            return 0.0
        return GIB * (1.0 if self.ranks == 1 else 2.0)


def parse_hardware(words: str) -> Hardware:
    """Devices in words: ``24GB``, ``8x80GB``, or ``2x8x80GB`` for two nodes.

    Raises:
        ConfigError: other words.
    """
    found = _WORDS.fullmatch(words.replace(" ", ""))
    if found is None:
        raise ConfigError(f"--hardware {words!r} is not understood; write 24GB, 8x80GB, or 2x8x80GB for two nodes")
    first, second, size = found.groups()
    nodes, devices = (int(first), int(second)) if second else (1, int(first or 1))
    if not nodes * devices * float(size):
        raise ConfigError(f"--hardware {words!r} names no device or no memory")
    return Hardware(nodes, devices, float(size) * GIB, True, words)


def hardware_here(ranks: int) -> Hardware:
    """Hardware of this machine for so many processes: its accelerators, or its memory shared among them."""
    import torch

    if torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(0)
        return Hardware(1, ranks, properties.total_memory, True, f"{ranks} x {properties.name}")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return Hardware(1, ranks, memory / ranks, False, f"the memory of this machine for {ranks} process(es)")
