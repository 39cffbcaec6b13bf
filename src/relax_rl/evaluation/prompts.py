"""From a problem to what a model reads: words, token ids and, for an image-text model, the pixels of its images."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from transformers import ProcessorMixin

from relax_rl.errors import ConfigError
from relax_rl.latent.contract.template import read_template, text_tokenizer
from relax_rl.latent.images.look import Look, look_at
from relax_rl.latent.images.sharing import per_token, placed
from relax_rl.tasks.base import Problem
from relax_rl.tasks.images.picture import Picture

__all__ = [
    "ImagePrompt",
    "ProcessedPrompt",
    "PromptForm",
    "SeenPrompt",
    "check_images",
    "encode_prompt",
    "left_pad",
    "looks_of",
    "position_ids",
    "prompt_inputs",
    "prompt_positions",
    "prompt_words",
    "render_prompt",
    "text_tokenizer",
    "without_image_token",
]


@dataclass(frozen=True)
class PromptForm:
    """How a problem becomes a prompt, the same in training and in every evaluation.

    Attributes:
        plain: the plain words of a problem, also for a model with a chat template: a base model that has one.
        switches: switches of the chat template, such as ``{"enable_thinking": False}``.
        most_tokens: a longer prompt loses its start; None cuts nothing.
    """

    plain: bool = False
    switches: Mapping[str, Any] = field(default_factory=dict)
    most_tokens: int | None = None

    def uses_template(self, tokenizer: Any) -> bool:
        """Whether the tokenizer's chat template renders the prompt."""
        return bool(tokenizer.chat_template) and not self.plain


_AS_USUAL = PromptForm()


def check_images(tokenizer: Any, problem: Problem, form: PromptForm = _AS_USUAL) -> None:
    """Refuse a problem whose images would not reach the model.

    Raises:
        ConfigError: the model has a tokenizer and no processor, or its processor has no chat template.
    """
    if not problem.images:
        return
    if not isinstance(tokenizer, ProcessorMixin):
        raise ConfigError(
            f"The problem {problem.id!r} shows an image, and the model reads text only; choose an image-text model, or "
            "a task without images."
        )
    if form.plain:
        raise ConfigError(
            f"The problem {problem.id!r} shows an image, and a plain prompt has no place for it; leave 'plain' out."
        )
    if not tokenizer.chat_template:
        raise ConfigError(
            f"The problem {problem.id!r} shows an image, and the model's processor has no chat template to place it "
            "by; give the model's folder a chat_template.jinja."
        )


class ImagePrompt(Sequence[int], ABC):
    """A prompt of an image-text model: its token ids, those that stand for an image among them."""

    _token_ids: Sequence[int]

    @abstractmethod
    def look(self) -> Look:
        """The prompt as the processor reads it, images and all."""

    def __len__(self) -> int:
        return len(self._token_ids)

    def __getitem__(self, index: Any) -> Any:
        return self._token_ids[index]

    def __iter__(self) -> Iterator[int]:
        return iter(self._token_ids)


class SeenPrompt(ImagePrompt):
    """A prompt that the processor has read, with its pixels."""

    def __init__(self, look: Look) -> None:
        self._look = look
        self._token_ids = look.token_ids

    def look(self) -> Look:
        return self._look


class ProcessedPrompt(ImagePrompt):
    """A prompt with its conversation.

    Pixels are made batch by batch (`looks_of`). Those of all problems would not fit into memory.
    """

    def __init__(
        self, processor: Any, conversation: list[dict[str, Any]], switches: Mapping[str, Any] | None = None
    ) -> None:
        self.processor = processor
        self._conversation = conversation
        self.switches = dict(switches or {})
        self._token_ids = self.look().token_ids

    def look(self) -> Look:
        """The prompt as the processor reads it, images and all; made again at each call."""
        return look_at(self.processor, self.conversation, switches=self.switches)

    @property
    def conversation(self) -> list[dict[str, Any]]:
        """Messages in parts, as the processor takes them; each call decodes the images again."""
        return [turn | {"content": [_opened(part) for part in turn["content"]]} for turn in self._conversation]


def looks_of(prompts: Sequence[Sequence[int]]) -> list[Look]:
    """The processor's output for each prompt, equal objects once; empty for prompts of a tokenizer."""
    distinct = {id(prompt): prompt for prompt in prompts if isinstance(prompt, ImagePrompt)}
    if not distinct:
        return []
    made = {key: prompt.look() for key, prompt in distinct.items()}
    return [made[id(prompt)] for prompt in prompts]


def render_prompt(tokenizer: Any, problem: Problem, form: PromptForm = _AS_USUAL) -> str:
    """Text that the model reads: the chat template around the problem's messages, or the plain prompt without one.

    Raises:
        ConfigError: see `check_images`.
    """
    check_images(tokenizer, problem, form)
    if not form.uses_template(tokenizer):
        return problem.prompt
    messages: Any = _messages(tokenizer, problem)
    if isinstance(tokenizer, ProcessorMixin):
        messages = _conversation(messages, problem)
    return tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True, **form.switches)


def encode_prompt(tokenizer: Any, problem: Problem, form: PromptForm = _AS_USUAL) -> Sequence[int]:
    """Token ids of the rendered prompt, as TRL encodes it: a chat template brings its own special tokens.

    Raises:
        ConfigError: see `check_images`.
    """
    check_images(tokenizer, problem, form)
    has_template = form.uses_template(tokenizer)
    if isinstance(tokenizer, ProcessorMixin):
        if has_template:
            return ProcessedPrompt(tokenizer, _conversation(_messages(tokenizer, problem), problem), form.switches)
        ids = tokenizer(text=[problem.prompt])["input_ids"][0]
    else:
        # Not verbose: a prompt that is too long is refused or cut, and needs no warning of the tokenizer's.
        text = render_prompt(tokenizer, problem, form)
        ids = tokenizer(text, add_special_tokens=not has_template, verbose=False)["input_ids"]
    return ids if form.most_tokens is None else ids[-form.most_tokens :]


