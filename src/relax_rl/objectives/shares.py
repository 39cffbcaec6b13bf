"""Contribution of each completion to an update's loss, so that a group may be split over micro-batches and processes.

Most methods compare the completions of a prompt, or the tokens of an update: ReLaX's log-mean-exp, an advantage that
reads entropies, a distribution over the group. A trainer that accumulates gradients can only add up terms of single
micro-batches. Two passes make one of the other:

1. without gradient, every micro-batch gives what the objective reads of its completions: a few numbers a token, since
   lifted states stand in for hidden ones. Brought together, they are whole groups. `shares_of` computes the loss L of
   these and its derivative in every number that the policy made.
2. with gradient, each micro-batch adds sum_j (dL/dx_j) x_j over its own numbers x, the derivatives held constant.

The gradient of such a sum in the policy's parameters is, by the chain rule, that micro-batch's part of the gradient of
L, whatever the objective is. For ReLaX it is what the normaliser Z = log sum_i exp(s_i) and the additive term
sum_i exp(s_i - Z) s_i are for the log-mean-exp. The first pass may be one that is made anyway, as of the old
log-probabilities, where the policy is still the one of that pass.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import Tensor

from relax_rl.errors import DataError
from relax_rl.objectives.base import ObjectiveOutput
from relax_rl.objectives.batch import RolloutBatch
from relax_rl.objectives.inputs import Input
from relax_rl.objectives.objective import Objective

__all__ = ["LOG_PROBS", "Shares", "shares_of"]

LOG_PROBS = Input("log_probs", ("P", "G", "T"), "log-probabilities of the sampled tokens", has_gradient=True)
"""They are no optional input; here they are one of those that have a gradient."""


@dataclass(frozen=True)
class Shares:
    """The loss of some whole groups as a sum over their B completions, in the order of the rows.

    Attributes:
        values: (B,) each completion's part of the loss, of equal size; only their sum means something.
        slopes: (B, T, ...) by input, the derivative of the loss; (B,) for an input of prompts, at the first completion
            of each and 0 at the others.
    """

    values: Tensor
    slopes: Mapping[Input, Tensor]

    def of_rows(self, rows: Tensor) -> Shares:
        """Those of some completions (b,), in their order."""
        return Shares(self.values[rows], {of: slope[rows] for of, slope in self.slopes.items()})

    def to(self, device: torch.device | str) -> Shares:
        """The same on a device."""
        return Shares(self.values.to(device), {of: slope.to(device) for of, slope in self.slopes.items()})

    def loss(self, given: Mapping[Input, Tensor]) -> Tensor:
        """The sum of the shares of these completions: its gradient is their part of the gradient of the loss.

        Args:
            given: `LOG_PROBS` and the optional inputs of the completions, (B, t, ...) with gradient; t may be less than
                T where the rest is masked. What has no slope is ignored.

        Returns:
            A float64 scalar.

        Raises:
            DataError: an input is missing that the loss has a slope in.
        """
        terms: list[Tensor] = []
        for wanted, slope in self.slopes.items():
            value = given.get(wanted)
            if value is None:
                raise DataError(f"The share of a loss needs {wanted.name} of its completions; pass it.")
            own = slope[:, : value.shape[1]] if slope.dim() > 1 else slope
            # Where the loss does not depend on it, a value may be anything, and NaN times 0 is NaN.
            terms.append((torch.where(own != 0, value, 0.0) * own).sum().double())
        total = torch.stack(terms).sum()
        # The sum has the right gradient and no meaning; its value is replaced by that part of the loss.
        return total - total.detach() + self.values.double().sum()


def shares_of(objective: Objective, batch: RolloutBatch) -> tuple[Shares, ObjectiveOutput]:
    """The shares of an objective's loss on whole groups that a pass without gradient gave, and its output.

    Args:
        batch: whole groups, with a group axis or group ids; one that is a part of an update carries its totals.

    Raises:
        DataError: as the objective.
    """
    leaves = {of: tensor.detach().requires_grad_() for of, tensor in _learning(batch).items()}
    fields = {of.name: leaf for of, leaf in leaves.items() if of == LOG_PROBS or of.is_field}
    extras = dict(batch.extras) | {of: leaf for of, leaf in leaves.items() if of in batch.extras}
    with torch.enable_grad():
        output = objective(replace(batch, **fields, extras=extras))
        found = torch.autograd.grad(output.loss, list(leaves.values()), allow_unused=True)
    # By rows, as a micro-batch has them: a batch with a group axis has its rows in the order of that axis.
    has_axis = batch.group_ids is None
    slopes = {
        of: _by_row(of, slope, batch) if has_axis else slope
        # What torch declares knows nothing of `allow_unused`.
        for of, slope in zip(leaves, cast(Sequence[Tensor | None], found), strict=True)
        if slope is not None
    }
    loss = output.loss.detach()
    count = batch.rewards.numel()
    return Shares((loss / count).expand(count), slopes), replace(output, loss=loss)


def _learning(batch: RolloutBatch) -> dict[Input, Tensor]:
    optional = {of: tensor for of, tensor in batch.given.items() if of.has_gradient}
    return {LOG_PROBS: batch.log_probs, **optional}


def _by_row(of: Input, slope: Tensor, batch: RolloutBatch) -> Tensor:
    if of.shape != ("P",):
        return slope.flatten(0, 1)
    return torch.nn.functional.pad(slope.unsqueeze(-1), (0, batch.group_size - 1)).flatten()
