"""Folders with the configuration of a known model and no weights: its public sizes, as its own config.json has them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

_QWEN2 = {"architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "max_position_embeddings": 32768}
_QWEN3 = {"architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "max_position_embeddings": 32768}
_LLAMA = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "max_position_embeddings": 131072}


def _sizes(
    hidden: int, intermediate: int, layers: int, heads: int, kv: int, vocab: int, tied: bool, **more: Any
) -> dict[str, Any]:
    return {
        "hidden_size": hidden,
        "intermediate_size": intermediate,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv,
        "vocab_size": vocab,
        "tie_word_embeddings": tied,
        **more,
    }


def _vl(hidden: int, intermediate: int, layers: int, heads: int, kv: int, vocab: int, tied: bool) -> dict[str, Any]:
    vision = {"depth": 32, "hidden_size": 1280, "intermediate_size": 3420, "num_heads": 16, "out_hidden_size": hidden}
    text = _sizes(hidden, intermediate, layers, heads, kv, vocab, tied) | {
        "model_type": "qwen2_5_vl_text",
        "max_position_embeddings": 128000,
        "rope_scaling": {"type": "default", "rope_type": "default", "mrope_section": [16, 24, 24]},
    }
    return {
        "architectures": ["Qwen2_5_VLForConditionalGeneration"],
        "model_type": "qwen2_5_vl",
        "tie_word_embeddings": tied,
        "text_config": text,
        "vision_config": vision,
    }


CONFIGS: dict[str, dict[str, Any]] = {
    "Qwen/Qwen2.5-1.5B": _QWEN2 | _sizes(1536, 8960, 28, 12, 2, 151936, True),
    "Qwen/Qwen2.5-3B": _QWEN2 | _sizes(2048, 11008, 36, 16, 2, 151936, True),
    "Qwen/Qwen2.5-7B": _QWEN2 | _sizes(3584, 18944, 28, 28, 4, 152064, False),
    "Qwen/Qwen2.5-Math-7B": _QWEN2 | _sizes(3584, 18944, 28, 28, 4, 152064, False, max_position_embeddings=4096),
    "Qwen/Qwen2.5-32B": _QWEN2 | _sizes(5120, 27648, 64, 40, 8, 152064, False),
    "Qwen/Qwen3-4B-Base": _QWEN3 | _sizes(2560, 9728, 36, 32, 8, 151936, True, head_dim=128),
    "meta-llama/Llama-3.2-3B-Instruct": _LLAMA | _sizes(3072, 8192, 28, 24, 8, 128256, True, head_dim=128),
    "Qwen/Qwen2.5-VL-3B-Instruct": _vl(2048, 11008, 36, 16, 2, 151936, True),
    "Qwen/Qwen2.5-VL-7B-Instruct": _vl(3584, 18944, 28, 28, 4, 152064, False),
}
PARAMETERS = {
    "Qwen/Qwen2.5-1.5B": 1.54e9,
    "Qwen/Qwen2.5-3B": 3.09e9,
    "Qwen/Qwen2.5-7B": 7.62e9,
    "Qwen/Qwen2.5-Math-7B": 7.62e9,
    "Qwen/Qwen2.5-32B": 32.76e9,
    "Qwen/Qwen3-4B-Base": 4.02e9,
    "meta-llama/Llama-3.2-3B-Instruct": 3.21e9,
    "Qwen/Qwen2.5-VL-3B-Instruct": 3.75e9,
    "Qwen/Qwen2.5-VL-7B-Instruct": 8.29e9,
}
"""As the models' own cards round them."""


def folder_of(model: str, parent: Path) -> Path:
    """A folder with the configuration of a model."""
    folder = parent / model.rpartition("/")[2]
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(CONFIGS[model]))
    return folder
