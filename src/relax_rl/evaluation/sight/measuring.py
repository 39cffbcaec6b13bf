"""One model under several conditions: its completions are read under each, and compared with the true image."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from relax_rl.evaluation.sight.measures import ProblemSight, SiteReading
from relax_rl.evaluation.sight.reading import batches, divergence, read
from relax_rl.evaluation.sight.sums import dispersions, sums_of
from relax_rl.koopman import Estimator
from relax_rl.koopman.dictionaries.protocol import Dictionary

__all__ = ["Completions", "TrueStates", "read_true", "readings_under", "token_sights"]


@dataclass(frozen=True)
class Completions:
    """The fixed part: one completion of each problem.

    Attributes:
        ids: token ids of the problems.
        units: the independent question of each.
        token_ids: token ids of the completions, at least two each.
        prompts: token ids of the prompts under each condition, by its name; None where a problem has none. Those of a
            processor bring their images along.
    """

    ids: Sequence[str]
    units: Sequence[str]
    token_ids: Sequence[Sequence[int]]
    prompts: Mapping[str, Sequence[Sequence[int] | None]]


@dataclass(frozen=True)
class TrueStates:
    """States under the true image, float32 on the CPU, by site and then by problem.

    Attributes:
        completions: (T, H) each.
        images: (N, H) each, of the image tokens of the prompt, in their order.
    """

    completions: dict[str, list[Tensor]]
    images: dict[str, list[Tensor]]


def read_true(model: Any, held: Completions, sites: Sequence[str], tokens_per_batch: int) -> TrueStates:
    """Read the completions under the true image.

    Raises:
        ModelError: see `relax_rl.evaluation.sight.reading.read`.
    """
    prompts = [prompt for prompt in held.prompts["true"] if prompt is not None]
    found: dict[int, tuple[dict[str, Tensor], dict[str, Tensor]]] = {}
    for rows in batches(model, prompts, held.token_ids, tokens_per_batch):
        reading = read(model, [prompts[row] for row in rows], [held.token_ids[row] for row in rows], sites)
        for place, row in enumerate(rows):
            kept = reading.mask[place]
            found[row] = (
                {site: states[place][kept].float().cpu() for site, states in reading.states.items()},
                {site: states[place].float().cpu() for site, states in reading.images.items()},
            )
    every = [found[row] for row in range(len(prompts))]
    return TrueStates(*({site: [each[side][site] for each in every] for site in sites} for side in (0, 1)))


def readings_under(
    model: Any,
    held: Completions,
    true: TrueStates,
    dictionaries: Mapping[str, Dictionary],
    estimators: Sequence[Estimator],
    *,
    temperature: float = 1.0,
    tokens_per_batch: int = 2**13,
    on_problem: Callable[[int], None] | None = None,
) -> dict[str, dict[int, ProblemSight]]:
    """By condition and by the position of the problem, what differs from the true image.

    Args:
        dictionaries: by site.
        temperature: temperature of the distributions that are compared; above 0.
        on_problem: is told how many problems are done.
    """
    collected: dict[str, dict[int, ProblemSight]] = {name: {} for name in held.prompts}
    originals = [prompt for prompt in held.prompts["true"] if prompt is not None]
    apart = {site: _apart(states) for site, states in true.completions.items()}
    num_done = 0
    for rows in batches(model, originals, held.token_ids, tokens_per_batch):
        for name, row, log_probs, change in _compared(model, held, rows, list(dictionaries), temperature):
            sites = {
                site: _at(true.completions[site][row], states, apart[site][row], dictionaries[site], estimators)
                for site, states in change.items()
            }
            kl, same = log_probs
            collected[name][row] = ProblemSight(held.units[row], kl, same, sites)
        num_done += len(rows)
        if on_problem is not None:
            on_problem(num_done)
    return {name: dict(sorted(each.items())) for name, each in collected.items()}


def _compared(
    model: Any, held: Completions, rows: Sequence[int], sites: Sequence[str], temperature: float
) -> Iterator[tuple[str, int, tuple[np.ndarray, np.ndarray], dict[str, Tensor]]]:
    """For some problems under each condition: name, problem, (KL, same choice) a token, and states (T, H) by site."""
    reference: Tensor | None = None
    for name, prompts in held.prompts.items():
        known = [(place, row) for place, row in enumerate(rows) if prompts[row] is not None]
        if not known:
            continue
        completions = [held.token_ids[row] for _, row in known]
        reading = read(model, [prompts[row] or () for _, row in known], completions, sites, temperature=temperature)
        assert reading.log_probs is not None
        if reference is None:
            reference = reading.log_probs
        width = reading.mask.shape[1]
        before = reference[[place for place, _ in known], :width]
        kl = divergence(before, reading.log_probs)
        same = before.argmax(-1) == reading.log_probs.argmax(-1)
        for place, (_, row) in enumerate(known):
            kept = reading.mask[place]
            found = kl[place][kept].cpu().numpy(), same[place][kept].float().cpu().numpy()
            yield name, row, found, {site: states[place][kept].float().cpu() for site, states in reading.states.items()}


def _apart(states: Sequence[Tensor]) -> list[float]:
    """Mean distance of each trajectory from the next one, token by token."""
    found: list[float] = []
    for place, own in enumerate(states):
        other = states[(place + 1) % len(states)]
        shared = min(len(own), len(other))
        found.append(float((own[:shared] - other[:shared]).norm(dim=-1).mean()))
    return found


def _at(
    true: Tensor, states: Tensor, apart: float, dictionary: Dictionary, estimators: Sequence[Estimator]
) -> SiteReading:
    lifted = dictionary(states)
    is_finite = bool(torch.isfinite(lifted).all())
    return SiteReading(
        distance=float((states - true).norm(dim=-1).mean()),
        apart=apart,
        sums=sums_of(lifted) if is_finite and len(lifted) > 1 else None,
        dsd=dispersions(lifted, estimators) if is_finite else dict.fromkeys(estimators, float("nan")),
    )


def token_sights(found: Mapping[str, Mapping[int, ProblemSight]], row: int) -> dict[str, tuple[float, ...]]:
    """KL of each token of one completion, by condition, without that of the true image, which is 0."""
    return {
        name: tuple(float(value) for value in rows[row].kl)
        for name, rows in found.items()
        if name != "true" and row in rows
    }
