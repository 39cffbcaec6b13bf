"""The optional inputs of an objective: what a component may ask for beside log-probabilities, mask and rewards.

A component lists its inputs in `Component.inputs`; the caller of the objective provides them. In a training run that is
the table `relax_rl.training.inputs.providers`. An input is a constant of this module, so a misspelt one is an import
error and not a tensor that silently stays None.

The first four are fields of `RolloutBatch`, since many methods read them. The others travel in `RolloutBatch.extras`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

__all__ = [
    "BANK_TERM",
    "DISPERSION",
    "ENTROPY",
    "ENTROPY_FLOW",
    "HIDDEN_STATES",
    "LATENT_KEYS",
    "LIFTED_STATES",
    "LOG_PARTITION",
    "MASKED_LOG_PROBS",
    "MODES",
    "OLD_ENTROPY",
    "PLANNING_MASK",
    "PROMPT_KEYS",
    "REF_LOG_PROBS",
    "SCORE_FEATURES",
    "SIGNAL",
    "TOKEN_CHOICE",
    "BankKind",
    "BankTerm",
    "Input",
    "KeySource",
    "LatentKeys",
    "MaskedLogProbs",
    "PlanningMask",
]


@dataclass(frozen=True)
class Input:
    """An optional tensor of a batch.

    Attributes:
        name: name of the tensor, as errors and logs show it.
        shape: its dimensions by letter: P prompts, G completions of a prompt, T tokens, H hidden width.
        about: its contents.
        is_field: whether it is a field of `RolloutBatch` rather than one of its extras.
        has_gradient: whether a loss may reach the policy through it.
    """

    name: str
    shape: tuple[str, ...]
    about: str = field(compare=False)
    is_field: bool = False
    has_gradient: bool = False

    @property
    def is_per_token(self) -> bool:
        """Whether it has one number for each token."""
        return self.shape == _PER_TOKEN


_PER_TOKEN = ("P", "G", "T")
_PER_COMPLETION = ("P", "G")

REF_LOG_PROBS = Input("ref_log_probs", _PER_TOKEN, "log-probabilities under the frozen reference policy", is_field=True)
ENTROPY = Input(
    "entropy",
    _PER_TOKEN,
    "entropy in nats of each next-token distribution at the sampling temperature, with gradient",
    is_field=True,
    has_gradient=True,
)
HIDDEN_STATES = Input(
    "hidden_states",
    (*_PER_TOKEN, "H"),
    "final-norm states, one for each completion token, with gradient",
    is_field=True,
    has_gradient=True,
)
LIFTED_STATES = Input(
    "lifted_states",
    (*_PER_TOKEN, "F"),
    "these states in the observables of the objective's dictionary, from `DispersionProbe.lifted_columns`, in their "
    "place: F columns for H",
    is_field=True,
    has_gradient=True,
)

OLD_ENTROPY = Input("old_entropy", _PER_TOKEN, "the entropy under the policy that sampled the tokens, no gradient")
ENTROPY_FLOW = Input(
    "entropy_flow",
    _PER_TOKEN,
    "how the policy-gradient step on a token moves the entropy of its own distribution, no gradient",
)
SCORE_FEATURES = Input(
    "score_features",
    (*_PER_COMPLETION, "H"),
    "mean over the tokens of the gradient of their log-probability in the hidden state, up to the temperature",
)
LOG_PARTITION = Input(
    "log_partition", ("P",), "a learned estimate of log Z of each prompt, with gradient", has_gradient=True
)
MODES = Input(
    "modes",
    _PER_COMPLETION,
    "int64, one number for each solution, the same whenever a completion finds it again, and -1 where none was found",
)
PROMPT_KEYS = Input("prompt_keys", ("P",), "int64, one number for each prompt, the same whenever the prompt returns")
TOKEN_CHOICE = Input(
    "token_choice", _PER_TOKEN, "the result of comparing all tokens of an update; see relax_rl.objectives.selection"
)
DISPERSION = Input(
    "dispersion", _PER_COMPLETION, "the dispersion of each completion, which the objective makes of the hidden states"
)
SIGNAL = Input(
    "signal",
    _PER_COMPLETION,
    "the objective's own signal of each completion, NaN where undefined; the objective makes it",
)


@dataclass(frozen=True)
class PlanningMask(Input):
    """Bool, True at the tokens of planning phrases.

    Attributes:
        grams: the phrases. Two requests for different phrases are the same input: a batch carries one such mask.
    """

    name: str = "planning_mask"
    shape: tuple[str, ...] = _PER_TOKEN
    about: str = field(default="bool, True at the tokens of planning phrases", compare=False)
    grams: tuple[str, ...] = field(default=(), compare=False)


PLANNING_MASK = PlanningMask()


KeySource = Literal["answer", "answer_end", "mean", "tokens"]
"""Source of a completion's position."""


