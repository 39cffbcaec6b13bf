"""The shipped configs: each loads, is rehearsed for its hardware and fits, and its numbers are the paper's."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest

from relax_rl.cli.main import main
from relax_rl.config import load_config, shipped_configs
from relax_rl.config.recipes import Recipe, recipes
from relax_rl.workflows.memory.rehearsal import plan_for
from support.shapes import folder_of

PAPER = Path(__file__).parents[3] / "shared" / "paper"
NAMES = [recipe.name for recipe in recipes()]


def test_every_config_is_a_recipe_and_the_reverse() -> None:
    assert sorted([*NAMES, "countdown", "countdown_muted", "figures"]) == shipped_configs()


@pytest.mark.parametrize("recipe", recipes(), ids=NAMES)
def test_a_recipe_is_rehearsed_for_its_hardware(recipe: Recipe, tmp_path: Path) -> None:
    """Without weights: from the model's configuration alone."""
    folder = folder_of(load_config(recipe.name).model, tmp_path)
    planned = plan_for(recipe.name, recipe.hardware, overrides={"model": str(folder)})
    assert planned.memory.fits, planned.memory.words()
    assert planned.memory.load.is_checkpointed


@pytest.mark.parametrize(
    "recipe", [one for one in recipes() if "paper's settings" in one.about], ids=lambda one: one.name
)
def test_the_paper_s_settings_are_those_of_its_table(recipe: Recipe, tmp_path: Path) -> None:
    folder = folder_of(load_config(recipe.name).model, tmp_path)
    planned = plan_for(recipe.name, recipe.hardware, overrides={"model": str(folder)})
    plan, settings = planned.plan, planned.settings
    assert (plan.prompts_per_rollout, plan.prompts_per_update, plan.group_size) == (512, 32, 16)
    assert plan.updates_per_rollout == 16
    assert settings.objective.options | {"xi": None} == {"alpha": 0.1, "beta": 0.01, "xi": None}
    trainer = settings.trainer
    assert (settings.dictionary.num_observables, trainer.max_completion_length, trainer.learning_rate) == (
        50,
        3072,
        1e-6,
    )
    assert (trainer.adam_beta1, trainer.adam_beta2, trainer.max_grad_norm) == (0.9, 0.95, 1.0)
    assert (trainer.temperature, trainer.top_p, trainer.top_k) == (1.0, 1.0, 0)


@pytest.mark.skipif(not PAPER.is_dir(), reason="there is no ../shared/paper")
def test_expected_numbers_are_the_paper_s() -> None:
    with (PAPER / "text_benchmarks.csv").open() as file:
        text = [*csv.DictReader(file)]
    with (PAPER / "vision_benchmarks.csv").open() as file:
        rows = [*text, *csv.DictReader(file)]
    printed = [{key: float(value) for key, value in row.items() if _is_number(value)} for row in rows]
    for recipe in recipes():
        for numbers in (recipe.expected, recipe.start):
            assert not numbers or dict(numbers) in printed, recipe.name
        assert bool(recipe.expected) == bool(recipe.start) == ("no published number" not in recipe.source)


def _is_number(text: str) -> bool:
    return text.replace(".", "", 1).isdecimal()


def test_recipes_are_listed_with_their_numbers(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recipes"]) == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in NAMES)
    assert "average 17.4 -> 43.5" in shown
    assert "None of these configs was run by us" in shown
    assert main(["recipes", "qwen2.5-7b"]) == 0
    shown = capsys.readouterr().out
    assert "MATH500_mean@1" in shown
    assert "torchrun --nproc_per_node 8 -m -- relax_rl.cli.main train qwen2.5-7b" in shown
    assert main(["recipes", "qwen2.5-32b"]) == 0
    assert "relax verl-config qwen2.5-32b --nodes 2 --gpus 8" in capsys.readouterr().out


def test_a_recipe_that_does_not_exist(capsys: Any) -> None:
    assert main(["recipes", "qwen2.5-8b"]) == 2
    assert "did you mean 'qwen2.5-" in capsys.readouterr().err
