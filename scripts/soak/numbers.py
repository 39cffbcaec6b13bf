"""Numbers that are not finite, and policies that cannot learn: a run ends, says so, and its checkpoints are sound."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from soak.launch import Prepare, run
from soak.points import replace
from soak.records import Outcome

__all__ = ["NUMBERS", "survives_numbers"]


def _nan_loss(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return function(*args, **kwargs) * float("nan")


def _nan_loss_once() -> Prepare:
    calls = [0]

    def act(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        calls[0] += 1
        return function(*args, **kwargs) * (float("nan") if calls[0] == 1 else 1.0)

    return replace("relax_rl.training.trl.trainer:RelaxTrainer.compute_loss", act, 3)


def _all_scores(value: float) -> Prepare:
    from relax_rl.rewards.base import Verdict

    def act(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return [Verdict(value) for _ in function(*args, **kwargs)]

    return replace("relax_rl.rewards.countdown:CountdownVerifier.grade", act)


_LOSS = "relax_rl.training.trl.trainer:RelaxTrainer.compute_loss"

NUMBERS: dict[str, tuple[Callable[[], Prepare | None], list[str], str]] = {
    "one NaN in the loss": (_nan_loss_once, [], "was skipped"),
    "every loss NaN from the third update on": (lambda: replace(_LOSS, _nan_loss, 3), [], "were skipped"),
    "learning rate 1e30": (lambda: None, ["--trainer.learning_rate=1e30"], "not finite"),
    "rewards all equal": (lambda: _all_scores(1.0), [], "nothing is learned"),
    "rewards all 0": (lambda: _all_scores(0.0), [], "nothing is learned"),
    "completions all truncated": (lambda: None, ["--trainer.max_completion_length=10"], "truncated"),
}
"""By name: the fault, settings, and what must be said."""


def survives_numbers(name: str, config: Path, folder: Path) -> Outcome:
    """A run with such numbers, in order or in one sentence, with finite weights in every checkpoint."""
    fault, settings, words = NUMBERS[name]
    label = "numbers-" + name.replace(" ", "-")
    start = ["train", str(config), "--output", label, "--evaluation.enabled=false", *settings]
    shutil.rmtree(folder / label, ignore_errors=True)
    ended = run(start, folder, folder / f"{label}.log", fault())
    if ended.has_traceback or ended.code not in (0, 2):
        return Outcome("numbers", name, "WRONG", f"exit code {ended.code}: {ended.last_line}")
    if words not in ended.output:
        return Outcome("numbers", name, "WRONG", f"nothing was said of it: {ended.last_line}")
    if spoilt := [path.parent.name for path in (folder / label).rglob("model.safetensors") if not _is_finite(path)]:
        return Outcome("numbers", name, "WRONG", f"not finite: {', '.join(spoilt)}")
    said = next(line for line in ended.output.splitlines() if words in line)
    return Outcome("numbers", name, "stopped" if ended.code else "told", said)


def _is_finite(path: Path) -> bool:
    from safetensors.torch import load_file

    return all(bool(tensor.isfinite().all()) for tensor in load_file(path).values())
