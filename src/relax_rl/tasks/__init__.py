"""Sources of problems: procedural, from files, from the Hub; each with the verifier that grades it."""

from relax_rl.tasks.base import BaseTask, Problem, Task, TaskReport, as_task, validate_task
from relax_rl.tasks.countdown import CountdownTask
from relax_rl.tasks.data import DataTask
from relax_rl.tasks.gym import ReasoningGymTask
from relax_rl.tasks.math import MathTask
from relax_rl.tasks.mix import TrainingMix
from relax_rl.tasks.registry import build_task, task_names

__all__ = [
    "BaseTask",
    "CountdownTask",
    "DataTask",
    "MathTask",
    "Problem",
    "ReasoningGymTask",
    "Task",
    "TaskReport",
    "TrainingMix",
    "as_task",
    "build_task",
    "task_names",
    "validate_task",
]
