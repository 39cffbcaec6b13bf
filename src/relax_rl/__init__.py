"""ReLaX: reasoning with latent exploration, and every baseline next to it.

The front door for programs: what the five verbs of the command line do, a trainer for TRL scripts, and two functions
from any Hugging Face model to an objective's batch and to dispersions. Each name is imported when it is first used, so
that ``import relax_rl`` loads neither torch nor transformers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from relax_rl.lazy_names import lazy_names
from relax_rl.telemetry import switch_off
from relax_rl.version import __version__

if TYPE_CHECKING:
    from relax_rl.config import load_config
    from relax_rl.training.trl.relax_config import RelaxConfig
    from relax_rl.training.trl.trainer import RelaxTrainer
    from relax_rl.workflows.batches import rollout_batch
    from relax_rl.workflows.compare import compare
    from relax_rl.workflows.dispersion import dispersion_of
    from relax_rl.workflows.evaluate import evaluate
    from relax_rl.workflows.report import report
    from relax_rl.workflows.spectrum import spectrum
    from relax_rl.workflows.train import train

__all__ = [
    "RelaxConfig",
    "RelaxTrainer",
    "__version__",
    "compare",
    "dispersion_of",
    "evaluate",
    "load_config",
    "report",
    "rollout_batch",
    "spectrum",
    "train",
]

# Before any library is imported that would report to its makers.
switch_off()

__getattr__, _ = lazy_names(
    __name__,
    {
        "config": ("load_config",),
        "training.trl.relax_config": ("RelaxConfig",),
        "training.trl.trainer": ("RelaxTrainer",),
        "workflows.batches": ("rollout_batch",),
        "workflows.compare": ("compare",),
        "workflows.dispersion": ("dispersion_of",),
        "workflows.evaluate": ("evaluate",),
        "workflows.report": ("report",),
        "workflows.spectrum": ("spectrum",),
        "workflows.train": ("train",),
    },
)


def __dir__() -> list[str]:
    return sorted(__all__)
