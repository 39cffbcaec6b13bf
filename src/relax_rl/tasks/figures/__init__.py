"""Procedural visual reasoning: figures drawn from values, each with variants, twins and two routes to its answer."""

from relax_rl.tasks.figures.kind import Kind, Values
from relax_rl.tasks.figures.kinds import KINDS
from relax_rl.tasks.figures.task import FiguresTask

__all__ = ["KINDS", "FiguresTask", "Kind", "Values"]