@dataclass(frozen=True)
class LatentKeys(Input):
    """Position of each completion among those of its prompt, for methods that distinguish solutions by hidden states.

    Attributes:
        source: "answer" is the final-norm state that predicts the first token of the answer, "answer_end" that of the
            last one, "mean" the mean state of the completion, and "tokens" its set of tokens, which reads no state and
            is a control.
        quantile: quantile of the distances between completions of one prompt in the first rollout batch: that distance
            is 1.
        is_shuffled: the positions of a group are dealt out at random, which is a control.
    """

    name: str = "latent_keys"
    shape: tuple[str, ...] = (*_PER_COMPLETION, "D")
    about: str = field(
        default="position of each completion in units of the calibrated distance, no gradient; NaN where it has none",
        compare=False,
    )
    source: KeySource = field(default="answer", compare=False)
    quantile: float = field(default=0.5, compare=False)
    is_shuffled: bool = field(default=False, compare=False)


LATENT_KEYS = LatentKeys()

BankKind = Literal["forward", "js", "alpha", "log_ratio", "latent"]
"""Measure of a bank trace: a divergence, the log-ratio of the whole trace, or the excess prediction error."""


@dataclass(frozen=True)
class BankTerm(Input):
    """One number of a correct trace of the start policy, drawn from a bank for each prompt of the batch, with gradient.

    Attributes:
        path: folder of the evaluation of the start policy that the bank is read from.
        kind: "forward", "js" and "alpha" are the mean over tokens of `relax_rl.objectives.anchors.token_divergence`;
            "log_ratio" is log pi(trace) - log pi_start(trace); "latent" is E / E_start - 1, E the error of
            `relax_rl.objectives.anchors.one_step_error` under the dictionary and the operator of the start policy.
        alpha: parameter of the divergence "alpha".
        num_observables: number of observables of the dictionary of "latent".
    """

    name: str = "bank_term"
    shape: tuple[str, ...] = ("P",)
    about: str = field(default="what the loss holds of a trace of the start policy's bank", compare=False)
    has_gradient: bool = True
    path: str = field(default="", compare=False)
    kind: BankKind = field(default="log_ratio", compare=False)
    alpha: float = field(default=0.2, compare=False)
    num_observables: int = field(default=16, compare=False)


BANK_TERM = BankTerm()


@dataclass(frozen=True)
class MaskedLogProbs(Input):
    """Log-probabilities of the same completions behind prompts whose images have some squares black.

    They are those of the policy that sampled, without gradient. A prompt without an image is read as it is.

    Attributes:
        share: share of the squares that are black, each by a draw of its own.
        patch: side of a square in pixels.
    """

    name: str = "masked_log_probs"
    shape: tuple[str, ...] = _PER_TOKEN
    about: str = field(
        default="log-probabilities under the policy that sampled the tokens, with masked images, no gradient",
        compare=False,
    )
    share: float = field(default=0.6, compare=False)
    patch: int = field(default=14, compare=False)


MASKED_LOG_PROBS = MaskedLogProbs()
