"""Texts as trajectories of sentence embeddings, (S, H), one row a sentence: signs of hallucination in their dynamics.

Two diagnostics. What of each is taken from its source, and what is ours because the source could not be read in full:

Modes of a text (Akrout, "Representations Matter: Embedding Modes of Large Language Models using Dynamic Mode
Decomposition", arXiv 2309.01245). From its abstract: the spectrum of generated text is of lower rank than that of the
ground truth, whose patterns the few modes of the generated text approximate poorly, and the modes of hallucinated text
die out within a few sentences, as evanescent waves do. Ours: that the rank is that of a share of the energy, and the
measures of those three statements (:class:`TextModes`, :func:`uncaptured_share`).

Two operators (Wilson and Akrout, "Low-Cost Black-Box Detection of LLM Hallucinations via Dynamical System Prediction",
arXiv 2605.05134). From its abstract: one transition operator fitted to factual and one to hallucinated texts, a
"differential residual score" from their prediction errors, and a threshold optimised on a few demonstrations under the
user's preference. From summaries of the follow-up (Akrout, Kotevska and Wilson, arXiv 2608.19579): the score is the
mean over the steps of the error of the bad regime less that of the good one. Ours: the error of a step is relative to
the size of what is predicted; the observables are the leading directions of all texts and a constant; ridge regression;
the preference is a cost of missed hallucinations; sentences as steps, where the papers embed tokens.

A text has fewer sentences than an embedding has dimensions, so that an operator fitted to it alone is exact whatever
the text. Operators are therefore pooled over all texts of a regime, in a few directions common to both.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from relax_rl.errors import ConfigError, DataError
from relax_rl.koopman.linalg.directions import leading_directions
from relax_rl.koopman.operators.fits import ridge_operator
from relax_rl.koopman.pairs.snapshots import gram_from_trajectories
from relax_rl.koopman.spectra.dmd import dmd

__all__ = ["RegimeOperators", "TextModes", "calibrate_threshold", "text_modes", "uncaptured_share"]


@dataclass(frozen=True)
class TextModes:
    """Dynamic modes of one text's sentence embeddings."""

    num_modes: int
    """Directions that hold the share of the energy asked for: the rank of the text."""
    num_pairs: int
    """S - 1. With as many modes as pairs the fit is exact and the moduli mean nothing."""
    moduli: Tensor
    """(R,) float64, |lambda| of each mode, largest first: what it keeps from one sentence to the next."""
    half_lives: Tensor
    """(R,) ln 2 / -ln |lambda|, in sentences; inf for a mode that does not decay, 0 for one that does not last."""
    amplitudes: Tensor
    """(R,) norm of each mode in the first sentence."""

    @property
    def is_interpolating(self) -> bool:
        """No fewer modes than pairs: read the rank, not the moduli."""
        return self.num_modes >= self.num_pairs


def text_modes(embeddings: Tensor, *, energy: float = 0.99) -> TextModes:
    """DMD of a text's sentence embeddings, (S, H), with as many modes as hold a share of the energy.

    Raises:
        DataError: fewer than three sentences, NaN or Inf.
        ConfigError: energy outside (0, 1).
    """
    _require_texts([embeddings], least=3)
    if not 0.0 < energy < 1.0:
        raise ConfigError(f"energy must lie between 0 and 1, got {energy}.")
    modes = dmd(embeddings, rank=energy)
    moduli = modes.eigenvalues.abs()
    # Neither ln 0 nor a negative decay: a mode that grows has no half-life.
    decay = moduli.clamp(min=torch.finfo(moduli.dtype).tiny, max=1.0).log().abs()
    start = modes.eigenfunctions(embeddings[:1].double())[0]
    return TextModes(
        num_modes=int(modes.rank),
        num_pairs=int(modes.num_pairs),
        moduli=moduli,
        half_lives=torch.where(moduli > 0, math.log(2.0) / decay, 0.0),
        amplitudes=start.abs() * torch.linalg.vector_norm(modes.modes, dim=-1),
    )