def prompt_words(tokenizer: Any, problem: Problem, form: PromptForm = _AS_USUAL) -> str | list[dict[str, Any]]:
    """The prompt as TRL receives it: messages for the chat template, or plain text. It renders and encodes them as we
    do.

    An interleaved problem has messages in parts, with a place for each image; TRL fills these in order.
    """
    if not form.uses_template(tokenizer):
        return problem.prompt
    messages = _messages(tokenizer, problem)
    if not problem.interleaved:
        return messages
    return [
        turn | {"content": [{"type": "image"} if "image" in part else part for part in turn["content"]]}
        for turn in _conversation(messages, problem)
    ]


_TAKES_SYSTEM: WeakKeyDictionary[Any, tuple[Any, bool]] = WeakKeyDictionary()
"""By tokenizer: its template, and whether that takes a system message; to find out costs as much as a prompt."""


def _messages(tokenizer: Any, problem: Problem) -> list[dict[str, str]]:
    """The problem's messages; a system message that the template would refuse or drop stands above the first turn."""
    if problem.system is None or _takes_system(tokenizer):
        return problem.messages
    first, *rest = problem.messages[1:]
    return [first | {"content": f"{problem.system}\n\n{first['content']}"}, *rest]


def _takes_system(tokenizer: Any) -> bool:
    template, answer = _TAKES_SYSTEM.get(tokenizer, (None, False))
    if template != tokenizer.chat_template:
        answer = read_template(tokenizer).takes_system
        _TAKES_SYSTEM[tokenizer] = (tokenizer.chat_template, answer)
    return answer


def _conversation(messages: Sequence[Mapping[str, str]], problem: Problem) -> list[dict[str, Any]]:
    """Messages in parts; the question, which is the last turn, with its images where it shows them, not decoded yet."""
    turns: list[dict[str, Any]] = [
        {"role": message["role"], "content": [{"type": "text", "text": message["content"]}]} for message in messages
    ]
    if problem.images:
        # Above the first turn stands the system message, where the template takes none.
        above = messages[-1]["content"].removesuffix(problem.question)
        parts = [_part(part) for part in problem.parts]
        first = next((place for place, part in enumerate(parts) if part["type"] == "text"), None)
        if above and first is not None:
            parts[first] = {"type": "text", "text": above + parts[first]["text"]}
        turns[-1]["content"] = parts
    return turns


def _part(part: str | Picture) -> dict[str, Any]:
    return {"type": "text", "text": part} if isinstance(part, str) else {"type": "image", "image": part}


def _opened(part: dict[str, Any]) -> dict[str, Any]:
    return part | {"image": part["image"].open()} if part["type"] == "image" else part


def prompt_inputs(
    model: Any,
    prompts: Sequence[Sequence[int]],
    looks: Sequence[Look],
    completions: tuple[Tensor, Tensor] | None = None,
) -> dict[str, Tensor]:
    """A batch of prompts, all of one tokenizer or processor, as the model takes it inside `shown(model, looks)`.

    Args:
        looks: looks of the prompts (`looks_of`).
        completions: ids and mask (B, T), padded on the right, that follow the prompts.

    Returns:
        "input_ids" and "attention_mask" (B, L), padded on the left; for prompts of a processor also its further entries
        of each token, and what positions are counted from.
    """
    ids, mask = left_pad(prompts, model.device)
    if completions is not None:
        ids, mask = (torch.cat(pair, dim=1) for pair in zip((ids, mask), completions, strict=True))
    inputs = {"input_ids": ids, "attention_mask": mask}
    return inputs | per_token(model, looks, mask) | placed(looks, model.device) if looks else inputs


def prompt_positions(model: Any, inputs: dict[str, Tensor]) -> Tensor:
    """Positions (B, L) of a batch, or (axes, B, L) for a model that counts the rows and columns of an image."""
    if inputs.keys() == {"input_ids", "attention_mask"}:
        return position_ids(inputs["attention_mask"])
    beside = {name: value for name, value in inputs.items() if name != "input_ids"}
    return model._prepare_position_ids_for_generation(inputs["input_ids"], beside)


def without_image_token(model: Any, logits: Tensor) -> Tensor:
    """Logits (..., V) under which no image token is drawn: one without an image behind it cannot be read again."""
    token = getattr(model.config, "image_token_id", None)
    # Mllama's stands one past the vocabulary of its head, and cannot be drawn.
    if token is None or token >= logits.shape[-1]:
        return logits
    return logits.index_fill(-1, torch.tensor(token, device=logits.device), -torch.inf)


def left_pad(rows: Sequence[Sequence[int]], device: torch.device) -> tuple[Tensor, Tensor]:
    """Ids and attention mask (rows, longest); the pad id is 0 and never seen through the mask."""
    longest = max(len(row) for row in rows)
    ids = torch.tensor([[0] * (longest - len(row)) + list(row) for row in rows], device=device)
    mask = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in rows], device=device)
    return ids, mask


def position_ids(attention: Tensor) -> Tensor:
    """Positions that start at 0 with the first attended token of each row."""
    return (attention.cumsum(dim=1) - 1).clamp(min=0)
