"""Verifiers: programs that score what a policy wrote, in bounded time and without torch."""

from relax_rl.rewards.base import Verifier
from relax_rl.rewards.callables import CallableVerifier, WeightedVerifiers
from relax_rl.rewards.countdown import CountdownVerifier
from relax_rl.rewards.math import MathGrade, MathVerifier
from relax_rl.rewards.pool import Outcome, WorkerPool

__all__ = [
    "CallableVerifier",
    "CountdownVerifier",
    "MathGrade",
    "MathVerifier",
    "Outcome",
    "Verifier",
    "WeightedVerifiers",
    "WorkerPool",
]
