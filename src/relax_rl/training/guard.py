"""An update whose numbers are not finite is not stepped on, but named and counted; too many stop the run.

Nothing here trains. The trainer tells the guard what it found in each micro-batch and asks it what to do.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from relax_rl.config import GuardConfig
from relax_rl.objectives import RolloutBatch
from relax_rl.objectives.base import ObjectiveOutput
from relax_rl.training.notices import Notices

__all__ = ["LARGEST_REWARD", "NumericalGuard", "in_words", "is_sound", "nonfinite_in", "nonfinite_names"]

LARGEST_REWARD = 1e18
"""A reward beyond it is as good as infinite: the variance of a group, in float32, overflows at 1e19."""

_SHOWN = 3
"""Names that a sentence spells out; the others are counted."""


class NumericalGuard:
    """Keeps the count of updates that were not stepped on.

    Args:
        limits: limits at which to stop.
        say: receives a sentence for the first such update, and one at the end of the run.
    """

    def __init__(self, limits: GuardConfig, say: Notices) -> None:
        self.limits = limits
        self._say = say
        self._skipped = 0
        self._first = self._last = 0
        self._in_a_row = 0
        self._cause = ""

    def stepped(self, norm: float) -> None:
        """The optimiser steps on this update, whose gradient has this norm."""
        # A gradient of 0, of rewards that are all equal, says nothing of the weights.
        if norm > 0:
            self._in_a_row = 0

    def skipped(self, update: int, findings: Sequence[str]) -> None:
        """The optimiser did not step on this update.

        Args:
            update: its number.
            findings: the numbers that were not finite, in words, on all processes.
        """
        self._skipped += 1
        self._in_a_row += 1
        self._last = update
        self._cause = "; ".join(dict.fromkeys(findings))
        if self._skipped == 1:
            self._first = update
            self._say(
                f"Update {update} was skipped, because numbers in it are not finite: {self._cause}. The weights and "
                "the optimiser stay as they were, and the learning rate follows its schedule."
            )

    def reason_to_stop(self, update: int) -> str | None:
        """Why the run must not go on after this update, in words; None while it may."""
        limits = self.limits
        # A run that was resumed above the share has its chance: the next skipped update ends it.
        if update != self._last:
            return None
        if self._in_a_row >= limits.max_consecutive:
            return (
                f"the updates {update - self._in_a_row + 1} to {update} were skipped, because numbers in them are not "
                f"finite ({self._cause}), and guard.max_consecutive = {limits.max_consecutive} in a row end a run"
            )
        if self._skipped > max(1, limits.max_share * update):
            return (
                f"{self._skipped} of {update} updates were skipped, the first of them {self._first}, because numbers "
                f"in them are not finite (the last: {self._cause}), more than guard.max_share = {limits.max_share:g} "
                "allows"
            )
        return None

    def conclude(self, update: int) -> None:
        """The run has ended with this update: say how many were skipped, if it was not only one."""
        if self._skipped > 1:
            self._say(
                f"{self._skipped} of {update} updates were skipped since update {self._first}, because numbers in them "
                "are not finite; their rows in the metrics have guard/skipped."
            )

    def state(self) -> dict[str, Any]:
        """The counts, as JSON has them."""
        return {"skipped": self._skipped, "first": self._first, "in_a_row": self._in_a_row}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take over counts, as a resumed run does. Raises KeyError where one is missing."""
        self._skipped, self._first, self._in_a_row = (int(state[name]) for name in ("skipped", "first", "in_a_row"))


@torch.no_grad()
def is_sound(batch: RolloutBatch, output: ObjectiveOutput) -> Tensor:
    """() bool: whether the loss and the log-probabilities of a micro-batch are finite."""
    # The log-probabilities, too: the bound on the ratio would make a finite loss of an infinite one.
    return output.loss.isfinite() & batch.log_probs.masked_fill(~batch.mask, 0.0).sum().isfinite()


def nonfinite_in(batch: RolloutBatch, output: ObjectiveOutput, place: str) -> list[str]:
    """Numbers of a micro-batch that are not finite, in words: completions by their number from 1 on, and terms of the
    loss.

    Args:
        place: place of the micro-batch, in words.
    """
    per_token = {
        "the log-probabilities": batch.log_probs,
        "the log-probabilities at sampling": batch.old_log_probs,
        "the log-probabilities of the reference": batch.ref_log_probs,
        "the entropies": batch.entropy,
        "the hidden states": batch.hidden_states,
    }
    found: list[str] = []
    for name, tensor in per_token.items():
        if tensor is None:
            continue
        is_bad = ~tensor.isfinite()
        is_bad = (is_bad.any(-1) if is_bad.dim() == 4 else is_bad) & batch.mask
        rows = (is_bad.any(-1).flatten().nonzero().flatten() + 1).tolist()
        if rows:
            found.append(f"{name} of {_listed('completion', rows)} in {place}")
    terms = [name for name, share in output.terms.items() if not bool(share.isfinite())]
    if terms:
        found.append(f"{_listed('the loss term', terms)} in {place}")
    return found or [f"the loss in {place}"]


def nonfinite_names(named: Iterable[tuple[str, Tensor]]) -> list[str]:
    """The names of the tensors that hold a number which is not finite."""
    return [name for name, tensor in named if not bool(tensor.isfinite().all())]


def in_words(noun: str, names: Sequence[str]) -> str:
    """Several names, the first of them spelt out: 'the gradients of a, b, c and 35 more'."""
    shown = ", ".join(names[:_SHOWN])
    return f"{noun} of {shown}" + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")


def _listed(noun: str, names: Sequence[Any]) -> str:
    shown = ", ".join(str(name) for name in names[:_SHOWN])
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"{noun}{'s' if len(names) > 1 else ''} {shown}{more}"
