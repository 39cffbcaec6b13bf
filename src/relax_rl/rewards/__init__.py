"""Verifiers: programs that score what a policy wrote, in bounded time and without torch."""

from relax_rl.rewards.base import ExplainingVerifier, Verdict, Verifier, grade
from relax_rl.rewards.callables import CallableVerifier, WeightedVerifiers
from relax_rl.rewards.countdown import CountdownVerifier
from relax_rl.rewards.extraction import Extraction, extract_answer
from relax_rl.rewards.math import MathVerifier
from relax_rl.rewards.pool import Outcome, WorkerPool

__all__ = [
    "CallableVerifier",
    "CountdownVerifier",
    "ExplainingVerifier",
    "Extraction",
    "MathVerifier",
    "Outcome",
    "Verdict",
    "Verifier",
    "WeightedVerifiers",
    "WorkerPool",
    "extract_answer",
    "grade",
]
