"""Not being gradable is never better than being wrong, and what has no score shows in every table."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from relax_rl.cli.comparison_tables import print_verdict
from relax_rl.cli.main import main
from relax_rl.comparison.methods import compare_methods
from relax_rl.comparison.records import read_runs
from relax_rl.comparison.tables import method_rows
from relax_rl.evaluation import EvaluationResult
from relax_rl.evaluation.bounds import Bounds, metric_bounds, num_unscored, unscored_note
from relax_rl.evaluation.grading import grade_samples
from relax_rl.evaluation.records import Sample
from relax_rl.evaluation.result import ProblemResult
from relax_rl.evaluation.summary import Summary, summarize
from relax_rl.reports.tables import comparison_notes, result_rows, results_table
from relax_rl.rewards import MathVerifier
from support.runs import make_evaluation, make_run  # noqa: F401


@pytest.fixture(scope="module")
def verifier() -> Iterator[MathVerifier]:
    verifier = MathVerifier(timeout_s=0.6, num_workers=1)
    yield verifier
    verifier.close()


def summary_of(verifier: MathVerifier, answers: list[str], gold: str = "3\\sqrt{2}") -> Summary:
    rows = [
        [Sample(f"p{place}", i, f"\\boxed{{{text}}}", (), 9, False) for i, text in enumerate(answers)]
        for place in range(2)
    ]
    return summarize(grade_samples(verifier, rows, [gold] * 2))


@pytest.mark.parametrize(
    ("faulty", "reason"),
    [
        ("x" * 2001, "too long"),
        ("9^{9^{9^{9}}}", "too large"),
        ("\\int_0^1 x^{x^{x^{x}}} \\sin(\\tan(e^{x^2})) dx", "timeout"),
    ],
)
def test_an_answer_that_cannot_be_graded_is_worth_a_wrong_one(verifier: MathVerifier, faulty: str, reason: str) -> None:
    """1 right and 15 ungradable of 16 was mean@1 = 1.000."""
    wrong = summary_of(verifier, ["\\sqrt{18}", *["4"] * 15])
    other = summary_of(verifier, ["\\sqrt{18}", *[faulty] * 15])
    assert wrong.metrics["mean@1"].value == 1 / 16
    scores = [name for name in wrong.metrics if name.startswith(("mean@", "pass@", "not_scored"))]
    assert {name: other.metrics[name] for name in scores} == {name: wrong.metrics[name] for name in scores}
    assert (other.metrics["ungradable"].value, other.reasons) == (15 / 16, {reason: 30})
    assert "ungradable" not in wrong.metrics
    assert wrong.reasons == {}


def test_an_unreadable_gold_is_left_out_and_counted(verifier: MathVerifier) -> None:
    found = summary_of(verifier, ["5", "4"], gold="t(0,4]")
    assert "mean@1" not in found.metrics
    assert (found.metrics["not_scored"].value, found.reasons) == (1.0, {"gold unreadable": 4})


def with_unscored(result: EvaluationResult) -> EvaluationResult:
    """The first 10 problems have 4 samples without a score, all of which were wrong before."""
    problems = [
        replace(p, num_scored=12, num_correct=min(p.num_correct, 12), mean_score=min(p.num_correct, 12) / 12)
        if place < 10
        else p
        for place, p in enumerate(result.per_problem)
    ]
    return replace(result, per_problem=tuple(problems), reasons={"gold unreadable": 40})


def test_bounds_by_hand(make_evaluation: Callable[..., EvaluationResult]) -> None:  # noqa: F811
    problems = (ProblemResult("a", 1, 2, 0.5), ProblemResult("b", 0, 0), ProblemResult("c", 2, 4, 0.75))
    result = replace(make_evaluation(0.5), num_samples=4, per_problem=problems)
    assert num_unscored(result) == 6
    assert metric_bounds(result, "mean@1") == Bounds((1 / 4 + 0 + 3 / 4) / 3, (3 / 4 + 1 + 3 / 4) / 3)
    passes = metric_bounds(result, "pass@2")
    assert passes is not None
    assert (passes.worst, passes.best) == pytest.approx(((0.5 + 0 + 5 / 6) / 3, (1 + 1 + 5 / 6) / 3))
    # Of four samples no eight can be drawn: all of them stand for it.
    assert metric_bounds(result, "pass@8") == metric_bounds(result, "pass@4") == Bounds(2 / 3, 1.0)
    for other in ("length", "maj@4", "pass@", "mean"):
        assert metric_bounds(result, other) is None
    assert metric_bounds(replace(result, per_problem=()), "mean@1") is None
    note = unscored_note(result)
    assert note is not None
    assert note.startswith("6 of 12 completions have no score")
    assert note.endswith("all of them are wrong or right")
    reasons = {"timeout": 3, "gold unreadable": 6}
    assert (unscored_note(replace(result, reasons=reasons)) or "").endswith(" (timeout: 3, gold unreadable: 6)")
    assert metric_bounds(make_evaluation(0.5), "mean@1") is None
    assert unscored_note(make_evaluation(0.5)) is None
    assert unscored_note(replace(make_evaluation(0.5), reasons={"timeout": 3})) == (
        "3 of 640 completions score 0 because no grader could read them (timeout: 3)"
    )


def test_bounds_stand_in_the_table_of_eval(
    make_evaluation: Callable[..., EvaluationResult],  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    result = with_unscored(make_evaluation(0.5))
    monkeypatch.setattr("relax_rl.workflows.evaluate.evaluate", lambda *_, **__: result)
    assert main(["eval", "tiny", "--task", "countdown", "-o", str(tmp_path / "e")]) == 0
    shown = capsys.readouterr()
    bounds = metric_bounds(result, "mean@1")
    assert bounds is not None
    assert bounds.worst < bounds.best
    line = next(line for line in shown.out.splitlines() if "mean@1" in line and "caption" not in line)
    assert f"{bounds.worst:.4g}" in line
    assert f"{bounds.best:.4g}" in line
    assert "worst" in shown.out
    assert "note: 40 of 640 completions have no score" in shown.err
    assert EvaluationResult.from_json(result.to_json()) == result
    assert "reasons" not in json.loads(make_evaluation(0.5).to_json())


def test_bounds_stand_in_the_tables_of_compare_and_report(
    make_run: Callable[..., Path],  # noqa: F811
    make_evaluation: Callable[..., EvaluationResult],  # noqa: F811
    capsys: pytest.CaptureFixture[str],
) -> None:
    whole, holed = make_evaluation(0.5), with_unscored(make_evaluation(0.5, seed=1))
    paths = [make_run("a", "grpo", evaluations={"after": whole}), make_run("b", "relax", evaluations={"after": holed})]
    runs, bounds = read_runs(paths), metric_bounds(holed, "mean@1")
    assert bounds is not None
    comparison = compare_methods(runs)
    assert [row.bounds.get("mean@1") for row in comparison.methods] == [None, bounds]
    print_verdict(comparison)
    assert "{worst, best}: completions without a score" in capsys.readouterr().out
    ends = [row[-2:] for row in method_rows(comparison) if row[1] == "mean@1"]
    assert ends == [(None, None), (bounds.worst, bounds.best)]
    rows = result_rows(runs)
    assert [row.bounds.get("mean@1") for row in rows if not row.is_difference] == [None, bounds]
    page = str(results_table(rows, ["mean@1"]))
    assert f"worst {bounds.worst:.3f}, best {bounds.best:.3f}" in page
    assert page.count("worst") == 1
    assert any("ReLaX, after: 40 of 640 completions have no score" in note for note in comparison_notes(runs))
