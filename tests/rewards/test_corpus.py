"""Completions that policies wrote, with verdicts that were reached without our verifiers.

``corpus/smollm2.jsonl`` and ``corpus/smollm2_boxed.jsonl``: SmolLM2-135M-Instruct on short sums, without and with
worked examples that box the answer. A completion in which the gold value does not occur, by exact arithmetic over its
numbers, is wrong; all others were read. "arguable" are those that state the right value and then deny it, leave it
unfinished or go on to something else. ``corpus/countdown.jsonl``: the embedded policy on countdown; its verdicts are
exact arithmetic on Python's own syntax tree. A line is [gold answer, completion, truncated, verdict].
"""

from __future__ import annotations

import ast
import json
import re
from fractions import Fraction
from pathlib import Path

import pytest

from relax_rl.rewards import CountdownVerifier, MathVerifier, NumericVerifier

CORPUS = Path(__file__).with_name("corpus")
FILES = ("smollm2", "smollm2_boxed", "countdown")
# Least share of the right completions that a policy accepts: few of the first file commit to an answer in words.
LEAST_ACCEPTED = {
    ("smollm2", "strict"): 0.0,
    ("smollm2", "default"): 0.3,
    ("smollm2", "lenient"): 0.88,
    ("smollm2_boxed", "strict"): 1.0,
    ("smollm2_boxed", "default"): 1.0,
    ("smollm2_boxed", "lenient"): 1.0,
}


def rows_of(name: str) -> list[tuple[str, str, bool, str]]:
    lines = (CORPUS / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
    return [(gold, text, cut, label) for gold, text, cut, label in map(json.loads, lines)]


def test_there_are_at_least_500_real_completions_of_both_policies_boxed_and_not() -> None:
    rows = {name: rows_of(name) for name in FILES}
    assert sum(map(len, rows.values())) >= 600
    boxed = [text for _, text, _, _ in rows["smollm2_boxed"] if "\\boxed{" in text]
    assert len(boxed) >= 85
    for name in FILES:
        assert {"right", "wrong"} <= {label for *_, label in rows[name]}


@pytest.mark.parametrize(("name", "policy"), LEAST_ACCEPTED)
def test_no_wrong_completion_is_accepted_and_right_ones_are(name: str, policy: str) -> None:
    rows = rows_of(name)
    verifier = MathVerifier(num_workers=1, policy=policy)
    cut = [is_cut for _, _, is_cut, _ in rows]
    verdicts = verifier.grade([text for _, text, _, _ in rows], [gold for gold, *_ in rows], truncated=cut)
    verifier.close()
    pairs = list(zip(rows, verdicts, strict=True))
    assert [(row, verdict) for row, verdict in pairs if verdict.score is None] == []
    assert [(row, verdict) for row, verdict in pairs if row[3] == "wrong" and verdict.score != 0.0] == []
    right = [verdict.score for row, verdict in pairs if row[3] == "right"]
    assert sum(score == 1.0 for score in right) >= LEAST_ACCEPTED[name, policy] * len(right)


def test_countdown_completions_are_graded_as_exact_arithmetic_grades_them() -> None:
    rows = rows_of("countdown")
    scores = CountdownVerifier().score([text for _, text, _, _ in rows], [gold for gold, *_ in rows])
    assert scores == [float(label == "right") for *_, label in rows]


@pytest.mark.parametrize("verifier", [MathVerifier(num_workers=1), NumericVerifier()])
def test_an_expression_is_worth_its_value(verifier: MathVerifier | NumericVerifier) -> None:
    """The target alone as gold answer: an expression that reaches it with other numbers is right, too."""
    rows = [(gold.rpartition(">")[2], text) for gold, text, _, _ in rows_of("countdown")]
    scores = verifier.score([text for _, text in rows], [target for target, _ in rows])
    for (target, text), score in zip(rows, scores, strict=True):
        value = _last_value(text)
        if verifier.name == "math":
            assert score == float(value == Fraction(target)), (target, text)
        else:  # an expression is no number
            assert score == 0.0 or value == Fraction(target), (target, text)


def _last_value(text: str) -> Fraction | None:
    """The exact value of the last closed tag; None if it is none, or another tag opens behind it."""
    closed = re.findall(r"<answer>(.*?)</answer>", text)
    if not closed or text.count("<answer>") > len(closed):
        return None
    try:
        return _value(ast.parse(closed[-1].strip(), mode="eval").body)
    except (SyntaxError, ZeroDivisionError):
        return None


def _value(node: ast.expr) -> Fraction:
    match node:
        case ast.Constant(value=int(number)):
            return Fraction(number)
        case ast.BinOp(left, ast.Add(), right):
            return _value(left) + _value(right)
        case ast.BinOp(left, ast.Sub(), right):
            return _value(left) - _value(right)
        case ast.BinOp(left, ast.Mult(), right):
            return _value(left) * _value(right)
        case ast.BinOp(left, ast.Div(), right):
            return _value(left) / _value(right)
        case ast.UnaryOp(ast.USub(), operand):
            return -_value(operand)
        case _:
            raise SyntaxError(ast.dump(node))
