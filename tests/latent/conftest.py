"""Random models of a few thousand parameters, of several families, made without a download."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    CLIPVisionConfig,
    Gemma2Config,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    OPTConfig,
    Qwen2Config,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
)

VOCABULARY = 40
SIZES: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": None,
    "eos_token_id": 1,
    "initializer_range": 0.4,
}
TEXT_CONFIGS: dict[str, Callable[[], Any]] = {
    "llama": lambda: LlamaConfig(**SIZES),
    "qwen2": lambda: Qwen2Config(**SIZES),
    "gemma2": lambda: Gemma2Config(**SIZES, head_dim=8),
    "gpt2": lambda: GPT2Config(
        vocab_size=VOCABULARY,
        n_embd=16,
        n_layer=3,
        n_head=2,
        n_positions=64,
        pad_token_id=0,
        bos_token_id=None,
        eos_token_id=1,
        initializer_range=0.4,
    ),
    "gpt_neox": lambda: GPTNeoXConfig(**{k: v for k, v in SIZES.items() if k != "num_key_value_heads"}),
    "opt": lambda: OPTConfig(
        vocab_size=VOCABULARY,
        hidden_size=16,
        word_embed_proj_dim=16,
        ffn_dim=24,
        num_hidden_layers=3,
        num_attention_heads=2,
        max_position_embeddings=64,
        pad_token_id=0,
        bos_token_id=None,
        eos_token_id=1,
        init_std=0.4,
    ),
}


def random_model(make_config: Callable[[], Any], kind: Any = AutoModelForCausalLM) -> Any:
    """The same random weights every time; the global random state is left as it was."""
    torch.set_num_threads(1)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = make_config()
        model = kind.from_config(config) if kind is AutoModelForCausalLM else kind(config)
    return model.eval()


@pytest.fixture(scope="session", params=sorted(TEXT_CONFIGS))
def text_model(request: pytest.FixtureRequest) -> Any:
    """One of each family."""
    return random_model(TEXT_CONFIGS[request.param])


@pytest.fixture(scope="session")
def llama() -> Any:
    return random_model(TEXT_CONFIGS["llama"])


def _llava_config() -> LlavaConfig:
    vision = CLIPVisionConfig(
        hidden_size=16, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2, image_size=8, patch_size=4
    )
    return LlavaConfig(
        vision_config=vision,
        text_config=LlamaConfig(**SIZES),
        image_token_id=2,  # pyright: ignore[reportCallIssue]
        vision_feature_layer=-1,
        pad_token_id=0,  # pyright: ignore[reportCallIssue]
    )


def _qwen2_vl_config() -> Qwen2VLConfig:
    vision = {"depth": 1, "embed_dim": 16, "hidden_size": 16, "num_heads": 2, "patch_size": 4, "mlp_ratio": 2}
    text = SIZES | {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [1, 1, 2]}}
    return Qwen2VLConfig(
        text_config=text, vision_config=vision, image_token_id=2, vision_start_token_id=3, vision_end_token_id=4
    )


def llava_inputs() -> dict[str, torch.Tensor]:
    """Two prompts of one image each: 4 image tokens, then text; the second is padded on the left."""
    image = [2] * 4
    generator = torch.Generator().manual_seed(0)
    return {
        "input_ids": torch.tensor([[5, *image, 6, 7, 8], [0, 0, 5, *image, 9]]),
        "attention_mask": torch.tensor([[1] * 8, [0, 0, *[1] * 6]]),
        "pixel_values": torch.randn((2, 3, 8, 8), generator=generator),
    }


def qwen2_vl_inputs() -> dict[str, torch.Tensor]:
    """Two prompts of an image of 4 x 4 patches, which are merged to 4 tokens."""
    image = [3, *[2] * 4, 4]
    generator = torch.Generator().manual_seed(0)
    ids = torch.tensor([[5, *image, 6, 7, 8], [0, 0, 5, *image, 9]])
    return {
        "input_ids": ids,
        "attention_mask": torch.tensor([[1] * 10, [0, 0, *[1] * 8]]),
        "mm_token_type_ids": (ids == 2).long(),
        "pixel_values": torch.randn((2 * 16, 3 * 2 * 4 * 4), generator=generator),
        "image_grid_thw": torch.tensor([[1, 4, 4], [1, 4, 4]]),
    }


@pytest.fixture(scope="session", params=["llava", "qwen2_vl"])
def image_text_model(request: pytest.FixtureRequest) -> tuple[Any, dict[str, torch.Tensor]]:
    """A model that reads images, and a batch for it."""
    if request.param == "llava":
        return random_model(_llava_config, LlavaForConditionalGeneration), llava_inputs()
    return random_model(_qwen2_vl_config, Qwen2VLForConditionalGeneration), qwen2_vl_inputs()
