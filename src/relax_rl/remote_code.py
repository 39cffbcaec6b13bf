"""Whether Python files that come with a model may run: only if the user said so.

No setting of a file and no folder can say it. The command line has ``--trust-remote-code``, and a program:

    with trusting_remote_code():
        train("own.toml")
"""

from __future__ import annotations

import contextlib
from collections.abc import Generator
from contextvars import ContextVar

__all__ = ["is_trusted", "needs_remote_code", "remote_code", "trusting_remote_code"]

_TRUSTED = ContextVar("trust remote code", default=False)


@contextlib.contextmanager
def trusting_remote_code(trusted: bool = True) -> Generator[None]:
    """Inside, in this thread, models may bring code of their own if ``trusted``."""
    token = _TRUSTED.set(trusted)
    try:
        yield
    finally:
        _TRUSTED.reset(token)


def is_trusted() -> bool:
    """Whether a model's own code may run now."""
    return _TRUSTED.get()


def remote_code() -> dict[str, bool]:
    """Arguments of every ``from_pretrained`` and ``from_config``.

    Left out, transformers would ask on the terminal, and take a "y" that was meant for something else.
    """
    return {"trust_remote_code": is_trusted()}


def needs_remote_code(error: Exception) -> bool:
    """Whether this is transformers' refusal of code that was not trusted."""
    return "trust_remote_code=True" in str(error)
