"""The run that is soaked: 8 problems, 4 updates a pass, 12 updates, a checkpoint every 2."""

from __future__ import annotations

from pathlib import Path

__all__ = ["METHODS", "config_text", "write_configs"]

METHODS = ("relax", "grpo")


def config_text(method: str) -> str:
    """The settings of a method, as TOML."""
    xi = 'xi = "quantile:0.9"\n' if method == "relax" else ""
    return f"""\
model = "tiny"
task = "countdown"
train_problems = 8

[objective]
name = "{method}"
{xi}
[dictionary]
num_observables = 8
steps = 10

[trainer]
max_steps = 12
num_generations = 4
per_device_train_batch_size = 8
gradient_accumulation_steps = 1
max_completion_length = 64
activation_checkpointing = false
learning_rate = 2e-4
save_steps = 2
save_total_limit = 3

[evaluation]
num_problems = 4
num_samples = 2
"""


def write_configs(folder: Path) -> dict[str, Path]:
    """A file for each method."""
    found = {}
    for method in METHODS:
        found[method] = folder / f"{method}.toml"
        found[method].write_text(config_text(method))
    return found
