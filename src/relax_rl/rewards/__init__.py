"""Verifiers: programs that score what a policy wrote, in bounded time and without torch."""

from relax_rl.rewards.base import BaseVerifier, ExplainingVerifier, Verdict, Verifier, as_verifier, grade
from relax_rl.rewards.batch import GradingBatch
from relax_rl.rewards.callables import CallableVerifier, WeightedVerifiers
from relax_rl.rewards.countdown import CountdownVerifier
from relax_rl.rewards.extraction import Extraction, Gold, Policy, extract_answer, policy_names, read_gold
from relax_rl.rewards.format import FormatVerifier
from relax_rl.rewards.mathematics.answers import ChoiceVerifier, ExactVerifier, NumericVerifier
from relax_rl.rewards.mathematics.verifier import MathVerifier
from relax_rl.rewards.overlong import SoftOverlongPenalty
from relax_rl.rewards.registry import build_verifier, verifier_names
from relax_rl.rewards.reward_function import VerifierReward
from relax_rl.rewards.workers.pool import Outcome, WorkerPool

__all__ = [
    "BaseVerifier",
    "CallableVerifier",
    "ChoiceVerifier",
    "CountdownVerifier",
    "ExactVerifier",
    "ExplainingVerifier",
    "Extraction",
    "FormatVerifier",
    "Gold",
    "GradingBatch",
    "MathVerifier",
    "NumericVerifier",
    "Outcome",
    "Policy",
    "SoftOverlongPenalty",
    "Verdict",
    "Verifier",
    "VerifierReward",
    "WeightedVerifiers",
    "WorkerPool",
    "as_verifier",
    "build_verifier",
    "extract_answer",
    "grade",
    "policy_names",
    "read_gold",
    "verifier_names",
]
