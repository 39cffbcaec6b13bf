"""Tiny image-text models of real families: their own configuration, model, processor and image-processor classes.

``build("Qwen2.5-VL", folder)`` writes a model folder that loads as any other does. Weights are random; the tokenizer is
the one of the package with each family's own marks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["FAMILIES", "Family", "build"]

SIDE, PATCH = 28, 14
_QWEN_MARKS = ("<|image_pad|>", "<|video_pad|>", "<|vision_start|>", "<|vision_end|>")
_QWEN_WORDS = "'<|vision_start|><|image_pad|><|vision_end|>'"
_TEMPLATE = (
    "{% for turn in messages %}{{ turn.role[0] }}:{% for part in turn.content %}"
    "{{ IMAGE if part.type == 'image' else part.text }}{% endfor %}\n{% endfor %}"
)


@dataclass(frozen=True)
class Family:
    """A family of image-text models.

    Attributes:
        released: a model of it on the Hub, by which people know it.
        packages: that its processor needs beside those of this project.
        marks: special tokens of its tokenizer.
        image: what stands for an image in the chat template, as a Jinja expression.
        config: settings of the configuration, from the ids of the marks.
        processor: makes the processor from a tokenizer and a chat template.
        model_type: transformers' name of it.
        names: of special tokens that its processor asks the tokenizer for, by the mark they stand for.
    """

    released: str
    model_type: str
    marks: tuple[str, ...]
    image: str
    config: Callable[[Mapping[str, int]], dict[str, Any]]
    processor: Callable[[Any, str], Any]
    packages: tuple[str, ...] = ()
    names: Mapping[str, str] = field(default_factory=dict)


def _text(model_type: str, **settings: Any) -> dict[str, Any]:
    return {
        "model_type": model_type,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "max_position_embeddings": 512,
        "initializer_range": 0.1,
    } | settings


def _clip(**settings: Any) -> dict[str, Any]:
    return {
        "model_type": "clip_vision_model",
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": SIDE,
        "patch_size": PATCH,
        "initializer_factor": 10.0,
    } | settings


def _siglip(**settings: Any) -> dict[str, Any]:
    return _clip() | {"model_type": "siglip_vision_model", "vision_use_head": False} | settings


def _of(name: str, **settings: Any) -> Any:
    """A processor's part by its public name: the one that needs no torchvision where there is none."""
    import transformers
    from transformers.utils import is_torchvision_available

    has_pil = hasattr(transformers, f"{name}Pil") and not is_torchvision_available()
    return getattr(transformers, f"{name}Pil" if has_pil else name)(**settings)


def _class(name: str) -> Any:
    import transformers

    return getattr(transformers, name)


_MROPE = {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [1, 1, 2]}}
_PARTIAL = {"rope_parameters": _MROPE["rope_parameters"] | {"partial_rotary_factor": 1.0}}
_PIXELS = {"shortest_edge": SIDE * SIDE, "longest_edge": 3 * SIDE * SIDE}


def _qwen_ids(ids: Mapping[str, int]) -> dict[str, int]:
    image, video, start, end = (ids[mark] for mark in _QWEN_MARKS)
    return {
        "image_token_id": image,
        "video_token_id": video,
        "vision_start_token_id": start,
        "vision_end_token_id": end,
    }


def _qwen(version: str, patch: int = PATCH) -> Callable[[Any, str], Any]:
    video = {"Qwen2_5_VL": "Qwen2VL"}.get(version, version)

    def processor(tokenizer: Any, template: str) -> Any:
        sizes = {"patch_size": patch, "merge_size": 2, "temporal_patch_size": 2, "size": _PIXELS}
        return _class(f"{version}Processor")(
            _of("Qwen2VLImageProcessor", **sizes),
            tokenizer,
            _class(f"{video}VideoProcessor")(patch_size=patch, merge_size=2),
            chat_template=template,
        )

    return processor