def uncaptured_share(reference: Tensor, generated: Tensor, *, energy: float = 0.99) -> float:
    """How much of a reference text the modes of a generated one cannot express, in [0, 1].

    ``||E - E P||_F / ||E||_F`` for the reference's embeddings E and the projection P on the leading directions of the
    generated text that hold `energy` of it. Near 0 for two texts about the same things.

    Args:
        reference: (S, H), the ground truth.
        generated: (S', H).
    """
    _require_texts([reference, generated], least=1)
    if not 0.0 < energy < 1.0:
        raise ConfigError(f"energy must lie between 0 and 1, got {energy}.")
    generated, reference = generated.double(), reference.double()
    scales = torch.linalg.svdvals(generated)
    held = scales.square().cumsum(0) / scales.square().sum()
    basis = leading_directions(generated, int((held < energy).sum()) + 1)
    outside = reference - (reference @ basis) @ basis.T
    return float(torch.linalg.matrix_norm(outside) / torch.linalg.matrix_norm(reference))


@dataclass(frozen=True)
class RegimeOperators:
    """How faithful and how hallucinated texts go on from sentence to sentence: one affine operator each.

    Both act on the same coordinates z = (e - mean) U of an embedding e: z_{t+1} ~ [1, z_t] K.
    """

    mean: Tensor
    """(H,) float64, of all sentences of both regimes."""
    basis: Tensor
    """U, (H, R) float64, leading directions of all of them."""
    faithful: Tensor
    """K of the faithful texts, (R + 1, R)."""
    hallucinated: Tensor
    """K of the hallucinated ones."""
    threshold: float = 0.0
    """A text that scores below it is called hallucinated; see :meth:`calibrated`."""

    @classmethod
    def fit(
        cls, faithful: Sequence[Tensor], hallucinated: Sequence[Tensor], *, rank: int = 16, ridge: float = 1e-3
    ) -> RegimeOperators:
        """Fit both operators, each pooled over the texts of its regime.

        Args:
            faithful, hallucinated: embeddings (S_i, H) of texts; no pair joins two texts.
            rank: R, directions of the embeddings that the operators see; an error outside them is the same for both.
            ridge: relative to the mean diagonal entry of each regime's Gram matrix.

        Raises:
            DataError: texts of different widths, NaN or Inf, or no more pairs of sentences in a regime than it has
                observables, R + 1.
            ConfigError: rank or ridge out of range.
        """
        _require_texts([*faithful, *hallucinated], least=1)
        width = faithful[0].shape[1] if faithful else 0
        if not 1 <= rank <= max(width, 1):
            raise ConfigError(f"rank must lie in 1..{width} (the width of the embeddings), got {rank}.")
        sentences = torch.cat([text.double() for text in (*faithful, *hallucinated)])
        mean = sentences.mean(0)
        basis = leading_directions(sentences - mean, rank)

        def lift(embeddings: Tensor) -> Tensor:
            return torch.nn.functional.pad((embeddings.double() - mean) @ basis, (1, 0), value=1.0)

        operators = []
        for name, texts in (("faithful", faithful), ("hallucinated", hallucinated)):
            num_pairs = sum(len(text) - 1 for text in texts)
            if num_pairs <= basis.shape[1] + 1:
                raise DataError(
                    f"The {name} texts hold {num_pairs} pairs of sentences, no more than the {basis.shape[1] + 1} "
                    "observables of their operator; give more texts or lower the rank."
                )
            operators.append(ridge_operator(gram_from_trajectories(texts, lift), ridge, relative=True).matrix[:, 1:])
        return cls(mean, basis, *operators)

    def errors(self, embeddings: Tensor) -> tuple[Tensor, Tensor]:
        """Relative errors (S - 1,) in predicting each sentence of a text (S, H) from the one before.

        ``||e_{t+1} - prediction|| / ||e_{t+1}||`` over all H dimensions, of the faithful and of the hallucinated
        operator.

        Raises:
            DataError: fewer than two sentences, another width, NaN or Inf.
        """
        _require_texts([embeddings], least=2, width=len(self.mean))
        deviations = embeddings.double() - self.mean
        coordinates = deviations @ self.basis
        outside = torch.linalg.vector_norm(deviations - coordinates @ self.basis.T, dim=-1)[1:]
        size = torch.linalg.vector_norm(embeddings[1:].double(), dim=-1).clamp_min(torch.finfo(torch.float64).tiny)
        lifted = torch.nn.functional.pad(coordinates[:-1], (1, 0), value=1.0)
        first, second = (
            torch.hypot(torch.linalg.vector_norm(coordinates[1:] - lifted @ operator, dim=-1), outside) / size
            for operator in (self.faithful, self.hallucinated)
        )
        return first, second

    def score(self, embeddings: Tensor) -> float:
        """Mean error of the hallucinated operator less that of the faithful one: positive where a text is faithful."""
        faithful, hallucinated = self.errors(embeddings)
        return float((hallucinated - faithful).mean())

    def is_hallucinated(self, embeddings: Tensor) -> bool:
        """Whether the text scores below the threshold."""
        return self.score(embeddings) < self.threshold

    def calibrated(
        self, texts: Sequence[Tensor], is_hallucinated: Sequence[bool], *, miss_cost: float = 1.0
    ) -> RegimeOperators:
        """The same operators with the threshold that errs least on demonstrations (not those they were fitted on)."""
        scores = torch.tensor([self.score(text) for text in texts], dtype=torch.float64)
        return replace(self, threshold=calibrate_threshold(scores, torch.tensor(is_hallucinated), miss_cost=miss_cost))


