"""Redaction: keys of settings that hold secrets, and secrets in what is printed or written."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from typing import Any

from relax_rl.errors import ConfigError

__all__ = ["REDACTED", "is_secret_key", "redacted", "refuse_secrets", "without_secrets"]

REDACTED = "[redacted]"

# `pad_token` and `max_tokens` are no secrets: a token counts as one only after a word for who gives it out.
_SECRET_KEY = re.compile(
    r"(^|\.)token$|(^|[_.-])(secrets?|password|passwd|passphrase|credentials?|authorization|(private|access|api)[_-]?key"
    r"|access[_-]key[_-]id|(hub|hf|api|auth|access|bearer|refresh|session|github|wandb|id)[_-]token)$",
    re.IGNORECASE,
)
_SECRET_TEXT = re.compile(
    r"\b(hf_|api_org_|sk-|sk_|gsk_|gh[pousr]_|github_pat_|glpat-|nvapi-|xox[abeprs]-|AKIA|ASIA|AIza)[A-Za-z0-9_-]{8,}"
    r"|(?<=://)[^/\s@'\"]+(?=@)"
    r"|(?i:(?<=bearer )|(?<=basic ))[A-Za-z0-9._~+/=-]{8,}"
)
_SHORTEST = 8
"""Characters; a shorter value of an environment variable would be found inside other words."""


def is_secret_key(key: str) -> bool:
    """Whether a setting or variable of this name holds a secret, such as ``hub_token`` or ``OPENAI_API_KEY``."""
    return _SECRET_KEY.search(key) is not None


def refuse_secrets(settings: Mapping[str, Any], prefix: str = "") -> None:
    """For settings that will be written into files. Raises ConfigError naming the key of a secret, not its value."""
    key = next(_secrets_in(settings, prefix), None)
    if key is not None:
        raise ConfigError(
            f"'{key}' is a secret, and settings are written into files and reports; leave it out, and log in "
            "('hf auth login') or set an environment variable, such as HF_TOKEN"
        )


def _secrets_in(settings: Mapping[str, Any], prefix: str) -> Iterator[str]:
    for key, value in settings.items():
        if is_secret_key(str(key)) and isinstance(value, str) and value:
            yield f"{prefix}{key}"
        for inner in value if isinstance(value, list) else [value]:
            if isinstance(inner, Mapping):
                yield from _secrets_in(inner, f"{prefix}{key}.")


def without_secrets(settings: Any) -> Any:
    """Settings that were read from a file, without the secrets that a former version left in them."""
    if isinstance(settings, Mapping):
        kept = {k: v for k, v in settings.items() if not (is_secret_key(str(k)) and isinstance(v, str))}
        return {key: without_secrets(value) for key, value in kept.items()}
    return [without_secrets(value) for value in settings] if isinstance(settings, list) else settings


def redacted(text: str, *secrets: str | None) -> str:
    """The text without secrets: those given, those of environment variables named so, and what looks like one."""
    of_environment = [value for name, value in os.environ.items() if is_secret_key(name)]
    known = {value for value in (*secrets, *of_environment) if value is not None and len(value) >= _SHORTEST}
    for secret in sorted(known, key=len, reverse=True):
        text = text.replace(secret, REDACTED)
    return _SECRET_TEXT.sub(REDACTED, text)
