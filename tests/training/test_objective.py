"""From settings to the objective of a run: monitors, limits, and parts that do nothing."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from relax_rl.config import TrainConfig
from relax_rl.errors import ConfigError
from relax_rl.objectives import build_objective
from relax_rl.training.objective import build_objective_from, idle_parts, objective_for


def config_of(**settings: Any) -> TrainConfig:
    return TrainConfig(**settings)


@pytest.mark.parametrize(("limit", "advice"), [(33, None), (32, 10), (3, 1), (2, 1)])
def test_a_completion_must_have_more_pairs_than_there_are_observables(limit: int, advice: int | None) -> None:
    args = SimpleNamespace(max_steps=1, max_completion_length=limit, num_generations=4)
    options = {"xi": 1.0, "dictionary": {"num_observables": 31}}
    if advice is None:
        assert objective_for("relax", options, args).probe is not None
        return
    words = (
        rf"num_observables'\] = 31 needs .* gives at most {limit - 1}; set objective_options.* to {advice}, or allow"
    )
    with pytest.raises(ConfigError, match=words):
        objective_for("relax", options, args)


def test_a_method_without_a_probe_is_monitored_unless_it_is_not_wanted() -> None:
    assert build_objective_from(config_of(objective={"name": "grpo"})).probe is not None
    quiet = build_objective_from(config_of(objective={"name": "grpo"}, monitor=False))
    assert quiet.probe is None
    own = build_objective("dapo")
    assert build_objective_from(config_of(monitor=False), own) is own
    assert build_objective_from(config_of(), own).name == "dapo"


def test_idle_settings_are_named_where_a_rollout_serves_one_update() -> None:
    config = config_of(objective={"name": "grpo", "clip_low": 0.1})
    (one,) = idle_parts(config, build_objective_from(config), 1)
    assert "objective.clip_low" in one
    assert " of grpo has no effect" in one
    assert idle_parts(config, build_objective_from(config), 2) == []
    config = config_of(objective={"name": "grpo", "clip_low": 0.1, "clip_high": 0.3})
    (two,) = idle_parts(config, build_objective_from(config), 1)
    assert "objective.clip_low, objective.clip_high of grpo have no effect" in two
    assert "plain policy gradient" not in two
    config = config_of(objective={"name": "gspo"})
    (whole,) = idle_parts(config, build_objective_from(config), 1)
    assert "have no effect, and gspo is the plain policy gradient. For several" in whole


def test_the_objective_of_a_run_knows_the_runs_limits() -> None:
    config = config_of(objective={"name": "dr_grpo", "beta": 0.1}, trainer={"max_completion_length": 77})
    for objective in (build_objective_from(config), build_objective_from(config_of(**config.model_dump()))):
        assert objective.aggregation == build_objective("dr_grpo", max_completion_length=77).aggregation
    assert build_objective("dr_grpo").aggregation != build_objective("dr_grpo", max_completion_length=77).aggregation


def test_the_objective_of_a_script_knows_the_scripts_limits() -> None:
    args = SimpleNamespace(max_steps=-1, max_completion_length=64, num_generations=4)
    assert objective_for("grpo", {"clip_low": 0.1}, args).name == "grpo"
    built = build_objective("grpo")
    assert objective_for(built, {}, args) is built
    with pytest.raises(ConfigError, match="objective_options clip_low are for a method given by name"):
        objective_for(built, {"clip_low": 0.1}, args)
    with pytest.raises(ConfigError, match="objective is a int"):
        objective_for(3, {}, args)  # pyright: ignore[reportArgumentType]
    # The length of the run is known only where it is given in updates.
    for args.max_steps in (0, 1):
        assert objective_for("grpo", {}, args).name == "grpo"
    args.max_completion_length = None
    assert objective_for("relax", {}, args)
