"""Takes a snapshot of latent dynamics: spectrum, trajectories of one prompt, and the tokens where modes are active."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from relax_rl.evaluation.dynamics import pooled_modes, pooled_statistics
from relax_rl.evaluation.pieces import MOST_TOKENS, pieces_of
from relax_rl.evaluation.replay import replay
from relax_rl.evaluation.snapshot import Snapshot, TracedCompletion
from relax_rl.koopman import GramStatistics, KoopmanDictionary
from relax_rl.koopman.pairs.snapshots import exclude_nonfinite
from relax_rl.spectra.activity import mode_activity

__all__ = ["SnapshotRow", "TrajectoryBasis", "take_snapshot"]

_MOST_TRACED = 8
_MOST_STATES = 1024
"""Tokens that a basis is fitted on: the eigenvectors of their inner products need no more."""
_DIRECTIONS = 12


@dataclass(frozen=True)
class SnapshotRow:
    """A completion that a snapshot is taken of.

    Attributes:
        group: number of its prompt.
        prompt, completion: token ids.
        reward: NaN or None where it has none.
        text: text of the prompt.
    """

    group: int
    prompt: Sequence[int]
    completion: Sequence[int]
    reward: float | None
    text: str = ""


@dataclass(frozen=True)
class TrajectoryBasis:
    """Principal directions of hidden states, fitted once a run so that its snapshots share their axes.

    Attributes:
        center: (H,).
        directions: (H, K), orthonormal.
    """

    center: Tensor
    directions: Tensor

    @classmethod
    def fit(cls, states: Tensor) -> TrajectoryBasis:
        """From states (N, H)."""
        chosen = states[:: max(1, -(-len(states) // _MOST_STATES))].double()
        center = chosen.mean(0)
        centred = chosen - center
        values, vectors = torch.linalg.eigh(centred @ centred.T)
        count = min(_DIRECTIONS, centred.shape[1], int((values > 1e-9 * values.max()).sum()))
        leading = vectors[:, -count:].flip(-1) / values[-count:].flip(-1).sqrt() if count else vectors[:, :0]
        return cls(center.float(), (centred.T @ leading).float())

    def points(self, states: Tensor) -> Tensor:
        """(T, K) coordinates of states (T, H)."""
        return (states.float() - self.center) @ self.directions

    def save(self, path: Path) -> None:
        """Write a safetensors file."""
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file({"center": self.center, "directions": self.directions.contiguous()}, path)

    @classmethod
    def load(cls, path: Path) -> TrajectoryBasis:
        """Read what `save` wrote."""
        found = load_file(path)
        return cls(found["center"], found["directions"])


@torch.no_grad()
def take_snapshot(
    model: Any,
    rows: Sequence[SnapshotRow],
    dictionary: KoopmanDictionary,
    decode: Callable[[list[int]], str],
    *,
    update: int,
    basis: TrajectoryBasis | None = None,
    temperature: float = 1.0,
) -> tuple[Snapshot, TrajectoryBasis]:
    """Read completions once more and measure them.

    Args:
        rows: none with an empty prompt or completion.
        dictionary: observables of the spectrum, on the model's device.
        decode: token ids to text.
        basis: axes of the run; None: fitted on these states, and returned.
    """
    traced = _to_trace(rows)
    pooled: GramStatistics | None = None
    states: dict[int, Tensor] = {}
    kept: dict[int, tuple[Tensor, Tensor]] = {}
    for batch in replay(model, [row.prompt for row in rows], [row.completion for row in rows], temperature=temperature):
        hidden, mask, _ = exclude_nonfinite(batch.hidden_states, batch.mask)
        lifted = dictionary(hidden)
        statistics = pooled_statistics(lifted, mask)
        pooled = statistics if pooled is None else pooled + statistics
        for place, row in enumerate(batch.rows):
            if basis is None or row in traced:
                states[row] = hidden[place, mask[place]].float().cpu()
            if row in traced:
                # A completion with a state that is not finite has lost its mask.
                kept[row] = (lifted[place, mask[place]][:MOST_TOKENS].cpu(), batch.entropy[place].cpu())
    basis = basis or TrajectoryBasis.fit(torch.cat([states[row] for row in sorted(states)]))
    found = pooled_modes(pooled, dictionary)
    chosen = [row for row in traced if len(kept[row][0])]
    lifted_texts = [kept[row][0] for row in chosen]
    activity = None if found is None else mode_activity(lifted_texts, found.eigenvectors, found.spectrum.eigenvalues)
    completions = tuple(
        TracedCompletion(
            reward=_finite(rows[row].reward),
            tokens=pieces_of(rows[row].completion[:MOST_TOKENS], decode),
            entropy=_rounded(kept[row][1][: len(lifted_texts[place])].tolist()),
            points=tuple(_rounded(point) for point in basis.points(states[row][:MOST_TOKENS]).tolist()),
            strengths=() if activity is None else activity.strengths[place],
        )
        for place, row in enumerate(chosen)
    )
    spectrum, modes = (None, ()) if found is None or activity is None else (found.spectrum, activity.places)
    prompt = rows[traced[0]].text if traced else ""
    return Snapshot(update, len(rows), spectrum, modes, prompt, completions), basis


def _to_trace(rows: Sequence[SnapshotRow]) -> list[int]:
    """Rows of the prompt whose rewards differ most; of the first one where none differ."""
    groups: dict[int, list[int]] = {}
    for place, row in enumerate(rows):
        groups.setdefault(row.group, []).append(place)

    def spread(places: list[int]) -> float:
        rewards = [reward for place in places if (reward := _finite(rows[place].reward)) is not None]
        return max(rewards) - min(rewards) if rewards else -1.0

    best = max(groups.values(), key=spread, default=[])
    if len(best) <= _MOST_TRACED:
        return best
    # Both ends of the rewards, not the first completions alone.
    ordered = sorted(best, key=lambda place: _finite(rows[place].reward) or 0.0)
    return sorted(ordered[: _MOST_TRACED // 2] + ordered[-_MOST_TRACED // 2 :])


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _rounded(values: Sequence[float]) -> tuple[float, ...]:
    """To four digits: what a page can show."""
    return tuple(float(f"{value:.4g}") for value in values)
