"""Solutions lost and gained between two evaluations: by hand, against every way to deal samples out, and printed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import combinations

import pytest

from relax_rl.cli.eval import _print_solutions
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
    _print_solutions(earlier, earlier, [])
    assert capsys.readouterr().out == ""
    _print_solutions(found(result, {"A": 2}), found(result, {"B": 1}), [])
    assert "solutions lost per problem: 1 [1, 1]; " in capsys.readouterr().out


def test_a_file_keeps_which_solutions_were_found(make_evaluation: Made) -> None:
    result = found(make_evaluation(0.4), {"1+2": 3, "4": 1})
    assert EvaluationResult.from_json(result.to_json()).per_problem == result.per_problem