_VIT = {"depth": 2, "num_heads": 2, "patch_size": PATCH, "temporal_patch_size": 2, "spatial_merge_size": 2}
_QWEN3_VIT = _VIT | {"hidden_size": 16, "intermediate_size": 32, "out_hidden_size": 32, "num_position_embeddings": 16}
_DELTA_NET = {
    "layer_types": ["linear_attention", "full_attention"],
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
}


def _glm(tokenizer: Any, template: str) -> Any:
    sizes = {"patch_size": PATCH, "merge_size": 2, "temporal_patch_size": 2, "size": _PIXELS}
    return _class("Glm4vProcessor")(
        _of("Glm4vImageProcessor", **sizes),
        tokenizer,
        _class("Glm4vVideoProcessor")(patch_size=PATCH, merge_size=2),
        chat_template=template,
    )


def _internvl(tokenizer: Any, template: str) -> Any:
    side = {"height": SIDE, "width": SIDE}
    return _class("InternVLProcessor")(
        _of("GotOcr2ImageProcessor", size=side, crop_to_patches=True, max_patches=3),
        tokenizer,
        _class("InternVLVideoProcessor")(size=side),
        image_seq_length=1,
        chat_template=template,
    )


def _idefics(name: str) -> Callable[[Any, str], Any]:
    def processor(tokenizer: Any, template: str) -> Any:
        sizes = {"size": {"longest_edge": 2 * SIDE}, "max_image_size": {"longest_edge": SIDE}}
        video = [_class("SmolVLMVideoProcessor")(**sizes)] if name == "SmolVLM" else []
        image = _of(f"{name}ImageProcessor", **sizes)
        return _class(f"{name}Processor")(image, tokenizer, *video, image_seq_len=1, chat_template=template)

    return processor


def _llava(name: str, **settings: Any) -> Callable[[Any, str], Any]:
    def processor(tokenizer: Any, template: str) -> Any:
        side = {"height": SIDE, "width": SIDE}
        parts: list[Any] = [tokenizer]
        given = {"patch_size": PATCH, "vision_feature_select_strategy": "default", "num_additional_image_tokens": 1}
        sizes: dict[str, Any] = {"size": {"shortest_edge": SIDE}, "crop_size": side}
        if name == "LlavaOnevision":
            given = {"num_image_tokens": 4, "vision_feature_select_strategy": "full"}
            parts.append(_class("LlavaOnevisionVideoProcessor")(size=side))
            sizes = {"size": side}
        image = _of(f"{name}ImageProcessor", **sizes, **settings)
        return _class(f"{name}Processor")(image, *parts, **given, chat_template=template)

    return processor


def _gemma(tokenizer: Any, template: str) -> Any:
    image = _of("Gemma3ImageProcessor", size={"height": SIDE, "width": SIDE}, image_seq_length=4)
    return _class("Gemma3Processor")(image, tokenizer, chat_template=template, image_seq_length=4)


def _pixtral(tokenizer: Any, template: str) -> Any:
    patch = PATCH // 2
    image = _of("PixtralImageProcessor", size={"longest_edge": 2 * SIDE}, patch_size={"height": patch, "width": patch})
    return _class("PixtralProcessor")(image, tokenizer, patch_size=patch, spatial_merge_size=2, chat_template=template)


def _paligemma(tokenizer: Any, template: str) -> Any:
    image = _of("SiglipImageProcessor", size={"height": SIDE, "width": SIDE})
    image.image_seq_length = 4
    return _class("PaliGemmaProcessor")(image, tokenizer, chat_template=template)


def _mllama(tokenizer: Any, template: str) -> Any:
    image = _of("MllamaImageProcessor", size={"height": SIDE, "width": SIDE}, max_image_tiles=2)
    return _class("MllamaProcessor")(image, tokenizer, chat_template=template)


def _llama4(tokenizer: Any, template: str) -> Any:
    image = _class("Llama4ImageProcessor")(size={"height": SIDE, "width": SIDE}, max_patches=2)
    return _class("Llama4Processor")(
        image, tokenizer, patch_size=PATCH, pixel_shuffle_ratio=0.5, chat_template=template
    )


