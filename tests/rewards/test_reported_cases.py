"""Cases that users of this and of other graders reported, where their file is there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from relax_rl.rewards import ExactVerifier, MathVerifier, grade

CASES = Path(__file__).resolve().parents[3] / "shared" / "cases" / "grading.jsonl"
# Rows whose expectation is arguable, with the reason as docs/reference/grading.md has it.
ARGUABLE = {
    "grading-180": "a decimal comma, which is an option",
    "grading-300": "a percentage against a share",
}
THOUGHTS = {
    "thoughts-001": "Okay, 3+4. Maybe \\boxed{7}. But wait, let me double check whether",
    "thoughts-002": "Okay so the answer is 7. But wait, let me double",
    "thoughts-003": "Okay. Maybe <answer>7</answer>? But wait, let me",
}


def graded_rows() -> list[dict[str, Any]]:
    if not CASES.is_file():
        pytest.skip("the file of reported cases is not there")
    rows = [json.loads(line) for line in CASES.open(encoding="utf-8")]
    return [row for row in rows if not isinstance(row["input"], str)]


def verdict_on(verifier: MathVerifier, case: dict[str, Any]) -> float | None:
    note = case.get("note") or ""
    if "allow_bare_number=True" in note or "lenient" in note:
        verifier = verifier.with_policy("lenient")
    return verifier.score([case["completion"]], [case["gold"]])[0]


def test_reported_cases() -> None:
    verifier = MathVerifier(num_workers=2)
    wrong = {
        row["id"]: (row["input"], row["expected"], found)
        for row in graded_rows()
        if (found := verdict_on(verifier, row["input"])) != row["expected"]
    }
    verifier.close()
    assert {name: why for name, why in wrong.items() if name not in ARGUABLE} == {}
    # Whatever is arguable, nothing may be accepted that should be refused.
    assert {name: why for name, why in wrong.items() if why[1] == 0 and why[2] == 1.0} == {}


@pytest.mark.parametrize("name", THOUGHTS)
def test_reported_answers_inside_a_thought_that_the_prompt_opened(name: str) -> None:
    for verifier in (MathVerifier(), ExactVerifier()):
        (verdict,) = grade(verifier, [THOUGHTS[name]], ["7"], truncated=[True], opened="<think>\n")
        assert (verdict.score, verdict.how) == (0.0, "unclosed thought")
