"""Learned and moving state of an objective, kept beside each checkpoint."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from relax_rl.errors import RunError
from relax_rl.koopman import KoopmanDictionary
from relax_rl.objectives import Objective
from relax_rl.training.entropy_forecast import EntropyForecast

__all__ = ["DICTIONARY_FILE", "STATE_FILE", "restore_objective", "save_objective", "updates_before"]

DICTIONARY_FILE = "dictionary.safetensors"
STATE_FILE = "objective.json"


def save_objective(
    objective: Objective, forecast: EntropyForecast, folder: Path, draws: int = 0, updates: int | None = None
) -> None:
    """Write what moved into a checkpoint folder, and the dictionary and xi where the method has them.

    Args:
        objective, forecast: as they are after the update.
        folder: folder of the checkpoint.
        draws: prompts that dynamic sampling has drawn so far.
        updates: finished so far, where nothing else beside the checkpoint counts them.
    """
    state: dict[str, Any] = {
        "objective": objective.name,
        "components": objective.state(),
        "forecast": forecast.state(),
        "draws": draws,
    }
    probe = objective.probe
    if probe is not None and probe.dictionary is not None:
        probe.dictionary.save(folder / DICTIONARY_FILE)
        state |= {"xi": probe.bound.value, "dictionary_digest": probe.dictionary.digest}
    if updates is not None:
        state["updates"] = updates
    temporary = folder / f"{STATE_FILE}.part"
    temporary.write_text(json.dumps(state, indent=2) + "\n")
    os.replace(temporary, folder / STATE_FILE)


def restore_objective(objective: Objective, folder: Path) -> tuple[Objective, EntropyForecast, int]:
    """The objective, the forecast and the prompts drawn as they were at a checkpoint.

    Raises:
        RunError: when the checkpoint lacks what the objective needs, or its parts do not belong together.
    """
    try:
        state = json.loads((folder / STATE_FILE).read_text())
        restored = objective.restored(state.get("components", {}))
        forecast, draws = EntropyForecast.restored(state.get("forecast", {})), int(state.get("draws", 0))
        if restored.probe is None or (restored.probe.is_log_only and "dictionary_digest" not in state):
            return restored, forecast, draws
        dictionary = KoopmanDictionary.load(folder / DICTIONARY_FILE)
        xi, digest = float(state["xi"]), state["dictionary_digest"]
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise RunError(
            f"The checkpoint {folder} holds no usable {DICTIONARY_FILE} and {STATE_FILE} ({error}); resume from an "
            "older checkpoint, or start the run again with --overwrite."
        ) from error
    if dictionary.digest != digest:
        raise RunError(
            f"{folder / DICTIONARY_FILE} is not the dictionary that {STATE_FILE} names; resume from an older one."
        )
    probe = replace(restored.probe, dictionary=dictionary, bound=replace(restored.probe.bound, value=xi))
    return replace(restored, probe=probe), forecast, draws


def updates_before(folder: Path) -> int:
    """The updates that `save_objective` was told of, for a checkpoint that `restore_objective` could read."""
    return int(json.loads((folder / STATE_FILE).read_text()).get("updates", 0))
