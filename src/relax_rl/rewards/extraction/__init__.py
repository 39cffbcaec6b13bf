"""Finding the answer in a text: one reader for completions and for gold answers, and the conventions of others."""

from relax_rl.rewards.extraction.finding import Extraction
from relax_rl.rewards.extraction.golds import Gold, read_gold, stated_forms, written_forms
from relax_rl.rewards.extraction.options import Choice, chosen_pair, read_choice
from relax_rl.rewards.extraction.policies import POLICIES, Policy, extract_answer, policy_names, policy_of

__all__ = [
    "POLICIES",
    "Choice",
    "Extraction",
    "Gold",
    "Policy",
    "chosen_pair",
    "extract_answer",
    "policy_names",
    "policy_of",
    "read_choice",
    "read_gold",
    "stated_forms",
    "written_forms",
]
