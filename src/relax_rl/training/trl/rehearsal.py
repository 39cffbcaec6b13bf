"""Rehearsal of settings that TRL refuses only once training has begun, before anything is written."""

from __future__ import annotations

from typing import Any

import torch
from transformers import get_scheduler

from relax_rl.errors import ConfigError

__all__ = ["rehearse_optimisation"]

_NEED_THE_MODEL = {"params", "model", "optimizer_dict"}
"""Arguments of optimisers that are made of the model itself; these are left to the training."""


def rehearse_optimisation(trainer: Any) -> None:
    """Make the optimiser and the schedule of a run once, for a parameter that nobody has.

    Raises:
        ConfigError: an optimiser or a schedule that does not exist, needs a package that is not installed, or does not
            take its options.
    """
    args = trainer.args
    try:
        kind, options = trainer.get_optimizer_cls_and_kwargs(args, trainer.model)
        if _NEED_THE_MODEL & options.keys():
            return
        optimizer = kind([torch.nn.Parameter(torch.zeros(2, 2))], **options)
        get_scheduler(
            args.lr_scheduler_type,
            optimizer=optimizer,
            num_warmup_steps=args.get_warmup_steps(args.max_steps),
            num_training_steps=args.max_steps,
            scheduler_specific_kwargs=dict(args.lr_scheduler_kwargs or {}),
        )
    # Third-party optimisers raise what they like for options that they do not take.
    except (ValueError, TypeError, ImportError, KeyError, AttributeError, RuntimeError, AssertionError) as error:
        words = " ".join(str(error).split()) or type(error).__name__
        raise ConfigError(
            f"The optimiser ({_name(args.optim)}) or the schedule ({_name(args.lr_scheduler_type)}) under 'trainer' "
            f"cannot be made: {words}; change trainer.optim, trainer.lr_scheduler_type or their options."
        ) from error


def _name(choice: Any) -> str:
    return str(getattr(choice, "value", choice))