def calibrate_threshold(scores: Tensor, is_hallucinated: Tensor, *, miss_cost: float = 1.0) -> float:
    """The threshold below which to call a text hallucinated, at the smallest cost on demonstrations.

    The cost of a threshold is ``miss_cost * (share of the hallucinated that score above it) + (share of the faithful
    that score below it)``, so that neither regime weighs more for having more demonstrations. Of equally cheap
    thresholds, the one in the middle of the widest gap.

    Args:
        scores: (N,).
        is_hallucinated: (N,) bool, both kinds.
        miss_cost: cost of calling a hallucinated text faithful, where the opposite costs 1.

    Raises:
        DataError: demonstrations of one kind only, or as many scores as labels not.
        ConfigError: a cost that is not positive.
    """
    if not miss_cost > 0:
        raise ConfigError(f"miss_cost must be positive, got {miss_cost}.")
    is_hallucinated = is_hallucinated.bool()
    if scores.shape != is_hallucinated.shape or scores.ndim != 1:
        raise DataError(
            f"There must be one label a score, got {tuple(is_hallucinated.shape)} for {tuple(scores.shape)}."
        )
    if bool(is_hallucinated.all()) or not bool(is_hallucinated.any()):
        raise DataError("A threshold needs demonstrations of both kinds, faithful and hallucinated.")
    ordered = scores.double().sort().values
    # Beside the gaps between scores, just outside all of them.
    edges = torch.cat([ordered[:1] - 1.0, ordered, ordered[-1:] + 1.0])
    middles, widths = 0.5 * (edges[1:] + edges[:-1]), edges.diff()
    called = scores.double() < middles.unsqueeze(1)
    missed = (~called[:, is_hallucinated]).double().mean(1)
    alarmed = called[:, ~is_hallucinated].double().mean(1)
    cost = torch.where(widths > 0, miss_cost * missed + alarmed, torch.inf)
    cheapest = cost <= cost.min() + 1e-12
    return float(middles[torch.where(cheapest, widths, -1.0).argmax()])


def _require_texts(texts: Sequence[Tensor], *, least: int, width: int | None = None) -> None:
    """Texts of at least `least` sentences each, of one width, and finite."""
    for index, text in enumerate(texts):
        if text.ndim != 2 or not text.is_floating_point() or len(text) < least:
            raise DataError(
                f"Text {index} must be sentence embeddings, a floating (S, H) of at least {least} sentences, got "
                f"{tuple(text.shape)} {text.dtype}."
            )
        width = text.shape[1] if width is None else width
        if text.shape[1] != width:
            raise DataError(f"Text {index} has embeddings of width {text.shape[1]}, where {width} is expected.")
        if not bool(torch.isfinite(text).all()):
            raise DataError(f"Text {index} holds NaN or Inf; leave it out.")
