"""Study I: its design can be run, its criterion decides made-up rows rightly, and its page says what is missing."""

from __future__ import annotations

import importlib
import random
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from evidence.exploration import runs
from evidence.exploration.design import (
    CONFIRMATION,
    DEVELOPMENT_SEEDS,
    FRONTIER,
    J_DESIGN,
    REPORTING_SEEDS,
    Design,
    Run,
    Stage,
    Start,
    read_design,
)
from evidence.exploration.paired import compared, gain, paired
from evidence.exploration.picture import frontier_picture, save_picture
from evidence.exploration.report import PARTS, with_parts
from evidence.exploration.scale import Scale
from evidence.exploration.table import finished, read_runs
from evidence.exploration.verdicts import against_controls, discoveries, says_yes, verdicts
from evidence.tables.page import answered, paired_by_seed
from evidence.tables.tables import Rows, read_table, write_table
from relax_rl.config import load_config
from relax_rl.errors import ConfigError, DataError
from relax_rl.objectives import RunLimits, build_objective
from relax_rl.rewards.countdown import CountdownAnswer
from relax_rl.rewards.subset_sum import SubsetSumVerifier
from relax_rl.tasks.many_solutions import ManySolutionsTask
from relax_rl.tasks.registry import build_task
from relax_rl.training.objective import build_objective_from

ROOT = Path(__file__).parents[2]
SCRIPTS, EVIDENCE, PAGE = ROOT / "scripts", ROOT / "evidence", ROOT / "docs/research/evidence/study-i.md"
STRENGTHS = {"kl 0": (0.6, 3.0), "kl 0.1": (0.4, 4.0), "kl 1": (0.3, 4.2)}


def made_up(study: str, offsets: dict[str, float], seeds: range | tuple[int, ...], accuracy: float = 0.5) -> Rows:
    """Rows of methods that lie so far above the made-up frontier, which is 3.5 at a mean@1 of 0.5."""
    noise = random.Random(study)
    return [
        {
            "study": study,
            "start": "sums",
            "method": method,
            "seed": seed,
            "mean@1": accuracy,
            "modes@16": 3.5 + offset + noise.uniform(-0.01, 0.01),
        }
        for method, offset in offsets.items()
        for seed in seeds
    ]


def traced(seeds: range | tuple[int, ...]) -> Rows:
    return [
        {"study": FRONTIER, "start": "sums", "method": method, "seed": seed, "mean@1": mean, "modes@16": modes}
        for method, (mean, modes) in STRENGTHS.items()
        for seed in seeds
    ]


EIGHT = range(41, 49)


def test_the_seeds_are_apart_and_enough_for_the_criterion() -> None:
    further = {seed for stage in read_design().stages for seed in stage.further_seeds}
    assert not set(DEVELOPMENT_SEEDS) & (set(REPORTING_SEEDS) | further)
    assert not further & set(REPORTING_SEEDS)
    largest = max(len(stage.methods) for stage in read_design().stages if stage.study != FRONTIER)
    # The smallest p-value of a sign-flip test, corrected for the methods of a question.
    assert largest * 2 / 2 ** len(REPORTING_SEEDS) < 0.05


