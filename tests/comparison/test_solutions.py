"""Solutions lost and gained between two evaluations: by hand, against every way to deal samples out, and printed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import combinations

import pytest

from relax_rl.cli.breadth_tables import print_changes
from relax_rl.comparison.solutions import solution_turnover
from relax_rl.evaluation.result import EvaluationResult, ProblemResult

Made = Callable[..., EvaluationResult]


def found(result: EvaluationResult, *problems: dict[str, int] | None, samples: int = 4) -> EvaluationResult:
    """The evaluation with problems of which so many right samples have each mode."""
    rows = tuple(
        ProblemResult(
            str(place),
            num_correct=sum((modes or {}).values()),
            num_scored=samples,
            modes=None if modes is None else tuple(modes.values()),
            mode_keys=None if modes is None else tuple(modes),
        )
        for place, modes in enumerate(problems)
    )
    return replace(result, per_problem=rows)


def test_solutions_are_lost_and_gained_problem_by_problem(make_evaluation: Made) -> None:
    result = make_evaluation(0.4)
    first = found(result, {"1+2": 3, "4": 1}, {"a": 2}, {})
    second = found(result, {"1+2": 1}, {"b": 1, "a": 1}, {"c": 4})
    changed = solution_turnover(first, second)
    assert changed is not None
    assert (changed.lost.value, changed.gained.value) == pytest.approx((1 / 3, 2 / 3))
    assert changed.lost.low <= changed.lost.value <= changed.lost.high


def test_what_chance_loses_is_the_mean_over_all_ways_to_deal_samples_out(make_evaluation: Made) -> None:
    modes = "AAAB----"  # of both evaluations, four samples each
    lost = [
        sum(all(place in drawn for place, mode in enumerate(modes) if mode == of) for of in "AB")
        for drawn in combinations(range(8), 4)
    ]
    result = make_evaluation(0.4)
    changed = solution_turnover(found(result, {"A": 2, "B": 1}), found(result, {"A": 1}))
    assert changed is not None
    assert changed.lost_by_chance == pytest.approx(sum(lost) / len(lost))
    assert changed.gained_by_chance == pytest.approx(changed.lost_by_chance)


def test_an_evaluation_that_does_not_name_its_solutions_has_no_turnover(
    make_evaluation: Made, capsys: pytest.CaptureFixture[str]
) -> None:
    result = make_evaluation(0.4)
    earlier = found(result, None)
    assert solution_turnover(earlier, found(result, {"A": 1})) is None
    print_changes(earlier, earlier)
    assert "solutions" not in capsys.readouterr().out
    print_changes(found(result, {"A": 2}), found(result, {"B": 1}))
    printed = capsys.readouterr().out
    assert "solutions lost per problem: 1 [1, 1]; " in printed
    assert "solutions recovered per problem, of 1 that the first found:\n  in 1 sample: 0 [0, 0]; " in printed


def test_what_k_samples_recover_by_hand(make_evaluation: Made) -> None:
    result = make_evaluation(0.4)
    # Of x and y, the second has x in one of four samples: of two samples 1 - C(3, 2) / C(4, 2) have it. z is no
    # solution of the first.
    first, second = found(result, {"x": 3, "y": 1}, {}), found(result, {"x": 1, "z": 2}, {"a": 4})
    changed = solution_turnover(first, second)
    assert changed is not None
    assert changed.known == 1
    assert {of.k: of.found.value for of in changed.recovery} == pytest.approx({1: 1 / 8, 2: 1 / 4, 4: 1 / 2})
    assert all(of.found.low <= of.found.value <= of.found.high for of in changed.recovery)


def test_what_chance_recovers_is_the_mean_over_all_ways_to_deal_samples_out(make_evaluation: Made) -> None:
    modes, k = "AAAB----", 2
    recovered = []
    for drawn in combinations(range(8), 4):
        first = {modes[place] for place in drawn} - {"-"}
        second = [modes[place] for place in range(8) if place not in drawn]
        subsets = list(combinations(second, k))
        recovered.append(sum(sum(of in subset for subset in subsets) / len(subsets) for of in first))
    result = make_evaluation(0.4)
    changed = solution_turnover(found(result, {"A": 2, "B": 1}), found(result, {"A": 1}))
    assert changed is not None
    assert {of.k: of.by_chance for of in changed.recovery}[k] == pytest.approx(sum(recovered) / len(recovered))


def test_a_file_keeps_which_solutions_were_found(make_evaluation: Made) -> None:
    result = found(make_evaluation(0.4), {"1+2": 3, "4": 1})
    assert EvaluationResult.from_json(result.to_json()).per_problem == result.per_problem
