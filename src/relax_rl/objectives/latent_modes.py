"""Solutions distinguished by latent states, where no verifier names them: a kernel between completions, and clusters.

A completion has a position (`relax_rl.objectives.inputs.LATENT_KEYS`), in units of a distance that the first rollout
batch gave. Completions without a position are one solution, as those without a mode are.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from scipy.cluster.hierarchy import fcluster, linkage
from torch import Tensor

__all__ = ["Agreement", "agreement", "clusters", "latent_kernel", "pairwise_distances"]


def pairwise_distances(positions: Tensor) -> Tensor:
    """(P, G, G) float64 distances between the positions (P, G, D); NaN where one of two has none."""
    # Differences and not the expanded square: of states with a large common part, that rounds small distances away.
    found = positions.double()
    return (found.unsqueeze(-2) - found.unsqueeze(-3)).square().sum(-1).sqrt()


def latent_kernel(positions: Tensor) -> Tensor:
    """(P, G, G) float64 kappa in [0, 1]: how much two completions of a prompt count as one solution.

    exp(-d^2 / 2), so that it is 0.61 at the calibrated distance d = 1; 1 for equal states, and between two completions
    without a position (NaN); 0 between one with and one without.

    Args:
        positions: (P, G, D).
    """
    is_known = positions.isfinite().all(-1)
    kernel = (-pairwise_distances(positions).square() / 2).exp()
    both = is_known.unsqueeze(-1) & is_known.unsqueeze(-2)
    neither = ~is_known.unsqueeze(-1) & ~is_known.unsqueeze(-2)
    return torch.where(both, kernel, neither.double())


def clusters(positions: Tensor, takes_part: Tensor) -> Tensor:
    """(P, G) int64 the cluster of each completion among those of its group that take part, and -1 for the others.

    Average linkage, cut at the calibrated distance 1. Completions without a position are one cluster.

    Args:
        positions: (P, G, D).
        takes_part: (P, G) bool.
    """
    distances = pairwise_distances(positions).cpu()
    is_known = positions.isfinite().all(-1).cpu()
    found = torch.full(takes_part.shape, -1, dtype=torch.int64)
    for prompt, chosen in enumerate(takes_part.cpu()):
        known = (chosen & is_known[prompt]).nonzero().flatten()
        found[prompt, known] = _average_linkage(distances[prompt][known][:, known])
        found[prompt, chosen & ~is_known[prompt]] = len(known) + 1
    return found.to(takes_part.device)


def _average_linkage(distances: Tensor) -> Tensor:
    """(N,) labels from 1 on."""
    if len(distances) < 2:
        return torch.ones(len(distances), dtype=torch.int64)
    upper = torch.triu_indices(*distances.shape, offset=1)
    joined = linkage(distances[upper[0], upper[1]].numpy(), method="average")
    return torch.from_numpy(fcluster(joined, 1.0, criterion="distance")).long()


@dataclass(frozen=True)
class Agreement:
    """How well latent positions tell the solutions apart that a verifier knows, over the right completions.

    Attributes:
        auc: chance that two completions of different solutions are further apart than two of one, within a prompt; NaN
            without a pair of both kinds.
        rand: adjusted Rand index of the clusters, averaged over the groups with two right completions or more; NaN
            where neither partition of any such group says anything.
    """

    auc: float
    rand: float


def agreement(positions: Tensor, modes: Tensor, is_right: Tensor) -> Agreement:
    """The agreement of positions (P, G, D) with the modes (P, G) of a verifier, of the completions that are right."""
    of_groups: list[float] = []
    rands: list[float] = []
    found, distances = clusters(positions, is_right), pairwise_distances(positions)
    for prompt, chosen in enumerate(is_right):
        rows = chosen.nonzero().flatten()
        if len(rows) < 2:
            continue
        rand = _adjusted_rand(found[prompt, rows], modes[prompt, rows])
        rands += [] if rand is None else [rand]
        pairs = torch.combinations(rows)
        apart = distances[prompt, pairs[:, 0], pairs[:, 1]]
        differs = modes[prompt, pairs[:, 0]] != modes[prompt, pairs[:, 1]]
        far, near = apart[differs & ~apart.isnan()], apart[~differs & ~apart.isnan()]
        if len(far) and len(near):
            above = (far.unsqueeze(1) > near).double() + 0.5 * (far.unsqueeze(1) == near).double()
            of_groups.append(float(above.mean()))
    return Agreement(_mean(of_groups), _mean(rands))


def _mean(values: list[float]) -> float:
    return sum(values) / len(values) if values else float("nan")


def _adjusted_rand(one: Tensor, other: Tensor) -> float | None:
    """Hubert and Arabie 1985; None where both have a single cluster, or both have none that holds two."""
    same, alike = (labels.unsqueeze(0) == labels.unsqueeze(1) for labels in (one, other))
    count = len(one)
    pairs = count * (count - 1) / 2
    together, first, second = ((float(matrix.sum()) - count) / 2 for matrix in (same & alike, same, alike))
    expected = first * second / pairs
    most = (first + second) / 2
    return None if most == expected else (together - expected) / (most - expected)
