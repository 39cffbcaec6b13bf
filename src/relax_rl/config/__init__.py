"""The settings of a run: strict, frozen models, read from a file and dotted overrides, and written back as JSON.

A key lives in one place only. ``[trainer]`` speaks TRL's own names (any other ``GRPOConfig`` field may stand there and
is checked by the training layer); the tables ``[task]`` and ``[objective]`` hold a name and that name's own options,
which are checked where they are built. No torch is imported here, so that a command line parses at once.
"""

from relax_rl.config.batches import BatchPlan, batch_arithmetic
from relax_rl.config.evaluation import EvaluationConfig
from relax_rl.config.loading import load_config, shipped_configs, task_options
from relax_rl.config.peft import PeftConfig
from relax_rl.config.settings import (
    DictionaryConfig,
    GuardConfig,
    ObjectiveConfig,
    TaskConfig,
    TrainConfig,
    TrainerConfig,
    VerifierConfig,
)
from relax_rl.config.sight import SightConfig

__all__ = [
    "BatchPlan",
    "DictionaryConfig",
    "EvaluationConfig",
    "GuardConfig",
    "ObjectiveConfig",
    "PeftConfig",
    "SightConfig",
    "TaskConfig",
    "TrainConfig",
    "TrainerConfig",
    "VerifierConfig",
    "batch_arithmetic",
    "load_config",
    "shipped_configs",
    "task_options",
]
