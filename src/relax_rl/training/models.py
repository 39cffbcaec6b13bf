"""From a model's name to a model and its tokenizer, or the processor of an image-text model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pickle import UnpicklingError
from typing import Any

import torch
from transformers import AutoConfig, AutoProcessor, AutoTokenizer, PreTrainedTokenizerBase, ProcessorMixin

from relax_rl.errors import ConfigError, ModelError
from relax_rl.latent.caches import cache_plan, reading_plan
from relax_rl.latent.contract import contract as contracts
from relax_rl.latent.contract import stop_token_ids
from relax_rl.latent.contract.adapter import read_adapter, with_adapter
from relax_rl.latent.contract.architecture import quantization_of, reads_images
from relax_rl.latent.contract.files import SMOLLM2_DIRECTORY, find_file, first_line, model_location
from relax_rl.latent.contract.packages import missing_packages
from relax_rl.latent.contract.template import text_tokenizer
from relax_rl.latent.contract.weights import LoadReport, check_finite, read_weights
from relax_rl.latent.encoders import check_causal
from relax_rl.remote_code import remote_code

__all__ = [
    "SMOLLM2_DIRECTORY",
    "complete_tokenizer",
    "empty_model",
    "load_model",
    "load_processor",
    "load_tokenizer",
    "model_config",
    "model_location",
]


def load_tokenizer(name: str, revision: str | None = None) -> PreTrainedTokenizerBase:
    """The model's tokenizer, padding on the left as generation needs."""
    location = model_location(name)
    try:
        tokenizer = AutoTokenizer.from_pretrained(location, revision=revision, padding_side="left", **remote_code())
    except (OSError, ValueError) as error:
        raise ModelError(f"No tokenizer could be loaded from {name}: {first_line(error)}") from error
    return _with_pad_token(tokenizer)


def load_processor(name: str, revision: str | None = None) -> ProcessorMixin:
    """The processor of an image-text model, which makes token ids of words and pixels of images, padding on the left.

    Raises:
        ModelError: when there is none, or it needs a package that is not installed.
    """
    try:
        processor = AutoProcessor.from_pretrained(
            model_location(name), revision=revision, padding_side="left", **remote_code()
        )
    except (OSError, ValueError, ImportError, RuntimeError) as error:
        wanted = missing_packages(error, name)
        raise ModelError(
            wanted or f"No processor of images could be loaded from {name}: {first_line(error)}"
        ) from error
    if not isinstance(processor, ProcessorMixin):
        raise ModelError(f"{name} holds an image-text model without a processor; add its preprocessor_config.json.")
    _with_pad_token(processor.tokenizer)
    return processor


def _with_pad_token(tokenizer: PreTrainedTokenizerBase) -> PreTrainedTokenizerBase:
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def complete_tokenizer(model: Any, tokenizer: Any) -> None:
    """Give a tokenizer without an end token, or without a pad token, the one that the model's other files name.

    TRL takes both from the tokenizer alone.
    """
    words = text_tokenizer(tokenizer)
    stop = stop_token_ids(model, tokenizer)
    if words.eos_token is None and stop:
        words.eos_token = words.convert_ids_to_tokens(stop[0])
    _with_pad_token(words)


