"""Ends a training on request: after an update, with a checkpoint, on all ranks after the same one."""

from __future__ import annotations

from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from relax_rl.stopping import Reason, StopRequest

__all__ = ["StopWhenAsked"]


class StopWhenAsked(TrainerCallback):
    """Asks after every update, and once more after a checkpoint, which may take as long as an update.

    Args:
        request: request of this rank. It is asked for on all ranks when it was on one.
    """

    def __init__(self, request: StopRequest) -> None:
        self._request = request

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if self._is_asked(args):
            control.should_save = control.should_training_stop = True

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if self._is_asked(args):
            control.should_training_stop = True

    def _is_asked(self, args: TrainingArguments) -> bool:
        reason = self._request.reason
        if args.world_size > 1:
            code = torch.tensor(0 if reason is None else reason.exit_code, device=args.device)
            torch.distributed.all_reduce(code, op=torch.distributed.ReduceOp.MAX)
            if code:
                self._request.ask(Reason.of_code(int(code)))
        return self._request.reason is not None
