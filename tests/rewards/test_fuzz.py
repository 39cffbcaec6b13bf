"""Text that nobody would write, in quantity: each has a verdict or a reason, and the pool lives on."""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relax_rl.rewards import MathVerifier, Verdict
from support.hostile import wrong_pair

REASONS = {"too long", "too large", "timeout", "budget", "memory", "recursion", "error", "crashed"}
GOLDS = ("3\\sqrt{2}", "\\frac{1}{2}", "x^2+1", "(1,2]", "\\{1,2\\}", "5 \\text{ cm}", "12", "x=5", "50\\%", "\\pi")

ATOMS = [
    "0", "1", "2", "7", "12", "3.5", "1e9", "1{,}000", "1,000", "x", "y", "n", "e", "i", "\\pi", "\\infty", "\\theta",
    "\\alpha_1", "x_{n}", "\\text{cm}", "\\text{ and }", "\\%", "^\\circ", "\\emptyset", "\u0664", "\u03c0", "\x00",
    "\\$", "$", "m", "km", "\\ldots", "apples", "\\mathbb{R}", "'", '"', "&", "\\\\", "#", "\ud7ff", "\U0001d7d8",
]  # fmt: skip
RULES = (
    "A", "A", "A", "A", "S+S", "S-S", "S \\cdot S", "SS", "-S", "(S)", "[S,S)", "(S,S)", "\\{S,S\\}", "S,S", "S=S",
    "\\frac{S}{S}", "\\frac SS", "S/S", "\\sqrt{S}", "\\sqrt[S]{S}", "S^{S}", "S^S", "S_{S}", "S!", "|S|", "\\sin S",
    "\\log_{S} S", "\\ln(S)", "e^{S}", "\\left(S\\right)", "\\left[S\\right]", "S<S", "S \\le S", "S \\cup S",
    "S \\pm S", "\\begin{pmatrix}S&S\\\\S&S\\end{pmatrix}", "\\text{S}", "\\binom{S}{S}", "\\int_{S}^{S} S \\, dx",
    "\\sum_{n=S}^{S} S", "\\lim_{x \\to S} S", "S \\mod S", "{S", "S}", "\\boxed{S}", "\\lfloor S \\rfloor", "S:S",
)  # fmt: skip


def sentence(rng: random.Random, size: int) -> str:
    """A text of the grammar with about ``size`` rules; some are broken on purpose."""
    text = "S"
    for _ in range(size):
        places = [place for place, letter in enumerate(text) if letter == "S"]
        if not places or len(text) > 400:
            break
        place = rng.choice(places)
        text = text[:place] + rng.choice(RULES) + text[place + 1 :]
    return "".join(rng.choice(ATOMS) if letter in "SA" else letter for letter in text)


def broken(rng: random.Random, text: str) -> str:
    """The text with a few characters dropped, doubled or exchanged."""
    letters = list(text)
    for _ in range(rng.randint(1, 3)):
        place = rng.randrange(len(letters) + 1)
        letters[place : place + rng.randint(0, 2)] = rng.choice(["", "{", "}", "\\", "^", "_", "9", "(", ",", "\\frac"])
    return "".join(letters)


def completion(rng: random.Random) -> str:
    text = sentence(rng, rng.randint(0, 12))
    if rng.random() < 0.4:
        text = broken(rng, text)
    shape = rng.choice(["\\boxed{%s}", "\\boxed{%s}", "<answer>%s</answer>", "The answer is %s.", "$%s$", "%s"])
    return shape.replace("%s", text)


@pytest.fixture(scope="module")
def verifier() -> Iterator[MathVerifier]:
    verifier = MathVerifier(timeout_s=1.0, num_workers=2, memory_mb=512, allow_bare_number=True)
    yield verifier
    verifier.close()


def assert_sound(verdicts: list[Verdict]) -> None:
    for verdict in verdicts:
        assert verdict.score in (0.0, 1.0, None)
        assert verdict.score in (0.0, 1.0)  # the gold answers are sound
        assert verdict.reason is None or verdict.reason in REASONS, verdict


def test_generated_completions(verifier: MathVerifier) -> None:
    rng = random.Random(1)
    assert_sound(verifier.grade([completion(rng) for _ in range(200)], [rng.choice(GOLDS) for _ in range(200)]))
    assert verifier.score(["\\boxed{\\sqrt{18}}"], ["3\\sqrt{2}"]) == [1.0]


@given(st.text(max_size=60), st.sampled_from(GOLDS))
@settings(max_examples=20, deadline=None)
def test_any_text_in_a_box(verifier: MathVerifier, text: str, gold: str) -> None:
    assert_sound(verifier.grade([f"\\boxed{{{text}}}", text], [gold, gold]))


def false_accepts(verifier: MathVerifier, rng: random.Random, count: int) -> list[tuple[str, str, str, Verdict]]:
    """Of answers that are wrong by construction, those that are not scored 0."""
    rows = [wrong_pair(rng) for _ in range(count)]
    verdicts = verifier.grade([text for _, _, text in rows], [gold for _, gold, _ in rows])
    return [(*row, verdict) for row, verdict in zip(rows, verdicts, strict=True) if verdict.score != 0.0]


def test_no_wrong_answer_is_right(verifier: MathVerifier) -> None:
    assert false_accepts(verifier, random.Random(2), 400) == []


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_no_wrong_answer_of_very_many_is_right(verifier: MathVerifier) -> None:
    """``RELAX_FUZZ_ROWS=100000`` for more than CI's share."""
    rng = random.Random(3)
    for _ in range(int(os.environ.get("RELAX_FUZZ_ROWS", "20000")) // 1000):
        assert false_accepts(verifier, rng, 1000) == []
    assert verifier.score(["\\boxed{\\sqrt{18}}"], ["3\\sqrt{2}"]) == [1.0]


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_ten_thousand_completions_of_a_grammar(verifier: MathVerifier) -> None:
    """Also as gold answers: a row of a data set is no safer than a completion."""
    rng = random.Random(0)
    seen: Counter[str] = Counter()
    for _ in range(10):
        completions = [completion(rng) for _ in range(1000)]
        golds = [sentence(rng, 4) if rng.random() < 0.05 else rng.choice(GOLDS) for _ in completions]
        verdicts = verifier.grade(completions, golds)
        assert len(verdicts) == 1000
        for verdict in verdicts:
            assert verdict.score in (0.0, 1.0, None)
            seen[verdict.reason or str(verdict.score)] += 1
        assert verifier.score(["\\boxed{\\sqrt{18}}"], ["3\\sqrt{2}"]) == [1.0]
    assert sum(seen.values()) == 10**4
    assert set(seen) <= {*REASONS, "gold unreadable", "0.0", "1.0"}, seen
    assert seen["crashed"] == 0, seen
    assert seen["timeout"] + seen["memory"] + seen["budget"] < 200, seen
