"""Positions of many trajectories relative to one another: distances, an embedding, clusters, and how well they
separate.

The picture of dynamical scaling: many prompts through several models, a distance between any two of the trajectories,
and the question whether a model, or a size of model, has dynamics of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from relax_rl.errors import ConfigError, DataError
from relax_rl.koopman.inputs import as_tensor, in_its_unit, require_real
from relax_rl.koopman.similarity.distances import spectral_wasserstein_matrix
from relax_rl.koopman.similarity.koopstd import KoopSTD

__all__ = ["Landscape", "Scaling", "agglomerate", "classical_scaling", "dynamical_landscape", "silhouette"]


@dataclass(frozen=True)
class Scaling:
    """Points in the plane, or in more dimensions, whose distances approximate given ones."""

    coordinates: Tensor
    """(B, D) float64, centred, along principal axes, the entry of largest modulus of each positive."""
    explained: float
    """Share of the D axes in the sum of the moduli of all eigenvalues: 1 where D dimensions hold the distances."""


def classical_scaling(distances: Tensor, dimensions: int = 2) -> Scaling:
    """Classical multidimensional scaling (Torgerson 1952): exact for Euclidean distances of at most D dimensions.

    Args:
        distances: (B, B) symmetric, zero diagonal.
        dimensions: D; axes that the distances do not have are zero.

    Raises:
        DataError: not a matrix of distances.
        ConfigError: dimensions below 1.
    """
    if dimensions < 1:
        raise ConfigError(f"dimensions must be at least 1, got {dimensions}.")
    matrix, unit = in_its_unit(_distances(distances))
    squared = matrix.square()
    means = squared.mean(-1, keepdim=True)
    values, vectors = torch.linalg.eigh(-0.5 * (squared - means - means.mT + squared.mean()))
    values, vectors = values.flip(-1), vectors.flip(-1)
    kept = min(dimensions, len(values))
    # A negative eigenvalue says that the distances are not Euclidean; no axis can show it.
    positive = values[:kept].clamp_min(0.0)
    coordinates = vectors[:, :kept] * positive.sqrt()
    # eigh leaves the sign of an axis open. Fixed, so that a picture is the same on every machine.
    largest = coordinates.gather(0, coordinates.abs().argmax(0, keepdim=True))
    coordinates = coordinates * torch.where(largest < 0, -1.0, 1.0)
    total = float(values.abs().sum())
    padding = coordinates.new_zeros((len(coordinates), dimensions - kept))
    return Scaling(torch.cat([coordinates, padding], 1) * unit, float(positive.sum()) / total if total > 0 else 1.0)


def agglomerate(distances: Tensor, num_clusters: int) -> Tensor:
    """Clusters by average linkage, (B,) int64 from 0 in the order of their first members; nothing in it is random.

    Each point starts alone; the two clusters of smallest mean distance are joined until `num_clusters` are left, the
    first pair in order where several are equally close.

    Raises:
        DataError: not a matrix of distances.
        ConfigError: num_clusters outside 1..B.
    """
    between = _distances(distances).clone()
    size = len(between)
    if not 1 <= num_clusters <= size:
        raise ConfigError(f"num_clusters must lie in 1..{size} (the number of trajectories), got {num_clusters}.")
    labels = torch.arange(size)
    counts = torch.ones(size, dtype=between.dtype)
    between.fill_diagonal_(torch.inf)
    for _ in range(size - num_clusters):
        first, second = sorted(divmod(int(between.argmin()), size))
        joined = (counts[first] * between[first] + counts[second] * between[second]) / (counts[first] + counts[second])
        between[first], between[:, first] = joined, joined
        between[second], between[:, second] = torch.inf, torch.inf
        between[first, first] = torch.inf
        counts[first] += counts[second]
        labels[labels == second] = first
    return torch.unique(labels, return_inverse=True)[1]


def silhouette(distances: Tensor, labels: Tensor) -> Tensor:
    """Mean silhouette of a labelling, () float64 in [-1, 1] (Rousseeuw 1987).

    Of each point (b - a) / max(a, b), a its mean distance to others of its label, b the smallest mean distance to the
    points of another; 0 for a label's only point.

    Args:
        distances: (B, B).
        labels: (B,) of at least two different values.

    Raises:
        DataError: not a matrix of distances, or labels that do not fit it.
    """
    distances = _distances(distances)
    labels = as_tensor(labels, "labels")
    if labels.shape != distances.shape[:1]:
        raise DataError(f"There must be one label a row, got {tuple(labels.shape)} for {len(distances)} rows.")
    groups, members = torch.unique(labels.cpu(), return_inverse=True)
    if len(groups) < 2:
        raise DataError("A silhouette compares at least two labels; all points have the same one.")
    one_hot = torch.nn.functional.one_hot(members, len(groups)).to(distances.dtype)
    counts = one_hot.sum(0)
    sums = distances @ one_hot
    own = counts[members]
    # A point is not its own neighbour: its distance from itself, zero, is in the sum but not in the count.
    within = sums.gather(1, members.unsqueeze(1)).squeeze(1) / (own - 1).clamp_min(1)
    beside = (sums / counts).masked_fill(one_hot.bool(), torch.inf).amin(1)
    larger = torch.maximum(within, beside)
    values = (beside - within) / torch.where(larger > 0, larger, 1.0)
    return torch.where(own > 1, values, 0.0).mean()


@dataclass(frozen=True)
class Landscape:
    """Trajectories of several models, compared; rows in the order of the models and, within each, of its prompts."""

    models: tuple[str, ...]
    """Names of the M models."""
    model_of: Tensor
    """(B,) int64, the model of each row."""
    distances: Tensor
    """(B, B) float64."""
    between_models: Tensor
    """(M, M) float64, mean distance of two models' trajectories of the same prompt; 0 on the diagonal."""
    scaling: Scaling
    clusters: Tensor
    """(B,) int64, from :func:`agglomerate`."""
    model_silhouette: float
    """How far models are apart, measured by how far prompts are within each: 1 apart, 0 mixed."""
    cluster_silhouette: float
    """Silhouette of the clusters found: what it is worth to have any at all."""


