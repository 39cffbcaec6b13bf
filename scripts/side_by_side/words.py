"""The dialect of the command line: which option has which name in a revision. All renamed options are listed here."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

__all__ = ["RENAMED", "SIGNAL_FOLDER", "Speller"]

RENAMED: dict[str, dict[str, str]] = {
    "train": {"--run": "--output"},
    "compare": {"--run": "--output"},
    "eval": {},
    "spectrum": {"--num-prompts": "--num-problems", "--generate": "--max-completion-length"},
}
"""By command: the old name of an option, and the new one. A revision that knows the new one is given that."""

SIGNAL_FOLDER = "evidence"
"""A folder of the tree. On the path where it holds the methods that have left the package."""


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
        new = RENAMED[verb].get(word)
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
