"""The contract of a model: all that training, evaluation and spectra rely on, read before anything runs."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from pickle import UnpicklingError
from types import SimpleNamespace
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoProcessor,
    AutoTokenizer,
    GenerationConfig,
)

from relax_rl.errors import ModelError
from relax_rl.latent.caches import cache_plan
from relax_rl.latent.contract.adapter import Adapter, read_adapter
from relax_rl.latent.contract.architecture import Architecture, read_architecture, reads_images
from relax_rl.latent.contract.files import first_line, model_location, read_json
from relax_rl.latent.contract.generation import steering, steering_words
from relax_rl.latent.contract.packages import missing_packages
from relax_rl.latent.contract.template import ChatTemplate, read_template
from relax_rl.latent.contract.tokens import SpecialTokens, read_tokens
from relax_rl.latent.contract.weights import LoadReport, Weights, nonfinite_in_files, nonfinite_words, read_weights
from relax_rl.latent.encoders import check_causal
from relax_rl.remote_code import remote_code

__all__ = [
    "ModelContract",
    "check_trainable",
    "contract_of",
    "empty_model",
    "model_class_of",
    "read_contract",
    "without_load_report",
]

_TRAINABLE_QUANTIZATIONS = {"mxfp4"}
"""Methods whose weights transformers turns into plain ones as it loads them."""


@dataclass(frozen=True)
class ModelContract:
    """The contract of a model.

    Attributes:
        name: as it was named.
        architecture: its kind.
        tokens: tokens that end a completion.
        template: behaviour of its chat template.
        steering: entries of its generation config that would change sampling, and are left out.
        weights: its files; None for a loaded model.
        adapter: the adapter that is added to another model; None for a whole model.
        load: fit of its tensors; None where the files are not at hand.
        problems: reasons for which training and evaluation refuse the model, a sentence each.
    """

    name: str
    architecture: Architecture
    tokens: SpecialTokens
    template: ChatTemplate
    steering: Mapping[str, Any] = field(default_factory=dict)
    weights: Weights | None = None
    adapter: Adapter | None = None
    load: LoadReport | None = None
    problems: tuple[str, ...] = ()

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences for the start of a run."""
        return self.notes_on_prompts(plain=False)

    def notes_on_prompts(self, *, plain: bool) -> tuple[str, ...]:
        """As `notes`; those on the chat template only where prompts are not plain."""
        said = [steering_words(dict(self.steering))]
        if self.template.exists and not self.template.takes_system and not plain:
            said.append("the chat template takes no system message; a task's goes to the top of the user's words")
        if self.template.opens and not plain:
            said.append(f"the prompt opens the thought ({self.template.opens.strip()}); graders are told")
        said.append(None if self.load is None else self.load.note)
        return tuple(words for words in said if words is not None)

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return dataclasses.asdict(self) | {"notes": list(self.notes)}


def check_trainable(method: str | None, name: str) -> None:
    """Refuse weights that no gradient reaches.

    Args:
        method: method of their quantisation.

    Raises:
        ModelError: quantised weights.
    """
    if method is not None and method not in _TRAINABLE_QUANTIZATIONS:
        raise ModelError(
            f"The weights of {name} are quantised ({method}) and cannot be trained; train the model that they were "
            "made from."
        )


def contract_of(
    model: Any, tokenizer: Any, name: str, switches: Mapping[str, Any] | None = None, *, load: LoadReport | None = None
) -> ModelContract:
    """The contract of a model that is loaded, and its tokenizer or processor.

    Raises:
        ModelError: a model whose states cannot be read, or a template that cannot render a question.
    """
    return ModelContract(
        name=name,
        architecture=read_architecture(model),
        tokens=read_tokens(model, tokenizer),
        template=read_template(tokenizer, switches),
        steering=steering(getattr(model, "generation_config", None)),
        load=load,
    )


