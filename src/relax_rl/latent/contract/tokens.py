"""The tokens that end a completion, and the one that fills a batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from relax_rl.errors import ModelError
from relax_rl.latent.contract.template import read_template, text_tokenizer

__all__ = ["SpecialTokens", "read_tokens", "stop_token_ids"]


@dataclass(frozen=True)
class SpecialTokens:
    """Ids with a meaning.

    Attributes:
        stop: ids that end a completion: those of the generation config, the tokenizer's own and the turn end.
        pad: None where there is none.
        begin: likewise.
        names: the ids above in words.
    """

    stop: tuple[int, ...] = ()
    pad: int | None = None
    begin: int | None = None
    names: tuple[tuple[int, str], ...] = ()

    def check(self, name: str) -> None:
        """Refuse a model whose completions could never end.

        Raises:
            ModelError: there is no stop token.
        """
        if not self.stop:
            raise ModelError(
                f"{name} has no end token, so no completion of it could end; set eos_token in its "
                "tokenizer_config.json, or eos_token_id in its generation_config.json."
            )


def stop_token_ids(model: Any, tokenizer: Any) -> list[int]:
    """Ids that end a completion, the same in training and in every evaluation.

    Those of the generation config, the tokenizer's own, and the token that ends the assistant's turn in the chat
    template: a generation config of a base model does not list it.
    """
    configured = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    ids = {configured} if isinstance(configured, int) else set(configured or ())
    ids |= {text_tokenizer(tokenizer).eos_token_id, read_template(tokenizer).turn_end}
    return sorted(id for id in ids if id is not None)


def read_tokens(model: Any, tokenizer: Any) -> SpecialTokens:
    """The tokens of a model (or of anything with its generation config) and its tokenizer or processor."""
    words = text_tokenizer(tokenizer)
    stop = tuple(stop_token_ids(model, tokenizer))
    found = {id for id in (*stop, words.pad_token_id, words.bos_token_id) if id is not None}
    names = tuple((id, str(words.convert_ids_to_tokens(id))) for id in sorted(found))
    return SpecialTokens(stop, words.pad_token_id, words.bos_token_id, names)
