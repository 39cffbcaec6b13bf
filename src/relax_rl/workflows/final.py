"""Final folder of a run: its trained policy in a folder of its own, with a card that says how good it is."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from relax_rl.config import TrainConfig
from relax_rl.errors import ModelError, RunError
from relax_rl.evaluation.result import EvaluationResult
from relax_rl.latent.contract.files import model_location
from relax_rl.runs import RunDirectory
from relax_rl.training.trl.model_card import coefficients_of, licence_of, model_card
from relax_rl.training.trl.trainer import RelaxTrainer
from relax_rl.training.trl.what_ran import what_ran

__all__ = ["final_card", "start_card", "write_final"]

_OF_A_RESUME = ("optimizer*", "scheduler.pt", "rng_state*", "rank_*", "trainer_state.json", "manifest.json")
_PICKLES = ("training_args.bin",)
_LINKED = (".safetensors", ".bin", ".pt")


def _licence(settings: TrainConfig) -> str | None:
    """The licence of the model that a run starts from; None where it is not known here."""
    try:
        return licence_of(model_location(settings.model), settings.model_revision)
    except (ModelError, OSError):
        return None


def start_card(settings: TrainConfig, num_problems: int, *, names_method: bool) -> str:
    """The card of a run that has not ended.

    Args:
        num_problems: trained on.
        names_method: whether the settings name the method, and not an object in its place whose own they are.
    """
    coefficients = coefficients_of(settings) if names_method else {}
    licence = _licence(settings)
    return model_card(settings, num_problems=num_problems, coefficients=coefficients, licence=licence)


def final_card(
    settings: TrainConfig, trainer: RelaxTrainer, run: RunDirectory, num_problems: int, *, names_method: bool
) -> str:
    """The card of a run that has ended: as `start_card`, with what ran and what was measured."""
    kept = {name: run.evaluations / f"{name}.json" for name in ("before", "after")}
    return model_card(
        settings,
        num_problems=num_problems,
        coefficients=coefficients_of(settings) if names_method else {},
        licence=_licence(settings),
        # The card has the versions apart.
        ran={name: str(fact) for name, fact in what_ran(trainer).items() if name != "versions"},
        evaluations={name: EvaluationResult.load(path) for name, path in kept.items() if path.is_file()},
    )


def write_final(run: RunDirectory, card: str) -> None:
    """The model of the last checkpoint in ``final``, whole or not at all. Its weights take no room: they are links.

    Raises:
        RunError: the folder cannot be written.
    """
    checkpoint = run.latest_checkpoint()
    if checkpoint is None:
        return
    unfinished = run.path / ".final-unfinished"
    try:
        shutil.rmtree(unfinished, ignore_errors=True)
        ignored = shutil.ignore_patterns(*_OF_A_RESUME, *_PICKLES)
        shutil.copytree(checkpoint, unfinished, ignore=ignored, copy_function=_link)
        (unfinished / "README.md").unlink(missing_ok=True)
        (unfinished / "README.md").write_text(card, encoding="utf-8")
        shutil.rmtree(run.final, ignore_errors=True)
        unfinished.rename(run.final)
    except OSError as error:
        raise RunError(f"the trained model cannot be written to {run.final}: {error}; make room and resume") from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _link(source: str, target: str) -> None:
    """Weights are never written in place; small files may be."""
    if Path(source).suffix in _LINKED:
        try:
            os.link(source, target)
        except OSError:  # another file system, or one without links
            shutil.copy2(source, target)
    else:
        shutil.copy2(source, target)
