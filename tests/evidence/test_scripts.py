"""What the studies' tables are made with: by hand, and against another way to the same number."""

import tomllib
from pathlib import Path

import numpy as np
import pytest

from evidence.exploration.runs import metrics_of
from evidence.measure.associations import partial_spearman, spearman
from evidence.measure.laws import blocks, laws
from evidence.studies import SECOND_FAMILY, some_methods, tables_of
from evidence.tables.choose import chosen, methods_file
from evidence.tables.figures import smooth
from evidence.tables.page import MARKED, PAGES, TABLES, changed_tables, with_tables
from evidence.tables.tables import read_table, write_table
from relax_rl.comparison.records import RunRecord
from relax_rl.evaluation.result import EvaluationResult
from relax_rl.objectives import is_verified
from relax_rl.statistics.intervals import Estimate
from relax_rl.training.objective import build_objective_from
from relax_rl.workflows.compare.plan import parse_methods, plan_runs

EVIDENCE = Path(__file__).parents[2] / "evidence"


@pytest.mark.parametrize("path", sorted((EVIDENCE / "methods").glob("*.toml")), ids=lambda path: path.stem)
def test_every_method_of_a_study_can_be_planned(path: Path, tmp_path: Path) -> None:
    base = EVIDENCE / ("pretrained.toml" if path.stem == "pretrained" else "training.toml")
    planned = plan_runs(str(base), [], parse_methods(str(path), ["evidence"]), [100], tmp_path, ["evidence"])
    assert [run.method for run in planned] == list(tomllib.loads(path.read_text()))
    for run in planned:
        build_objective_from(run.config)
        # Or `relax compare` would want --unverified.
        assert is_verified(run.config.objective.name)


def test_a_miniature_has_the_first_methods_of_a_file(tmp_path: Path) -> None:
    path = EVIDENCE / "methods" / "ablations.toml"
    few = some_methods(path, tmp_path / "methods" / "few.toml", list(tables_of(path))[:3])
    whole = tomllib.loads(path.read_text())
    assert list(tables_of(path)) == list(whole)
    assert list(tomllib.loads(few.read_text()).items()) == list(whole.items())[:3]


def test_the_second_family_has_the_strengths_that_countdown_chose(tmp_path: Path) -> None:
    path = EVIDENCE / "methods" / "head_to_head.toml"
    taken = tomllib.loads(some_methods(path, tmp_path / "second.toml", SECOND_FAMILY).read_text())
    whole = tomllib.loads(path.read_text())
    assert taken == {label: whole[label] for label in SECOND_FAMILY}


def test_the_published_strength_stays_unless_another_is_plainly_better() -> None:
    scored = {
        "a: published": {"mean@1": 0.30, "pass@16": 0.800},
        "a: other": {"mean@1": 0.30, "pass@16": 0.804},
        "b: published": {"mean@1": 0.30, "pass@16": 0.80},
        "b: twice": {"mean@1": 0.32, "pass@16": 0.79},
        "b: half": {"mean@1": 0.20, "pass@16": 0.90},
    }
    assert chosen(scored) == {"a": "a: published", "b": "b: twice"}


def test_chosen_strengths_make_a_file_of_methods(tmp_path: Path) -> None:
    objective = {"name": "relax", "alpha": 0.3, "xi": "quantile:0.9", "suspend_above_xi": False}
    run = RunRecord(Path("r"), "x", {"objective": objective}, (), {}, (), "relax, paper: alpha 0.3")
    path = tmp_path / "chosen.toml"
    beside = {"grpo": {"objective": {"name": "grpo"}}}
    path.write_text(methods_file({"relax, paper": "relax, paper: alpha 0.3"}, [run], beside))
    assert tomllib.loads(path.read_text()) == beside | {"relax, paper": {"objective": objective}}


def test_partial_rank_correlation_is_that_of_regression_residuals() -> None:
    rng = np.random.default_rng(0)
    given = rng.standard_normal(200)
    x, y = given + rng.standard_normal(200), given + rng.standard_normal(200)
    ranks = [np.argsort(np.argsort(values)).astype(float) for values in (x, y, given)]
    design = np.column_stack([np.ones(200), ranks[2]])
    left = [values - design @ np.linalg.lstsq(design, values, rcond=None)[0] for values in ranks[:2]]
    assert partial_spearman(x, y, given) == pytest.approx(np.corrcoef(*left)[0, 1])  # pyright: ignore[reportArgumentType, reportCallIssue]
    assert spearman(x, y) > partial_spearman(x, y, given)
    assert np.isnan(spearman(np.zeros(5), np.arange(5)))


