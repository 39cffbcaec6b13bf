"""Conventions of other harnesses, each on cases of its own prompts and code, and names that are refused."""

from __future__ import annotations

import pytest

from relax_rl.errors import ConfigError
from relax_rl.rewards import (
    ChoiceVerifier,
    ExactVerifier,
    MathVerifier,
    NumericVerifier,
    build_verifier,
    extract_answer,
    policy_names,
)
from relax_rl.rewards.extraction import POLICIES

MINERVA = "Therefore, the domain is $\\boxed{[2,5)}$.\nFinal Answer: The final answer is $[2,5)$. I hope it is correct."

CASES = [
    # lm_eval/tasks/minerva_math/utils.py: its few-shot answers.
    ("lm-eval-minerva", MINERVA, "[2,5)"),
    ("lm-eval-minerva", "Final Answer: The final answer is $-\\frac{2}{3}$. ", "-\\frac{2}{3}"),
    ("lm-eval-minerva", "The final answer is $24$. I hope it is correct.", None),
    ("lm-eval-minerva", "so it is \\boxed{24}.", None),
    ("lm-eval-minerva", f"{MINERVA}\n\nProblem:\nx\nFinal Answer: The final answer is $7$.", "[2,5)"),
    ("lm-eval-minerva", "Final Answer: The final answer is 7. I hope it is correct.", "7"),
    ("lm-eval-minerva", "Final Answer: The final answer is $ 7 $. I hope it is correct.", "7"),
    # lm_eval/tasks/gsm8k/gsm8k.yaml.
    ("lm-eval-gsm8k-strict", "48+24 = <<48+24=72>>72 clips.\n#### 72", "72"),
    ("lm-eval-gsm8k-strict", "#### 70,000\n#### 5", "70000"),
    ("lm-eval-gsm8k-strict", "#### $72", None),
    ("lm-eval-gsm8k-strict", "The answer is 72.", None),
    ("lm-eval-gsm8k-strict", "#### 72.", "72"),
    ("lm-eval-gsm8k-strict", "Question: x\n#### 72", None),
    ("lm-eval-gsm8k-flexible", "The answer is 72. That is $1,000.50 in all", "1000.50"),
    ("lm-eval-gsm8k-flexible", "so \\boxed{72}", "72"),
    ("lm-eval-gsm8k-flexible", "72</s> 73", "72"),
    ("lm-eval-gsm8k-flexible", "none", None),
    # evaluation/parser.py of Qwen2.5-Math.
    ("qwen2.5-math", MINERVA, "[2,5)"),
    ("qwen2.5-math", "\\boxed{\\frac{1}{2}}. The answer is 8.", "\\frac{1}{2}"),
    ("qwen2.5-math", "$\\boxed 7$", "7"),
    ("qwen2.5-math", "<think>\\boxed{7}", "7"),
    ("qwen2.5-math", "\\boxed{7", "7"),
    ("qwen2.5-math", "The answer is 5. No, the answer is $7$.", "$7$"),
    ("qwen2.5-math", "\u7b54\u6848\u662f 7\n\nmore", "7"),
    ("qwen2.5-math", "final answer is $ 7 $. I hope, or final answer is $8$. I hope", "7"),
    ("qwen2.5-math", "The final answer is $7$ indeed.", "$7$ indeed"),
    ("qwen2.5-math", "It is $7$. I hope so.", "7"),
    ("qwen2.5-math", "it is boxed", None),
    ("qwen2.5-math", "$\\boxed 7 $", "7"),
    ("qwen2.5-math", "The answer is:5.", "5"),
    ("qwen2.5-math", "The answer is ", None),
    ("qwen2.5-math", "\u7b54\u6848\u662f\n\n7 \n\nmore", "7"),
    ("qwen2.5-math", "\u7b54\u6848\u662f7 \n\nmore", "7"),
    ("qwen2.5-math", "we get 1,234 in all", "1234"),
    ("qwen2.5-math", "none", None),
    # verl/utils/reward_score/math_dapo.py.
    ("verl-math-dapo", "so\nAnswer: 34", "34"),
    ("verl-math-dapo", "Answer: 33\nanswer : $x = 34$", "34"),
    ("verl-math-dapo", "Answer: \\boxed{34}", "34"),
    ("verl-math-dapo", "Answer: x = 34 ", "34"),
    ("verl-math-dapo", "\\boxed{34}", None),
    ("verl-math-dapo", "Answer: 34" + " " * 300, None),
    # verl/utils/reward_score/math_reward.py.
    ("verl-math-reward", "<think>\\boxed{7}", "7"),
    ("verl-math-reward", "\\boxed{5}. The answer is 8.", "5"),
    ("verl-math-reward", "\\boxed{\\frac{1}{2}} or {3}", "\\frac{1}{2}"),
    ("verl-math-reward", "$\\boxed 7$ is it", "7"),
    ("verl-math-reward", "\\boxed{5} and \\boxed{6", None),
    ("verl-math-reward", "The answer is 8.", None),
]


@pytest.mark.parametrize(("policy", "completion", "text"), CASES)
def test_a_convention_on_cases_of_its_own(policy: str, completion: str, text: str | None) -> None:
    assert extract_answer(completion, policy=policy).text == text


def test_every_policy_of_others_names_its_source_and_has_cases() -> None:
    assert {policy for policy, _, _ in CASES} == {name for name, policy in POLICIES.items() if policy.source}
    assert {"strict", "default", "lenient"} == {name for name, policy in POLICIES.items() if not policy.source}
    assert policy_names() == tuple(POLICIES)


def test_verifiers_take_a_policy_by_name() -> None:
    completion = "so \\boxed{72}. The answer is 8."
    assert MathVerifier(policy="strict").score([completion], ["72"]) == [1.0]
    assert MathVerifier().score([completion], ["72"]) == [0.0]
    assert NumericVerifier(policy="verl-math-reward").extract(completion) == "72"
    assert ExactVerifier(policy="lenient").policy == "lenient"
    assert ChoiceVerifier(policy="strict").score(["The answer is B."], ["B"]) == [0.0]
    assert MathVerifier(allow_bare_number=True).policy == "lenient"
    assert build_verifier("math", policy="strict").score(["The answer is 8."], ["8"]) == [0.0]


def test_an_unknown_policy_is_refused_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"no policy 'lenint'.*did you mean 'lenient'"):
        MathVerifier(policy="lenint")
    with pytest.raises(ConfigError, match="there are: strict, default"):
        extract_answer("x", policy="zzz")
    with pytest.raises(ConfigError, match="allow_bare_number means the policy 'lenient'"):
        NumericVerifier(policy="strict", allow_bare_number=True)
