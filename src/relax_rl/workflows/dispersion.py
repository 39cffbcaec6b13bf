"""Dynamic spectral dispersion of texts, from any Hugging Face model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from relax_rl.errors import DataError

if TYPE_CHECKING:
    from torch import Tensor

    from relax_rl.koopman import Dispersion, Estimator
    from relax_rl.koopman.dictionaries.protocol import StoredDictionary

__all__ = ["TextDispersion", "dispersion_of"]


@dataclass(frozen=True)
class TextDispersion:
    """The dispersion of N texts, and what it was measured with.

    Attributes:
        dispersion: all that the estimator says, such as residuals and condition numbers.
        dictionary: fitted on these texts, or the one that was given. Pass it on to measure other texts by it: values of
            two dictionaries cannot be compared.
        states: N trajectories (T_i, H), the hidden states that were measured, on the CPU.
    """

    dispersion: Dispersion
    dictionary: StoredDictionary
    states: tuple[Tensor, ...]

    @property
    def values(self) -> Tensor:
        """(N,) float64; 0 where undefined."""
        return self.dispersion.values

    @property
    def is_defined(self) -> Tensor:
        """(N,) bool; False for a text with too few tokens for the dictionary, or for a window of "robust"."""
        return self.dispersion.is_defined


def dispersion_of(
    model: Any,
    tokenizer: Any,
    texts: Sequence[str],
    *,
    dictionary: StoredDictionary | str | Path | None = None,
    num_observables: int | None = None,
    estimator: Estimator = "robust",
    site: str = "final_norm_out",
    fit_steps: int = 150,
    seed: int = 0,
    batch_tokens: int = 2**13,
) -> TextDispersion:
    """Read texts with a model and measure how unevenly the modes of its hidden states contract (DSD).

    Args:
        model: a Hugging Face causal or image-text model, possibly behind PEFT. It is neither changed nor trained.
        tokenizer: tokenizer of the model, or its processor.
        texts: N texts, read as they are: no chat template is put around them.
        dictionary: to measure with, or a file that holds one; None fits one on these texts.
        num_observables: F of a dictionary that is fitted; None is a third of the median number of tokens, at most 50.
        estimator: "robust", "paper", "singular" or "instrumental"; see `relax_rl.koopman.dynamic_spectral_dispersion`.
        site: site of the states; see `relax_rl.latent.sites`.
        fit_steps, seed: steps and seed of the fit.
        batch_tokens: positions of one forward, which bounds memory.

    Raises:
        DataError: no text, a text of fewer than two tokens, too few tokens for the observables, or a dictionary of
            another width.
        ConfigError: a site or an estimator that does not exist.
    """
    from relax_rl.evaluation.prompts import text_tokenizer
    from relax_rl.koopman import load_dictionary
    from relax_rl.latent.trajectories import capture_sequences
    from relax_rl.spectra.rulers import SpectrumSettings, fit_rulers

    if isinstance(texts, str):
        raise DataError("texts is one text; give a list of texts, such as [text].")
    token_ids = [text_tokenizer(tokenizer)(text)["input_ids"] for text in texts]
    short = next((place for place, ids in enumerate(token_ids) if len(ids) < 2), None)
    if short is not None:
        raise DataError(f"texts[{short}] has {len(token_ids[short])} tokens, and dynamics need two; leave it out.")
    read = sorted(capture_sequences(model, token_ids, [site], tokens_per_batch=batch_tokens), key=lambda one: one.row)
    given = load_dictionary(dictionary) if isinstance(dictionary, str | Path) else dictionary
    if given is None:
        settings = SpectrumSettings(num_observables=num_observables, fit_steps=fit_steps, seed=seed)
    else:
        settings = SpectrumSettings()
    rulers = fit_rulers(read, settings, None if given is None else {site: given.to("cpu")})
    states = tuple(one.states[site] for one in read)
    found = rulers[site].dictionary
    return TextDispersion(_measured(states, found, estimator), found, states)


def _measured(states: Sequence[Tensor], dictionary: StoredDictionary, estimator: Estimator) -> Dispersion:
    """DSD of trajectories (T_i, H), each lifted before it is padded: F is smaller than H."""
    from dataclasses import replace

    import torch
    from torch.nn.utils.rnn import pad_sequence

    from relax_rl.koopman import dispersion_from_lifted

    with torch.no_grad():
        # Lifting turns Inf into a number, so a state that is none is marked again after it.
        lifted = [
            torch.where(part.isfinite().all(-1, keepdim=True), dictionary(part.nan_to_num()), torch.nan)
            for part in states
        ]
        mask = pad_sequence([torch.ones(len(part), dtype=torch.bool) for part in states], batch_first=True)
        measured = dispersion_from_lifted(pad_sequence(lifted, batch_first=True), mask, estimator)
    return replace(measured, dictionary_digest=dictionary.digest)
