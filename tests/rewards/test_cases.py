"""The mathematical verifier against the table of cases, row by row."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from relax_rl.rewards import MathVerifier

TABLE = tomllib.loads(Path(__file__).with_name("cases.toml").read_text(encoding="utf-8"))
CASES = [(kind, gold, completion, score) for kind, rows in TABLE.items() for gold, completion, score in rows]


@pytest.fixture(scope="module")
def verifier() -> Iterator[MathVerifier]:
    verifier = MathVerifier(num_workers=1)
    yield verifier
    verifier.close()


@pytest.mark.parametrize(("kind", "gold", "completion", "score"), CASES)
def test_case(verifier: MathVerifier, kind: str, gold: str, completion: str, score: float | str) -> None:
    (verdict,) = verifier.grade([completion], [gold])
    assert verdict.score == (None if score == "none" else score), verdict
    # A timeout here would be a wrong zero.
    assert verdict.reason in (("gold unreadable",) if verdict.score is None else (None, "too large"))


def test_the_table_is_large_without_repeats_and_has_both_verdicts_of_each_kind() -> None:
    assert len(CASES) >= 300
    assert len({(gold, completion) for _, gold, completion, _ in CASES}) == len(CASES)
    assert [kind for kind, rows in TABLE.items() if not {0, 1} <= {row[2] for row in rows}] == []
