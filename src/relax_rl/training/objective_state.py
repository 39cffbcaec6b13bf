"""What an objective learned from the first rollout batch, kept beside each checkpoint."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

from relax_rl.errors import RunError
from relax_rl.koopman import KoopmanDictionary
from relax_rl.objectives import Objective

__all__ = ["DICTIONARY_FILE", "STATE_FILE", "restore_objective", "save_objective"]

DICTIONARY_FILE = "dictionary.safetensors"
STATE_FILE = "objective.json"


def save_objective(objective: Objective, folder: Path) -> None:
    """Write the dictionary and xi into a checkpoint folder; nothing for a method that looks at no hidden states."""
    probe = objective.probe
    if probe is None or probe.dictionary is None:
        return
    probe.dictionary.save(folder / DICTIONARY_FILE)
    state = {"objective": objective.name, "xi": probe.bound.value, "dictionary_digest": probe.dictionary.digest}
    temporary = folder / f"{STATE_FILE}.part"
    temporary.write_text(json.dumps(state, indent=2) + "\n")
    os.replace(temporary, folder / STATE_FILE)


def restore_objective(objective: Objective, folder: Path) -> Objective:
    """The objective with the dictionary and xi of a checkpoint.

    Raises:
        RunError: when the checkpoint lacks them, or they do not belong together.
    """
    probe = objective.probe
    if probe is None:
        return objective
    try:
        state = json.loads((folder / STATE_FILE).read_text())
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
    return replace(objective, probe=replace(probe, dictionary=dictionary, bound=replace(probe.bound, value=xi)))
