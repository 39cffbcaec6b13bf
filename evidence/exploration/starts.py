"""The policies that the runs of a study begin with, what they reach, and their banks of right traces."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path
from typing import Any

from evidence.exploration.design import Start
from evidence.exploration.scale import Scale
from relax_rl.evaluation.result import EvaluationResult
from relax_rl.latent.contract.files import model_location
from relax_rl.training.models import load_model
from relax_rl.workflows.evaluate import evaluate

__all__ = ["bank", "built", "digest", "evaluated", "measured"]

SCRIPTS = Path(__file__).parents[2] / "scripts"


def built(start: Start, scale: Scale) -> str | Path:
    """The name of the policy, or its folder, which is built where it is not there yet."""
    if start.model:
        return start.model
    folder = scale.runs / "starts" / start.folder
    if not (folder / "build.json").is_file():
        words = [sys.executable, SCRIPTS / start.script, *start.arguments, "--output", folder, *scale.building]
        subprocess.run([str(word) for word in words], check=True)
    return folder


def digest(start: Start, scale: Scale) -> str:
    """Digest of the file with the policy's weights, short.

    The same script gives other weights on another processor, and runs from different weights cannot share a table.
    """
    weights = Path(model_location(str(built(start, scale)))) / "model.safetensors"
    return f"sha256:{hashlib.sha256(weights.read_bytes()).hexdigest()[:16]}"


def measured(start: Start, scale: Scale) -> EvaluationResult:
    """What the policy reaches before training, on the problems that its runs are evaluated on."""
    return evaluated(*load_model(str(built(start, scale))), start, scale)


def evaluated(model: Any, tokenizer: Any, start: Start, scale: Scale) -> EvaluationResult:
    """What a policy reaches on the held-out problems of a start, with the same random streams for all policies."""
    return evaluate(
        model.eval(),
        start.task["name"],
        tokenizer=tokenizer,
        task_options=_options(start),
        split=start.split,
        num_problems=scale.num_problems,
        num_samples=scale.num_samples,
        max_completion_length=scale.max_completion_length,
        batch_size=512,
    )


def bank(start: Start, scale: Scale) -> Path:
    """The folder of its samples of training problems, of which a method holds the right ones."""
    folder = scale.runs / "starts" / f"{start.folder}_bank"
    evaluate(
        str(built(start, scale)),
        start.task["name"],
        task_options=_options(start),
        split="train",
        num_problems=64,
        num_samples=16,
        max_completion_length=scale.max_completion_length,
        batch_size=512,
        processes=1,
        output=folder,
    )
    return folder


def _options(start: Start) -> dict[str, Any]:
    return {key: value for key, value in start.task.items() if key != "name"}
