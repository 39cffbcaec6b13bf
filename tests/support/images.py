"""Random image-text models of some thousand parameters with their processors, and a task that shows squares."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from PIL import Image
from transformers import (
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    ProcessorMixin,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
    Qwen2VLProcessor,
)
from transformers.models.llava.image_processing_pil_llava import LlavaImageProcessorPil
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from relax_rl.evaluation.prompts import encode_prompt
from relax_rl.tasks.base import Problem
from relax_rl.training.models import load_model, load_tokenizer

SIDE, PATCH = 16, 8
TEMPLATE = (
    "{% for turn in messages %}{% for part in turn.content %}"
    "{{ IMAGE if part.type == 'image' else part.text }}{% endfor %}{% endfor %}"
)
KINDS = ("llava", "qwen2_vl")


def image_text_model(kind: str = "llava") -> tuple[Any, Any]:
    """The same random model and processor every time: four image tokens for an image of 16 x 16."""
    return load_model(llava_folder()) if kind == "llava" else _qwen2_vl()


@functools.cache
def llava_folder() -> str:
    """A folder as people have them, for what loads a model by its name."""
    folder = tempfile.mkdtemp(prefix="tiny-llava-")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        _save_llava(folder)
    return folder


def _sizes(tokenizer: Any) -> dict[str, Any]:
    return {
        "vocab_size": len(tokenizer),
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
        "bos_token_id": None,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        "initializer_range": 0.2,
    }


def _save_llava(folder: str) -> None:
    tokenizer = load_tokenizer("tiny")
    tokenizer.add_special_tokens({"additional_special_tokens": ["<image>"]})
    vision = CLIPVisionConfig(
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        image_size=SIDE,
        patch_size=PATCH,
        initializer_factor=20.0,
    )
    config = LlavaConfig(
        vision_config=vision,
        text_config=LlamaConfig(**_sizes(tokenizer)),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),  # type: ignore[arg-type]
        vision_feature_layer=-1,
    )
    LlavaForConditionalGeneration(config).save_pretrained(folder)
    side = {"height": SIDE, "width": SIDE}
    LlavaProcessor(
        LlavaImageProcessorPil(size=side, crop_size=side),
        tokenizer,
        patch_size=PATCH,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=TEMPLATE.replace("IMAGE", "'<image>'"),
    ).save_pretrained(folder)


class ImageProcessor(Qwen2VLProcessor):
    """Without its part for videos, which needs torchvision."""

    def __init__(self, image_processor: Any = None, tokenizer: Any = None, chat_template: str | None = None) -> None:
        self.image_token, self.video_token = "<|image_pad|>", "<|video_pad|>"
        self.image_token_id, self.video_token_id = tokenizer.convert_tokens_to_ids([self.image_token, self.video_token])
        ProcessorMixin.__init__(self, image_processor, tokenizer, chat_template=chat_template)


def _qwen2_vl() -> tuple[Any, Any]:
    """A model that counts the rows and columns of an image in its positions."""
    tokenizer = load_tokenizer("tiny")
    marks = ["<|image_pad|>", "<|video_pad|>", "<|vision_start|>", "<|vision_end|>"]
    tokenizer.add_special_tokens({"additional_special_tokens": marks})
    image, video, start, end = tokenizer.convert_tokens_to_ids(marks)  # type: ignore[misc]
    text = _sizes(tokenizer) | {
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [1, 1, 2]}
    }
    vision = {"depth": 1, "embed_dim": 16, "hidden_size": 32, "num_heads": 2, "patch_size": 4, "mlp_ratio": 2}
    config = Qwen2VLConfig(
        text_config=text,
        vision_config=vision,
        image_token_id=image,
        video_token_id=video,
        vision_start_token_id=start,
        vision_end_token_id=end,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Qwen2VLForConditionalGeneration(config)
    processor = ImageProcessor(
        Qwen2VLImageProcessorPil(patch_size=4, merge_size=2, size={"shortest_edge": 8 * 8, "longest_edge": 64 * 64}),
        tokenizer,
        chat_template=TEMPLATE.replace("IMAGE", "'<|vision_start|><|image_pad|><|vision_end|>'"),
    )
    return model.eval(), processor


def read_together(processor: Any, problems: Sequence[Problem]) -> dict[str, Any]:
    """What the processor itself makes of some problems at once, pixels included, padded on the left."""
    return dict(
        processor.apply_chat_template(
            [encode_prompt(processor, problem).conversation for problem in problems],  # type: ignore[attr-defined]
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
            processor_kwargs={"padding": True, "padding_side": "left"},
        )
    )


def square(place: int) -> Image.Image:
    """A bright square at one of four places."""
    image = Image.new("RGB", (SIDE, SIDE), (20, 20, 40))
    image.paste((250, 240, 230), (PATCH * (place % 2), PATCH * (place // 2), PATCH * (place % 2 + 1), SIDE))
    return image


class EvenVerifier:
    """Right if the completion's length is even or odd, as the answer says."""

    name = "even"

    def score(self, completions: Sequence[str], answers: Sequence[str]) -> list[float | None]:
        return [float(len(text) % 2 == int(answer)) for text, answer in zip(completions, answers, strict=True)]


@dataclass(frozen=True)
class SquareTask:
    """Where is the square? The words of all problems are the same."""

    name: str = "squares"
    verifier: EvenVerifier = field(default_factory=EvenVerifier)
    words: str = "where:"

    def problems(self, split: str, count: int | None = None, seed: int = 0) -> list[Problem]:
        return [
            Problem(f"{split}-{place}", self.words, str(place % 2), images=(square(place),))
            for place in range(4 if count is None else count)
        ]