def test_a_run_that_obeys_the_law_is_foretold_from_its_start() -> None:
    entropy = np.linspace(0.5, 0.1, 128) + 0.02 * np.sin(np.arange(128))
    reward = -1.5 * np.exp(entropy) + 3.0
    curves = [
        {"method": method, "seed": 26.0, "entropy": h, "reward": r + shift}
        for method, shift in (("grpo", 0.0), ("relax, paper", 0.1))
        for h, r in zip(entropy, reward, strict=True)
    ]
    found = {(row["method"], row["fit"]): row for row in laws(curves)}
    start = found["grpo", "start"]
    assert (start["a"], start["b"]) == (pytest.approx(1.5), pytest.approx(3.0))
    assert start["absolute_error"] == pytest.approx(0, abs=1e-9)
    assert start["stays_error"] > 0.1
    assert found["relax, paper", "whole of grpo"]["residual"] == pytest.approx(0.1)


def test_a_run_is_held_against_the_law_of_the_next_seed() -> None:
    entropy = np.linspace(0.5, 0.1, 128)
    curves = [
        {"method": "grpo", "seed": seed, "entropy": h, "reward": 3.0 - 1.5 * np.exp(h) + shift}
        for seed, shift in ((1.0, 0.0), (2.0, 0.1))
        for h in entropy
    ]
    residuals = {row["fit"]: row["residual"] for row in laws(curves) if "residual" in row}
    assert residuals == {
        "whole of grpo, seed 2": pytest.approx(-0.1),
        "whole of grpo, seed 1": pytest.approx(0.1),
    }


def test_a_run_without_a_law_says_why() -> None:
    curves = [{"method": "grpo", "seed": 1.0, "entropy": 0.3, "reward": 0.1 * (i % 2)} for i in range(128)]
    assert {row["refused"][:18] for row in laws(curves)} == {"the entropy stays "}


def test_means_of_blocks_and_of_the_last_values() -> None:
    assert blocks(np.arange(17.0)).tolist() == [3.5, 11.5]
    assert smooth([1.0, 3.0, 5.0, 7.0, 9.0]).tolist() == [1.0, 2.0, 3.0, 4.0, 6.0]


def test_a_table_is_read_as_it_was_written(tmp_path: Path) -> None:
    rows = [{"method": "grpo", "value": 0.25}, {"method": "relax", "value": float("nan"), "more": 3}]
    write_table(tmp_path / "t.csv", rows)
    first, second = read_table(tmp_path / "t.csv")
    assert (first["method"], first["value"]) == ("grpo", 0.25)
    assert (second["method"], second["more"]) == ("relax", 3.0)
    assert np.isnan([first["more"], second["value"]]).all()


def test_the_pages_show_every_table_of_the_results_once() -> None:
    assert list(changed_tables(PAGES, EVIDENCE / "results")) == []
    shown = [mark["name"] for path in PAGES.glob("*.md") for mark in MARKED.finditer(path.read_text("utf-8"))]
    assert sorted(shown) == sorted(TABLES)


def test_a_changed_number_in_a_folder_of_pages_is_named(tmp_path: Path) -> None:
    text = (PAGES / "study-h.md").read_text("utf-8")
    (tmp_path / "study-h.md").write_text(text.replace("| relax, paper | 0.174 |", "| relax, paper | 0.274 |"), "utf-8")
    assert list(changed_tables(tmp_path, EVIDENCE / "results")) == ["study-h.md: confirmation"]


def test_a_changed_number_on_the_page_is_seen() -> None:
    text = "<!-- table search -->\n| made up |\n<!-- end of table -->\nrest\n"
    written = with_tables(text, EVIDENCE / "results")
    assert "made up" not in written
    assert written.endswith("<!-- end of table -->\nrest\n")
    with pytest.raises(SystemExit, match="table 'nowhere'"):
        with_tables(text.replace("search", "nowhere"), EVIDENCE / "results")
    assert "search" in TABLES


def test_average_and_worst_are_those_of_the_evaluation_after_training() -> None:
    def value(number: float) -> Estimate:
        return Estimate(number, 0.0, 1.0)

    after = EvaluationResult(
        "figures", "test", 4, 1, 1.0, 1.0, 40, 0, {"mean@1": value(0.75), "dsd": value(0.1)},
        breakdown={"worst": value(0.5), "robustness": value(2 / 3), "consistency": value(1.0)},
    )  # fmt: skip
    assert metrics_of(after) == {"mean@1": 0.75, "worst": 0.5, "robustness": 2 / 3}