def read_contract(name: str, revision: str | None = None, *, values: bool = False) -> ModelContract:
    """The contract of a model by its name, from its small files and the headers of its weights.

    What is wrong with it is listed in ``problems``, as far as its configuration can be read at all.

    Args:
        name: "tiny", "figures", "smollm2", a folder, or a name on the Hub, of whose weights only a cached copy is read.
        revision: revision of a model on the Hub.
        values: read the weights' values, too, and look for NaN and infinity.

    Raises:
        ModelError: no model at that place, or none whose configuration can be read.
    """
    location = model_location(name)
    adapter = read_adapter(location, revision)
    base = location if adapter is None else model_location(adapter.base)
    base_revision = revision if adapter is None else adapter.revision
    model = empty_model(base, base_revision, name=name)
    problems: list[str] = []
    weights = load = None
    try:
        cache_plan(model.config)
        weights = read_weights(base, base_revision)
        if weights.files:
            load = _fit(base, base_revision, model)
            load.check(name)
        broken = nonfinite_in_files(base, base_revision) if values else []
        if broken:
            problems.append(nonfinite_words(broken, name))
    except ModelError as error:
        problems.append(str(error))
    tokens, template = SpecialTokens(), ChatTemplate()
    held = read_json(base, "generation_config.json", base_revision)
    # Without the file, transformers derives one from config.json.
    entries = {"eos_token_id": model.generation_config.eos_token_id} if held is None else held
    try:
        tokenizer = _tokenizer(location, revision, base, base_revision, model.config)
        template = read_template(tokenizer)
        ends = GenerationConfig(eos_token_id=entries.get("eos_token_id"))
        tokens = read_tokens(SimpleNamespace(generation_config=ends), tokenizer)
        tokens.check(name)
    except ModelError as error:
        problems.append(str(error))
    return ModelContract(
        name, read_architecture(model), tokens, template, steering(entries), weights, adapter, load, tuple(problems)
    )


def model_class_of(config: Any) -> Any:
    """The automatic class that loads a configuration's model."""
    return AutoModelForImageTextToText if reads_images(config) else AutoModelForCausalLM


def empty_model(location: str, revision: str | None = None, *, name: str = "") -> Any:
    """The model's modules without its weights: enough to learn whether it exists, and what layers it has.

    Raises:
        ModelError: no configuration of a language model, or that of an encoder.
    """
    try:
        config = AutoConfig.from_pretrained(location, revision=revision, **remote_code())
        check_causal(config, name or location)
        with torch.device("meta"):
            return model_class_of(config).from_config(config, **remote_code())
    except (OSError, ValueError, ImportError, KeyError) as error:
        raise ModelError(f"No language model could be loaded from {name or location}: {first_line(error)}") from error


def _fit(location: str, revision: str | None, model: Any) -> LoadReport:
    """The pairs of tensors of the files and of the model, as transformers itself pairs them; no value is read."""
    with without_load_report():
        try:
            _, info = model_class_of(model.config).from_pretrained(
                location,
                revision=revision,
                local_files_only=True,
                device_map="meta",
                output_loading_info=True,
                ignore_mismatched_sizes=True,
                **remote_code(),
            )
        except (OSError, ValueError, ImportError, RuntimeError, UnpicklingError) as error:
            raise ModelError(f"The weights in {location} cannot be read: {first_line(error)}") from error
    return LoadReport.of(info)


@contextmanager
def without_load_report() -> Iterator[None]:
    """Without transformers' table of tensors, which `LoadReport` says in a sentence."""
    logger, report = logging.getLogger("transformers.modeling_utils"), _LoadTable()
    logger.addFilter(report)
    try:
        yield
    finally:
        logger.removeFilter(report)


class _LoadTable(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        return "LOAD REPORT" not in record.getMessage()


def _tokenizer(location: str, revision: str | None, base: str, base_revision: str | None, config: Any) -> Any:
    """The tokenizer or processor; that of the base where an adapter brings none."""
    kind = AutoProcessor if reads_images(config) else AutoTokenizer
    has_own = not Path(location).is_dir() or Path(location, "tokenizer_config.json").is_file()
    place, at = (location, revision) if has_own else (base, base_revision)
    try:
        return kind.from_pretrained(place, revision=at, **remote_code())
    except (OSError, ValueError, ImportError) as error:
        wanted = missing_packages(error, place) if reads_images(config) else None
        raise ModelError(wanted or f"No tokenizer could be loaded from {place}: {first_line(error)}") from error
