"""What must not be read by others: keys of settings that hold secrets, and secrets in what is printed or written."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from typing import Any

__all__ = ["REDACTED", "is_secret_key", "redacted", "secrets_in"]

REDACTED = "[redacted]"

# `pad_token` and `max_tokens` are no secrets: a token counts as one only after a word for who gives it out.
_SECRET_KEY = re.compile(
    r"(^|[_.-])(secret|secrets|password|passwd|passphrase|credential|credentials|authorization|private_?key"
    r"|access_?key(_?id)?|api_?key|apikey|(hub|hf|api|auth|access|bearer|refresh|session|github|wandb|push_to_hub|id)_?token"
    r"|token)$",
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


def secrets_in(settings: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Dotted keys of settings, at any depth, that hold a secret as text."""
    for key, value in settings.items():
        here = f"{prefix}{key}"
        if is_secret_key(str(key)) and isinstance(value, str) and value:
            yield here
        for inner in value if isinstance(value, list) else [value]:
            if isinstance(inner, Mapping):
                yield from secrets_in(inner, f"{here}.")


def redacted(text: str, *secrets: str | None) -> str:
    """The text without secrets: those given, those of environment variables named so, and what looks like one."""
    of_environment = [value for name, value in os.environ.items() if is_secret_key(name)]
    known = {value for value in (*secrets, *of_environment) if value is not None and len(value) >= _SHORTEST}
    for secret in sorted(known, key=len, reverse=True):
        text = text.replace(secret, REDACTED)
    return _SECRET_TEXT.sub(REDACTED, text)
