"""The peak memory of a run, in a process of its own: prints bytes above what the imports alone take.

python tests/support/measured_memory.py MODEL_FOLDER OUTPUT '{"trainer.max_steps": 2}'
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

# Freed blocks go back to the system at once, so that the resident memory is that of the tensors.
MALLOC = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536", "MALLOC_ARENA_MAX": "1"}


def resident(name: str) -> int:
    """``VmRSS`` or ``VmHWM`` of this process, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))


def varied(completions: list[str], answers: list[str]) -> list[float]:
    return [float(index % 3) for index, _ in enumerate(completions)]


def main(model: str, output: str, settings: str) -> None:
    from relax_rl.workflows.train import train

    given = {"model": "tiny", "output": f"{output}-first", **json.loads(settings)}
    # A first small run, so that whatever is made once is there.
    small = {"trainer.max_steps": 1, "trainer.max_completion_length": 12, "dictionary.num_observables": 4}
    train("countdown", overrides=given | small, verifier=varied)
    before = resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the high-water mark starts anew
    train("countdown", overrides=given | {"model": model, "output": output}, verifier=varied)
    print(json.dumps({"before": before, "peak": resident("VmHWM") - before}))


if __name__ == "__main__":
    main(*sys.argv[1:4])
