"""Where TRL and vLLM are installed together, and `relax` there."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from support.launching import ENVIRONMENT, ROOT
from support.verl.environment import verl_python

__all__ = ["ABSENT", "environment", "vllm_python"]

ABSENT = "vLLM has an environment of its own, which is not there; run `make vllm-env`"


def _folder() -> Path:
    kept = Path(os.environ.get("RELAX_ENVIRONMENTS") or ROOT / ".environments")
    digest = hashlib.sha256((ROOT / "requirements-vllm-trl.txt").read_bytes()).hexdigest()
    return kept / f"vllm-trl-{digest[:12]}"


def vllm_python() -> Path | None:
    """The Python of `make vllm-env`."""
    return verl_python() if (_folder() / ".installed").exists() else None


def environment() -> dict[str, str]:
    """Of a process on a CPU."""
    paths = [str(_folder()), ENVIRONMENT["PYTHONPATH"]]
    own = {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind", "PYTHONWARNINGS": "ignore"}
    return ENVIRONMENT | own | {"PYTHONPATH": os.pathsep.join(paths)}
