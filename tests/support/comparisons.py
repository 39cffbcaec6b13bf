"""The smallest runs that a comparison may have, and waiting for what other processes do."""

from __future__ import annotations

import time

SMALL = [
    *("--trainer.max_steps=2", "--trainer.save_steps=1", "--trainer.num_generations=4"),
    *("--trainer.per_device_train_batch_size=8", "--trainer.gradient_accumulation_steps=1"),
    *("--evaluation.num_problems=8", "--evaluation.num_samples=4"),
]


def wait_for(found, seconds: float = 280):
    """What the function finds, once it does; a busy machine may take most of a test's own time limit for it."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if result := found():
            return result
        time.sleep(0.05)
    raise AssertionError("waited in vain")
