"""A gold answer with its type, in one text: ``[choice] B``, ``[float 1] 13.8``, ``[any] ["Tampa", "Florida"]``."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any, cast

__all__ = ["KINDS", "TypedGold", "read_typed"]

KINDS = ("choice", "integer", "float", "within", "list", "set", "text", "any", "math")
_TYPED = re.compile(rf"\[({'|'.join(KINDS)})(?: (\d+(?:\.\d+)?))?\] (.+)", re.DOTALL | re.ASCII)
_WITH_NUMBER = ("float", "within")


@dataclass(frozen=True)
class TypedGold:
    """A gold answer and how an answer is compared with it.

    Attributes:
        kind: ``choice`` (value: the letter), ``integer``, ``float`` (number: decimal places of the gold value),
            ``within`` (number: largest difference), ``list`` (members in order, with commas between them), ``set`` (in
            any order), ``text``, ``any`` (value: a JSON list, any of whose members is right), ``math`` (as
            `.mathematics.verifier.MathVerifier` compares).
        value: the answer itself.
        number: see ``kind``; "" for kinds without one.
    """

    kind: str
    value: str
    number: str = ""

    def __str__(self) -> str:
        head = f"{self.kind} {self.number}" if self.number else self.kind
        return f"[{head}] {self.value}"

    @property
    def members(self) -> list[str]:
        """Of a JSON list; empty for anything else."""
        try:
            found: Any = json.loads(self.value)
        except (ValueError, RecursionError):
            return []
        return [str(one) for one in cast("list[Any]", found)] if isinstance(found, list) else []


def read_typed(text: str) -> TypedGold | None:
    """The gold answer in a text; None if it has no type, or a type without the number it needs."""
    found = _TYPED.fullmatch(text)
    if found is None or not found[3].strip() or bool(found[2]) != (found[1] in _WITH_NUMBER):
        return None
    gold = TypedGold(found[1], found[3].strip(), found[2] or "")
    if gold.kind == "float" and "." in gold.number:
        return None
    return None if gold.kind == "any" and not gold.members else gold
