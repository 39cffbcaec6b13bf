"""What stands beside a checkpoint belongs together, or it is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from relax_rl.config import TrainConfig
from relax_rl.errors import RunError
from relax_rl.koopman import KoopmanDictionary
from relax_rl.objectives import build_objective
from relax_rl.training.entropy_forecast import EntropyForecast
from relax_rl.training.objective import build_objective_from
from relax_rl.training.objective_state import DICTIONARY_FILE, STATE_FILE, restore_objective, save_objective


def dictionary(seed):
    states = torch.randn(4, 40, 6, generator=torch.Generator().manual_seed(0)).cumsum(1)
    return KoopmanDictionary.fit(list(states), num_observables=4, steps=2, seed=seed)


@pytest.fixture
def saved(tmp_path):
    save_objective(build_objective("relax", xi=2.5, dictionary=dictionary(0)), EntropyForecast(), tmp_path, draws=7)
    return tmp_path


def test_a_checkpoint_gives_back_dictionary_bound_and_draws(saved):
    restored, forecast, draws = restore_objective(build_objective("relax", xi=1.0), saved)
    assert restored.probe.dictionary.digest == dictionary(0).digest
    assert (restored.probe.bound.value, forecast, draws) == (2.5, EntropyForecast(), 7)


def test_the_dictionary_of_another_checkpoint_is_refused(saved):
    dictionary(1).save(saved / DICTIONARY_FILE)
    with pytest.raises(RunError, match=f"{DICTIONARY_FILE}.*{STATE_FILE}"):
        restore_objective(build_objective("relax", xi=1.0), saved)


def test_a_state_without_what_the_method_needs_is_refused(saved):
    state = json.loads((saved / STATE_FILE).read_text())
    del state["xi"]
    (saved / STATE_FILE).write_text(json.dumps(state))
    with pytest.raises(RunError, match="xi"):
        restore_objective(build_objective("relax", xi=1.0), saved)


def test_a_method_that_only_logs_goes_on_without_a_dictionary(tmp_path: Path) -> None:
    config = TrainConfig.model_validate({"objective": {"name": "grpo"}, "dictionary": {"num_observables": 4}})
    monitored = build_objective_from(config)
    save_objective(monitored, EntropyForecast(entropy=0.5), tmp_path)
    assert not (tmp_path / DICTIONARY_FILE).exists()
    assert not list(tmp_path.glob("*.part"))
    restored, forecast, draws = restore_objective(monitored, tmp_path)
    assert (restored.probe, forecast, draws) == (monitored.probe, EntropyForecast(entropy=0.5), 0)
    with pytest.raises(RunError, match="holds no usable"):
        restore_objective(build_objective("relax", xi=1.0), tmp_path)
    plain = build_objective("grpo")
    assert restore_objective(plain, tmp_path)[0].probe is None
    assert monitored.probe is not None
    states = torch.randn(4, 40, 6, generator=torch.Generator().manual_seed(0)).cumsum(1)
    fitted = monitored.calibrated(states, torch.ones(4, 40, dtype=torch.bool))
    assert fitted.probe is not None
    assert fitted.probe.dictionary is not None
    save_objective(fitted, EntropyForecast(), tmp_path)
    again = restore_objective(monitored, tmp_path)[0].probe
    assert again is not None
    assert again.dictionary is not None
    assert again.dictionary.digest == fitted.probe.dictionary.digest
    (tmp_path / STATE_FILE).write_text(json.dumps({}))
    assert restore_objective(monitored, tmp_path)[1:] == (EntropyForecast(), 0)
