"""The dictionary of a run by verl, fitted on a sample of a rollout batch and the same on all processes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, distributed
from verl.utils import tensordict_utils as verl_rows

from relax_rl.koopman import KoopmanDictionary
from relax_rl.objectives import Objective
from relax_rl.objectives.probe import DispersionProbe
from relax_rl.training.verl.exchange import exchanged, from_all, made_by_first
from relax_rl.training.verl.groups import layout_of
from relax_rl.training.verl.passes import Engine, as_they_are
from relax_rl.training.verl.rows import PLACE, response_lengths, response_mask, rows_of
from relax_rl.training.verl.sampled import rows_to_run, sampled_rows
from relax_rl.training.verl.states import of_responses

__all__ = ["Sample", "calibrated", "fitted"]


def fitted(engine: Engine, objective: Objective, data: Any, group_size: int, width: int | None) -> Objective:
    """The objective with the dictionary and xi that the rows of a rollout batch give it. Collective.

    One forward without gradient of the sampled rows.

    Args:
        data: verl's rows of this process, of all updates of the rollout batch.
        group_size: G.
        width: responses are padded to, where the objective reads the layout.

    Raises:
        DataError: a prompt has another number of completions.
        RelaxError: no dictionary can be fitted.
    """
    group = engine.get_data_parallel_group()
    rank, probe = distributed.get_rank(group), objective.probe
    assert probe is not None
    rows = from_all(rows_of(data), group)
    layout = layout_of(rows, group_size)
    chosen = [sampled_rows(rows, layout, place) for place in range(len(rows))]
    is_dynamic = verl_rows.get_non_tensor_data(data, "use_dynamic_bsz", True)
    size = 1 if is_dynamic else verl_rows.get_non_tensor_data(data, "micro_batch_size_per_gpu", 1)
    taken = rows_to_run(chosen[rank], len(rows[rank]), max(map(len, chosen)), size)
    part = verl_rows.index_select_tensor_dict(data, taken)
    part[PLACE] = torch.tensor([chosen[rank].get(row, -1) for row in taken])
    sample, device = Sample(), list[torch.device]()

    def read(outputs: Any, micro: Any, states: Tensor) -> tuple[Tensor, dict[str, Any]]:
        device.append(states.device)
        own = engine.of_tokens(states, micro, as_they_are)
        lengths, offsets = response_lengths(micro), micro["input_ids"].offsets()
        before = int(objective.reads_predicting_states)
        found = of_responses(own, offsets, lengths, max(width or 0, int(lengths.max())), before)
        mask = response_mask(micro, found.shape[1])
        for row, place in enumerate(micro[PLACE].tolist()):
            if place >= 0:
                end = found.shape[1] if width else int(lengths[row])
                sample.add(place, found[row, :end], mask[row, :end])
        return states.sum() * 0.0, {}

    engine.passes(part, read, has_gradient=False)
    return objective.with_probe(calibrated(probe, sample, group, device[0]))


@dataclass
class Sample:
    """The states that one process keeps.

    Attributes:
        places: places of its rows in the sample of all processes.
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
