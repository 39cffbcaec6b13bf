"""One update by verl's engine: in one pass where groups are whole in every micro-batch, in two where they are not."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import fields
from typing import Any

import torch
from torch import Tensor, distributed
from verl.utils import tensordict_utils as verl_rows

from relax_rl.errors import DataError
from relax_rl.objectives import Objective, RolloutBatch, UpdateTotals
from relax_rl.objectives.base import ObjectiveOutput
from relax_rl.objectives.groups import joined
from relax_rl.objectives.inputs import HIDDEN_STATES, TOKEN_CHOICE, Input
from relax_rl.objectives.shares import LOG_PROBS, Shares, shares_of
from relax_rl.objectives.updates import UpdateReport
from relax_rl.training.trl.update_sums import UpdateSums, report_of
from relax_rl.training.verl.exchange import exchanged, from_all
from relax_rl.training.verl.groups import layout_of
from relax_rl.training.verl.methods import GIVEN
from relax_rl.training.verl.passes import Engine, as_they_are
from relax_rl.training.verl.rows import PLACE, batch_of, rows_of

__all__ = ["Update"]


class Update:
    """A mini-batch of verl on one process of its data-parallel group.

    Args:
        engine: runs the forward and the backward passes.
        objective: as it is before the update.
        data: verl's rows.
        group_size: G.
        max_completion_length: responses are padded to, where the objective reads the layout.

    Raises:
        DataError: a prompt has another number of completions.
    """

    def __init__(
        self, engine: Engine, objective: Objective, data: Any, group_size: int, max_completion_length: int | None
    ) -> None:
        self.objective = objective
        self._engine = engine
        self._group = engine.get_data_parallel_group()
        self._rank, self._size = distributed.get_rank(self._group), distributed.get_world_size(self._group)
        self._width = max_completion_length if objective.reads_layout else None
        own = rows_of(data)
        self._layout = layout_of(from_all(own, self._group), group_size)
        self._group_size = group_size
        numbers = {uid: number for number, uid in enumerate(self._layout.groups)}
        self._ids = [-1] * len(own)
        for uid, group in self._layout.groups.items():
            for rank, row in group:
                if rank == self._rank:
                    self._ids[row] = numbers[uid]
        self._owners = [self._layout.owner(uid) for uid in numbers]
        self._totals = UpdateTotals(len(numbers), len(numbers) * group_size, float(self._layout.num_tokens))
        data[PLACE] = torch.arange(len(own))
        self._data = data
        self._sums = UpdateSums()
        self._metrics: dict[str, list[float]] = defaultdict(list)

    # The passes ---------------------------------------------------------------------------------------------------

    def run(self) -> Any:
        """Give the model its gradient. Collective."""
        whole = self._in_whole_groups()
        if whole is not None:
            return self._engine.passes(whole, self._loss, has_gradient=True)
        self._shares = self._shares_of_rows()
        return self._engine.passes(self._data, self._share, has_gradient=True)

    def _in_whole_groups(self) -> Any:
        """The rows in an order in which every micro-batch holds whole groups; None where there is none."""
        if not self._layout.is_whole or self.objective.selector is not None:
            return None
        order = sorted(range(len(self._ids)), key=lambda row: (self._ids[row], row))
        data = verl_rows.index_select_tensor_dict(self._data, order)
        if not verl_rows.get_non_tensor_data(data, "use_dynamic_bsz", True):
            size = verl_rows.get_non_tensor_data(data, "micro_batch_size_per_gpu", 1)
            return data if size % self._group_size == 0 else None
        verl_rows.assign_non_tensor(data, force_group_size=self._group_size)
        try:
            self._engine.micro_batches(data)
        except ValueError:
            # A group has more tokens than a micro-batch may.
            return None
        return data

    def _loss(self, outputs: Any, micro: Any, states: Tensor) -> tuple[Tensor, dict[str, Any]]:
        """Loss of whole groups: the objective itself."""
        output = self._output(batch := self._batch(outputs, micro, states))
        self._note(batch, output)
        # verl's processes average their gradients, and the shares of an update add up.
        return output.loss * self._size, {}

    def _share(self, outputs: Any, micro: Any, states: Tensor) -> tuple[Tensor, dict[str, Any]]:
        """Loss of parts of groups: the sum of what each completion adds."""
        batch = self._batch(outputs, micro, states)
        places = micro[PLACE].tolist()
        rows = [row for row, place in enumerate(places) if self._ids[place] >= 0]
        if not rows:
            # Every process takes part in the backward pass of a sharded model.
            return 0.0 * batch.log_probs.sum(), {}
        device = batch.log_probs.device
        shares = self._shares.of_rows(torch.tensor([places[row] for row in rows])).to(device)
        index = torch.tensor(rows, device=device)
        given = {LOG_PROBS: batch.log_probs, **batch.given}
        loss = shares.loss({of: given[of][index] for of in shares.slopes})
        return loss.float() * self._size, {}

    def _batch(self, outputs: Any, micro: Any, states: Tensor) -> RolloutBatch:
        objective, probe = self.objective, self.objective.probe
        read = None
        if HIDDEN_STATES in objective.inputs:
            is_lifted = objective.reads_lifted_states and probe is not None
            read = self._engine.of_tokens(states, micro, probe.lifted_columns if is_lifted and probe else as_they_are)
        ids = torch.tensor([self._ids[place] for place in micro[PLACE].tolist()], device=states.device)
        return batch_of(objective, micro, outputs, read, ids, self._totals, self._width)

    def _output(self, batch: RolloutBatch) -> ObjectiveOutput:
        output = self.objective(batch)
        _refuse_memory(output)
        return output

    # Split groups -------------------------------------------------------------------------------------------------

    def _shares_of_rows(self) -> Shares:
        """The shares of this process's rows, in their order. Collective."""
        parts: list[tuple[Tensor, dict[str, Tensor]]] = []

        def read(outputs: Any, micro: Any, states: Tensor) -> tuple[Tensor, dict[str, Any]]:
            batch = self._batch(outputs, micro, states)
            parts.append((micro[PLACE].cpu(), _columns(batch)))
            return batch.log_probs.sum() * 0.0, {}

        self._engine.passes(self._data, read, has_gradient=False)
        columns = joined({name: [part[name] for _, part in parts] for name in parts[0][1]})
        places = torch.cat([part for part, _ in parts])
        columns = {name: column[places.argsort()] for name, column in columns.items()}
        received = exchanged([self._sent(columns, owner) for owner in range(self._size)], self._group)
        found = self._owned([part for part in received if part is not None])
        counts = [0 if part is None else len(part["group_ids"]) for part in received]
        returned: list[Shares | None] = [None] * self._size
        start = 0
        for source, count in enumerate(counts):
            if count and found is not None:
                returned[source] = found.of_rows(torch.arange(start, start + count)).to("cpu")
            start += count
        return self._in_place(exchanged(returned, self._group))

    def _rows_of(self, owner: int) -> list[int]:
        return [row for row, number in enumerate(self._ids) if number >= 0 and self._owners[number] == owner]

    def _sent(self, columns: dict[str, Tensor], owner: int) -> dict[str, Tensor] | None:
        rows = self._rows_of(owner)
        if not rows:
            return None
        sent = {name: column[rows] for name, column in columns.items()}
        return sent if owner == self._rank else {name: column.cpu() for name, column in sent.items()}

    def _owned(self, parts: list[dict[str, Tensor]]) -> Shares | None:
        """The shares of the groups that this process owns, in the order of the parts."""
        device = next((column.device for part in parts for column in part.values()), None)
        batch: RolloutBatch | None = None
        if parts:
            local = [{name: column.to(self._device(parts)) for name, column in part.items()} for part in parts]
            batch = _batch_from(joined({name: [part[name] for part in local] for name in local[0]}), self._totals)
        if self.objective.selector is not None:
            batch = self._with_choice(batch)
        if batch is None or device is None:
            return None
        shares, output = shares_of(self.objective, batch)
        _refuse_memory(output)
        self._note(batch, output)
        return shares

    def _device(self, parts: list[dict[str, Tensor]]) -> torch.device:
        devices = [part["log_probs"].device for part in parts]
        return next((device for device in devices if device.type != "cpu"), devices[0])

    def _with_choice(self, batch: RolloutBatch | None) -> RolloutBatch | None:
        """With the objective's choice among the tokens of all processes. Collective."""
        columns = None if batch is None else self.objective.survey(batch).cpu()
        found = from_all(columns, self._group)
        together = [part for part in found if part is not None]
        chosen = self.objective.choose(torch.cat(together)).float()
        if batch is None:
            return None
        start = sum(len(part) for part in found[: self._rank] if part is not None)
        own = chosen[start : start + int(batch.mask.sum())].to(batch.mask.device)
        choice = torch.zeros_like(batch.mask, dtype=own.dtype).masked_scatter(batch.mask, own)
        return batch.with_extra(TOKEN_CHOICE, choice)

    def _in_place(self, returned: list[Shares | None]) -> Shares:
        """The shares that the owners gave, by the rows of this process; those of padding are 0."""
        kept = [(owner, share.to("cpu")) for owner, share in enumerate(returned) if share is not None]
        names = {of for _, share in kept for of in share.slopes}
        values = torch.zeros(len(self._ids), dtype=torch.float64)
        places = [torch.tensor(self._rows_of(owner)) for owner, _ in kept]
        for rows, (_, share) in zip(places, kept, strict=True):
            values[rows] = share.values.double()
        slopes: dict[Input, Tensor] = {}
        for of in names:
            found = [(rows, share.slopes[of]) for rows, (_, share) in zip(places, kept, strict=True)]
            slopes[of] = self._slopes(of, found)
        return Shares(values, slopes)

    def _slopes(self, of: Input, found: list[tuple[Tensor, Tensor]]) -> Tensor:
        together = joined({of.name: [slope for _, slope in found]})[of.name]
        slopes = together.new_zeros((len(self._ids), *together.shape[1:]))
        slopes[torch.cat([rows for rows, _ in found])] = together
        return slopes

    # Figures ------------------------------------------------------------------------------------------------------

    def _note(self, batch: RolloutBatch, output: ObjectiveOutput) -> None:
        self._sums.add(batch, output.per_completion["advantage"], {})
        for name, value in output.metrics.items():
            self._metrics[name].append(value)

    def report(self, step: int, num_steps: int) -> UpdateReport:
        """Reduce the sums of the update over all processes. Collective."""
        found = from_all(dict(self._metrics), self._group)
        values: dict[str, list[float]] = defaultdict(list)
        for part in found:
            for name, numbers in part.items():
                values[name] += [number for number in numbers if number == number]
        metrics = {name: sum(kept) / len(kept) for name, kept in values.items() if kept}
        sums = from_all(self._sums.sums, self._group)
        return report_of([sum(column) for column in zip(*sums, strict=True)], metrics, step, num_steps)


def _columns(batch: RolloutBatch) -> dict[str, Tensor]:
    given = {one.name: vars(batch)[one.name] for one in fields(batch) if one.name not in ("totals", "extras")}
    tensors = {name: value.detach() for name, value in given.items() if value is not None}
    return tensors | {f"{_EXTRA}{of.name}": tensor for of, tensor in batch.extras.items()}


_EXTRA = "extra "


def _batch_from(columns: dict[str, Tensor], totals: UpdateTotals) -> RolloutBatch:
    extras = {of: columns.pop(f"{_EXTRA}{of.name}") for of in GIVEN if f"{_EXTRA}{of.name}" in columns}
    return RolloutBatch(**columns, totals=totals, extras=extras)  # type: ignore[arg-type]


def _refuse_memory(output: ObjectiveOutput) -> None:
    if output.to_remember is not None:
        raise DataError("The objective remembers completions between rollout batches, which a run by verl does not.")
