"""The frame of the benchmarks: times in turn, rows, the history and its regressions, and the page."""

from collections.abc import Iterator
from pathlib import Path

import pytest

import testing
from frame.history import Result, histories, regressions, save
from frame.page import PAGE, filled
from frame.rows import FULL, QUICK, Row, row_of_times
from frame.timing import ApartError, Times, apart, in_turn, stream_apart
from suite import BENCHMARKS


def result(ratio: float, date: str = "2026-01-01T00:00Z", *, is_quick: bool = False, name: str = "wide") -> Result:
    row = Row(
        name="a", ratio=ratio, against="b", ours=ratio, theirs=1.0, target=0.5, bound="memory" if ratio > 0.5 else ""
    )
    machine = {"processor": "p", "instructions": "i", "cores": 2, "memory_gib": 8, "load": 0.1}
    return Result(date, "abc", is_quick, {"python": "3"}, machine, {name: [row]})


def test_sides_take_turns_and_the_first_round_does_not_count() -> None:
    order: list[str] = []
    times = in_turn({name: lambda name=name: order.append(name) for name in "abc"}, rounds=3)
    assert "".join(order) == "abc" + "abc" + "bca" + "cab"
    assert {name: len(found.processor) for name, found in times.items()} == {"a": 3, "b": 3, "c": 3}


def test_a_ratio_is_the_median_of_the_ratios_within_rounds() -> None:
    ours, theirs = Times([9, 9, 9], [1.0, 6.0, 2.0]), Times([1, 1, 1], [2.0, 3.0, 2.0])
    row = row_of_times("x", ours, theirs, "y", target=0.9, bound="why")
    assert (row.ratio, row.low, row.high, row.ours, row.theirs) == (1.0, 0.5, 2.0, 2.0, 2.0)
    assert row.is_met is False
    assert row.bound == "why"
    assert row_of_times("x", ours, theirs, "y", target=1.0, bound="why").bound == ""
    assert row_of_times("x", ours, theirs, "y", clock="wall").ratio == 9.0


def test_a_missed_row_is_bounded_only_by_a_measured_floor_above_its_target() -> None:
    times = Times([1], [2.0]), Times([1], [2.0])
    verdicts = {
        (target, floor): row_of_times("x", *times, "y", target=target, bound="why", floor=floor).verdict
        for target, floor in ((None, 0.8), (1.0, None), (0.5, None), (0.5, 0.4), (0.5, 0.8125))
    }
    assert list(verdicts.values()) == ["", "met", "missed", "missed", "bounded (0.812)"]
    row = row_of_times("x", *times, "y", target=0.5, bound="why", floor=0.8125)
    assert Row.from_json(row.as_json()) == row
    machine = {"processor": "p", "instructions": "i", "cores": 2, "memory_gib": 8, "load": 0.1}
    page = filled(
        "<!-- rows: wide -->\n<!-- end -->", [Result("2026-01-01T00:00Z", "abc", False, {}, machine, {"wide": [row]})]
    )
    assert "| 0.5, bounded (0.812) |" in page
    assert "- **x** misses its target: why (at least 0.812)." in page


def test_the_history_holds_what_was_saved_oldest_first(tmp_path: Path) -> None:
    later, earlier = result(0.4, "2026-02-01T00:00Z"), result(0.6)
    path = save(later, tmp_path)
    save(earlier, tmp_path)
    assert histories(tmp_path) == [earlier, later]
    assert sorted(file.name for file in tmp_path.iterdir())[1] == path.name == "2026-02-01T0000Z.json"


def test_only_a_ratio_that_grew_by_more_than_15_percent_is_a_regression() -> None:
    before = [result(9.0), result(1.0, "2026-02-01T00:00Z")]
    assert list(regressions(result(1.149).rows, before)) == []
    (line,) = regressions(result(1.16).rows, before)
    assert line == "wide: a: 1.160 against 1.000 of 2026-02-01T00:00Z (+16 %)"
    assert list(regressions(result(9.0, name="new").rows, before)) == []


def test_the_page_keeps_the_words_and_shows_the_newest_whole_result() -> None:
    text = "before\n<!-- rows: wide -->\nold\n<!-- end -->\nafter\n"
    results = [result(0.6), result(0.7, "2026-02-01T00:00Z"), result(0.4, "2026-03-01T00:00Z", is_quick=True)]
    page = filled(text, results)
    assert "old" not in page
    assert page.startswith("before\n<!-- rows: wide -->\n")
    assert page.endswith("<!-- end -->\nafter\n")
    assert "| a | 0.700 |  | 0.5, missed | 0.7 s | b, 1 s |" in page
    assert "- **a** misses its target: memory" in page
    assert filled(page, results) == page


def test_a_benchmark_that_the_page_would_not_show_is_refused() -> None:
    with pytest.raises(ValueError, match=r"no block '<!-- rows: NAME -->' for: fresh"):
        filled("<!-- rows: wide -->\n<!-- end -->", [result(0.4, name="fresh")])


def one_then_failure() -> Iterator[int]:
    yield 1
    raise ZeroDivisionError("of the benchmark")


@pytest.mark.slow
def test_rows_before_a_failure_are_kept_and_its_words_arrive() -> None:
    rows = stream_apart(one_then_failure, limit=120)
    assert next(rows) == 1
    with pytest.raises(ApartError, match="ZeroDivisionError: of the benchmark"):
        next(rows)
    assert apart(abs, -3, limit=120) == 3


JUNIT = """<?xml version="1.0"?><testsuites><testsuite name="pytest" tests="3" time="120.5">
<testcase classname="tests.runs.test_a" name="one" time="30.0"/>
<testcase classname="tests.runs.test_a.TestB" name="two" time="150.0"/>
<testcase classname="tests.test_c" name="three" time="40.0"/>
</testsuite></testsuites>"""


def test_a_suite_is_bounded_by_the_time_of_its_tests_on_two_workers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(testing, "RECORDS", tmp_path)
    assert list(testing.rows(FULL)) == []
    (tmp_path / "fast.xml").write_text(JUNIT)
    (row,) = testing.rows(FULL)
    assert (row.ours, row.ratio, row.floor) == (120.5, 1.205, 1.1)
    assert "3 tests take 220 s" in row.bound
    assert "runs/test_a 180 s, test_c 40 s" in row.bound
    assert list(testing.rows(QUICK)) == []


def test_the_page_has_a_block_for_every_benchmark() -> None:
    found = [result(0.4, name=name) for name in BENCHMARKS]
    assert filled(PAGE.read_text("utf-8"), found).count("Measured 2026-01-01") == len(BENCHMARKS)
