"""The one table from an optional input of an objective to what makes it in a training run.

To give objectives a new input: a constant in `relax_rl.objectives.inputs`, and a row here.
"""

from __future__ import annotations

from torch import Tensor

from relax_rl.errors import ConfigError, ModelError
from relax_rl.objectives import Objective
from relax_rl.objectives.inputs import (
    BANK_TERM,
    ENTROPY,
    ENTROPY_FLOW,
    HIDDEN_STATES,
    LATENT_KEYS,
    LOG_PARTITION,
    MASKED_LOG_PROBS,
    MODES,
    OLD_ENTROPY,
    PLANNING_MASK,
    PROMPT_KEYS,
    REF_LOG_PROBS,
    SCORE_FEATURES,
    TOKEN_CHOICE,
    Input,
)
from relax_rl.training.inputs.bank_term import BankTraces
from relax_rl.training.inputs.latent_keys import LatentPositions
from relax_rl.training.inputs.masked import MaskedImages
from relax_rl.training.inputs.modes import Modes
from relax_rl.training.inputs.partition import LearnedPartition
from relax_rl.training.inputs.planning import PlanningPhrases
from relax_rl.training.inputs.prompt_keys import PromptKeys
from relax_rl.training.inputs.provider import MicroBatch, Provider, Rows, Trainer
from relax_rl.training.inputs.token_choice import ChoiceOverUpdate
from relax_rl.training.inputs.vocabulary import EntropyFlow, ScoreFeatures

__all__ = ["PROVIDERS", "check_provided", "provider_of"]


class ReferenceLogProbs(Provider):
    """TRL computes them with its reference model."""

    def tensor(self, micro: MicroBatch) -> Tensor | None:
        return micro.rows.get("ref_per_token_logps")


class Entropy(Provider):
    """The fused head gives it with the log-probabilities."""

    def tensor(self, micro: MicroBatch) -> Tensor | None:
        if micro.forward.entropy is None:
            raise ModelError("TRL's fused head gave no entropy; this version of TRL does not fit.")
        return micro.forward.entropy[:, -micro.mask.shape[1] :]


class HiddenStates(Provider):
    """The hooks caught them; the objective says which ones form a completion's trajectory."""

    def tensor(self, micro: MicroBatch) -> Tensor | None:
        return micro.states_ending(before=int(self.trainer.objective.reads_predicting_states))


class OldEntropy(Provider):
    """One more forward, where a rollout batch serves several updates; otherwise the entropy is still the same."""

    def before_updates(self, batches: list[Rows]) -> None:
        if "old_per_token_logps" not in batches[0] or "old_entropy" in batches[0]:
            return
        for batch in batches:
            entropy = self.trainer.forward_only(batch).entropy
            if entropy is not None:
                batch["old_entropy"] = entropy[:, -batch["completion_ids"].shape[1] :]

    def tensor(self, micro: MicroBatch) -> Tensor | None:
        kept = micro.rows.get("old_entropy")
        if kept is not None or micro.forward.entropy is None:
            return kept
        return micro.forward.entropy[:, -micro.mask.shape[1] :].detach()


PROVIDERS: dict[Input, type[Provider]] = {
    REF_LOG_PROBS: ReferenceLogProbs,
    ENTROPY: Entropy,
    HIDDEN_STATES: HiddenStates,
    OLD_ENTROPY: OldEntropy,
    ENTROPY_FLOW: EntropyFlow,
    SCORE_FEATURES: ScoreFeatures,
    PLANNING_MASK: PlanningPhrases,
    LOG_PARTITION: LearnedPartition,
    PROMPT_KEYS: PromptKeys,
    MODES: Modes,
    LATENT_KEYS: LatentPositions,
    BANK_TERM: BankTraces,
    TOKEN_CHOICE: ChoiceOverUpdate,
    MASKED_LOG_PROBS: MaskedImages,
}


def provider_of(wanted: Input, trainer: Trainer) -> Provider:
    """Provider of an input. Raises KeyError for one that `check_provided` refuses."""
    return PROVIDERS[wanted](wanted, trainer)


def check_provided(objective: Objective) -> None:
    """Refuse an objective that asks for an input that nobody provides, before anything is loaded.

    Raises:
        ConfigError: naming the input.
    """
    for wanted in sorted(objective.inputs, key=lambda one: one.name):
        if wanted not in PROVIDERS:
            raise ConfigError(
                f"The objective {objective.name!r} reads the input {wanted.name!r}, which no provider makes; add "
                "one to relax_rl.training.inputs.providers.PROVIDERS."
            )
