"""The tensors that every objective reads.

Dimension letters used in this package: P prompts, G completions of a prompt (the group), B = P*G, T completion tokens,
H hidden width, F observables.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from relax_rl.errors import DataError
from relax_rl.objectives.inputs import ENTROPY, HIDDEN_STATES, LIFTED_STATES, REF_LOG_PROBS, Input

__all__ = ["RolloutBatch", "UpdateTotals"]


@dataclass(frozen=True)
class UpdateTotals:
    """Counts over one whole optimiser update, on all ranks: the denominators of every mean.

    A micro-batch that divides by them gives a share of the update's loss, so the shares simply add up, however the
    update is cut into micro-batches.
    """

    num_prompts: float
    num_completions: float
    num_tokens: float


@dataclass(frozen=True)
class RolloutBatch:
    """Groups of completions, as one forward of the policy sees them.

    Attributes:
        log_probs: (P, G, T) log-probabilities of the sampled tokens under the current policy, with gradient.
        old_log_probs: (P, G, T) the same under the policy that sampled them, no gradient.
        mask: (P, G, T) bool, True where a token was sampled by the policy (False: padding, tool output).
        rewards: (P, G); NaN marks a completion that no verifier could score. It gets advantage 0.
        ref_log_probs: (P, G, T) under the frozen reference policy, where a KL term needs it.
        entropy: (P, G, T) entropy in nats of the next-token distribution at the sampling temperature.
        hidden_states: (P, G, T, H) final-norm states, one for each completion token, with gradient.
        lifted_states: (P, G, T, F) the same in the observables of the objective's dictionary, in place of
            ``hidden_states`` (`DispersionProbe.lifted_columns`); NaN where a state is not finite.
        sampling_weights: (P, G, T) or (P, G, 1) factors that correct for an inference engine whose probabilities
            differ from the trainer's (TRL's ``importance_sampling_ratio``).
        sampled_lengths: (P, G) tokens of each whole completion, those that are masked too (a truncated one that is left
            out of the loss, the shared beginning of branches); None where ``mask`` has them all.
        totals: counts over the whole update; None means that this batch is the whole update.
        group_ids: (B,) integers, the same for the completions of a prompt, in place of the group axis: every
            (P, G, ...) above is (B, ...) then, in any order, and so is every (P,) one. The groups must be whole; parts
            of groups are for `relax_rl.objectives.shares`.
        extras: further inputs of single methods, by input (`relax_rl.objectives.inputs`).

    Raises:
        DataError: when the shapes do not agree; the sentence names the tensor.
    """

    log_probs: Tensor
    old_log_probs: Tensor
    mask: Tensor
    rewards: Tensor
    ref_log_probs: Tensor | None = None
    entropy: Tensor | None = None
    hidden_states: Tensor | None = None
    lifted_states: Tensor | None = None
    sampling_weights: Tensor | None = None
    sampled_lengths: Tensor | None = None
    totals: UpdateTotals | None = None
    extras: Mapping[Input, Tensor] = field(default_factory=dict)
    group_ids: Tensor | None = None

    def __post_init__(self) -> None:
        if self.log_probs.dim() != (3 if self.group_ids is None else 2):
            due = (
                "(prompts, group, tokens)"
                if self.group_ids is None
                else "(completions, tokens), as group_ids are given"
            )
            raise DataError(
                f"log_probs must have shape {due}, but has {tuple(self.log_probs.shape)}; "
                "reshape the rows of a prompt's completions into one group, or give group_ids."
            )
        self._check_shapes()
        if self.mask.dtype != torch.bool:
            object.__setattr__(self, "mask", self.mask.bool())

    def _check_shapes(self) -> None:
        shape = self.log_probs.shape
        optional = self._optional_fields | dict(self.extras)
        tensors = {"old_log_probs": self.old_log_probs, "mask": self.mask}
        tensors |= {of.name: tensor for of, tensor in optional.items() if of.is_per_token and tensor is not None}
        for name, tensor in tensors.items():
            if tensor.shape != shape:
                raise DataError(f"{name} has shape {tuple(tensor.shape)}, but log_probs has {tuple(shape)}.")
        per_completion = {"rewards": self.rewards, "sampled_lengths": self.sampled_lengths}
        per_completion |= {of.name: tensor for of, tensor in self.extras.items() if of.shape == ("P", "G")}
        per_completion |= {} if self.group_ids is None else {"group_ids": self.group_ids}
        for name, tensor in per_completion.items():
            if tensor is not None and tensor.shape != shape[:-1]:
                raise DataError(f"{name} must have shape {tuple(shape[:-1])}, but has {tuple(tensor.shape)}.")
        for wanted in (HIDDEN_STATES, LIFTED_STATES):
            states = self._optional_fields[wanted]
            if states is not None and (states.dim() != len(shape) + 1 or states.shape[:-1] != shape):
                due = (*shape, wanted.shape[-1])
                raise DataError(f"{wanted.name} must have shape {due}, but has {tuple(states.shape)}.")

    @property
    def _optional_fields(self) -> dict[Input, Tensor | None]:
        return {
            REF_LOG_PROBS: self.ref_log_probs,
            ENTROPY: self.entropy,
            HIDDEN_STATES: self.hidden_states,
            LIFTED_STATES: self.lifted_states,
        }

    @property
    def given(self) -> dict[Input, Tensor]:
        """The optional inputs that it carries."""
        fields = {of: tensor for of, tensor in self._optional_fields.items() if tensor is not None}
        return fields | dict(self.extras)

    def required(self, wanted: Input) -> Tensor:
        """An optional input that a method cannot do without; one of each token is 0 (False) where masked.

        Filled and not multiplied: whatever stands behind the mask, a NaN included, must not reach a loss or a gradient.

        Raises:
            DataError: when the batch carries none.
        """
        tensor = self._optional_fields[wanted] if wanted.is_field else self.extras.get(wanted)
        if tensor is None:
            place = f"RolloutBatch.{wanted.name}" if wanted.is_field else f"RolloutBatch.extras[{wanted.name.upper()}]"
            raise DataError(f"The objective needs {place} ({', '.join(wanted.shape)}): {wanted.about}; pass it.")
        return tensor.masked_fill(~self.mask, 0) if wanted.is_per_token else tensor

    def with_extra(self, made: Input, tensor: Tensor) -> RolloutBatch:
        """This batch with one more input."""
        return replace(self, extras={**self.extras, made: tensor})

    def with_axis(self, rows: Tensor) -> RolloutBatch:
        """This batch, which has group ids, with a group axis.

        Args:
            rows: (P, G) which of the B completions stands where.
        """

        def taken(tensor: Tensor | None) -> Tensor | None:
            return None if tensor is None else tensor[rows]

        return replace(
            self,
            log_probs=self.log_probs[rows],
            old_log_probs=self.old_log_probs[rows],
            mask=self.mask[rows],
            rewards=self.rewards[rows],
            ref_log_probs=taken(self.ref_log_probs),
            entropy=taken(self.entropy),
            hidden_states=taken(self.hidden_states),
            lifted_states=taken(self.lifted_states),
            sampling_weights=taken(self.sampling_weights),
            sampled_lengths=taken(self.sampled_lengths),
            # What is one number of a prompt stands at each of its completions; the first of them is as good as any.
            extras={of: tensor[rows[:, 0] if of.shape == ("P",) else rows] for of, tensor in self.extras.items()},
            group_ids=None,
        )

    @property
    def num_prompts(self) -> int:
        return self.log_probs.shape[0]

    @property
    def float_rewards(self) -> Tensor:
        """(P, G) rewards as floating-point numbers, which alone can hold the NaN of a missing score."""
        return self.rewards if self.rewards.is_floating_point() else self.rewards.float()

    @property
    def group_size(self) -> int:
        return self.log_probs.shape[1]

    @property
    def lengths(self) -> Tensor:
        """(P, G) number of completion tokens that the loss is of."""
        return self.mask.sum(-1)

    @property
    def lengths_as_sampled(self) -> Tensor:
        """(P, G) number of tokens of each whole completion."""
        return self.lengths if self.sampled_lengths is None else self.sampled_lengths

    @property
    def log_ratio(self) -> Tensor:
        """(P, G, T) log of the importance ratio; 0 where masked, so that no exponential overflows behind the mask.

        Within 20 of 0, as in verl: exp(89) is infinite in float32, and times an advantage of 0 no number at all.
        """
        # Masked before the clamp: clamp passes a NaN on.
        return (self.log_probs - self.old_log_probs).masked_fill(~self.mask, 0.0).clamp(-20.0, 20.0)

    @property
    def update_totals(self) -> UpdateTotals:
        """The given totals, or this batch's own counts."""
        if self.totals is not None:
            return self.totals
        return UpdateTotals(
            num_prompts=self.num_prompts,
            num_completions=self.num_prompts * self.group_size,
            num_tokens=float(self.mask.sum()),
        )
