"""Coverage of solutions, against enumeration of every way to draw k samples, and by hand."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import combinations

import pytest

from relax_rl.comparison.pairs import compare_results
from relax_rl.comparison.turnover import turnover
from relax_rl.errors import DataError
from relax_rl.evaluation.coverage import effective_modes, modes_at_k
from relax_rl.evaluation.records import Sample
from relax_rl.evaluation.result import EvaluationResult, ProblemResult
from relax_rl.evaluation.summary import summarize


@pytest.mark.parametrize("modes", ["AAAB---", "ABCDEFG", "A------", "-------", "AABBCC-"])
def test_rarefaction_is_the_mean_over_all_draws(modes: str) -> None:
    counts = [modes.count(mode) for mode in sorted(set(modes) - {"-"})]
    for k in range(1, len(modes) + 1):
        draws = [len(set(drawn) - {"-"}) for drawn in combinations(modes, k)]
        assert modes_at_k(len(modes), counts, k) == pytest.approx(sum(draws) / len(draws), abs=1e-12)


def test_one_draw_is_mean_at_1_and_one_mode_is_pass_at_k() -> None:
    assert modes_at_k(8, [3, 2], 1) == pytest.approx(5 / 8)
    assert modes_at_k(8, [2], 4) == pytest.approx(1 - 15 / 70)
    with pytest.raises(DataError, match="count each sample in one mode"):
        modes_at_k(4, [3, 2], 1)
    with pytest.raises(DataError, match="pass@5 needs"):
        modes_at_k(4, [1], 5)


def test_the_effective_number_of_modes() -> None:
    assert effective_modes([5]) == 1.0
    assert effective_modes([2, 2, 2]) == pytest.approx(3.0)
    assert effective_modes([3, 1]) == pytest.approx(math.exp(0.75 * math.log(4 / 3) + 0.25 * math.log(4)))
    assert effective_modes([]) == 0.0


def problem(name: str, modes: list[str | None], right: int) -> list[Sample]:
    rows = [Sample(name, index, "", (), 1, False, score=float(index < right)) for index in range(len(modes))]
    return [replace(row, mode=mode, how="tagged", extracted=mode) for row, mode in zip(rows, modes, strict=True)]


FOUND = problem("found", ["a", "a", "b", "c"], 3)
LOST = problem("lost", [None, "x", "x", None], 0)
SURE = problem("sure", ["a", "a", "a", "a"], 4)


def test_the_summary_counts_solutions() -> None:
    summary = summarize([FOUND, LOST, SURE])
    assert [result.modes for result in summary.per_problem] == [(2, 1), (), (4,)]
    values = {name: estimate.value for name, estimate in summary.metrics.items()}
    two_of_found = (1 - 1 / 6) + 2 / 4
    assert values["modes@2"] == pytest.approx((two_of_found + 0 + 1) / 3)
    assert values["modes@4"] == pytest.approx((2 + 0 + 1) / 3)
    assert values["distinct_correct"] == pytest.approx((2 + 0 + 1) / 3)
    # Of problems with a right sample.
    assert values["effective_modes"] == pytest.approx((effective_modes([2, 1]) + 1) / 2)
    assert values["top_mode"] == pytest.approx((2 / 3 + 1) / 2)
    assert (values["all_wrong"], values["all_right"]) == pytest.approx((1 / 3, 1 / 3))


def test_without_modes_nothing_is_said_of_solutions() -> None:
    rows = [[replace(sample, mode=None) for sample in row] for row in (FOUND, LOST)]
    summary = summarize(rows)
    assert not {"modes@2", "effective_modes", "top_mode"} & summary.metrics.keys()
    assert all(result.modes is None for result in summary.per_problem)


def result(*problems: tuple[int, tuple[int, ...]], k: int = 4) -> EvaluationResult:
    rows = tuple(
        ProblemResult(str(place), num_correct=right, num_scored=k, mean_score=right / k, modes=modes)
        for place, (right, modes) in enumerate(problems)
    )
    samples = [
        [
            Sample(row.id, i, "", (), 1, False, score=float(i < row.num_correct), mode=f"m{i}", how="tagged")
            for i in range(k)
        ]
        for row in rows
    ]
    metrics = summarize(samples).metrics
    return EvaluationResult("t", "test", len(rows), k, 1.0, 1.0, 9, 0, metrics, per_problem=rows)


def test_a_result_with_modes_survives_its_file() -> None:
    kept = result((3, (2, 1)), (0, ()))
    assert EvaluationResult.from_json(kept.to_json()).per_problem == kept.per_problem


def test_coverage_is_compared_problem_by_problem() -> None:
    first, second = result((3, (3,)), (4, (4,))), result((3, (2, 1)), (4, (2, 2)))
    rows = {row.metric: row for row in compare_results(first, second)}
    assert rows["modes@4"].difference.value == pytest.approx(1.0)
    assert rows["mean@1"].difference.value == 0
    assert {"effective_modes", "top_mode", "all_wrong", "all_right"} <= rows.keys()


def test_problems_lost_and_gained() -> None:
    first = result((2, ()), (1, ()), (0, ()), (0, ()), (4, ()))
    second = result((0, ()), (1, ()), (1, ()), (0, ()), (0, ()))
    found = turnover(first, second)
    assert found is not None
    assert (found.lost.value, found.gained.value) == pytest.approx((2 / 5, 1 / 5))
    assert found.lost.low <= 0.4 <= found.lost.high
    # All c right samples of both are among the first four of eight: C(4, c) / C(8, c).
    by_chance = [math.comb(4, c) / math.comb(8, c) for c in (2, 2, 1, 4)]
    assert found.lost_by_chance == pytest.approx(sum(by_chance) / 5)
    assert [(one.id, one.before, one.after) for one in found.lost_problems] == [("4", 4, 0), ("0", 2, 0)]
    assert [one.by_chance for one in found.lost_problems] == pytest.approx([by_chance[3], by_chance[0]])
    assert [one.id for one in found.gained_problems] == ["2"]


def test_policies_that_are_alike_lose_and_gain_what_chance_says() -> None:
    """Over every way to deal out three right samples of eight, exactly."""
    lost = [set(drawn) <= {0, 1, 2, 3} for drawn in combinations(range(8), 3)]
    found = turnover(result((3, ())), result((0, ())))
    assert found is not None
    assert found.lost_by_chance == pytest.approx(sum(lost) / len(lost))
