"""The contract of a model, for people who are about to use it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from relax_rl.workflows.loading import without_progress_bars

if TYPE_CHECKING:
    from relax_rl.latent.contract import ModelContract

__all__ = ["read_model"]


def read_model(name: str, revision: str | None = None, *, values: bool = True) -> ModelContract:
    """The contract that training, evaluation and spectra rely on, without loading the model.

    Args:
        name: "tiny", "figures", "smollm2", a Hugging Face name or a folder.
        revision: revision of a Hugging Face model.
        values: read the weights, too, and look for NaN and infinity.

    Raises:
        ModelError: no model whose configuration can be read; anything else that is wrong is listed in ``problems``.
    """
    from relax_rl.latent.contract import read_contract

    with without_progress_bars():
        return read_contract(name, revision, values=values)
