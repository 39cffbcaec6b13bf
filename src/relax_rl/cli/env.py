"""Versions, hardware and backends as plain text, to be pasted into a bug report."""

from __future__ import annotations

import argparse
import os
import platform
from collections.abc import Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version

from relax_rl.cli.arguments import refuse_settings

__all__ = ["add_arguments", "run"]

NEEDED = (
    "relax-rl",
    "torch",
    "transformers",
    "trl",
    "accelerate",
    "datasets",
    "safetensors",
    "pydantic",
    "math-verify",
)
OPTIONAL = ("peft", "vllm", "deepspeed", "flash-attn", "tensorboard", "wandb", "trackio")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """None."""


def run(arguments: argparse.Namespace, settings: Sequence[str]) -> int:
    """Print one fact a line."""
    refuse_settings(settings, "env")
    for name, fact in _facts():
        print(f"{name:14} {fact}")
    return 0


def _facts() -> Iterator[tuple[str, str]]:
    yield "python", f"{platform.python_version()} ({platform.python_implementation()})"
    yield "platform", platform.platform()
    for package in NEEDED:
        yield package, _version(package) or "not installed"
    found = [f"{package} {_version(package)}" for package in OPTIONAL if _version(package)]
    yield "optional", ", ".join(found) or "none of " + ", ".join(OPTIONAL)
    yield from _hardware()
    for variable in ("HF_HUB_OFFLINE", "HF_HOME", "CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS", "WORLD_SIZE"):
        if variable in os.environ:
            yield variable, os.environ[variable]


def _hardware() -> Iterator[tuple[str, str]]:
    import torch

    yield (
        "cpu",
        f"{os.cpu_count()} logical, {torch.get_num_threads()} torch threads, {torch.backends.cpu.get_cpu_capability()}",
    )
    cuda = torch.version.cuda or torch.version.hip
    for number in range(torch.cuda.device_count()):
        device = torch.cuda.get_device_properties(number)
        yield f"gpu {number}", f"{device.name}, {device.total_memory / 2**30:.0f} GiB, CUDA or HIP {cuda}"
    if not torch.cuda.is_available():
        yield "gpu", f"none usable (torch was built for {f'CUDA or HIP {cuda}' if cuda else 'CPU only'})"
    backends = {
        "mps": torch.backends.mps.is_available(),
        "gloo": torch.distributed.is_available() and torch.distributed.is_gloo_available(),
        "nccl": torch.distributed.is_available() and torch.distributed.is_nccl_available(),
    }
    yield "backends", ", ".join(name for name, is_available in backends.items() if is_available) or "none"


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