def load_model(
    name: str,
    dtype: str = "float32",
    revision: str | None = None,
    device_map: str | None = None,
    *,
    trains: bool = False,
    writes: bool = True,
    tell: Callable[[str], None] | None = None,
    options: Mapping[str, Any] | None = None,
) -> tuple[Any, PreTrainedTokenizerBase | ProcessorMixin]:
    """A causal language model and its tokenizer, or an image-text model and its processor: the config tells which.

    Args:
        name: "tiny" (shipped with the package), "smollm2" (prepared by ``make smollm2``), a folder, or a Hub name. An
            adapter's folder loads its base, too.
        dtype: "float32" or "bfloat16".
        revision: revision of a Hub model.
        device_map: spread of the model over devices, such as "auto"; None leaves it on the CPU.
        trains: the model is about to be trained. An adapter is kept beside its base, and is the part that learns;
            otherwise it is merged into the base's weights.
        writes: the model is about to be sampled. If not, one whose cache is unknown may be read without it.
        tell: receives a sentence on tensors that the files hold and the model does not have.
        options: for `from_pretrained`, such as ``attn_implementation``.

    Raises:
        ModelError: when there is no such model, an encoder, one whose cache is not supported, or one that would not be
            what its name says: a file that is cut, a tensor that is missing, weights that are not finite; in one
            sentence that says where it was looked for.
        ConfigError: for another dtype.
        DependencyError: for an adapter, without the package peft.
    """
    dtypes = {"float32": torch.float32, "bfloat16": torch.bfloat16}
    if dtype not in dtypes:
        raise ConfigError(f"dtype is {dtype!r}; choose float32 or bfloat16.")
    location = model_location(name)
    adapter = read_adapter(location, revision)
    base, at = (location, revision) if adapter is None else (model_location(adapter.base), adapter.revision)
    given = {"dtype": dtypes[dtype], "device_map": device_map, **(options or {})}
    # An adapter's folder need not hold the tokenizer again.
    has_words = adapter is None or find_file(location, "tokenizer_config.json", revision) is not None
    place, place_at = (name, revision) if has_words or adapter is None else (adapter.base, at)
    sees = reads_images(_config(name, base, at))
    # Before the weights: a processor may need a package that is not there.
    processor = load_processor(place, place_at) if sees else None
    model, report = _load(name, base, at, given, trains=trains, writes=writes)
    report.check(name)
    if tell is not None and report.note is not None:
        tell(f"{name}: {report.note}")
    if adapter is not None:
        model = with_adapter(model, location, revision, is_trainable=trains)
    check_finite(model, name)
    tokenizer = load_tokenizer(place, place_at) if processor is None else processor
    complete_tokenizer(model, tokenizer)
    return model, tokenizer


def _load(
    name: str, location: str, revision: str | None, options: Mapping[str, Any], *, trains: bool, writes: bool
) -> tuple[Any, LoadReport]:
    config = _config(name, location, revision)
    check_causal(config, name)
    (cache_plan if writes else reading_plan)(config)
    method = quantization_of(config)
    if trains:
        contracts.check_trainable(method, name)
    read_weights(location, revision)
    try:
        with contracts.without_load_report():
            # Shapes that do not fit come back in the report, which names them; transformers alone would not.
            model, info = contracts.model_class_of(config).from_pretrained(
                location,
                revision=revision,
                output_loading_info=True,
                ignore_mismatched_sizes=True,
                **remote_code(),
                **options,
            )
    except (OSError, ValueError, ImportError, RuntimeError, KeyError, UnpicklingError) as error:
        quantised = "" if method is None else f" (its weights are quantised by {method})"
        raise ModelError(f"No language model could be loaded from {name}{quantised}: {first_line(error)}") from error
    return model, LoadReport.of(info)


def model_config(name: str, revision: str | None = None) -> Any:
    """The configuration of a model, or of an adapter's base.

    Raises:
        ModelError: no model at that place, or none whose configuration can be read.
    """
    location = model_location(name)
    adapter = read_adapter(location, revision)
    if adapter is not None:
        location, revision = model_location(adapter.base), adapter.revision
    return _config(name, location, revision)


def _config(name: str, location: str, revision: str | None) -> Any:
    try:
        return AutoConfig.from_pretrained(location, revision=revision, **remote_code())
    except (OSError, ValueError) as error:
        raise ModelError(f"No language model could be loaded from {name}: {first_line(error)}") from error


def empty_model(name: str, revision: str | None = None) -> Any:
    """The model's modules without its weights: enough to learn early whether it exists, and what layers it has.

    Raises:
        ModelError: as `load_model`.
    """
    location = model_location(name)
    adapter = read_adapter(location, revision)
    if adapter is not None:
        return contracts.empty_model(model_location(adapter.base), adapter.revision, name=name)
    return contracts.empty_model(location, revision, name=name)
