"""What a comparison would run: methods, seeds, and one config for all."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from relax_rl.errors import ConfigError
from relax_rl.workflows.compare.plan import parse_methods, parse_seeds, plan_runs
from support.comparisons import SMALL


def test_methods_take_options_and_colons_within_values() -> None:
    plain, shaped = parse_methods("grpo, relax:xi=quantile:0.8:dictionary.steps=9:trainer.learning_rate=1e-4")
    assert (plain.label, plain.settings) == ("grpo", ("--objective.name=grpo",))
    assert shaped.settings == (
        *("--objective.name=relax", "--objective.xi=quantile:0.8"),
        *("--dictionary.steps=9", "--trainer.learning_rate=1e-4"),
    )


def test_a_method_of_ones_own_takes_options_too() -> None:
    plain, tuned = parse_methods(["own.losses:mine", "own.losses:mine:tau=0.1:text=a:b:trainer.top_k=3"])
    assert plain.settings == ("--objective.name=own.losses:mine",)
    assert tuned.settings == (
        *("--objective.name=own.losses:mine", "--objective.tau=0.1", "--objective.text=a:b", "--trainer.top_k=3"),
    )
    assert (plain.folder, tuned.folder) == ("own.losses-mine", "own.losses-mine-tau=0.1-text=a-b-trainer.top_k=3")


def test_a_file_of_methods_is_the_same_as_the_words(tmp_path: Path) -> None:
    file = tmp_path / "methods.toml"
    file.write_text('[grpo]\nobjective = "grpo"\n["ReLaX, more"]\nobjective = {name = "relax", alpha = 0.3}\n')
    named = plan_runs("countdown", SMALL, parse_methods(str(file)), [4], tmp_path)
    worded = plan_runs("countdown", SMALL, parse_methods("grpo,relax:alpha=0.3"), [4], tmp_path)
    assert [run.method for run in named] == ["grpo", "ReLaX, more"]
    assert [run.config.objective for run in named] == [run.config.objective for run in worded]
    assert named[1].config.output == str(tmp_path / "ReLaX-more" / "seed4")
    tables = {"grpo": {"objective": "grpo"}, "ReLaX, more": {"objective": {"name": "relax", "alpha": 0.3}}}
    assert [run.config for run in plan_runs("countdown", SMALL, parse_methods(tables), [4], tmp_path)] == [
        run.config for run in named
    ]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("grpo,grpo", "'grpo' is named twice"),
        ("relax:a=1:b=2,relax:a=1-b=2", "share a folder"),
        ("grpo,", "does not begin with a method"),
        ("none.toml", "cannot read none.toml"),
    ],
)
def test_methods_that_cannot_be_read_are_told(text: str, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        parse_methods(text)


@pytest.mark.parametrize(
    ("text", "seeds"), [("3", [0, 1, 2]), ("7,", [7]), ("3, 7", [3, 7]), (3, [0, 1, 2]), ([7], [7]), ((3, 7), [3, 7])]
)
def test_seeds_are_a_number_or_a_list(text: int | str | Sequence[int], seeds: list[int]) -> None:
    assert parse_seeds(text) == seeds


@pytest.mark.parametrize("text", ["0", "-1", "1,1", "two", "", ",", "1001"])
def test_seeds_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="--seeds is"):
        parse_seeds(text)


def test_runs_of_a_seed_differ_in_the_method_alone(tmp_path: Path) -> None:
    runs = plan_runs("countdown", SMALL, parse_methods("grpo,relax:alpha=0.3"), [0, 5], tmp_path)
    assert [(run.method, run.seed) for run in runs] == [
        ("grpo", 0),
        ("relax:alpha=0.3", 0),
        ("grpo", 5),
        ("relax:alpha=0.3", 5),
    ]
    first, second = (run.config.model_dump(exclude={"objective", "output"}) for run in runs[:2])
    assert first == second
    assert runs[1].config.objective.options["alpha"] == 0.3
    assert runs[1].config.objective.options["xi"] == "quantile:0.9"  # the shipped config's own
    assert len({run.config.output for run in runs}) == 4
