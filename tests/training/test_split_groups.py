"""Micro-batches smaller than a group: two passes, and the update is that of whole groups."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from relax_rl.cli.main import main
from relax_rl.errors import ConfigError
from relax_rl.objectives import build_objective
from relax_rl.runs import RunDirectory
from support.scripted import GROUP, make_trainer
from training.test_micro_batches import METHODS, RELAX, Uneven, assert_same, updates

ROWS = {"max_completion_length": 40}
WHOLE = ROWS | {"per_device_train_batch_size": GROUP, "gradient_accumulation_steps": 3}
SPLIT = {
    "a half": {"per_device_train_batch_size": GROUP // 2, "gradient_accumulation_steps": 6},
    "three of four": {"per_device_train_batch_size": GROUP - 1, "gradient_accumulation_steps": 4},
    "one": {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 3 * GROUP},
}
MORE = METHODS | {
    "dapo": {},
    "maxrl": {},
    "entropy_bonus": {},
    "dcpo": {},
}
QUICK = ("grpo", "relax", "kl_cov")


def both(method: str, tmp_path: Path, split: dict[str, int], uses: int, **options: Any) -> tuple[Any, Any]:
    found = []
    for settings in (split, WHOLE):
        steps = {"steps_per_generation": uses * settings["gradient_accumulation_steps"]}
        objective = build_objective(method, **MORE[method] | options)
        trainer = make_trainer(objective, tmp_path, trainer_class=Uneven, **ROWS | settings | steps)
        found.append((trainer, updates(trainer, uses)))
    return found[0], found[1]


@pytest.mark.parametrize(
    "method", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in MORE]
)
@pytest.mark.parametrize("uses", [1, 2])
def test_an_update_is_that_of_whole_groups(method: str, uses: int, tmp_path: Path) -> None:
    (trainer, ours), (_, theirs) = both(method, tmp_path, SPLIT["three of four"], uses)
    assert_same(ours, theirs)
    assert trainer._splits_groups


@pytest.mark.parametrize("layout", sorted(SPLIT))
def test_any_cut_gives_it(layout: str, tmp_path: Path) -> None:
    (_, ours), (_, theirs) = both("relax", tmp_path, SPLIT[layout], 1)
    assert_same(ours, theirs)


def test_figures_are_of_the_whole_update(tmp_path: Path) -> None:
    (split, _), (whole, _) = both("relax", tmp_path, SPLIT["a half"], 1)

    def mean(trainer: Any, name: str) -> float:
        values = trainer._metrics["train"][name]
        return sum(values) / len(values)

    for name in ("latent/dsd", "latent/above_xi", "advantage/rms", "policy/entropy_forecast"):
        if name in whole._metrics["train"]:
            assert mean(split, name) == pytest.approx(mean(whole, name), rel=1e-4), name
    assert len(split._metrics["train"]["latent/dsd"]) == 1


def test_a_loss_that_depends_on_the_cut_is_refused(tmp_path: Path) -> None:
    objective = build_objective("relax", dictionary=RELAX["dictionary"], mean_scope="micro_batch", xi=0.1)
    with pytest.raises(ConfigError, match="depends on which groups share a micro-batch"):
        make_trainer(objective, tmp_path, **ROWS | SPLIT["a half"])


def test_dropout_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="must not differ by dropout"):
        make_trainer(build_objective("grpo"), tmp_path, disable_dropout=False, **ROWS | SPLIT["a half"])


@pytest.mark.slow
def test_a_run_by_the_command_line_is_that_of_whole_groups(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    completions, rows = [], []
    for micro, steps in ((4, 4), (16, 1)):
        output = tmp_path / f"micro{micro}"
        words = ["train", "countdown", "--output", str(output), "--seed=3", "--evaluation.enabled=false"]
        words += [f"--trainer.per_device_train_batch_size={micro}", f"--trainer.gradient_accumulation_steps={steps}"]
        words += ["--trainer.num_generations=8", "--trainer.max_steps=3", "--trainer.max_completion_length=32"]
        words += ["--dictionary.num_observables=6", "--dictionary.steps=5", "--train_problems=4"]
        assert main(words) == 0
        run = RunDirectory.open(output)
        completions.append([row["completion"] for step in (1, 2, 3) for row in run.read_completions(step)])
        rows.append([json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()])
    assert completions[0] == completions[1]
    for ours, theirs in zip(*rows, strict=True):
        assert ours["latent/dsd"] == pytest.approx(theirs["latent/dsd"], rel=1e-3)
        assert ours["update/rms"] == pytest.approx(theirs["update/rms"], rel=1e-3)
    assert "each update takes two passes" in capsys.readouterr().err
