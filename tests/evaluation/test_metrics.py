"""pass@k, mean@k and maj@k against hand-worked numbers, enumeration and identities."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relax_rl.errors import DataError
from relax_rl.evaluation.metrics import count_verdicts, maj_at_k, majority_scores, mean_at_k, pass_at_k


@pytest.mark.parametrize(
    ("num_samples", "num_correct", "k", "expected"),
    [
        (32, 1, 8, 0.25),  # one correct among 32: it is among 8 draws with chance 8/32
        (4, 2, 2, 1 - 1 / 6),  # C(2, 2) / C(4, 2) pairs are both wrong
        (10, 0, 10, 0.0),
        (10, 10, 1, 1.0),
        (5, 3, 3, 1.0),  # only two are wrong, so three draws cannot all be
    ],
)
def test_pass_at_k_by_hand(num_samples: int, num_correct: int, k: int, expected: float) -> None:
    assert pass_at_k(num_samples, num_correct, k) == pytest.approx(expected, abs=1e-15)


@pytest.mark.parametrize("num_samples", range(1, 8))
def test_pass_at_k_is_the_share_of_subsets_with_a_correct_sample(num_samples: int) -> None:
    for num_correct in range(num_samples + 1):
        verdicts = [1] * num_correct + [0] * (num_samples - num_correct)
        for k in range(1, num_samples + 1):
            subsets = list(itertools.combinations(verdicts, k))
            share = sum(any(subset) for subset in subsets) / len(subsets)
            assert pass_at_k(num_samples, num_correct, k) == pytest.approx(share, abs=1e-14)


@given(st.integers(1, 3000).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n), st.integers(1, n))))
def test_pass_at_k_equals_exact_rational_arithmetic(counts: tuple[int, int, int]) -> None:
    n, c, k = counts
    exact = 1 - Fraction(math.comb(n - c, k), math.comb(n, k))
    assert pass_at_k(n, c, k) == pytest.approx(float(exact), abs=1e-12)


@given(st.integers(2, 200).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n))))
def test_pass_at_k_grows_with_k_from_the_mean(counts: tuple[int, int]) -> None:
    n, c = counts
    curve = [pass_at_k(n, c, k) for k in range(1, n + 1)]
    assert curve[0] == pytest.approx(c / n, abs=1e-12)
    assert all(later >= earlier - 1e-12 for earlier, later in itertools.pairwise(curve))
    assert curve[-1] == (1.0 if c else 0.0)


@pytest.mark.parametrize(("n", "c", "k"), [(4, 1, 5), (4, 1, 0), (4, 5, 1), (4, -1, 1), (0, 0, 1)])
def test_pass_at_k_refuses_what_does_not_exist(n: int, c: int, k: int) -> None:
    with pytest.raises(DataError):
        pass_at_k(n, c, k)


def test_not_scored_is_left_out_and_counted() -> None:
    scores = [[1.0, None, 0.0], [None, None, None], [0.5, 1.0, 1.0]]
    counts = count_verdicts(scores)
    assert [(c.num_scored, c.num_correct, c.num_unscored) for c in counts] == [(2, 1, 1), (0, 0, 3), (3, 2, 0)]
    assert mean_at_k(scores) == pytest.approx((0.5 + 2.5 / 3) / 2)


@pytest.mark.parametrize("bad", [1.5, -0.1, math.nan, math.inf])
def test_a_score_outside_the_unit_interval_is_refused(bad: float) -> None:
    with pytest.raises(DataError, match="problem 1"):
        count_verdicts([[1.0], [bad]])


def test_mean_at_k_takes_the_first_k() -> None:
    scores = [[1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 1.0, 1.0]]
    assert mean_at_k(scores) == pytest.approx(3 / 8)
    assert mean_at_k(scores, k=1) == 0.5
    assert mean_at_k(scores, k=2) == 0.25
    assert mean_at_k(scores, k=4) == mean_at_k(scores)
    for k in (0, 5):
        with pytest.raises(DataError, match=f"k = {k}"):
            mean_at_k(scores, k=k)
    with pytest.raises(DataError, match="fewest samples has 1"):
        mean_at_k([[1.0, 0.0], [1.0]], k=2)
    with pytest.raises(DataError, match="at least one"):
        mean_at_k([[None], []])


def test_maj_at_k_by_hand() -> None:
    answers = [["7", "7", "9"], ["a", "b", "c"], [None, None, "x"], [None, None, None]]
    scores = [[1.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, 0.0, 0.0]]
    # majority right; three-way tie with one right; only voter right; nobody votes
    assert majority_scores(answers, scores) == [1.0, pytest.approx(1 / 3), 1.0, 0.0]
    assert maj_at_k(answers, scores) == pytest.approx((1 + 1 / 3 + 1 + 0) / 4)
    assert maj_at_k(answers[:1], scores[:1], k=1) == 1.0


def test_majority_that_was_never_scored_is_not_wrong() -> None:
    assert majority_scores([["a", "a", "b"]], [[None, None, 1.0]]) == [None]
    assert majority_scores([["a", "a", "b"]], [[None, 1.0, 0.0]]) == [1.0]
    with pytest.raises(DataError):
        maj_at_k([["a", "a"]], [[1.0]])


@given(st.lists(st.tuples(st.sampled_from(["a", "b", "c", None]), st.booleans()), min_size=1, max_size=9), st.randoms())
def test_majority_does_not_depend_on_sample_order(samples: list[tuple[str | None, bool]], random) -> None:
    def majority(pairs: list[tuple[str | None, bool]]) -> float | None:
        return majority_scores([[a for a, _ in pairs]], [[float(s) for _, s in pairs]])[0]

    shuffled = samples[:]
    random.shuffle(shuffled)
    assert majority(samples) == pytest.approx(majority(shuffled))
