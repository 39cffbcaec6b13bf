"""Runs inside a revision: says what the code has, or writes the losses, gradients and metrics of its methods.

python -m side_by_side.probe TREE describe FILE
python -m side_by_side.probe TREE losses FOLDER METHOD...

`scripts/side_by_side.py` starts it, with the revision's own code first on the path.
"""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch

import relax_rl
from side_by_side import tensors
from side_by_side.cases import LEAVES, SEQUENCES, Sequence, Tensors, cases_of

Found = dict[str, Any]
"""Arrays and text by name: update, part, kind, name."""


def describe() -> dict[str, Any]:
    """The methods of the revision: how they are named, and their settings."""
    return {
        method: {"objective": name, "options": tensors.options_of(method)}
        for method, name in tensors.objective_names().items()
    }


def losses_of(method: str) -> Found:
    """Everything that a method says of all sequences, for all of its settings. What is raised is a result too."""
    found: Found = {}
    for case, settings in cases_of(method, tensors.options_of(method)).items():
        for name, sequence in SEQUENCES.items():
            try:
                values = _two_updates(tensors.build(method, settings, sequence.shape.group), sequence)
            except Exception as error:
                values = {"error": type(error).__name__, "sentence": str(error)}
            found |= {f"{case} | {name} | {key}": value for key, value in values.items()}
    return found


def _two_updates(objective: Any, sequence: Sequence) -> Found:
    found: Found = {}
    for number, parts in enumerate(sequence.updates(), start=1):
        whole = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
        objective = tensors.calibrated(objective, whole["hidden_states"], whole["mask"])
        objective = tensors.before_rollout(objective, whole["prompt_keys"], whole["rewards"])
        rows, metrics = [], {}
        for place, part in enumerate(_prepared(objective, parts, whole)):
            told, metrics, to_remember = _one_part(objective, part)
            found |= {f"update {number} | part {place} | {key}": value for key, value in told.items()}
            rows += [] if to_remember is None else [to_remember]
        objective = objective.after(_report(number, whole, metrics))
        objective = tensors.after_rollout(objective, torch.cat(rows) if rows else None)
        found[f"update {number} | state"] = json.dumps(objective.state(), sort_keys=True)
    return found


def _prepared(objective: Any, parts: list[Tensors], whole: Tensors) -> list[dict[str, Any]]:
    """The parts with what a trainer adds: the counts of the update, and what the tokens' selector makes of them."""
    if len(parts) == 1:
        return [dict(part) for part in parts]
    prompts, group = whole["rewards"].shape
    totals = tensors.totals(prompts, prompts * group, float(whole["mask"].sum()))
    prepared: list[dict[str, Any]] = [{**part, "totals": totals} for part in parts]
    if objective.selector is None:
        return prepared
    columns = torch.cat([objective.survey(tensors.batch(part)) for part in prepared])
    choices = objective.choose(columns).split([int(part["mask"].sum()) for part in parts])
    for part, choice in zip(prepared, choices, strict=True):
        zeros = torch.zeros(part["mask"].shape, dtype=choice.dtype)
        part["token_choice"] = zeros.masked_scatter(part["mask"], choice)
    return prepared


def _one_part(objective: Any, part: dict[str, Any]) -> tuple[Found, dict[str, float], torch.Tensor | None]:
    leaves = {name: part[name].detach().clone().requires_grad_() for name in LEAVES}
    output = objective(tensors.batch(part | leaves))
    gradients = torch.autograd.grad(output.loss, list(leaves.values()), allow_unused=True)
    told: Found = {"loss": output.loss.detach().numpy()}
    for (name, leaf), gradient in zip(leaves.items(), gradients, strict=True):
        # No path to a leaf and a gradient of zeros are the same to a trainer.
        told[f"gradient {name}"] = (torch.zeros_like(leaf) if gradient is None else gradient).numpy()
    told |= {f"metric {name}": np.float64(value) for name, value in output.metrics.items()}
    told |= {f"record {name}": value.detach().numpy() for name, value in output.per_completion.items()}
    return told, dict(output.metrics), output.to_remember


def _report(number: int, whole: Tensors, metrics: dict[str, float]) -> Any:
    entropy = float(whole["entropy"][whole["mask"]].double().mean())
    return tensors.report(step=number, num_steps=4, entropy=entropy, covariance=0.01, metrics=metrics)


def main(tree: str, what: str, place: str, methods: list[str]) -> None:
    """Write what was asked for, once it is sure whose code answers."""
    if not Path(relax_rl.__file__).resolve().is_relative_to(Path(tree).resolve()):
        raise SystemExit(f"relax_rl is imported from {relax_rl.__file__}, not from {tree}")
    # Warnings about bounds that are out of reach are meant for people.
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    if what == "describe":
        temporary = Path(f"{place}.part")
        temporary.write_text(json.dumps(describe()))
        temporary.replace(place)
        return
    for method in methods:
        found = losses_of(method)
        temporary = Path(place) / f".{method}.npz"
        arrays: dict[str, Any] = {key: np.asarray(value) for key, value in found.items()}
        np.savez(temporary, **arrays)
        temporary.replace(Path(place) / f"{method}.npz")


if __name__ == "__main__":
    tree, what, place, *methods = sys.argv[1:]
    main(tree, what, place, methods)
