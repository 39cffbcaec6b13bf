"""Whether models have dynamics of their own: distances between all their trajectories, beside what chance gives."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from relax_rl.errors import DataError
from relax_rl.koopman.similarity.distances import spectral_wasserstein_matrix
from relax_rl.koopman.similarity.koopstd import koopstd_distances
from relax_rl.koopman.similarity.landscape import agglomerate, classical_scaling, silhouette
from relax_rl.koopman.similarity.vector_fields import delay_spectrum
from relax_rl.statistics.intervals import Estimate

__all__ = ["LEAST_TOKENS", "METHODS", "ModelLandscape", "model_landscapes"]

_DELAYS = 4
_RANK = 8
LEAST_TOKENS = 48
"""Least tokens of a trajectory: the defaults of KoopSTD need more pairs of frames than directions."""


def _delay_wasserstein(trajectories: Sequence[Tensor]) -> Tensor:
    return spectral_wasserstein_matrix([delay_spectrum(x.double(), delays=_DELAYS, rank=_RANK) for x in trajectories])


METHODS: dict[str, Callable[[Sequence[Tensor]], Tensor]] = {
    "KoopSTD": koopstd_distances,
    "delay Wasserstein": _delay_wasserstein,
}


@dataclass(frozen=True)
class ModelLandscape:
    """All trajectories by one distance.

    Attributes:
        method: one of `METHODS`.
        points: by model, (x, y) of each prompt, by classical scaling; `explained` is the share that the plane shows.
        between: mean distance of the trajectories of two models on different prompts, models in order; on the diagonal,
            within a model.
        silhouette: silhouette of the models: 1 far apart, 0 mixed. `p_value`: share of shufflings of the models within
            each prompt that reach it.
        clusters: by model, the cluster of each prompt; as many clusters as models.
        cluster_silhouette: silhouette of those.
        coherence: by model, mean distance within it over that to the other models, with a bootstrap interval over
            prompts; below 1 the model has dynamics of its own.
    """

    method: str
    points: dict[str, tuple[tuple[float, float], ...]]
    explained: float
    between: tuple[tuple[float, ...], ...]
    silhouette: float
    p_value: float
    clusters: dict[str, tuple[int, ...]]
    cluster_silhouette: float
    coherence: dict[str, Estimate]

    def to_dict(self) -> dict[str, Any]:
        """Plain tables and lists."""
        return asdict(self)


def model_landscapes(
    trajectories: Mapping[str, Sequence[Tensor]], *, num_shuffles: int = 199, seed: int = 0
) -> list[ModelLandscape]:
    """Compare models on the same prompts by each method.

    Args:
        trajectories: by model, one (T_i, H) a prompt, the same prompts for all; T_i of at least `LEAST_TOKENS`.
        num_shuffles: number of shuffles of the permutation null.
        seed: seed of the shuffles and the bootstrap.

    Raises:
        DataError: fewer than two models or three prompts, different numbers of prompts, or a short trajectory.
    """
    counts = {model: len(found) for model, found in trajectories.items()}
    if len(counts) < 2 or len(set(counts.values())) != 1 or min(counts.values()) < 3:
        raise DataError(f"A landscape needs two models or more on the same three prompts or more, got {counts}.")
    short = min(len(x) for found in trajectories.values() for x in found)
    if short < LEAST_TOKENS:
        raise DataError(
            f"A trajectory has {short} tokens, but a landscape needs at least {LEAST_TOKENS}; leave it out."
        )
    flat = [x.detach().cpu() for found in trajectories.values() for x in found]
    return [_landscape(name, list(counts), method(flat), num_shuffles, seed) for name, method in METHODS.items()]


def _landscape(name: str, models: list[str], distances: Tensor, num_shuffles: int, seed: int) -> ModelLandscape:
    num_models, num_prompts = len(models), len(distances) // len(models)
    owner = torch.arange(num_models).repeat_interleave(num_prompts)
    observed = float(silhouette(distances, owner))
    generator = np.random.default_rng(seed)
    reached = 0
    for _ in range(num_shuffles):
        # Within each prompt: what prompts have in common across models stays where it is.
        shuffled = np.stack([generator.permutation(num_models) for _ in range(num_prompts)], 1).ravel()
        reached += float(silhouette(distances, torch.from_numpy(shuffled))) >= observed - 1e-12
    clusters = agglomerate(distances, num_models)
    scaling = classical_scaling(distances)
    blocks = distances.view(num_models, num_prompts, num_models, num_prompts).numpy()
    rows = [slice(place * num_prompts, (place + 1) * num_prompts) for place in range(num_models)]
    return ModelLandscape(
        method=name,
        points={
            model: tuple((float(x), float(y)) for x, y in scaling.coordinates[part])
            for model, part in zip(models, rows, strict=True)
        },
        explained=scaling.explained,
        between=tuple(
            tuple(_mean_between(blocks[i, :, j], np.arange(num_prompts)) for j in range(num_models))
            for i in range(num_models)
        ),
        silhouette=observed,
        p_value=(1 + reached) / (1 + num_shuffles),
        clusters={model: tuple(clusters[part].tolist()) for model, part in zip(models, rows, strict=True)},
        cluster_silhouette=float(silhouette(distances, clusters)) if len(clusters.unique()) > 1 else 0.0,
        coherence={model: _coherence(blocks, place, generator) for place, model in enumerate(models)},
    )


def _mean_between(block: np.ndarray, prompts: np.ndarray) -> float:
    """Mean over pairs of different prompts, which are as unlike for two models as for one."""
    apart = prompts[:, None] != prompts[None, :]
    return float(block[np.ix_(prompts, prompts)][apart].mean()) if apart.any() else float("nan")


def _coherence(blocks: np.ndarray, model: int, generator: np.random.Generator, resamples: int = 500) -> Estimate:
    num_models, num_prompts = blocks.shape[:2]
    others = [other for other in range(num_models) if other != model]

    def ratio(prompts: np.ndarray) -> float:
        outside = np.mean([_mean_between(blocks[model, :, other], prompts) for other in others])
        within = _mean_between(blocks[model, :, model], prompts)
        return float(within / outside) if outside > 0 else float("nan")

    found = [ratio(generator.integers(0, num_prompts, num_prompts)) for _ in range(resamples)]
    low, high = np.nanquantile(found, [0.025, 0.975])
    return Estimate(ratio(np.arange(num_prompts)), float(low), float(high), num_prompts)
