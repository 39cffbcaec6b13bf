"""Which convention finds the answer: a table of named policies, and the one function that all verifiers call."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from relax_rl.config.messages import did_you_mean
from relax_rl.errors import ConfigError
from relax_rl.rewards.extraction import conventions
from relax_rl.rewards.extraction.finding import Extraction
from relax_rl.rewards.extraction.reader import read_by_default, read_leniently, read_strictly

__all__ = ["POLICIES", "Policy", "extract_answer", "policy_names", "policy_of"]


@dataclass(frozen=True)
class Policy:
    """A convention of where the answer of a completion is.

    Attributes:
        name: for settings, and for the identity of an evaluation.
        finds: what it takes for the answer, as a noun phrase.
        read: from a completion, and whether it hit its length limit, to the answer.
        source: the file whose convention it is; empty for our own.
    """

    name: str
    finds: str
    read: Callable[[str, bool], Extraction]
    source: str = ""


_ALL = (
    Policy("strict", "the last box, and nothing else", read_strictly),
    Policy("default", "the last box, tag or statement, or the bold value or formula at the end", read_by_default),
    Policy("lenient", "as default; else the last number", read_leniently),
    Policy(
        "lm-eval-minerva",
        'the first "Final Answer: The final answer is X. I hope it is correct."',
        conventions.read_minerva,
        "EleutherAI/lm-evaluation-harness, lm_eval/tasks/minerva_math/utils.py",
    ),
    Policy(
        "lm-eval-gsm8k-strict",
        'the first number after "#### "',
        conventions.read_gsm8k_strictly,
        "EleutherAI/lm-evaluation-harness, lm_eval/tasks/gsm8k/gsm8k.yaml, strict-match",
    ),
    Policy(
        "lm-eval-gsm8k-flexible",
        "the last number",
        conventions.read_gsm8k_flexibly,
        "EleutherAI/lm-evaluation-harness, lm_eval/tasks/gsm8k/gsm8k.yaml, flexible-extract",
    ),
    Policy(
        "qwen2.5-math",
        'the last box; else the last "the answer is X"; else the last number',
        conventions.read_qwen_math,
        "QwenLM/Qwen2.5-Math, evaluation/parser.py",
    ),
    Policy(
        "verl-math-dapo",
        'the last line "Answer: X" in the last 300 characters',
        conventions.read_verl_dapo,
        "volcengine/verl, verl/utils/reward_score/math_dapo.py",
    ),
    Policy(
        "verl-math-reward",
        "the last box, also inside a thought",
        conventions.read_verl_math,
        "volcengine/verl, verl/utils/reward_score/math_reward.py",
    ),
)
POLICIES: dict[str, Policy] = {policy.name: policy for policy in _ALL}
"""All policies by name."""


def policy_names() -> tuple[str, ...]:
    """The names that ``policy_of`` knows."""
    return tuple(POLICIES)


def policy_of(name: str, *, allow_bare_number: bool = False) -> Policy:
    """The policy of a name.

    Args:
        allow_bare_number: the former name of ``lenient``.

    Raises:
        ConfigError: an unknown name, with the nearest one; ``allow_bare_number`` beside another policy than its own.
    """
    if name not in POLICIES:
        raise ConfigError(f"There is no policy '{name}' of finding the answer{did_you_mean(name, list(POLICIES))}")
    if not allow_bare_number:
        return POLICIES[name]
    if name not in {"default", "lenient"}:
        raise ConfigError(
            f"allow_bare_number means the policy 'lenient'; it cannot be combined with policy = '{name}'."
        )
    return POLICIES["lenient"]


def extract_answer(completion: str, *, policy: str = "default", is_truncated: bool = False) -> Extraction:
    """The answer that a completion commits to, as a policy finds it.

    Args:
        policy: name of the convention; ``policy_names()`` lists them.
        is_truncated: the completion hit its length limit, so that a stated answer or a number at its very end may
            have been cut and is none.

    Raises:
        ConfigError: an unknown policy.
    """
    return policy_of(policy).read(completion, is_truncated)
