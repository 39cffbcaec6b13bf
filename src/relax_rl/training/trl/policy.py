"""The policy that samples is the policy that learns: no noise of its own, nothing that steers it, the same stop tokens.

TRL leaves three doors open: dropout in the training forward, the model's `generation_config.json`, whose entries fill
whatever TRL does not set, and an end token that only the chat template knows.
"""

from __future__ import annotations

from typing import Any

from relax_rl.errors import ModelError
from relax_rl.latent.contract import stop_token_ids
from relax_rl.latent.contract.dropout import without_dropout
from relax_rl.latent.contract.generation import neutral_generation
from relax_rl.latent.sites import language_model_of
from relax_rl.training.colocated import ColocatedEngine
from relax_rl.training.models import complete_tokenizer
from relax_rl.training.trl.resuming import ResumableTrainer

__all__ = ["PolicyTrainer"]


class PolicyTrainer(ResumableTrainer):
    """`trl.GRPOTrainer` that samples and trains one policy.

    Args:
        most_prompt_tokens: a longer prompt loses its start; None cuts nothing.
        kwargs: those of `trl.GRPOTrainer`.

    Raises:
        ModelError: the model has no end token.
    """

    # TRL leaves these open in its own annotations.
    args: Any
    model: Any
    accelerator: Any
    eos_token_ids: Any
    generation_config: Any
    generation_kwargs: Any
    processing_class: Any
    vllm_generation: Any

    def __init__(self, *, most_prompt_tokens: int | None = None, **kwargs: Any) -> None:
        model, words, args = kwargs["model"], kwargs.get("processing_class"), kwargs["args"]
        if not isinstance(model, str) and words is not None:
            complete_tokenizer(model, words)
            if not stop_token_ids(model, words):
                raise ModelError(
                    "The model has no end token, so no completion could end; set its tokenizer's eos_token."
                )
        # TRL's own switch reaches modules only, and an adapter's dropout, which the adapter's configuration asks for.
        is_without, args.disable_dropout = args.disable_dropout, False
        super().__init__(**kwargs)
        self.args.disable_dropout = is_without
        if is_without:
            without_dropout(self.model)
        self._most_prompt_tokens = most_prompt_tokens
        self._stop_where_evaluations_stop()

    def _stop_where_evaluations_stop(self) -> None:
        stop = stop_token_ids(self.model, self.processing_class)
        self.eos_token_ids = [*self.eos_token_ids, *(token for token in stop if token not in self.eos_token_ids)]
        if self.use_vllm:
            self.vllm_generation.generation_kwargs.setdefault("stop_token_ids", self.eos_token_ids)
        else:
            self.generation_config.eos_token_id = self.generation_kwargs["eos_token_id"] = self.eos_token_ids

    def engine(self) -> ColocatedEngine | None:
        """vLLM's engine in this process, which draws completions of text; None where there is none."""
        is_here = self.use_vllm and self.vllm_mode == "colocate" and not self._is_vlm
        return ColocatedEngine(self.vllm_generation) if is_here else None

    def _tokenize_prompts(self, prompts: Any) -> Any:
        ids, *rest = super()._tokenize_prompts(prompts)
        most = self._most_prompt_tokens
        return (ids if most is None else [row[-most:] for row in ids], *rest)

    def _generate_single_turn(self, *args: Any, **kwargs: Any) -> Any:
        with neutral_generation(language_model_of(self.accelerator.unwrap_model(self.model))):
            return super()._generate_single_turn(*args, **kwargs)

    def _issue_warnings_after_load(self, load_result: Any) -> None:
        """A tied head is in no checkpoint and is not missing; what else does not fit is refused, and not warned of."""
        own = self.accelerator.unwrap_model(self.model)
        tied = {*(own.all_tied_weights_keys or ()), *(own._keys_to_ignore_on_save or ())}
        missing = [name for name in load_result.missing_keys if name not in tied]
        if missing or load_result.unexpected_keys:
            which = f"lacks {missing[0]}" if missing else f"holds {load_result.unexpected_keys[0]}"
            raise ModelError(
                f"The checkpoint {which}, so it is not one of this model; resume the run with the model that it began "
                "with."
            )
