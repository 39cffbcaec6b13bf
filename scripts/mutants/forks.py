"""Running pytest in a fork of a process that has torch and the rest imported already, but nothing of the package."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import resource
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["Job", "preload", "start"]

PRELOADED = ("numpy", "scipy.stats", "sklearn.preprocessing", "torch", "transformers", "datasets", "trl", "hypothesis")
PRELOADED += ("pytest", "math_verify", "pydantic", "safetensors.torch", "trl.trainer.grpo_trainer", "peft", "xdist")


def preload() -> None:
    """Import what most tests import; a fork has it for nothing."""
    for name in PRELOADED:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    import torch

    torch.set_num_threads(1)


@dataclass
class Job:
    """A running fork."""

    pid: int
    result: Path
    deadline: float

    def poll(self) -> dict[str, Any] | None:
        """What it wrote, {} if it died without a word; None while it runs, which it does no longer than its time."""
        done, status = os.waitpid(self.pid, os.WNOHANG)
        if done == 0:
            if time.monotonic() < self.deadline:
                return None
            os.killpg(self.pid, signal.SIGKILL)
            _, status = os.waitpid(self.pid, 0)
        # Workers that a killed test left behind.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        try:
            return json.loads(self.result.read_text())
        except (OSError, ValueError):
            is_time = os.WIFSIGNALED(status) and os.WTERMSIG(status) in (signal.SIGKILL, signal.SIGXCPU)
            return {"died": "time" if is_time else f"status {status}"}
        finally:
            self.result.unlink(missing_ok=True)


def start(
    source: Path,
    arguments: Sequence[str],
    result: Path,
    *,
    cpu_seconds: float,
    wall_seconds: float,
    plugin: Callable[[], Any],
    environment: dict[str, str] | None = None,
) -> Job:
    """Fork, and run pytest there on the package in `source`; what the plugin's `report` says is written to `result`."""
    result.unlink(missing_ok=True)
    pid = os.fork()
    if pid:
        return Job(pid, result, time.monotonic() + wall_seconds)
    try:
        _child(source, list(arguments), result, int(cpu_seconds), plugin, environment or {})
    finally:
        os._exit(70)


def _child(
    source: Path, arguments: list[str], result: Path, cpu_seconds: int, plugin: Any, environment: dict[str, str]
) -> None:
    os.setsid()
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_seconds, cpu_seconds + 5))
    output = os.open(result.with_suffix(".log"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for descriptor, target in ((nothing, 0), (output, 1), (output, 2)):
        os.dup2(descriptor, target)
    temporary = str(result.parent)
    os.environ |= {"PYTHONPATH": str(source), "TMPDIR": temporary, "HYPOTHESIS_STORAGE_DIRECTORY": temporary}
    os.environ |= {"PYTHONDONTWRITEBYTECODE": "1", "MUTANTS_OWNER": str(os.getpid())} | environment
    sys.path.insert(0, str(source))
    sys.dont_write_bytecode = True
    importlib.invalidate_caches()
    import pytest

    own = plugin()
    options = ["-q", "-n0", "-p", "no:cacheprovider", "--no-header", "--hypothesis-seed=0"]
    code = int(pytest.main([*options, *arguments], plugins=[own]))
    part = result.with_suffix(".part")
    part.write_text(json.dumps({"exit": code} | own.report()))
    os.replace(part, result)
    os._exit(0)
