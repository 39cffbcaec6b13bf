"""Log-probabilities with masked images: one more forward a rollout batch, before its updates."""

from __future__ import annotations

from typing import Any, cast

from PIL.Image import Image
from torch import Tensor

from relax_rl.errors import ConfigError, ModelError
from relax_rl.latent.images.conditions import masked
from relax_rl.latent.images.look import Look
from relax_rl.objectives import Objective
from relax_rl.objectives.inputs import MASKED_LOG_PROBS, Input, MaskedLogProbs
from relax_rl.training.inputs.provider import MicroBatch, Provider, Rows, Trainer

__all__ = ["MaskedImages", "check_shows_images"]

_COLUMN = "masked_log_probs"


def check_shows_images(objective: Objective, shows: bool) -> None:
    """Refuse an objective that masks images for a task without any.

    Args:
        shows: whether a problem of the task shows an image, to a trainer that reads images once a prompt.

    Raises:
        ConfigError: naming the objective.
    """
    if not shows and MASKED_LOG_PROBS in objective.inputs:
        raise ConfigError(
            f"The objective {objective.name!r} compares an image with a masked one, and no training problem shows an "
            "image; name a task with images, or another objective."
        )


class MaskedImages(Provider):
    """Has the processor read each prompt once more with masked images, and the policy the completions behind it."""

    def __init__(self, wanted: Input, trainer: Trainer) -> None:
        super().__init__(wanted, trainer)
        self._masks = cast(MaskedLogProbs, wanted)
        self._hidden: dict[int, tuple[Look, Look]] = {}

    def sampled(self, given: list[dict[str, Any]], output: Rows) -> dict[str, Tensor]:
        step, process = self.trainer.state.global_step, self.trainer.accelerator.process_index
        seed = f"{self.trainer.args.seed} {step} {process}"

        def hide(image: Image, place: str) -> Image:
            return masked(image, self._masks.share, f"{seed} {place}", self._masks.patch, independent=True)

        looks: list[Look] = output.get("looks", [])
        # With the look that it is of, so that no other object gets its id.
        self._hidden = {
            id(look): (look, hidden)
            for look, hidden in zip(looks, self.trainer.altered(given, looks, hide), strict=True)
        }
        return {}

    def before_updates(self, batches: list[Rows]) -> None:
        for batch in batches:
            batch[_COLUMN] = self._read(batch)
        self._hidden = {}

    def tensor(self, micro: MicroBatch) -> Tensor | None:
        kept = micro.rows.get(_COLUMN)
        return self._read(micro.rows) if kept is None else kept

    def _read(self, rows: Rows) -> Tensor:
        """(B, T) of a micro-batch's completions. Collective."""
        if "looks" in rows:
            rows = rows | {"looks": [self._hidden[id(look)][1] for look in rows["looks"]]}
        found = self.trainer.forward_only(rows).log_probs
        if found is None:
            raise ModelError("TRL's fused head gave no log-probabilities; this version of TRL does not fit.")
        return found[:, -rows["completion_ids"].shape[1] :]
