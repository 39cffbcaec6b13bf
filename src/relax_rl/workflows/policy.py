"""Whether a model fits its data: its contract, the form of its prompts, and room for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from relax_rl.errors import ConfigError
from relax_rl.evaluation.lengths import long_prompts
from relax_rl.evaluation.prompts import PromptForm, check_images, encode_prompt
from relax_rl.evaluation.room import Overlong, Room
from relax_rl.latent.contract import ModelContract, contract_of
from relax_rl.latent.contract.architecture import reads_images
from relax_rl.latent.images.sharing import check_looks
from relax_rl.tasks.base import FindsTooLong, Problem
from relax_rl.training.models import empty_model, load_processor, model_config

__all__ = [
    "FittedPrompts",
    "check_sight",
    "checked_contract",
    "finds_left_out",
    "finds_too_long",
    "fit_prompts",
    "shortened_length",
]


@dataclass(frozen=True)
class FittedPrompts:
    """How problems become prompts of a model that has room for them.

    Attributes:
        form: form of the prompts.
        notes: notices at the start, a sentence each.
    """

    form: PromptForm
    notes: tuple[str, ...]


def checked_contract(model: Any, tokenizer: Any, name: str, switches: Mapping[str, Any] | None = None) -> ModelContract:
    """The contract of a loaded model that is about to be sampled.

    Raises:
        ModelError: a model without an end token, with weights that are not finite, or whose template or states cannot
            be read.
    """
    contract = contract_of(model, tokenizer, name, switches)
    contract.tokens.check(name)
    return contract


def check_sight(name: str, revision: str | None, problems: Sequence[Problem]) -> None:
    """Refuse problems with images for a model that cannot be given them, before its weights are loaded.

    Raises:
        ConfigError: the model reads text only, or has no chat template.
        ModelError: the vision part cannot be run apart (`relax_rl.latent.images.sharing.check_looks`); the processor
            needs a package that is not installed, or does not take such problems.
    """
    shows = next((problem.id for problem in problems if problem.images), None)
    if shows is None:
        return
    if not reads_images(model_config(name, revision)):
        raise ConfigError(
            f"The problem {shows!r} shows an image, and the model reads text only; choose an image-text model, or a "
            "task without images."
        )
    check_looks(empty_model(name, revision), name)
    processor = load_processor(name, revision)
    for problem in {len(problem.images): problem for problem in problems}.values():
        encode_prompt(processor, problem)


def fit_prompts(
    contract: ModelContract,
    tokenizer: Any,
    problems: Mapping[str, Sequence[Problem]],
    max_completion_length: int,
    *,
    plain: bool = False,
    switches: Mapping[str, Any] | None = None,
    overlong: Overlong = "refuse",
) -> FittedPrompts:
    """Hold a model against what it will be asked.

    Args:
        tokenizer: the model's own, or its processor.
        problems: by what they are, for sentences: ``{"the training split": [...]}``.
        max_completion_length: tokens of a completion.
        plain, switches: see `PromptForm`.
        overlong: treatment of prompts that leave no room for a completion.

    Raises:
        ConfigError: prompts that are too long, or show images that the model cannot be given; switches that the chat
            template does not have.
    """
    _check_switches(contract, plain, switches or {})
    room = Room(contract.architecture.context, contract.name, max_completion_length, overlong)
    form = room.form(PromptForm(plain, dict(switches or {})))
    notes = list(contract.notes_on_prompts(plain=plain))
    for what, asked in problems.items():
        for problem in asked:
            check_images(tokenizer, problem, form)
        note = room.check(tokenizer, asked, form, what)
        notes += [] if note is None else [note]
    return FittedPrompts(form, tuple(notes))


def finds_too_long(
    contract: ModelContract, tokenizer: Any, max_completion_length: int, form: PromptForm
) -> FindsTooLong:
    """Finds the problems whose prompt leaves a model no room for a whole completion."""
    room = Room(contract.architecture.context, contract.name, max_completion_length)
    return lambda problems: room.too_long(tokenizer, problems, form)


def finds_left_out(
    contract: ModelContract,
    tokenizer: Any,
    max_completion_length: int,
    form: PromptForm,
    *,
    overlong: Overlong,
    max_prompt_length: int | None,
) -> FindsTooLong | None:
    """The search for problems that are left out since their prompt is too long; None: all stay.

    Args:
        overlong, max_prompt_length: see `relax_rl.config.settings.PromptConfig`.
    """
    room = Room(contract.architecture.context, contract.name, max_completion_length).for_prompt
    limits = [] if max_prompt_length is None else [max_prompt_length]
    # Where a completion alone fills the context, `Room.form` says so.
    limits += [room] if overlong == "drop" and room is not None and room > 0 else []
    return (lambda problems: list(long_prompts(tokenizer, problems, form, min(limits)))) if limits else None


def shortened_length(
    contract: ModelContract,
    tokenizer: Any,
    problems: Sequence[Problem],
    length: int,
    plain: bool,
    switches: Mapping[str, Any],
) -> int:
    """A default length of completions, shortened to what the model's context leaves beside the longest prompt."""
    room = Room(contract.architecture.context, contract.name, length)
    most = room.longest_completion(tokenizer, problems, PromptForm(plain, dict(switches)))
    return length if most is None else max(1, min(length, most))


def _check_switches(contract: ModelContract, plain: bool, switches: Mapping[str, Any]) -> None:
    """A switch that nothing reads would be ignored in silence."""
    if not switches:
        return
    if plain or not contract.template.exists:
        why = "plain prompts have no template" if plain else f"{contract.name} has no chat template"
        raise ConfigError(f"chat_template_kwargs has {', '.join(switches)}, but {why}; leave it out.")
    known = contract.template.switches
    unknown = [name for name in switches if name not in known]
    if unknown:
        has = f"it has {', '.join(known)}" if known else "it has none"
        raise ConfigError(
            f"chat_template_kwargs has {unknown[0]!r}, which is no switch of the chat template of {contract.name}; "
            f"{has}."
        )
