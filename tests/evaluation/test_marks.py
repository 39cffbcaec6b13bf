"""What stands around a verdict in an evaluation: its record, the policy, published rules, thoughts, old folders."""

from __future__ import annotations

import json
from collections.abc import Container, Generator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from relax_rl.comparison.pairs import comparability, compare_results
from relax_rl.errors import ConfigError, DataError, RunError
from relax_rl.evaluation import Evaluation, EvaluationFolder, EvaluationResult, rescore
from relax_rl.evaluation.samplers.protocol import Completion, Draw, SamplingSettings
from relax_rl.rewards import BaseVerifier, CountdownVerifier, GradingBatch, MathVerifier, Verdict, Verifier
from relax_rl.tasks.base import Problem

BOXED, STATED, CUT = "So \\boxed{72}.", "The answer is 72.", "Maybe \\boxed{72}. But wait"


@dataclass
class Said:
    """Samples that are given, one row a problem."""

    rows: Sequence[Sequence[str]]
    prompt: str = "Q"
    backend: str = "transformers"
    fingerprint: str = "f"
    truncated: frozenset[str] = frozenset({CUT})

    def render(self, problem: Problem) -> str:
        return self.prompt

    def sample(
        self, problems: Sequence[Problem], settings: SamplingSettings, done: Container[tuple[int, int]] = frozenset()
    ) -> Generator[list[Draw]]:
        yield [
            Draw(place, index, Completion(text, (), 1, text in self.truncated))
            for place, row in enumerate(self.rows)
            for index, text in enumerate(row)
            if (place, index) not in done
        ]


@dataclass
class Sums:
    name: str = "gsm8k"
    golds: Sequence[str] = ("72",)
    options: Sequence[str] = ()
    verifier: Verifier = field(default_factory=lambda: MathVerifier(num_workers=1))

    def problems(self, split: str, count: int | None = None, seed: int = 0) -> list[Problem]:
        return [Problem(str(n), "Q", gold, options=tuple(self.options)) for n, gold in enumerate(self.golds)]


def run(
    rows: Sequence[Sequence[str]], task: Any = None, folder: Path | None = None, **settings: Any
) -> EvaluationResult:
    sampler = Said(rows, **{name: settings.pop(name) for name in ("prompt", "backend") if name in settings})
    evaluation = Evaluation(
        sampler, task or Sums(), SamplingSettings(len(rows[0]), 8), num_problems=len(rows), **settings
    )
    return evaluation.run(None if folder is None else EvaluationFolder(folder))


def records(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "samples.jsonl").read_text().splitlines()]


def test_verdict_type_how_and_why_not_are_in_the_record(tmp_path: Path) -> None:
    run([[BOXED, "no idea", "\\boxed{" + "9" * 2001 + "}"]], folder=tmp_path / "e")
    right, none, long = records(tmp_path / "e")
    assert (right["score"], right["how"], right["reason"]) == (1.0, "boxed", None)
    assert (none["score"], none["how"]) == (0.0, "no answer")
    assert (long["score"], long["reason"]) == (0.0, "too long")
    assert "2001 characters" in long["detail"]


class Typed(BaseVerifier):
    name = "typed"

    def verdicts(self, batch: GradingBatch) -> list[Verdict]:
        return [Verdict(None, "1", "boxed", "error", "its words", type="interval")] * len(batch)


def test_the_type_of_the_gold_answer_is_in_the_record(tmp_path: Path) -> None:
    run([[BOXED]], Sums(verifier=Typed()), folder=tmp_path / "e")
    (row,) = records(tmp_path / "e")
    assert (row["type"], row["reason"], row["detail"]) == ("interval", "error", "its words")


def test_the_published_rules_of_the_benchmark_stand_beside_our_score(tmp_path: Path) -> None:
    result = run([[BOXED, "#### 72", "<think>\\boxed{72}"]], folder=tmp_path / "e")
    scores = [
        (row["score"], row["official"]["gsm8k"], row["official"]["gsm8k_flexible"]) for row in records(tmp_path / "e")
    ]
    assert scores == [(1.0, 0.0, 1.0), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0)]
    assert result.metrics["official/gsm8k"].value == pytest.approx(1 / 3)
    assert result.metrics["official/gsm8k_flexible"].value == pytest.approx(2 / 3)
    other = run([[BOXED]], Sums(name="own"))
    assert not [name for name in other.metrics if name.startswith("official")]


