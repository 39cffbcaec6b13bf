"""The dictionary of a run by verl, fitted on a sample of the first mini-batch: once, and the same on all processes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from relax_rl.koopman import KoopmanDictionary
from relax_rl.objectives.probe import DispersionProbe
from relax_rl.training.sampled_states import MOST_COMPLETIONS
from relax_rl.training.verl.exchange import exchanged, from_all, made_by_first
from relax_rl.training.verl.groups import Layout

__all__ = ["Sample", "calibrated", "sampled_rows"]


def sampled_rows(layout: Layout, rank: int) -> dict[int, int]:
    """The rows of a process that are sampled, and their places in the sample: whole groups, evenly spread."""
    uids = list(layout.groups)
    size = len(layout.groups[uids[0]])
    count = min(len(uids), max(1, MOST_COMPLETIONS // size))
    chosen = [uids[index * len(uids) // count] for index in range(count)]
    places = enumerate(where for uid in chosen for where in layout.groups[uid])
    return {row: place for place, (source, row) in places if source == rank}


@dataclass
class Sample:
    """The states that one process keeps.

    Attributes:
        places: of its rows in the sample of all processes.
        states: (T_i, H) of each, on the CPU, in the precision of the forward.
        masks: (T_i,) bool.
    """

    places: list[int] = field(default_factory=list[int])
    states: list[Tensor] = field(default_factory=list[Tensor])
    masks: list[Tensor] = field(default_factory=list[Tensor])

    def add(self, place: int, states: Tensor, mask: Tensor) -> None:
        """One more completion."""
        self.places.append(place)
        self.states.append(states.detach().cpu())
        self.masks.append(mask.cpu())


def calibrated(probe: DispersionProbe, sample: Sample, group: object, device: torch.device | str) -> DispersionProbe:
    """The probe with its dictionary and xi, from the samples of all processes. Collective.

    Only what the fit takes of a completion goes to the first process, which fits on its device.

    Raises:
        RelaxError: on every process, where no dictionary can be fitted.
    """
    size = len(from_all(None, group))
    given: list[tuple[int, list[Tensor]]] = [
        (place, probe.settings.chosen(probe.trajectories(states[None].float(), mask[None])))
        for place, states, mask in zip(sample.places, sample.states, sample.masks, strict=True)
        if place < probe.settings.max_trajectories
    ]
    # Copies: a view would be sent with all that it is a view of.
    parts = [[(place, [one.clone() for one in found]) for place, found in given], *[[] for _ in range(size - 1)]]
    received: Sequence[list[tuple[int, list[Tensor]]]] = exchanged(parts, group)
    # In the order of the sample, so that any number of processes fits the same dictionary.
    rows = sorted((row for part in received for row in part), key=lambda row: row[0])

    def fit() -> KoopmanDictionary:
        return probe.settings.fit([states.to(device) for _, found in rows for states in found]).to("cpu")

    dictionary = made_by_first(fit).to(device)
    own: list[float] = []
    for states, mask in zip(sample.states, sample.masks, strict=True):
        own += probe.dispersions(states[None].to(device).float(), mask[None].to(device), dictionary).tolist()
    found = torch.tensor([value for part in from_all(own, group) for value in part], dtype=torch.float64)
    # The first one's for all: sequence-parallel processes measure the same states in another order.
    xi = made_by_first(lambda: probe.with_dictionary(dictionary, found).bound.value)
    return replace(probe, dictionary=dictionary, bound=replace(probe.bound, value=xi))
