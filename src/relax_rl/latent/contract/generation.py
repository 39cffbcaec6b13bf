"""`generation_config.json`: what of it ends a completion, and what would sample another policy than is trained."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from transformers import GenerationConfig

__all__ = ["neutral_generation", "steering", "steering_words"]

_KEPT = {"bos_token_id", "eos_token_id", "pad_token_id", "decoder_start_token_id", "cache_implementation"}
"""Say where a text begins and ends and how it is computed, and leave each token's probability alone."""
_HARMLESS = _KEPT | {
    *("transformers_version", "_from_model_config", "max_length", "max_new_tokens", "do_sample", "use_cache"),
    *("return_dict_in_generate", "output_scores", "output_logits", "output_attentions", "output_hidden_states"),
    *("num_return_sequences", "disable_compile", "compile_config", "cache_config", "token_healing", "max_time"),
    *("prefill_chunk_size", "trust_remote_code", "typical_p", "chat_format", "user_token_id", "assistant_token_id"),
    *(
        "num_assistant_tokens",
        "num_assistant_tokens_schedule",
        "assistant_confidence_threshold",
        "assistant_lookbehind",
    ),
    *("target_lookbehind", "prompt_lookup_num_tokens", "max_matching_ngram_size", "is_assistant", "max_window_size"),
}
_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "temperature": (None, 1, 1.0),
    "top_p": (None, 1, 1.0),
    "top_k": (None, 0, -1),
    "min_p": (None, 0, 0.0),
    "epsilon_cutoff": (None, 0, 0.0),
    "eta_cutoff": (None, 0, 0.0),
    "repetition_penalty": (None, 1, 1.0),
    "encoder_repetition_penalty": (None, 1, 1.0),
    "length_penalty": (None, 1, 1.0),
    "num_beams": (None, 1),
    "num_beam_groups": (None, 1),
    "diversity_penalty": (None, 0, 0.0),
    "penalty_alpha": (None, 0, 0.0),
    "no_repeat_ngram_size": (None, 0),
    "encoder_no_repeat_ngram_size": (None, 0),
    "min_length": (None, 0),
    "min_new_tokens": (None, 0),
    "guidance_scale": (None, 1, 1.0),
    "renormalize_logits": (None, False),
    "remove_invalid_values": (None, False),
    "early_stopping": (None, False),
    "low_memory": (None, False),
}


def steering(config: Any) -> dict[str, Any]:
    """The entries of a generation config that change which tokens are drawn, and the values they have.

    Args:
        config: configuration of transformers, or the dictionary of a file; None for none.
    """
    entries = config if isinstance(config, dict) else {} if config is None else config.to_diff_dict()
    return {
        name: value
        for name, value in sorted(entries.items())
        if name not in _HARMLESS and value not in _NEUTRAL.get(name, (None, False)) and value != [] and value != {}
    }


def steering_words(found: dict[str, Any]) -> str | None:
    """A sentence for the start of a run; None where there is nothing to say."""
    if not found:
        return None
    entries = ", ".join(f"{name} {_short(value)}" for name, value in found.items())
    return (
        f"generation_config.json asks for {entries}; it is left out: completions are drawn from the policy itself, "
        "with your settings"
    )


def _short(value: Any) -> str:
    words = str(value)
    return words if len(words) <= 40 else f"{words[:37]}..."


@contextmanager
def neutral_generation(model: Any) -> Iterator[None]:
    """Inside, nothing of the model's own generation config steers `generate`; it is put back afterwards.

    ``generate`` fills whatever its caller left open from the model's config, and a caller cannot pass "none".

    Args:
        model: a Hugging Face model, out of any wrapper.
    """
    own = model.generation_config
    kept = {name: getattr(own, name, None) for name in _KEPT}
    model.generation_config = GenerationConfig(**{name: value for name, value in kept.items() if value is not None})
    try:
        yield
    finally:
        model.generation_config = own