def dynamical_landscape(
    trajectories: Mapping[str, Sequence[Tensor]],
    *,
    method: KoopSTD | None = None,
    order: float = 1.0,
    num_clusters: int | None = None,
    dimensions: int = 2,
) -> Landscape:
    """Compare the trajectories of several models on the same prompts.

    Args:
        trajectories: model -> one trajectory (T_i, H) a prompt, the prompts in the same order for all; models may
            differ in width and trajectories in length, as spectra alone are compared.
        method: settings of the spectra; None takes the defaults of `KoopSTD`.
        order: order of the Wasserstein distance.
        num_clusters: None takes as many as there are models.
        dimensions: dimensions of the embedding.

    Raises:
        DataError: fewer than two models, models with different numbers of prompts or with fewer than two, or a
            trajectory without a spectrum (see :meth:`KoopSTD.spectrum`).
    """
    models = tuple(trajectories)
    prompts = {len(trajectories[model]) for model in models}
    if len(models) < 2 or len(prompts) != 1 or min(prompts) < 2:
        counts = {model: len(trajectories[model]) for model in models}
        raise DataError(f"A landscape needs two models or more on the same two prompts or more, got {counts}.")
    spectra = (method or KoopSTD()).spectra([x for model in models for x in trajectories[model]])
    distances = spectral_wasserstein_matrix([spectrum.eigenvalues for spectrum in spectra], order=order)
    num_prompts = prompts.pop()
    model_of = torch.arange(len(models)).repeat_interleave(num_prompts)
    blocks = distances.view(len(models), num_prompts, len(models), num_prompts)
    clusters = agglomerate(distances, len(models) if num_clusters is None else num_clusters)
    return Landscape(
        models=models,
        model_of=model_of,
        distances=distances,
        between_models=blocks.diagonal(dim1=1, dim2=3).mean(-1),
        scaling=classical_scaling(distances, dimensions),
        clusters=clusters,
        model_silhouette=float(silhouette(distances, model_of)),
        cluster_silhouette=float(silhouette(distances, clusters)) if int(clusters.max()) > 0 else 0.0,
    )


def _distances(distances: Tensor) -> Tensor:
    """A matrix of distances, on the CPU in float64."""
    distances = require_real(as_tensor(distances, "Distances"), "Distances")
    if distances.ndim != 2 or distances.shape[0] != distances.shape[1] or len(distances) == 0:
        raise DataError(f"Distances must be a square (B, B), got {tuple(distances.shape)}.")
    matrix = distances.detach().to("cpu", torch.float64)
    # Distances computed twice, as d(a, b) and d(b, a), may differ by rounding.
    tolerance = 1e-9 * float(matrix.abs().max())
    if not bool(torch.isfinite(matrix).all()) or bool((matrix < -tolerance).any()):
        raise DataError("Distances must be finite and not negative.")
    if not torch.allclose(matrix, matrix.T, rtol=1e-6, atol=tolerance) or float(matrix.diagonal().max()) > tolerance:
        raise DataError("Distances must be symmetric with a zero diagonal; this matrix may hold similarities.")
    return matrix
