"""Count what can be counted of the English in README.md and docs/**/*.md.

    python scripts/prose.py [ROOT]

For each page: sentences, mean words of a sentence, share of sentences of more than 30 words, share that address the
reader ("you", "your") or are imperatives, free relative clauses as subjects ("What the loss divides by is ..."), and
words that have a plainer one. A guide should address its reader or give an instruction in at least 8 % of its
sentences. Code, tables, headings and quotations are left out. Prints a table; it is a measure, and fails nothing.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Prose", "measure", "sentences"]

_FENCED = re.compile(r"^(\s*)(`{3,}|~{3,}).*?^\1\2\s*$", re.MULTILINE | re.DOTALL)
_SKIPPED = re.compile(r"^\s*(?:\||#|>|<|\[[^\]]+\]:)")
_LINK = re.compile(r"!?\[([^\]]*)\]\([^)]*\)")
_CODE = re.compile(r"`[^`]*`")
_MARKER = re.compile(r"^\s*(?:[-*+]|\d+[.)])\s+")
_END = re.compile(r"(?<=[.!?:])\s+(?=[A-Z`\"(])")
_WORD = re.compile(r"[A-Za-z][A-Za-z'-]*|x\d*")
_READER = re.compile(r"\b(?:you|your|yours|yourself)\b", re.IGNORECASE)
_FREE_RELATIVE = re.compile(r"^(?:What|Who|Whoever|Whatever|Where(?:ver)?)\b(?![^.?!]*\?)")
_IMPERATIVES = {
    "add", "allow", "annotate", "ask", "avoid", "begin", "build", "call", "change", "check", "choose", "compare",
    "copy", "count", "create", "delete", "divide", "do", "don't", "draw", "edit", "ensure", "evaluate", "expect", "fit",
    "fix", "follow", "get", "give", "go", "import", "install", "keep", "leave", "let", "list", "load", "look", "make",
    "mark", "measure", "mind", "name", "note", "open", "pass", "pick", "plot", "point", "prefer", "press", "print",
    "put", "raise", "read", "record", "remove", "rename", "repeat", "replace", "report", "resume", "return", "run",
    "sample", "save", "say", "see", "select", "send", "set", "share", "show", "skip", "start", "state", "stop",
    "switch", "take", "tell", "test", "train", "treat", "try", "turn", "type", "use", "validate", "wait", "watch",
    "write",
}  # fmt: skip
# What we no longer write, and the field's word for it.
_PLAINER = {
    "mend": "fix",
    "mends": "fixes",
    "mended": "fixed",
    "anew": "again",
    "gone on with": "resumed",
    "goes on with": "resumes",
    "told apart": "distinguished",
    "tells apart": "distinguishes",
    "parted": "split",
    "can be had": "available",
    "cannot be had": "not available",
    "is not there yet": "currently missing",
}
_PLAINER_WORDS = re.compile(rf"\b(?:{'|'.join(map(re.escape, _PLAINER))})\b", re.IGNORECASE)


@dataclass(frozen=True)
class Prose:
    """What was counted in one text."""

    num_sentences: int
    num_words: int
    num_long: int
    num_to_reader: int
    num_free_relatives: int
    plainer: tuple[str, ...]

    @property
    def share_to_reader(self) -> float:
        """Share of the sentences that address the reader or are imperatives."""
        return self.num_to_reader / max(self.num_sentences, 1)


def sentences(markdown: str) -> Iterator[str]:
    """The sentences of a page: of its paragraphs and of its list items, without code."""
    for block in re.split(r"\n\s*\n", _FENCED.sub("\n", markdown)):
        items: list[str] = []
        for line in block.splitlines():
            if _SKIPPED.match(line):
                continue
            if _MARKER.match(line) or not items:
                items.append("")
            items[-1] += " " + _MARKER.sub("", line).strip()
        for item in items:
            plain = _CODE.sub("x", _LINK.sub(r"\1", item)).replace("**", "").strip()
            yield from (part for part in _END.split(plain) if len(_WORD.findall(part)) > 1)


def measure(texts: Iterable[str]) -> Prose:
    """Count the sentences of some pages together."""
    num_sentences = num_words = num_long = num_to_reader = num_free_relatives = 0
    plainer: list[str] = []
    for text in texts:
        for sentence in sentences(text):
            words = _WORD.findall(sentence)
            num_sentences += 1
            num_words += len(words)
            num_long += len(words) > 30
            num_to_reader += bool(_READER.search(sentence)) or words[0].lower() in _IMPERATIVES
            num_free_relatives += bool(_FREE_RELATIVE.match(sentence))
            plainer += [found.lower() for found in _PLAINER_WORDS.findall(sentence)]
    return Prose(num_sentences, num_words, num_long, num_to_reader, num_free_relatives, tuple(sorted(set(plainer))))


def main(root: Path) -> None:
    pages = [root / "README.md", *sorted((root / "docs").rglob("*.md"))]
    texts = {path.relative_to(root).as_posix(): path.read_text("utf-8") for path in pages}
    print(f"{'page':34} sentences  words  over 30  to reader  'what' nouns  plainer words")
    for name, counted in [(name, measure([text])) for name, text in texts.items()] + [("all", measure(texts.values()))]:
        total = max(counted.num_sentences, 1)
        print(
            f"{name:34} {counted.num_sentences:9}  {counted.num_words / total:5.1f}  {counted.num_long / total:6.0%}   "
            f"{counted.share_to_reader:8.0%}  {counted.num_free_relatives:12}  {', '.join(counted.plainer)}".rstrip()
        )


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parents[1])
