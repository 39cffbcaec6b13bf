"""From a model's name to a model and its tokenizer, or the processor of an image-text model."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
from transformers import (
    MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING,
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoProcessor,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    ProcessorMixin,
)

from relax_rl.errors import ConfigError, ModelError

__all__ = ["SMOLLM2_DIRECTORY", "empty_model", "load_model", "load_processor", "load_tokenizer", "model_location"]

SMOLLM2_DIRECTORY = Path("models/smollm2")


def model_location(name: str) -> str:
    """Where a model's files are: a path for "tiny", "smollm2" and local folders, else the name on the Hub.

    Raises:
        ModelError: when the name is a path that does not exist, or "smollm2" has not been prepared.
    """
    if name == "tiny":
        return str(files("relax_rl.assets") / "tiny")
    if name == "smollm2":
        if not (SMOLLM2_DIRECTORY / "config.json").is_file():
            raise ModelError(f"The model 'smollm2' is not at {SMOLLM2_DIRECTORY}; prepare it with `make smollm2`.")
        return str(SMOLLM2_DIRECTORY)
    looks_like_path = name.startswith((".", "/", "~")) or name.count("/") > 1
    path = Path(name).expanduser()
    if path.is_dir():
        return str(path)
    if looks_like_path:
        raise ModelError(f"There is no model folder at {name}; give a folder in Hugging Face layout or a Hub name.")
    return name


def load_tokenizer(name: str, revision: str | None = None) -> PreTrainedTokenizerBase:
    """The model's tokenizer, padding on the left as generation needs."""
    location = model_location(name)
    try:
        tokenizer = AutoTokenizer.from_pretrained(location, revision=revision, padding_side="left")
    except (OSError, ValueError) as error:
        raise ModelError(f"No tokenizer could be loaded from {name}: {_first_line(error)}") from error
    return _with_pad_token(tokenizer)


def load_processor(name: str, revision: str | None = None) -> ProcessorMixin:
    """The processor of an image-text model, which makes token ids of words and pixels of images, padding on the left.

    Raises:
        ModelError: when there is none, or it needs a package that is not installed.
    """
    try:
        processor = AutoProcessor.from_pretrained(model_location(name), revision=revision, padding_side="left")
    except (OSError, ValueError, ImportError) as error:
        raise ModelError(f"No processor of images could be loaded from {name}: {_first_line(error)}") from error
    if not isinstance(processor, ProcessorMixin):
        raise ModelError(f"{name} holds an image-text model without a processor; add its preprocessor_config.json.")
    _with_pad_token(processor.tokenizer)
    return processor


def _with_pad_token(tokenizer: PreTrainedTokenizerBase) -> PreTrainedTokenizerBase:
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def load_model(
    name: str, dtype: str = "float32", revision: str | None = None, device_map: str | None = None
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase | ProcessorMixin]:
    """A causal language model and its tokenizer, or an image-text model and its processor: the config tells which.

    Args:
        name: "tiny" (shipped with the package), "smollm2" (prepared by ``make smollm2``), a folder, or a Hub name.
        dtype: "float32" or "bfloat16".
        revision: of a Hub model.
        device_map: how to spread the model over devices, such as "auto"; None leaves it on the CPU.

    Raises:
        ModelError: when there is no such model, in one sentence that says where it was looked for.
        ConfigError: for another dtype.
    """
    dtypes = {"float32": torch.float32, "bfloat16": torch.bfloat16}
    if dtype not in dtypes:
        raise ConfigError(f"dtype is {dtype!r}; choose float32 or bfloat16.")
    location = model_location(name)
    try:
        _, kind = _config_and_kind(location, revision)
        model = kind.from_pretrained(location, dtype=dtypes[dtype], revision=revision, device_map=device_map)
    except (OSError, ValueError) as error:
        raise ModelError(f"No language model could be loaded from {name}: {_first_line(error)}") from error
    reads_images = kind is AutoModelForImageTextToText
    return model, load_processor(name, revision) if reads_images else load_tokenizer(name, revision)


def empty_model(name: str, revision: str | None = None) -> PreTrainedModel:
    """The model's modules without its weights: enough to learn early whether it exists, and what layers it has.

    Raises:
        ModelError: as `load_model`.
    """
    try:
        config, kind = _config_and_kind(model_location(name), revision)
        with torch.device("meta"):
            return kind.from_config(config)
    except (OSError, ValueError) as error:
        raise ModelError(f"No language model could be loaded from {name}: {_first_line(error)}") from error


def _config_and_kind(location: str, revision: str | None) -> tuple[Any, Any]:
    config = AutoConfig.from_pretrained(location, revision=revision)
    reads_images = type(config) in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING
    return config, AutoModelForImageTextToText if reads_images else AutoModelForCausalLM


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]
