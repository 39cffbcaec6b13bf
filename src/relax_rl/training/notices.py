"""Notices of a run to its user: one sentence each, once, on the first process."""

from __future__ import annotations

import warnings
from collections.abc import Callable

from accelerate import PartialState

__all__ = ["Notices"]


class Notices:
    """Passes sentences on to a listener; without a listener they are Python warnings."""

    def __init__(self) -> None:
        self._listener: Callable[[str], None] | None = None
        self._said: set[str] = set()

    def listen(self, listener: Callable[[str], None]) -> None:
        """Have the sentences from now on."""
        self._listener = listener

    def __call__(self, sentence: str) -> None:
        """Say a sentence, unless it was said before."""
        if sentence in self._said or not PartialState().is_main_process:
            return
        self._said.add(sentence)
        if self._listener is None:
            warnings.warn(sentence, stacklevel=2)
        else:
            self._listener(sentence)
