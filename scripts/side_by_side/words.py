"""Words for the command line of a revision, whatever its dialect."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from side_by_side.dialect import RENAMED_OPTIONS

__all__ = ["Speller"]


@dataclass(frozen=True)
class Speller:
    """Spells options as one revision knows them.

    Attributes:
        help_of: the text that ``relax VERB --help`` prints.
    """

    help_of: Callable[[str], str]
    _known: dict[str, frozenset[str]] = field(default_factory=dict, repr=False)

    def spelled(self, verb: str, words: Iterable[str]) -> list[str]:
        """Words in the old dialect, in that of the revision. Values stay as they are."""
        return [verb, *(self._option(verb, word) if word.startswith("--") else word for word in words)]

    def _option(self, verb: str, word: str) -> str:
        new = RENAMED_OPTIONS[verb].get(word)
        if verb not in self._known:
            self._known[verb] = _options_in(self.help_of(verb))
        return new if new in self._known[verb] else word


def _options_in(text: str) -> frozenset[str]:
    """Options in a help text. Settings stand below a line with their section, such as ``--trainer.``."""
    found, section = set(), None
    for line in text.splitlines():
        heading = re.match(r"\s*(--\w+\.)(\s|$)", line)
        key = re.match(r"\s{4,}(\w+)\s", line)
        section = heading.group(1) if heading else section
        if section and key and not heading:
            found.add(f"{section}{key.group(1)}")
        found.update(re.findall(r"--[\w-]+", line))
    return frozenset(found)
