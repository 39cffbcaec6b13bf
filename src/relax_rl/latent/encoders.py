"""Encoders: models whose tokens read those behind them, so that nothing evolves from token to token."""

from __future__ import annotations

from typing import Any

from transformers import MODEL_FOR_MASKED_LM_MAPPING

from relax_rl.errors import ModelError

__all__ = ["check_causal", "is_encoder"]


def is_encoder(config: Any) -> bool:
    """Whether a configuration is that of an encoder alone, such as BERT, which transformers would load as causal."""
    # XLM and Flaubert say `causal` where the others say `is_decoder`.
    is_causal = getattr(config, "is_decoder", False) or getattr(config, "causal", False)
    return type(config) in MODEL_FOR_MASKED_LM_MAPPING and not is_causal and not config.is_encoder_decoder


def check_causal(config: Any, name: str) -> None:
    """Raises ``ModelError`` for an encoder."""
    if is_encoder(config):
        raise ModelError(
            f"{name} is an encoder (type '{config.model_type}'): its tokens read those behind them, so that it has no "
            "dynamics from token to token and cannot write; name a causal model, or score sentences with it "
            "(`relax spectrum --sentences`)."
        )
