"""From prompts, completions and rewards to an objective's batch, by one forward of any Hugging Face model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from relax_rl.errors import ConfigError, DataError

if TYPE_CHECKING:
    from torch import Tensor

    from relax_rl.objectives import Objective, RolloutBatch
    from relax_rl.objectives.inputs import Input

__all__ = ["rollout_batch"]

Prompt = str | Sequence[int] | Sequence[Mapping[str, str]]
"""A text, token ids, or chat messages."""

Completion = str | Sequence[int]
"""A text, which is taken without an end token, or token ids exactly as they were sampled."""


def rollout_batch(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[Prompt],
    completions: Sequence[Sequence[Completion]],
    rewards: Any,
    *,
    old_log_probs: Tensor | None = None,
    reference: Any = None,
    temperature: float = 1.0,
    objective: Objective | None = None,
    with_hidden_states: bool = True,
) -> RolloutBatch:
    """Run the model over every prompt with its completions, and give an objective all that it reads.

    P prompts, G completions of each, T tokens of the longest completion, H hidden width. Gradient flows from
    ``log_probs``, ``entropy`` and ``hidden_states`` to the model, unless gradients are off. The logits of all
    completion tokens are in memory at once, so give as many prompts as one backward can bear.

    Args:
        model: a Hugging Face causal language model, possibly behind PEFT. Its training flag stays as it is: with
            dropout on, the log-probabilities are noisy.
        tokenizer: tokenizer of the model, or its processor.
        prompts: P texts, lists of token ids, or lists of chat messages, which the chat template is put around.
        completions: P lists of G texts or lists of token ids. Token ids say exactly what was sampled, an end token at
            the end included; text is tokenized again.
        rewards: (P, G), as a tensor or lists; NaN or None for a completion that could not be scored.
        old_log_probs: (P, G, T) under the policy that sampled; None: that is the model as it is, and every ratio is 1.
        reference: a model for ``ref_log_probs`` (P, G, T), which gets no gradient; None: there are none.
        temperature: temperature of the sampling; divides the logits.
        objective: objective that reads the batch. It says which states it wants, those of the completion tokens or
            those that predict them, and must not need more than this function makes.
        with_hidden_states: whether the batch carries ``hidden_states`` (P, G, T, H), final norm.

    Raises:
        DataError: ragged groups, an empty completion or prompt, token ids outside the vocabulary, or rewards or
            old log-probabilities of another shape.
        ConfigError: an objective that needs more, or a temperature that is not positive.
    """
    import torch

    from relax_rl.objectives import RolloutBatch

    if temperature <= 0:
        raise ConfigError(
            f"temperature is {temperature}, and log-probabilities need a positive one; give that of the sampling."
        )
    if objective is not None:
        _check_inputs(objective, with_hidden_states, reference)
    tokens = _Tokens.of(model, tokenizer, prompts, completions)
    states_before = int(objective is not None and objective.reads_predicting_states)
    read = _forward(model, tokens, temperature, states_before if with_hidden_states else None)
    group = (len(prompts), len(completions[0]))

    def grouped(rows: Tensor | None) -> Tensor | None:
        return None if rows is None else rows.unflatten(0, group)

    log_probs, mask = read.log_probs.unflatten(0, group), tokens.mask(model.device).unflatten(0, group)
    ref_log_probs = None
    if reference is not None:
        with torch.no_grad():
            ref_log_probs = _forward(reference, tokens, temperature, None).log_probs.to(log_probs.device)
    return RolloutBatch(
        log_probs=log_probs,
        old_log_probs=log_probs.detach() if old_log_probs is None else old_log_probs.detach().to(log_probs.device),
        mask=mask,
        rewards=_rewards(rewards, log_probs),
        ref_log_probs=grouped(ref_log_probs),
        entropy=grouped(read.entropy),
        hidden_states=grouped(read.hidden_states),
    )


@dataclass(frozen=True)
class _Tokens:
    """B = P*G rows of prompt and completion as token ids, prompt by prompt."""

    prompts: list[list[int]]
    completions: list[list[int]]

    @classmethod
    def of(
        cls, model: Any, tokenizer: Any, prompts: Sequence[Prompt], completions: Sequence[Sequence[Completion]]
    ) -> _Tokens:
        if isinstance(prompts, str) or not prompts:
            raise DataError("prompts must be a list of P prompts, at least one; give a list, such as [prompt].")
        if len(prompts) != len(completions):
            raise DataError(
                f"completions must be a list of {len(prompts)} lists, one for each prompt, but has {len(completions)}."
            )
        size = len(completions[0])
        for place, group in enumerate(completions):
            if isinstance(group, str) or len(group) != size or size == 0:
                raise DataError(
                    f"completions[{place}] must be a list of {size or 'some'} completions, as completions[0] is: every "
                    "prompt has a group of the same size."
                )
        rows = cls([], [])
        for place, (prompt, group) in enumerate(zip(prompts, completions, strict=True)):
            prompt_ids = _prompt_ids(tokenizer, prompt)
            for number, completion in enumerate(group):
                rows.prompts.append(prompt_ids)
                rows.completions.append(_completion_ids(tokenizer, completion))
                rows._check(len(model.get_input_embeddings().weight), f"{place}][{number}", place)
        return rows

    def _check(self, vocabulary: int, completion_place: str, prompt_place: int) -> None:
        """The row that was added last."""
        named = {f"prompts[{prompt_place}]": self.prompts[-1], f"completions[{completion_place}]": self.completions[-1]}
        for name, ids in named.items():
            if not ids:
                raise DataError(f"{name} is empty; give it at least one token.")
            outside = next((token for token in ids if not 0 <= token < vocabulary), None)
            if outside is not None:
                raise DataError(
                    f"{name} has the token id {outside}, outside the model's vocabulary of {vocabulary}; use the "
                    "model's own tokenizer."
                )

    def mask(self, device: Any) -> Tensor:
        """(B, T) bool, True at the tokens of each completion, which begin at the first place."""
        import torch

        lengths = torch.tensor([len(ids) for ids in self.completions], device=device)
        return torch.arange(int(lengths.max()), device=device) < lengths.unsqueeze(-1)


@dataclass(frozen=True)
class _Forward:
    """Forward of B completions: (B, T), (B, T) and (B, T, H) or None."""

    log_probs: Tensor
    entropy: Tensor
    hidden_states: Tensor | None


def _forward(model: Any, tokens: _Tokens, temperature: float, states_before: int | None) -> _Forward:
    """One padded forward; states end `states_before` positions before the last one, None for no states."""
    import torch

    from relax_rl.evaluation.prompts import left_pad, prompt_inputs, prompt_positions
    from relax_rl.latent.capture import ForwardCapture
    from relax_rl.latent.padding import right_padded

    device = model.device
    # Prompts end where completions begin, so that one slice holds the completions of all rows.
    ids, mask = (rows.flip(1) for rows in left_pad([row[::-1] for row in tokens.completions], device))
    inputs = prompt_inputs(model, tokens.prompts, [], (ids, mask))
    num_tokens = ids.shape[1]
    capture = ForwardCapture(model)
    try:
        with capture.armed(), right_padded(model):
            positions = prompt_positions(model, inputs)
            output = model(**inputs, position_ids=positions, use_cache=False, logits_to_keep=num_tokens + 1)
        states = capture.take().hidden_states
    finally:
        capture.close()
    # The logits at a position are the distribution of the next token. Half precision would round them to 3 digits.
    logits = output.logits[:, :-1]
    logits = (logits if logits.dtype == torch.float64 else logits.float()) / temperature
    log_softmax = logits.log_softmax(-1)
    end = None if states_before is None else states.shape[1] - states_before
    return _Forward(
        log_probs=log_softmax.gather(-1, ids.unsqueeze(-1)).squeeze(-1),
        entropy=-(log_softmax.exp() * log_softmax).sum(-1),
        hidden_states=None if end is None else states[:, end - num_tokens : end],
    )


def _check_inputs(objective: Objective, with_hidden_states: bool, reference: Any) -> None:
    from relax_rl.objectives.inputs import ENTROPY, HIDDEN_STATES, REF_LOG_PROBS, TOKEN_CHOICE

    if REF_LOG_PROBS in objective.inputs and reference is None:
        raise ConfigError(
            f"The objective {objective.name!r} pulls towards a reference model; pass reference=MODEL, or build it with "
            "beta = 0."
        )
    # A method that compares tokens does so within the batch when no choice over a larger update is given.
    made: set[Input] = {ENTROPY, REF_LOG_PROBS, TOKEN_CHOICE} | ({HIDDEN_STATES} if with_hidden_states else set())
    for wanted in sorted(objective.inputs - made, key=lambda one: one.name):
        advice = "set with_hidden_states" if wanted == HIDDEN_STATES else "train it with relax_rl.RelaxTrainer"
        raise ConfigError(
            f"The objective {objective.name!r} reads the input {wanted.name!r}, which rollout_batch does not make; "
            f"{advice}."
        )


def _prompt_ids(tokenizer: Any, prompt: Prompt) -> list[int]:
    from relax_rl.evaluation.prompts import text_tokenizer

    if isinstance(prompt, str):
        return list(text_tokenizer(tokenizer)(prompt)["input_ids"])
    if prompt and isinstance(prompt[0], Mapping):
        # The template brings its own special tokens.
        text = tokenizer.apply_chat_template(list(prompt), tokenize=False, add_generation_prompt=True)
        return list(text_tokenizer(tokenizer)(text, add_special_tokens=False)["input_ids"])
    return [int(token) for token in prompt]  # type: ignore[arg-type]


def _completion_ids(tokenizer: Any, completion: Completion) -> list[int]:
    from relax_rl.evaluation.prompts import text_tokenizer

    if isinstance(completion, str):
        return list(text_tokenizer(tokenizer)(completion, add_special_tokens=False)["input_ids"])
    return [int(token) for token in completion]


def _rewards(given: Any, log_probs: Tensor) -> Tensor:
    """(P, G) in at least float32."""
    import torch

    shape = tuple(log_probs.shape[:2])
    if not isinstance(given, torch.Tensor):
        rows = [[float("nan") if reward is None else float(reward) for reward in row] for row in given]
        if [len(row) for row in rows] != [shape[1]] * shape[0]:
            raise DataError(f"rewards must be {shape[0]} lists of {shape[1]} numbers, one for each completion.")
        given = torch.tensor(rows)
    return given.to(log_probs.device)
