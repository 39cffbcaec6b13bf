"""Do the dynamics from sentence to sentence tell hallucinated texts from faithful ones?

Fitted, calibrated and tested on texts that are kept apart."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from relax_rl.errors import ConfigError, DataError
from relax_rl.spectra.text import RegimeOperators, text_modes
from relax_rl.statistics.auc import bootstrap_auc
from relax_rl.statistics.intervals import Estimate, bootstrap_mean

__all__ = ["SPLITS", "LabelledText", "SentenceResult", "sentence_result", "split_sentences", "split_texts"]

Split = Literal["fit", "calibration", "test"]
SPLITS: tuple[Split, ...] = ("fit", "calibration", "test")
_SHARES = (0.5, 0.2, 0.3)
_END = re.compile(r"(?<=[.!?。！？])\s+|\n+")
_MOST_DIRECTIONS = 16
_LEAST_SENTENCES = 3


@dataclass(frozen=True)
class LabelledText:
    """A text of known kind.

    Attributes:
        sentences: in order, three or more.
        is_hallucinated: its label.
        split: its use; None: to be drawn.
    """

    id: str
    sentences: tuple[str, ...]
    is_hallucinated: bool
    split: Split | None = None


@dataclass(frozen=True)
class SentenceResult:
    """The measurements.

    Attributes:
        auc: area under the curve of the two-operator score on the test texts; 0.5 is chance. Controls: of the number of
            sentences and of words alone, longer counting as hallucinated.
        sensitivity, specificity: shares of the hallucinated and of the faithful test texts that the calibrated
            threshold calls right.
        rank: directions of the embeddings that the operators see.
        moduli: largest |eigenvalue| first, of the operator of each kind.
        num_modes: modes of a text that hold 99 % of its energy, mean over the texts of each kind.
        num_texts: number of texts of each split, faithful and hallucinated.
    """

    auc: Estimate
    controls: dict[str, Estimate]
    threshold: float
    sensitivity: float
    specificity: float
    rank: int
    moduli: dict[str, tuple[float, ...]]
    num_modes: dict[str, Estimate | None]
    num_texts: dict[str, tuple[int, int]]
    scores: tuple[tuple[str, str, bool, float], ...]
    """Id, split, label and score of every text that was not fitted; below the threshold it is called hallucinated."""

    def to_dict(self) -> dict[str, Any]:
        """Plain tables and lists."""
        return asdict(self)


def split_sentences(text: str) -> tuple[str, ...]:
    """The sentences of a text: parts that end in a full stop, a question or exclamation mark, or a line."""
    return tuple(part.strip() for part in _END.split(text) if part.strip())


def split_texts(texts: Sequence[LabelledText], seed: int = 0) -> list[Split]:
    """Use of each text: as it says, or drawn within each kind, one half, a fifth and three tenths.

    Raises:
        DataError: labels that are all equal, or a split without one kind.
    """
    labels = [text.is_hallucinated for text in texts]
    if not texts or all(labels) or not any(labels):
        kind = "hallucinated" if any(labels) else "faithful"
        raise DataError(f"All {len(texts)} texts are labelled {kind}; give texts of both kinds.")
    splits: list[Split] = [text.split or "fit" for text in texts]
    if any(text.split is None for text in texts):
        generator = np.random.default_rng(seed)
        for kind in (False, True):
            places = generator.permutation([place for place, label in enumerate(labels) if label == kind])
            ends = np.cumsum([round(share * len(places)) for share in _SHARES[:-1]])
            for split, part in zip(SPLITS, np.split(places, ends), strict=True):
                for place in part:
                    splits[place] = split
    for split in SPLITS:
        kinds = {label for label, own in zip(labels, splits, strict=True) if own == split}
        if len(kinds) < 2:
            missing = "hallucinated" if True not in kinds else "faithful"
            raise DataError(
                f"The {split} split has no {missing} text; give more texts of that kind, or name the splits in a "
                f"column 'split' ({', '.join(SPLITS)})."
            )
    return splits


def sentence_result(
    texts: Sequence[LabelledText],
    embeddings: Sequence[Tensor],
    *,
    rank: int | None = None,
    miss_cost: float = 1.0,
    seed: int = 0,
) -> SentenceResult:
    """Fit one operator for each kind, calibrate a threshold, and test the score on texts that neither saw.

    Args:
        texts: texts of three sentences or more.
        embeddings: (S, H) of each.
        rank: directions that the operators see. None: as many as a third of the pairs of the rarer kind, at most 16.
        miss_cost: cost of calling a hallucinated text faithful, where the opposite costs 1.
        seed: seed of the split and of the bootstrap.

    Raises:
        DataError: a text that is too short, labels that are all equal, or too few texts of a kind in a split.
        ConfigError: a rank or cost out of range.
    """
    short = next((text.id for text in texts if len(text.sentences) < _LEAST_SENTENCES), None)
    if short is not None:
        raise DataError(f"The text '{short}' has fewer than {_LEAST_SENTENCES} sentences; leave it out.")
    splits = split_texts(texts, seed)
    by = {
        (split, kind): [
            states
            for text, states, own in zip(texts, embeddings, splits, strict=True)
            if own == split and text.is_hallucinated == kind
        ]
        for split in SPLITS
        for kind in (False, True)
    }
    pairs = min(sum(len(states) - 1 for states in by["fit", kind]) for kind in (False, True))
    width = min((states.shape[-1] for states in embeddings), default=1)
    chosen = max(1, min(_MOST_DIRECTIONS, width, pairs // 3 - 1)) if rank is None else rank
    if chosen < 1:
        raise ConfigError(f"--rank is {chosen}; give at least 1.")
    operators = RegimeOperators.fit(by["fit", False], by["fit", True], rank=chosen)
    calibration = by["calibration", False] + by["calibration", True]
    kinds = [False] * len(by["calibration", False]) + [True] * len(by["calibration", True])
    operators = operators.calibrated(calibration, kinds, miss_cost=miss_cost)
    scores = [operators.score(states) for states in embeddings]
    tested = [place for place, split in enumerate(splits) if split == "test"]
    labels = [texts[place].is_hallucinated for place in tested]
    called = [scores[place] < operators.threshold for place in tested]
    lengths = {
        "sentences": [float(len(texts[place].sentences)) for place in tested],
        "words": [float(sum(len(sentence.split()) for sentence in texts[place].sentences)) for place in tested],
    }
    return SentenceResult(
        auc=bootstrap_auc([-scores[place] for place in tested], labels, seed=seed),
        controls={name: bootstrap_auc(values, labels, seed=seed) for name, values in lengths.items()},
        threshold=operators.threshold,
        sensitivity=float(np.mean([call for call, label in zip(called, labels, strict=True) if label])),
        specificity=float(np.mean([not call for call, label in zip(called, labels, strict=True) if not label])),
        rank=chosen,
        moduli={"faithful": _moduli(operators.faithful), "hallucinated": _moduli(operators.hallucinated)},
        num_modes={
            name: bootstrap_mean(
                [
                    float(text_modes(states).num_modes)
                    for text, states in zip(texts, embeddings, strict=True)
                    if text.is_hallucinated == kind
                ],
                seed=seed,
            )
            for name, kind in (("faithful", False), ("hallucinated", True))
        },
        num_texts={split: (len(by[split, False]), len(by[split, True])) for split in SPLITS},
        scores=tuple(
            (text.id, split, text.is_hallucinated, score)
            for text, split, score in zip(texts, splits, scores, strict=True)
            if split != "fit"
        ),
    )


def _moduli(operator: Tensor) -> tuple[float, ...]:
    """Moduli of K without its first row, which is the constant's."""
    return tuple(torch.linalg.eigvals(operator[1:]).abs().sort(descending=True).values.tolist())
