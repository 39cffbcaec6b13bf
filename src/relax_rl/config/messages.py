"""From pydantic's list of errors to one sentence with the key, the value, what was expected, and the nearest key."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel, ValidationError

from relax_rl.redaction import REDACTED, is_secret_key

__all__ = ["did_you_mean", "field_keys", "one_sentence"]


def did_you_mean(name: str, known: list[str]) -> str:
    """``; did you mean 'x'?`` for a close name, else ``; there are: ...``."""
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    return f"; did you mean '{close[0]}'?" if close else f"; there are: {', '.join(known)}"


def field_keys(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """All dotted keys of a model and of the models in it, sections before their members."""
    for name, field in model.model_fields.items():
        yield prefix + name
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from field_keys(field.annotation, f"{prefix}{name}.")


def one_sentence(error: ValidationError, model: type[BaseModel]) -> str:
    """All errors in one sentence, each key once (a union reports every branch that it tried)."""
    parts: dict[str, str] = {}
    for detail in error.errors(include_url=False):
        key = _key(model, detail["loc"])
        parts.setdefault(key, _clause(key, detail, model))
    return "; ".join(parts.values())


def _key(model: type[BaseModel], location: tuple[int | str, ...]) -> str:
    """The dotted key as a person writes it: without the union branches that pydantic appends."""
    names: list[str] = []
    inside: Any = model
    for step in location:
        names.append(str(step))
        field = inside.model_fields.get(str(step)) if _is_model(inside) else None
        if field is None:
            break
        inside = field.annotation
        if not _is_model(inside):
            break
    return ".".join(names)


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _clause(key: str, detail: Any, model: type[BaseModel]) -> str:
    if detail["type"] == "extra_forbidden":
        return f"unknown key '{key}'{_nearest_key(key, model)}"
    if detail["type"] == "value_error":
        return str(detail["ctx"]["error"])
    value = REDACTED if is_secret_key(key) else repr(detail["input"])
    shown = value if len(value) <= 60 else value[:57] + "..."
    if detail["type"] in ("model_type", "model_attributes_type", "dict_type"):
        return f"'{key}' must be a table of settings, not {shown}"
    expected = (
        detail["msg"].replace("Input should be", "must be").replace("a valid ", "a ").replace("a integer", "an integer")
    )
    return f"'{key}' {expected}, not {shown}"


def _nearest_key(key: str, model: type[BaseModel]) -> str:
    """The same member of another section first (``max_steps``: ``trainer.max_steps``), then the nearest spelling."""
    known = [tuple(other.rpartition(".")[::2]) for other in field_keys(model) if not other.endswith(".options")]
    section, _, name = key.rpartition(".")
    siblings = [member for place, member in known if place == section]
    near = set(difflib.get_close_matches(name, siblings, n=1, cutoff=0.6))
    chosen = [(place, member) for place, member in known if member == name]
    chosen = chosen or [(place, member) for place, member in known if place == section and member in near]
    if chosen:
        return f"; did you mean {' or '.join(repr('.'.join(filter(None, one))) for one in chosen)}?"
    return f"; there are: {', '.join(siblings)}"
