"""The tensors that every objective reads.

Dimension letters used in this package: P prompts, G completions of a prompt (the group), B = P*G, T completion tokens,
H hidden width, F observables.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from relax_rl.errors import DataError

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


_OF_EACH_TOKEN = (
    "old_log_probs",
    "mask",
    "ref_log_probs",
    "entropy",
    "old_entropy",
    "entropy_flow",
    "planning_mask",
    "token_choice",
)


@dataclass(frozen=True)
class RolloutBatch:
    """Whole groups of completions, as one forward of the policy sees them.

    Attributes:
        log_probs: (P, G, T) log-probabilities of the sampled tokens under the current policy, with gradient.
        old_log_probs: (P, G, T) the same under the policy that sampled them, no gradient.
        mask: (P, G, T) bool, True where a token was sampled by the policy (False: padding, tool output).
        rewards: (P, G); NaN marks a completion that no verifier could score. It gets advantage 0.
        ref_log_probs: (P, G, T) under the frozen reference policy, where a KL term needs it.
        entropy: (P, G, T) entropy in nats of the next-token distribution at the sampling temperature.
        old_entropy: (P, G, T) the same under the policy that sampled the tokens, no gradient.
        entropy_flow: (P, G, T) how the policy-gradient step on a token moves the entropy of its own distribution, no
            gradient; see `relax_rl.objectives.entropy_flow`.
        planning_mask: (P, G, T) bool, True at the tokens of planning phrases.
        log_partition: (P,) a learned estimate of log Z of each prompt, with gradient.
        score_features: (P, G, H) mean over the tokens of the gradient of their log-probability in the hidden state, up
            to the temperature; no gradient.
        hidden_states: (P, G, T, H) final-norm states, one for each completion token, with gradient.
        sampling_weights: (P, G, T) or (P, G, 1) factors that correct for an inference engine whose probabilities
            differ from the trainer's (TRL's ``importance_sampling_ratio``).
        prompt_keys: (P,) int64, one number for each prompt, the same whenever it comes again; None where no method
            remembers prompts.
        token_choice: (P, G, T) what a method that compares the tokens of an update made of these
            (`relax_rl.objectives.selection`); None where none does, or where this batch is the whole update.
        signal: (P, G) what the objective's own signal says of each completion (`relax_rl.objectives.group_signal`), NaN
            where it says nothing; put there by the objective, from the hidden states.
        sampled_lengths: (P, G) tokens of each whole completion, those that are masked too (a truncated one that is left
            out of the loss, the shared beginning of branches); None where ``mask`` has them all.
        totals: counts over the whole update; None means that this batch is the whole update.

    Raises:
        DataError: when the shapes do not agree; the sentence names the tensor.
    """

    log_probs: Tensor
    old_log_probs: Tensor
    mask: Tensor
    rewards: Tensor
    ref_log_probs: Tensor | None = None
    entropy: Tensor | None = None
    old_entropy: Tensor | None = None
    entropy_flow: Tensor | None = None
    planning_mask: Tensor | None = None
    log_partition: Tensor | None = None
    score_features: Tensor | None = None
    hidden_states: Tensor | None = None
    sampling_weights: Tensor | None = None
    prompt_keys: Tensor | None = None
    token_choice: Tensor | None = None
    signal: Tensor | None = None
    sampled_lengths: Tensor | None = None
    totals: UpdateTotals | None = None

    def __post_init__(self) -> None:
        if self.log_probs.dim() != 3:
            raise DataError(
                f"log_probs must have shape (prompts, group, tokens), but has {tuple(self.log_probs.shape)}; "
                "reshape the rows of a prompt's completions into one group."
            )
        shape = self.log_probs.shape
        for name in _OF_EACH_TOKEN:
            tensor = getattr(self, name)
            if tensor is not None and tensor.shape != shape:
                raise DataError(f"{name} has shape {tuple(tensor.shape)}, but log_probs has {tuple(shape)}.")
        if self.rewards.shape != shape[:2]:
            raise DataError(f"rewards must have shape {tuple(shape[:2])}, but has {tuple(self.rewards.shape)}.")
        if self.sampled_lengths is not None and self.sampled_lengths.shape != shape[:2]:
            raise DataError(
                f"sampled_lengths must have shape {tuple(shape[:2])}, but has {tuple(self.sampled_lengths.shape)}."
            )
        if self.hidden_states is not None and (self.hidden_states.dim() != 4 or self.hidden_states.shape[:3] != shape):
            raise DataError(
                f"hidden_states must have shape {(*shape, 'H')}, but has {tuple(self.hidden_states.shape)}."
            )
        if self.mask.dtype != torch.bool:
            object.__setattr__(self, "mask", self.mask.bool())

    def required(self, name: str) -> Tensor:
        """An optional tensor that a method cannot do without; one of each token is 0 (False) where masked.

        Raises:
            DataError: when the batch carries none.
        """
        tensor = getattr(self, name)
        if tensor is None:
            raise DataError(f"The objective needs RolloutBatch.{name}, which is None.")
        return tensor.masked_fill(~self.mask, 0) if name in _OF_EACH_TOKEN else tensor

    @property
    def num_prompts(self) -> int:
        return self.log_probs.shape[0]

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