def test_the_policy_is_a_part_of_the_evaluation(tmp_path: Path) -> None:
    folder = tmp_path / "e"
    usual, strict = run([[BOXED, STATED]], folder=folder), run([[BOXED, STATED]], policy="strict")
    assert (usual.metrics["mean@1"].value, strict.metrics["mean@1"].value) == (1.0, 0.5)
    assert (usual.grading, strict.grading) == ({}, {"policy": "strict"})
    assert EvaluationResult.from_json(strict.to_json()).grading == strict.grading
    assert "grading" not in json.loads(usual.to_json())
    with pytest.raises(RunError, match=r"another evaluation: grading is None there and \{'policy': 'strict'\} here"):
        run([[BOXED, STATED]], folder=folder, policy="strict")
    with pytest.raises(DataError, match=r"policy is default in the first and strict in the second.*--despite policy"):
        compare_results(usual, strict)
    assert compare_results(usual, strict, despite=["policy"])
    assert comparability(strict, strict).is_comparable
    with pytest.raises(ConfigError, match=r"no policy 'strickt'.*strict"):
        run([[BOXED]], policy="strickt")
    with pytest.raises(ConfigError, match="'countdown' finds the answer in its own way and takes no policy"):
        run([[BOXED]], Sums(verifier=CountdownVerifier()), policy="strict")


def test_other_options_of_the_verifier_are_a_part_too() -> None:
    comma = Sums(verifier=MathVerifier(num_workers=1, decimal_comma=True))
    with pytest.raises(DataError, match=r"grading is default in the first and \{'decimal_comma': True\} in the second"):
        compare_results(run([[BOXED]]), run([[BOXED]], comma))


def test_a_thought_that_the_prompt_opened_is_recorded(tmp_path: Path) -> None:
    rows = [[CUT, "hm</think>\\boxed{72}"]]
    result = run(rows, prompt="Q<think>\n", folder=tmp_path / "e")
    assert [(row["score"], row["opened"]) for row in records(tmp_path / "e")] == [
        (0.0, "<think>\n"),
        (1.0, "<think>\n"),
    ]
    assert result.metrics["mean@1"].value == 0.5
    assert run(rows).metrics["mean@1"].value == 1.0


def test_a_server_whose_completions_close_a_thought_has_opened_it() -> None:
    """Its template is out of sight: a completion that was cut inside its thought would pay otherwise."""
    thinking = [["so</think>\\boxed{72}", "hm</think>\\boxed{72}", CUT]]
    assert run(thinking, backend="server").metrics["mean@1"].value == pytest.approx(2 / 3)
    plain = [["\\boxed{72}", "so</think>\\boxed{72}", "\\boxed{72}", CUT]]
    assert run(plain, backend="server").metrics["mean@1"].value == 1.0


@pytest.mark.parametrize("marker_in", ["sample", "settings", "prompt"])
def test_a_folder_of_an_earlier_version_is_graded_again(tmp_path: Path, marker_in: str) -> None:
    folder = EvaluationFolder(tmp_path / "e")
    run([[CUT, "hm</think>\\boxed{72}"]], prompt="Q<think>\n", folder=folder.path)
    rows, dropped = records(folder.path), {"type", "detail", "official", *({"opened"} - {marker_in})}
    dropped -= {"opened"} if marker_in == "sample" else set()
    old = [{name: value for name, value in row.items() if name not in dropped} | {"score": 1.0} for row in rows]
    folder.samples_path.write_text("".join(json.dumps(row) + "\n" for row in old))
    settings = json.loads(folder.settings_path.read_text())
    if marker_in == "prompt":
        del settings["opened"]
    folder.settings_path.write_text(json.dumps(settings))
    found = rescore(folder, Sums())
    assert (found.num_changed, found.changes) == (1, {(1.0, 0.0): 1})
    assert found.result.metrics["mean@1"].value == 0.5
    assert found.result.metrics["official/gsm8k_flexible"].value == 0.5
    assert [row["opened"] for row in records(folder.path)] == ["<think>\n"] * 2


def test_grading_again_with_another_policy_changes_the_identity(tmp_path: Path) -> None:
    folder = EvaluationFolder(tmp_path / "e")
    run([[BOXED, STATED]], folder=folder.path)
    found = rescore(folder, Sums(), Sums().verifier.with_policy("strict"))  # type: ignore[attr-defined]
    assert found.changes == {(1.0, 0.0): 1}
    assert folder.read_settings()["grading"] == found.result.grading == {"policy": "strict"}
    assert run([[BOXED, STATED]], folder=folder.path, policy="strict") == found.result
    with pytest.raises(RunError, match="grading"):
        run([[BOXED, STATED]], folder=folder.path)


def test_the_options_of_a_problem_reach_the_verifier() -> None:
    assert run([["\\boxed{B}"]], Sums(golds=("12",), options=("10", "12", "14"))).metrics["mean@1"].value == 1.0
    assert run([["\\boxed{B}"]], Sums(golds=("12",))).metrics["mean@1"].value == 0.0