_TORCHVISION = ("torchvision",)

FAMILIES: dict[str, Family] = {
    "Qwen2-VL": Family(
        "Qwen/Qwen2-VL-2B-Instruct",
        "qwen2_vl",
        _QWEN_MARKS,
        _QWEN_WORDS,
        lambda ids: {
            "text_config": _text("qwen2_vl_text", **_MROPE),
            "vision_config": _VIT | {"embed_dim": 16, "hidden_size": 32, "mlp_ratio": 2, "initializer_range": 0.2},
            **_qwen_ids(ids),
        },
        _qwen("Qwen2VL"),
        _TORCHVISION,
    ),
    "Qwen2.5-VL": Family(
        "Qwen/Qwen2.5-VL-3B-Instruct",
        "qwen2_5_vl",
        _QWEN_MARKS,
        _QWEN_WORDS,
        lambda ids: {
            "text_config": _text("qwen2_5_vl_text", **_MROPE),
            "vision_config": _VIT
            | {"hidden_size": 16, "intermediate_size": 32, "out_hidden_size": 32, "window_size": 56}
            | {"fullatt_block_indexes": [1], "initializer_range": 0.2},
            **_qwen_ids(ids),
        },
        _qwen("Qwen2_5_VL"),
        _TORCHVISION,
    ),
    "Qwen3-VL": Family(
        "Qwen/Qwen3-VL-2B-Instruct",
        "qwen3_vl",
        _QWEN_MARKS,
        _QWEN_WORDS,
        lambda ids: {
            "text_config": _text("qwen3_vl_text", **_MROPE),
            "vision_config": _QWEN3_VIT | {"deepstack_visual_indexes": [0], "initializer_range": 0.2},
            **_qwen_ids(ids),
        },
        _qwen("Qwen3VL"),
        _TORCHVISION,
    ),
    "Qwen3.5": Family(
        "Qwen/Qwen3.5-2B",
        "qwen3_5",
        _QWEN_MARKS,
        _QWEN_WORDS,
        lambda ids: {
            "text_config": _text("qwen3_5_text", **_DELTA_NET, **_PARTIAL),
            "vision_config": _QWEN3_VIT | {"initializer_range": 0.2},
            **_qwen_ids(ids),
        },
        _qwen("Qwen3VL"),
        _TORCHVISION,
    ),
    "GLM-4V": Family(
        "zai-org/GLM-4.1V-9B-Thinking",
        "glm4v",
        ("<|image|>", "<|video|>", "<|begin_of_image|>", "<|end_of_image|>", "<|begin_of_video|>", "<|end_of_video|>"),
        "'<|begin_of_image|><|image|><|end_of_image|>'",
        lambda ids: {
            "text_config": _text("glm4v_text", **_PARTIAL),
            "vision_config": _VIT
            | {
                "hidden_size": 16,
                "intermediate_size": 32,
                "out_hidden_size": 32,
                "image_size": 4 * PATCH,
                "initializer_range": 0.2,
            },
            "image_token_id": ids["<|image|>"],
            "video_token_id": ids["<|video|>"],
            "image_start_token_id": ids["<|begin_of_image|>"],
            "image_end_token_id": ids["<|end_of_image|>"],
            "video_start_token_id": ids["<|begin_of_video|>"],
            "video_end_token_id": ids["<|end_of_video|>"],
        },
        _glm,
        _TORCHVISION,
    ),
    "InternVL": Family(
        "OpenGVLab/InternVL3-1B-hf",
        "internvl",
        ("<IMG_CONTEXT>", "<img>", "</img>", "<video>"),
        "'<IMG_CONTEXT>'",
        lambda ids: {
            "text_config": _text("qwen2"),
            "vision_config": {
                "model_type": "internvl_vision",
                "hidden_size": 16,
                "intermediate_size": 32,
                "num_hidden_layers": 2,
                "num_attention_heads": 2,
                "image_size": [SIDE, SIDE],
                "patch_size": [PATCH, PATCH],
                "initializer_range": 0.2,
            },
            "image_token_id": ids["<IMG_CONTEXT>"],
            "image_seq_length": 1,
            "downsample_ratio": 0.5,
        },
        _internvl,
        _TORCHVISION,
        {
            "start_image_token": "<img>",
            "end_image_token": "</img>",
            "context_image_token": "<IMG_CONTEXT>",
            "video_token": "<video>",
        },
    ),
    "Idefics3": Family(
        "HuggingFaceM4/Idefics3-8B-Llama3",
        "idefics3",
        ("<image>", "<fake_token_around_image>", "<end_of_utterance>", "<global-img>"),
        "'<image>'",
        lambda ids: {
            "text_config": _text("llama"),
            "vision_config": _siglip(model_type="idefics3_vision"),
            "image_token_id": ids["<image>"],
            "scale_factor": 2,
        },
        _idefics("Idefics3"),
    ),
    "SmolVLM": Family(
        "HuggingFaceTB/SmolVLM2-256M-Video-Instruct",
        "smolvlm",
        ("<image>", "<fake_token_around_image>", "<end_of_utterance>", "<global-img>"),
        "'<image>'",
        lambda ids: {
            "text_config": _text("llama"),
            "vision_config": _siglip(model_type="smolvlm_vision"),
            "image_token_id": ids["<image>"],
            "scale_factor": 2,
        },
        _idefics("SmolVLM"),
        ("torchvision", "num2words"),
        {
            "image_token": "<image>",
            "fake_image_token": "<fake_token_around_image>",
            "global_image_token": "<global-img>",
            "end_of_utterance_token": "<end_of_utterance>",
        },
    ),
    "LLaVA": Family(
        "llava-hf/llava-1.5-7b-hf",
        "llava",
        ("<image>",),
        "'<image>'",
        lambda ids: {"text_config": _text("llama"), "vision_config": _clip(), "image_token_index": ids["<image>"]},
        _llava("Llava"),
    ),
    "LLaVA-NeXT": Family(
        "llava-hf/llava-v1.6-mistral-7b-hf",
        "llava_next",
        ("<image>",),
        "'<image>'",
        lambda ids: {
            "text_config": _text("mistral"),
            "vision_config": _clip(),
            "image_token_index": ids["<image>"],
            "image_grid_pinpoints": [[SIDE, 2 * SIDE], [2 * SIDE, SIDE]],
        },
        _llava("LlavaNext", image_grid_pinpoints=[[SIDE, 2 * SIDE], [2 * SIDE, SIDE]]),
    ),
    "LLaVA-OneVision": Family(
        "llava-hf/llava-onevision-qwen2-0.5b-ov-hf",
        "llava_onevision",
        ("<image>", "<video>"),
        "'<image>'",
        lambda ids: {
            "text_config": _text("qwen2"),
            "vision_config": _siglip(),
            "image_token_index": ids["<image>"],
            "video_token_index": ids["<video>"],
            "image_grid_pinpoints": [[SIDE, 2 * SIDE], [2 * SIDE, SIDE]],
        },
        _llava("LlavaOnevision", image_grid_pinpoints=[[SIDE, 2 * SIDE], [2 * SIDE, SIDE]]),
        _TORCHVISION,
    ),
    "Gemma 3": Family(
        "google/gemma-3-4b-it",
        "gemma3",
        ("<start_of_image>", "<image_soft_token>", "<end_of_image>"),
        "'<start_of_image>'",
        lambda ids: {
            "text_config": _text("gemma3_text", sliding_window=64, query_pre_attn_scalar=8),
            "vision_config": _siglip(),
            "mm_tokens_per_image": 4,
            "image_token_index": ids["<image_soft_token>"],
            "boi_token_index": ids["<start_of_image>"],
            "eoi_token_index": ids["<end_of_image>"],
        },
        _gemma,
        (),
        {"boi_token": "<start_of_image>", "eoi_token": "<end_of_image>", "image_token": "<image_soft_token>"},
    ),
    "Mistral 3": Family(
        "mistralai/Mistral-Small-3.1-24B-Instruct-2503",
        "mistral3",
        ("[IMG]", "[IMG_BREAK]", "[IMG_END]"),
        "'[IMG]'",
        lambda ids: {
            "text_config": _text("mistral"),
            "vision_config": _clip(model_type="pixtral", head_dim=8, image_size=4 * SIDE, patch_size=PATCH // 2)
            | {"initializer_range": 0.2},
            "image_token_index": ids["[IMG]"],
            "spatial_merge_size": 2,
        },
        _pixtral,
        _TORCHVISION,
    ),
    "PaliGemma": Family(
        "google/paligemma2-3b-mix-224",
        "paligemma",
        ("<image>",),
        "'<image>'",
        lambda ids: {
            "text_config": _text("gemma"),
            "vision_config": _siglip(projection_dim=32),
            "projection_dim": 32,
            "image_token_index": ids["<image>"],
        },
        _paligemma,
    ),
    "Mllama": Family(
        "meta-llama/Llama-3.2-11B-Vision-Instruct",
        "mllama",
        ("<|python_tag|>", "<|image|>"),
        "'<|image|>'",
        lambda ids: {
            # As released: the token of images stands one past the vocabulary of the head.
            "text_config": _text("mllama_text_model", cross_attention_layers=[1], vocab_size=ids["<|image|>"]),
            "vision_config": {
                "hidden_size": 16,
                "intermediate_size": 32,
                "num_hidden_layers": 1,
                "num_global_layers": 1,
                "attention_heads": 2,
                "image_size": SIDE,
                "patch_size": PATCH,
                "max_num_tiles": 2,
                "intermediate_layers_indices": [0],
                "vision_output_dim": 32,
                "supported_aspect_ratios": [[1, 1], [1, 2], [2, 1]],
            },
            "image_token_index": ids["<|image|>"],
        },
        _mllama,
    ),
    "Llama 4": Family(
        "meta-llama/Llama-4-Scout-17B-16E-Instruct",
        "llama4",
        ("<|image|>", "<|image_start|>", "<|image_end|>", "<|patch|>", "<|tile_x_separator|>", "<|tile_y_separator|>"),
        "'<|image|>'",
        lambda ids: {
            "text_config": _text("llama4_text", num_local_experts=2, intermediate_size_mlp=64, attention_chunk_size=64),
            "vision_config": {
                "hidden_size": 16,
                "intermediate_size": 64,
                "num_hidden_layers": 1,
                "num_attention_heads": 2,
                "image_size": SIDE,
                "patch_size": PATCH,
                "vision_output_dim": 32,
                "projector_input_dim": 32,
                "projector_output_dim": 32,
            },
            "image_token_index": ids["<|patch|>"],
            "boi_token_index": ids["<|image_start|>"],
            "eoi_token_index": ids["<|image_end|>"],
        },
        _llama4,
        _TORCHVISION,
    ),
}
"""The matrix of docs/guides/vision.md."""


def build(name: str, folder: Path, *, seed: int = 0) -> Path:
    """Write a model folder of a family: weights, configuration and processor."""
    import torch
    from transformers import AutoConfig, AutoModelForImageTextToText, AutoTokenizer

    from relax_rl.latent.contract.files import model_location

    family = FAMILIES[name]
    tokenizer: Any = AutoTokenizer.from_pretrained(model_location("tiny"), extra_special_tokens=dict(family.names))
    tokenizer.add_special_tokens({"additional_special_tokens": list(family.marks)}, replace_extra_special_tokens=False)
    tokenizer.model_max_length = 4096
    processor = family.processor(tokenizer, _TEMPLATE.replace("IMAGE", family.image))
    ids = {mark: int(tokenizer.convert_tokens_to_ids(mark)) for mark in family.marks}
    settings = family.config(ids)
    text = settings["text_config"]
    ends = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    text |= {"vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id} | ends | text
    config = AutoConfig.for_model(family.model_type, **settings, **ends)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        AutoModelForImageTextToText.from_config(config, dtype=torch.float32).save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder
