"""A chat template: which roles it takes, how a turn ends, what it opens, what can be switched."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import jinja2
import jinja2.meta
from jinja2.exceptions import TemplateError
from transformers import ProcessorMixin

from relax_rl.errors import ModelError
from relax_rl.latent.contract.files import first_line

__all__ = ["ChatTemplate", "read_template", "text_tokenizer"]

_SYSTEM, _QUESTION, _ANSWER = "relax-system-words", "relax-question-words", "relax-answer-words"
_OPENED = re.compile(r"<(think(?:ing)?|thought|reasoning)>\s*\Z", re.IGNORECASE)
_ALWAYS_GIVEN = {
    *("messages", "tools", "documents", "add_generation_prompt", "raise_exception", "strftime_now", "namespace"),
    *("range", "dict", "loop", "true", "false", "none", "True", "False", "None", "tojson", "continue_final_message"),
}
"""Names in a template that are no switch: the conversation itself, and what transformers and Jinja provide."""


@dataclass(frozen=True)
class ChatTemplate:
    """Effects of a model's chat template on a conversation.

    Attributes:
        exists: there is one; without it prompts are plain text.
        takes_system: a system message is rendered. False where it is refused or dropped.
        opens: the tag of a thought that the prompt ends in, with the white space behind it; "" for none.
        switches: names that ``chat_template_kwargs`` can set, such as "enable_thinking".
        turn_end: id of the token that ends the assistant's turn; None where no special token does.
    """

    exists: bool = False
    takes_system: bool = True
    opens: str = ""
    switches: tuple[str, ...] = ()
    turn_end: int | None = None


def text_tokenizer(tokenizer: Any) -> Any:
    """The tokenizer itself, or the one that a processor holds."""
    return tokenizer.tokenizer if isinstance(tokenizer, ProcessorMixin) else tokenizer


def read_template(tokenizer: Any, switches: Mapping[str, Any] | None = None) -> ChatTemplate:
    """Render small conversations, and say what became of them.

    Args:
        tokenizer: or a processor.
        switches: switches of the template, as ``chat_template_kwargs``.

    Raises:
        ModelError: a template that cannot render a question.
    """
    if not tokenizer.chat_template:
        return ChatTemplate()
    renderer = _Renderer(tokenizer, dict(switches or {}))
    prompt = renderer.text([("user", _QUESTION)], ends_in_prompt=True)
    opened = _OPENED.search(prompt)
    return ChatTemplate(
        exists=True,
        takes_system=renderer.takes_system,
        opens="" if opened is None else opened.group(),
        switches=_switches(renderer.source, set(text_tokenizer(tokenizer).special_tokens_map)),
        turn_end=renderer.turn_end,
    )


@dataclass(frozen=True)
class _Renderer:
    tokenizer: Any
    switches: dict[str, Any] = field(default_factory=dict)

    @property
    def source(self) -> str:
        template = self.tokenizer.chat_template
        return template.get("default", next(iter(template.values()))) if isinstance(template, dict) else template

    def text(self, turns: list[tuple[str, str]], *, ends_in_prompt: bool = False) -> str:
        """Raises ModelError for what the template refuses."""
        is_processor = isinstance(self.tokenizer, ProcessorMixin)
        messages = [
            {"role": role, "content": [{"type": "text", "text": words}] if is_processor else words}
            for role, words in turns
        ]
        try:
            return self.tokenizer.apply_chat_template(
                messages, tokenize=False, add_generation_prompt=ends_in_prompt, **self.switches
            )
        except (TemplateError, TypeError, ValueError) as error:
            given = f" with {', '.join(self.switches)}" if self.switches else ""
            raise ModelError(
                f"The model's chat template cannot render a question{given}: {first_line(error)}; correct the "
                "template, or train and evaluate with plain prompts."
            ) from error

    @property
    def takes_system(self) -> bool:
        try:
            return _SYSTEM in self.text([("system", _SYSTEM), ("user", _QUESTION)], ends_in_prompt=True)
        except ModelError:
            return False

    @property
    def turn_end(self) -> int | None:
        """The first token behind the assistant's words, if it is one of the vocabulary's added tokens."""
        try:
            text = self.text([("user", _QUESTION), ("assistant", _ANSWER)])
        except ModelError:
            return None
        _, found, after = text.rpartition(_ANSWER)
        if not found or not after.strip():
            return None
        tokenizer = text_tokenizer(self.tokenizer)
        ids = tokenizer(after.lstrip(), add_special_tokens=False)["input_ids"]
        added = tokenizer.added_tokens_decoder.get(ids[0]) if ids else None
        # By its text, too: an unknown word becomes an added token in some vocabularies.
        return ids[0] if added is not None and after.lstrip().startswith(str(added)) else None


@lru_cache(maxsize=16)
def _names_in(source: str) -> frozenset[str]:
    """Names that a template reads and does not set itself; none for one in a dialect that Jinja alone cannot parse."""
    environment = jinja2.Environment(extensions=["jinja2.ext.loopcontrols", "jinja2.ext.do"])
    without_own_tags = re.sub(r"\{%-?\s*(?:end)?generation\s*-?%\}", "", source)
    try:
        return frozenset(jinja2.meta.find_undeclared_variables(environment.parse(without_own_tags)))
    except TemplateError:
        return frozenset()


def _switches(source: str, special_tokens: set[str]) -> tuple[str, ...]:
    return tuple(sorted(_names_in(source) - _ALWAYS_GIVEN - special_tokens - {"bos_token", "eos_token", "pad_token"}))