def test_every_run_of_the_design_has_settings_and_an_objective(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(runs, "built", lambda start, scale: Path("tiny"))
    monkeypatch.setattr(runs, "bank", lambda start, scale: tmp_path)
    design = read_design()
    scale = Scale(design, tmp_path, tmp_path)
    assert {stage.start for stage in design.stages} == set(design.starts)
    for run in design.runs((100,)):
        settings = runs.settings_of(run, scale.of(run.start), tmp_path / "run")
        assert settings.objective.name == run.stage.methods[run.method]["name"]
        assert settings.task.name == run.start.task["name"]
        build_objective_from(settings)
    for start in design.starts.values():
        assert (SCRIPTS / start.script).is_file()


def test_study_j_begins_with_a_policy_by_its_name_and_has_a_table_of_its_own(tmp_path: Path) -> None:
    design = read_design(J_DESIGN)
    scale = Scale(design, tmp_path, tmp_path)
    planned = list(design.runs(scale.seeds))
    assert len(planned) == 48
    assert not set(design.seeds) & {*DEVELOPMENT_SEEDS, *REPORTING_SEEDS}
    for run in planned[:6]:
        settings = runs.settings_of(run, scale, tmp_path / "run")
        assert (settings.model, settings.task.name, settings.objective.name) == ("figures", "figures", run.method)
        # Strengths are those that were chosen without matched steps.
        assert "match_rms" not in settings.objective.options
        build_objective_from(settings)
    write_table(tmp_path / "j_runs.csv", [dict(zip(("study", "start", "method", "seed"), planned[0].key, strict=True))])
    assert read_runs(tmp_path) == []
    assert [row["method"] for row in read_runs(tmp_path, design.table)] == [planned[0].method]


def test_differences_of_study_j_are_paired_by_seed_and_corrected() -> None:
    def row(method: str, seed: int, average: float, study: str = "j") -> dict[str, Any]:
        return {"study": study, "method": method, "seed": seed, "mean@1": average, "worst": average / 2}

    levels = {51: 0.30, 52: 0.34, 53: 0.26}
    rows = [row("start", 0, 0.2, "start")]
    rows += [row("grpo", seed, level) for seed, level in levels.items()]
    # Paired, the spread of the seeds does not count; unpaired, it would hide the difference.
    rows += [row("better", seed, level + 0.05 + 0.001 * (seed - 52)) for seed, level in levels.items()]
    rows += [row("unfinished", 51, 0.9)]
    found = {one["method"]: one for one in paired(rows, "mean@1")}
    assert found["grpo"]["value"] == pytest.approx(0.3)
    assert found["better"]["difference"] == pytest.approx(0.05)
    assert found["better"]["difference_low"] > 0.04
    assert found["better"]["corrected_p"] == found["better"]["p"] < 0.001
    assert "difference" not in found["grpo"] | found["unfinished"]
    learned = gain(rows)
    assert learned is not None
    assert learned.value == pytest.approx(0.1)
    assert learned.low < 0.1 < learned.high


def test_study_j_answers_its_questions_when_every_run_is_in(tmp_path: Path) -> None:
    """GRPO gains .1; relax is .05 below it in average in every seed; papo scatters around it; the rest is as good."""
    design = read_design(J_DESIGN)
    rows: list[dict[str, Any]] = [
        {"study": "start", "method": "start", "seed": 0, "mean@1": 0.2, "worst": 0.01, "updates": 0}
    ]
    for run in design.runs():
        scatter = 0.01 * (run.seed % 2) + 0.001 * (run.seed - 54)
        shift = {"relax": -0.05 + scatter / 10, "papo": 0.03 * (-1) ** run.seed}.get(
            run.method, 0.001 * (-1) ** run.seed
        )
        figures = {"mean@1": 0.3 + scatter + shift * (run.method != "grpo"), "updates": 64}
        figures["worst"] = 0.1 + scatter + 0.001 * (-1) ** (run.seed // 2) * (run.method != "grpo")
        means = {
            "pass@16": 0.7,
            "entropy": 0.3,
            "robustness": 0.3,
            "update_rms": 2e-4 if run.method == "papo" else 1e-4,
        }
        rows.append(dict(zip(("study", "start", "method", "seed"), run.key, strict=True)) | figures | means)

    def tables(of: list[dict[str, Any]]) -> tuple[str, str]:
        write_table(tmp_path / "j_methods.csv", compared(of))
        found = read_table(tmp_path / "j_methods.csv")
        return paired_by_seed(found), answered(found)

    methods, answers = tables(rows)
    assert "no verdict yet" not in methods + answers
    (relax,) = [line for line in methods.splitlines() if line.startswith("| relax")]
    assert "**-0.049 [" in relax
    assert [line.split(" | ")[-1].rstrip(" |") for line in answers.splitlines()[2:]] == [
        "yes", "yes, lower", "no difference found", "no difference found", *["no difference found"] * 3
    ]  # fmt: skip
    assert [line.rstrip(" |").rpartition(" ")[2] for line in methods.splitlines()[2:]] == [
        "1.00", "1.00", "1.00", "2.00", "1.00", "1.00"
    ]  # fmt: skip
    # One run short, nothing is decided, of no method.
    methods, answers = tables(rows[:-1])
    assert "**" not in methods
    assert answers.count("no verdict yet") == 7
    with pytest.raises(SystemExit, match="runs of 32 and of 64 updates cannot be compared"):
        compared([*rows[:-1], rows[-1] | {"updates": 32}])


@pytest.mark.parametrize("start", list(read_design().starts.values()), ids=lambda start: start.folder)
def test_the_script_of_a_start_takes_its_arguments(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    monkeypatch.setattr(
        sys, "argv", [start.script, *start.arguments, "--output", "x", *Scale.small(read_design(), ROOT, ROOT).building]
    )
    module = importlib.import_module(start.script.removesuffix(".py"))
    for name in ("build_sums_policy", "build_muted_policy", "build_tiny_policy"):
        sys.modules.pop(name, None)
    assert module.parse_arguments().output == Path("x")


def test_all_methods_of_a_seed_come_before_the_next_seed() -> None:
    start = Start("sums", "x.py", {"name": "many_solutions"})
    stages = (Stage("i1", "sums", {"a": {}, "b": {}}), Stage("i5", "sums", {"c": {}}))
    keys = [run.key for run in Design({"sums": start}, stages).runs((1, 2))]
    assert [(key[2], key[3]) for key in keys] == [("a", 1), ("b", 1), ("a", 2), ("b", 2), ("c", 1), ("c", 2)]


def test_further_seeds_come_after_all_stages_and_only_where_no_others_are_asked_for() -> None:
    start = Start("sums", "x.py", {"name": "many_solutions"})
    stages = (Stage("i1", "sums", {"a": {}}, further_seeds=(61,)), Stage("i5", "sums", {"c": {}}))
    design = Design({"sums": start}, stages)
    keys = [(run.method, run.seed) for run in design.runs()]
    assert keys == [("a", seed) for seed in REPORTING_SEEDS] + [("c", seed) for seed in REPORTING_SEEDS] + [("a", 61)]
    assert [(run.method, run.seed) for run in design.runs((1,))] == [("a", 1), ("c", 1)]


def test_only_what_lies_above_the_frontier_of_its_seed_is_better() -> None:
    rows = traced(EIGHT) + made_up("i1", {"better": 0.3, "within the margin": 0.04, "worse": -0.5}, EIGHT)
    found = {row["method"]: row for row in verdicts(rows)}
    assert {method: row["verdict"] for method, row in found.items()} == {
        "better": "above",
        "within the margin": "not above",
        "worse": "not above",
    }
    assert found["better"]["distance"] == pytest.approx(0.3, abs=0.01)
    assert found["better"]["low"] < 0.3 < found["better"]["high"]
    assert says_yes(rows, "i1")


def test_fewer_seeds_have_a_distance_and_no_verdict() -> None:
    rows = traced(EIGHT[:5]) + made_up("i1", {"better": 0.3}, EIGHT[:5])
    (row,) = verdicts(rows)
    assert (row["seeds"], row["verdict"]) == (5, "no verdict yet")
    assert "p" not in row
    assert not says_yes(rows, "i1")


def test_a_seed_without_its_whole_frontier_counts_for_nothing() -> None:
    rows = [*traced(EIGHT[:7]), *traced(EIGHT[7:])[:2], *made_up("i1", {"better": 0.3}, EIGHT)]
    (row,) = verdicts(rows)
    assert row["seeds"] == 7


def test_accuracy_beyond_the_frontier_is_not_taken_for_breadth() -> None:
    (row,) = verdicts(traced(EIGHT) + made_up("i1", {"sharp": -0.5}, EIGHT, accuracy=0.9))
    assert row["distance"] == pytest.approx(0.0, abs=0.01)
    assert row["verdict"] == "not above"


def test_a_latent_method_is_held_against_its_own_controls() -> None:
    offsets = {"latent": 0.4, "latent, tokens": 0.1, "latent, shuffled": 0.4, "other": 0.2}
    rows = traced(EIGHT) + made_up("i2", offsets, EIGHT)
    found = {row["control"]: row for row in against_controls(rows)}
    assert set(found) == {"latent, tokens", "latent, shuffled"}
    assert found["latent, tokens"]["corrected_p"] < 0.05
    assert found["latent, tokens"]["difference"] == pytest.approx(0.3, abs=0.02)
    assert found["latent, shuffled"]["corrected_p"] > 0.05
    assert {row["method"] for row in verdicts(rows)} == {"latent", "other"}


def test_discovery_is_paired_with_grpo_by_seed() -> None:
    rows: Rows = [
        {
            "study": "i3",
            "start": "muted 0.003",
            "method": method,
            "seed": seed,
            "first_reward": first + seed,
            "discovered": 3,
            "mean@1": 0.1,
        }
        for method, first in (("grpo", 40), ("maxrl", 20), ("counts", 40))
        for seed in EIGHT
    ]
    found = {row["method"]: row for row in discoveries(rows)}
    assert found["maxrl"]["difference"] == -20
    assert found["maxrl"]["corrected_p"] < 0.05
    assert found["counts"]["corrected_p"] == 1
    assert "p" not in found["grpo"]


@pytest.mark.parametrize(("task", "counted"), [("maze", 3), ("countdown_muted", 2)])
def test_discovery_counts_all_problems_but_of_a_muted_task_those_that_need_the_sign(task: str, counted: int) -> None:
    settings = load_config({"task": task, "train_problems": 16, "trainer": {"max_steps": 9}})
    problems = build_task(task).problems("train", 16, settings.seed)
    chosen = [*(p for p in problems if p.columns.get("needs_operator"))][:2] or problems[:2]
    chosen += [p for p in problems if not p.columns.get("needs_operator") and p not in chosen][:1]

    class Rollouts:
        """One rollout batch at update 3 with a right completion of each problem."""

        completion_steps = staticmethod(lambda: [2, 3])
        read_completions = staticmethod(
            lambda step: [{"problem_id": problem.id, "reward": float(step == 3)} for problem in chosen]
        )

    found = runs._discovered(Rollouts(), settings)  # type: ignore[arg-type]
    assert found == {"first_reward": 3, "discovered": counted}


def test_a_start_has_settings_of_its_own_which_the_command_line_outdoes(tmp_path: Path) -> None:
    start = Start(
        "maze", "x.py", {"name": "maze"}, settings={"trainer.max_completion_length": 112, "train_problems": 8}
    )
    scale = replace(Scale(read_design(), tmp_path, tmp_path), changes={"train_problems": 4}).of(start)
    assert scale.max_completion_length == 112
    assert scale.settings.train_problems == 4


def test_anchored_coverage_is_the_loss_of_the_anchor_with_the_credit_of_coverage() -> None:
    limits = RunLimits(max_completion_length=48, group_size=8, updates=64)
    name = "evidence.exploration.anchored_coverage:anchored_coverage"
    options = {"anchor": "recoverability_floor", "bank": "bank", "k": 4, "beta": 0.1}
    objective = build_objective(name, limits, **options)
    anchored = build_objective("recoverability_floor", limits, bank="bank", beta=0.1)
    credit = build_objective("coverage", limits, k=4)
    assert objective.regularizers == anchored.regularizers
    assert objective.reference_coefficient == 0.1
    assert objective.advantage == credit.advantage
    assert objective.inputs == anchored.inputs | credit.inputs
    assert build_objective(name, limits, **options, match_rms=True).advantage == credit.matched().advantage
    with pytest.raises(ConfigError, match=r"k is 9, but groups of 8"):
        build_objective(name, limits, **{**options, "k": 9})
    with pytest.raises(ConfigError, match="slck"):
        build_objective(name, limits, anchor="latent_anchor", anchor_options={"slck": 1.0})


def test_the_page_says_how_much_is_in() -> None:
    text = "".join(f"<!-- part {name} -->\nold\n<!-- end of part -->\n" for name in PARTS)
    partial = with_parts(text, traced(EIGHT[:3]) + made_up("i1", {"mode_max_rl": 0.3}, EIGHT[:3]))
    assert "old" not in partial
    assert "no verdict yet, at 3 seeds" in partial
    assert "waits for the verdict of I1" in partial
    assert "No run of this is in yet." in partial
    whole = with_parts(text, traced(EIGHT) + made_up("i1", {"mode_max_rl": 0.3}, EIGHT))
    assert "mode_max_rl above the frontier in modes@16; 1 tried." in whole
    methods = [name for stage in read_design().stages if stage.study == "i1" for name in stage.methods][:4]
    refuted = traced(EIGHT) + made_up("i1", dict.fromkeys(methods, 0.0), EIGHT)
    assert "not made, because I1 says no" in with_parts(text, refuted)
    assert "none of 4 methods is above the frontier in modes@16" in with_parts(text, refuted)
    alone = traced(EIGHT) + made_up("i1", {"mode_max_rl": 0.0}, EIGHT)
    assert "on sums**: mode_max_rl is not above the frontier in modes@16." in with_parts(text, alone)
    assert whole == with_parts(whole, traced(EIGHT) + made_up("i1", {"mode_max_rl": 0.3}, EIGHT))


def test_the_page_is_that_of_the_runs() -> None:
    text = PAGE.read_text("utf-8")
    # Else: python -m evidence.exploration.report --page docs/research/evidence/study-i.md
    confirming = read_runs(EVIDENCE / "results", read_design(CONFIRMATION).table)
    assert with_parts(text, read_runs(EVIDENCE / "results"), confirming) == text


def test_the_confirmation_is_the_method_that_passed_on_seeds_of_its_own() -> None:
    study, confirmation = read_design(), read_design(CONFIRMATION)
    used = {run.seed for design in (study, read_design(J_DESIGN)) for run in design.runs()} | set(DEVELOPMENT_SEEDS)
    assert not used & set(confirmation.seeds)
    assert confirmation.starts["sums"] == study.starts["sums"]
    for stage in confirmation.stages:
        first = next(other for other in study.stages if (other.study, other.start) == (stage.study, stage.start))
        assert stage.methods.items() <= first.methods.items()
        assert stage.bank == first.bank


def test_the_picture_is_the_same_for_the_same_rows(tmp_path: Path) -> None:
    rows = traced(EIGHT) + made_up("i1", {"mode_max_rl": 0.3}, EIGHT)
    for name in ("one.svg", "two.svg"):
        figure = frontier_picture(rows)
        assert figure is not None
        save_picture(figure, tmp_path / name)
    assert (tmp_path / "one.svg").read_bytes() == (tmp_path / "two.svg").read_bytes()
    assert frontier_picture([]) is None


def without_building(monkeypatch: pytest.MonkeyPatch, weights: str = "sha256:0") -> None:
    monkeypatch.setattr(runs, "digest", lambda start, scale: weights)
    monkeypatch.setattr(runs, "measured", lambda start, scale: None)
    monkeypatch.setattr(runs, "metrics_of", lambda result: {"mean@1": 0.2})


def test_runs_from_other_weights_do_not_join_the_table(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    trained: list[str] = []

    def perform(run: Run, scale: Scale) -> dict[str, Any]:
        trained.append(run.method)
        return made_up("i1", {run.method: 0.0}, (run.seed,))[0]

    monkeypatch.setattr(runs, "perform", perform)
    first = Design({"sums": Start("sums", "x.py", {})}, (Stage("i1", "sums", {"a": {}}),))
    both = Design(first.starts, (Stage("i1", "sums", {"a": {}, "b": {}}),))
    scale = Scale(first, tmp_path, tmp_path, seeds=(1,))
    without_building(monkeypatch, "sha256:1")
    runs.run_all(scale, lambda sentence: None)
    before = (tmp_path / "i_runs.csv").read_bytes()
    without_building(monkeypatch, "sha256:2")
    with pytest.raises(SystemExit, match=r"other weights of the start 'sums' .sha256:1. .* remove the rows"):
        runs.run_all(replace(scale, design=both), lambda sentence: None)
    assert (trained, (tmp_path / "i_runs.csv").read_bytes()) == (["a"], before)
    without_building(monkeypatch, "sha256:1")
    runs.run_all(replace(scale, design=both), lambda sentence: None)
    assert trained == ["a", "b"]


def test_a_finished_run_is_not_repeated(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    trained: list[tuple[str, int]] = []

    def perform(run: Run, scale: Scale) -> dict[str, Any]:
        if run.seed == 2 and run.method == "b" and len(trained) < 4:
            raise KeyboardInterrupt
        trained.append((run.method, run.seed))
        return {"study": "i1", "start": "sums", "method": run.method, "seed": run.seed, "mean@1": 0.5}

    monkeypatch.setattr(runs, "perform", perform)
    without_building(monkeypatch)
    design = Design({"sums": Start("sums", "x.py", {})}, (Stage("i1", "sums", {"a": {}, "b": {}}),))
    scale = Scale(design, tmp_path, tmp_path, seeds=(1, 2))
    with pytest.raises(KeyboardInterrupt):
        runs.run_all(scale, lambda sentence: None)
    assert [(row["method"], row["seed"]) for row in read_runs(tmp_path)[1:]] == [("a", 1), ("b", 1), ("a", 2)]
    trained.append(("-", 0))
    runs.run_all(scale, lambda sentence: None)
    assert trained == [("a", 1), ("b", 1), ("a", 2), ("-", 0), ("b", 2)]


def test_a_run_that_cannot_be_made_is_a_row_and_counts_for_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def perform(run: Run, scale: Scale) -> dict[str, Any]:
        if run.method == "relax, robust":
            raise DataError("too short")
        return made_up("i5", {run.method: 0.0}, (run.seed,))[0]

    monkeypatch.setattr(runs, "perform", perform)
    without_building(monkeypatch)
    methods = {"relax, robust": {}, "relax, paper": {}}
    said: list[str] = []
    write_table(tmp_path / "i_runs.csv", traced(EIGHT))
    design = Design({"sums": Start("sums", "x.py", {})}, (Stage("i5", "sums", methods),))
    for _ in range(2):
        runs.run_all(Scale(design, tmp_path, tmp_path, seeds=(41,)), said.append)
    rows = read_runs(tmp_path)
    assert [line.split(": ", 1)[1] for line in said if "robust" in line] == ["too short"]
    assert [row["method"] for row in verdicts(finished(rows))] == ["relax, paper"]
    text = "<!-- part progress -->\n<!-- end of part -->\n"
    assert "- Failed: I5, sums, relax, robust, seed 41. too short\n" in with_parts(text, rows)


def test_a_stage_waits_for_the_study_that_it_needs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    trained: list[str] = []

    def perform(run: Run, scale: Scale) -> dict[str, Any]:
        trained.append(run.method)
        return made_up("i2", {run.method: 0.0}, (run.seed,))[0]

    monkeypatch.setattr(runs, "perform", perform)
    without_building(monkeypatch)
    design = Design({"sums": Start("sums", "x.py", {})}, (Stage("i2", "sums", {"latent": {}}, needs="i1"),))
    for offset, expected in ((0.0, []), (0.5, ["latent"])):
        write_table(tmp_path / "i_runs.csv", traced(EIGHT) + made_up("i1", {"mode_max_rl": offset}, EIGHT))
        runs.run_all(Scale(design, tmp_path, tmp_path, seeds=(41,)), lambda sentence: None)
        assert trained == expected


def test_the_traces_of_the_sums_policy_tell_the_truth(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    from build_sums_policy import sum_trace

    for name in ("build_sums_policy", "build_tiny_policy"):
        sys.modules.pop(name)
    rng, verifier = random.Random(0), SubsetSumVerifier()
    problems = ManySolutionsTask(kind="subset_sum", num_numbers=7, max_number=9, max_target=24).problems("train", 20)
    rates = {}
    for aimed in (0.0, 1.0):
        right = 0
        for problem in problems * 10:
            prompt, text = sum_trace(problem, rng, aimed)
            given = CountdownAnswer.parse(prompt.removesuffix(":"))
            gold = CountdownAnswer.parse(problem.answer)
            assert given is not None
            assert gold is not None
            assert sorted(given.numbers) == sorted(gold.numbers)
            steps, committed = text.removesuffix("</answer>").split("<answer>")
            terms = [int(term) for term in committed.split("+")]
            total, expected = terms[0], str(terms[0])
            for term in terms[1:]:
                total += term
                expected += f"+{term}={total}"
            assert steps == expected
            right += verifier.score([text], [problem.answer])[0] == 1.0
        rates[aimed] = right / 200
    assert rates[1.0] == 1.0
    assert 0.05 < rates[0.0] < 0.5
