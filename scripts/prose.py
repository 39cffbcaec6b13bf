"""Count what can be counted of our English, in pages and in code.

    python scripts/prose.py [ROOT]            prints the tables
    python scripts/prose.py [ROOT] --check    prints each fault with file and line; exit code 1 if there is any

For each page of README.md and docs/**/*.md: sentences, mean words of a sentence, share of sentences of more than 30
words, share that address the reader ("you", "your") or are imperatives, free relative clauses as subjects ("What the
loss divides by is ..."), and words that have a plainer one. A guide addresses its reader or gives an instruction in at
least 8 % of its sentences. Code, tables, headings and quotations are left out.

For src/**/*.py: the same of docstrings, help texts, error sentences and comments; attributes and options that begin
with a bare "of"; identifiers that are such words.

`--check` looks for words that have a plainer one, for bare "of", for docstrings and entries of their sections that
name a thing with "what", "which", "who", "where" or "that" in place of a noun, and for guides below 8 %.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from words_in_code import Words, identifiers, words_of

__all__ = ["Prose", "faults", "measure", "sentences"]

LEAST_TO_READER = 0.08

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
    "mending": "fixing",
    "anew": "again",
    "go on with": "resume",
    "gone on with": "resumed",
    "goes on with": "resumes",
    "going on with": "resuming",
    "tell apart": "distinguish",
    "told apart": "distinguished",
    "tells apart": "distinguishes",
    "parted": "split",
    "can be had": "available",
    "cannot be had": "not available",
    "is not there yet": "currently missing",
    "foretell": "predict",
    "foretells": "predicts",
    "foretold": "predicted",
    "whoever": "a subject",
}
_PLAINER_NAMES = {"mend", "mended", "anew", "told", "there", "parted"}
_ARTICLE = {"docstring": "a docstring", "help": "a help text", "error": "an error", "comment": "a comment"}
_BARE_OF = re.compile(r"^\s*\w+(?:, \w+)*: of ", re.MULTILINE)
_CLAUSE_FOR_A_NOUN = re.compile(r"(?:What|Which|Who|Whose|Whatever|Whoever)\b(?![^.?!]*\?)")
_SECTION = re.compile(r"^\s*(?:Args|Attributes|Raises|Returns|Yields):\s*$")
_CLAUSE_ENTRY = re.compile(r"^\s*\*{0,2}\w+(?:, \w+)*: (?:what|which|who|whose|whatever|whoever|where|that)\b")
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
            plain = _CODE.sub("X", _LINK.sub(r"\1", item)).replace("**", "").strip()
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


def faults(root: Path) -> Iterator[str]:
    """What `--check` complains of, as FILE:LINE: WORDS."""
    for path in _pages(root):
        name, text = path.relative_to(root).as_posix(), path.read_text("utf-8")
        for number, line in enumerate(text.splitlines(), start=1):
            yield from (f"{name}:{number}: '{word}'" for word in _PLAINER_WORDS.findall(line))
        share = measure([text]).share_to_reader
        if name.startswith("docs/guides/") and share < LEAST_TO_READER:
            yield f"{name}: addresses its reader in {share:.1%} of its sentences, less than {LEAST_TO_READER:.0%}"
    for path in _modules(root):
        name = path.relative_to(root).as_posix()
        for words in words_of(path):
            yield from (
                f"{name}:{words.line}: '{word}' in {_ARTICLE[words.kind]}"
                for word in _PLAINER_WORDS.findall(words.text)
            )
            bare = _bare_of(words.kind, words.text)
            if bare:
                yield f"{name}:{words.line}: {bare} line(s) of {_ARTICLE[words.kind]} begin with a bare 'of'"
            yield from (f"{name}:{line}: a clause in place of a noun" for line in _clauses(words))
        yield from (
            f"{name}:{line}: the identifier '{found}'" for found, line in identifiers(path) if _is_plainer(found)
        )


def _is_plainer(identifier: str) -> bool:
    return bool(_PLAINER_NAMES & set(identifier.lower().split("_")))


def _bare_of(kind: str, text: str) -> int:
    """Lines that begin with it: of a help text the first, of a docstring the first and those of attributes."""
    starts = kind in ("docstring", "help") and text.lower().startswith("of ")
    return int(starts) + (len(_BARE_OF.findall(text)) if kind == "docstring" else 0)


def _clauses(words: Words) -> Iterator[int]:
    """Lines of a docstring that name a thing with a clause: the first one, and entries of its sections."""
    if words.kind != "docstring":
        return
    if _CLAUSE_FOR_A_NOUN.match(words.text):
        yield words.line
    indent: int | None = None  # of the section's entries; a line that continues one is deeper
    for number, line in enumerate(words.text.splitlines()):
        if _SECTION.match(line) or not line.strip():
            indent = len(line) - len(line.lstrip()) + 4 if line.strip() else None
        elif len(line) - len(line.lstrip()) == indent and _CLAUSE_ENTRY.match(line):
            yield words.line + number


def _pages(root: Path) -> list[Path]:
    return [root / "README.md", *sorted((root / "docs").rglob("*.md"))]


def _modules(root: Path) -> list[Path]:
    """Without the graders: their bytes are the digest of every evaluation, which no wording is worth."""
    return [path for path in sorted((root / "src").rglob("*.py")) if "rewards" not in path.parts]


def _print_pages(root: Path) -> None:
    texts = {path.relative_to(root).as_posix(): path.read_text("utf-8") for path in _pages(root)}
    guides = [text for name, text in texts.items() if name.startswith("docs/guides/")]
    rows = [(name, measure([text])) for name, text in texts.items()]
    rows += [("all guides", measure(guides)), ("all pages", measure(texts.values()))]
    print(f"{'page':38} sentences  words  over 30  to reader  'what' nouns  plainer words")
    for name, counted in rows:
        total = max(counted.num_sentences, 1)
        print(
            f"{name:38} {counted.num_sentences:9}  {counted.num_words / total:5.1f}  {counted.num_long / total:6.0%}   "
            f"{counted.share_to_reader:8.0%}  {counted.num_free_relatives:12}  {', '.join(counted.plainer)}".rstrip()
        )


def _print_code(root: Path) -> None:
    texts: dict[str, list[str]] = {"docstring": [], "help": [], "error": [], "comment": []}
    for path in _modules(root):
        for words in words_of(path):
            texts[words.kind].append(words.text)
    print(f"\n{'in src':12} sentences  words  over 30  'what' nouns  bare 'of'  plainer words")
    for kind, found in texts.items():
        counted = measure(found)
        total = max(counted.num_sentences, 1)
        bare = sum(_bare_of(kind, text) for text in found)
        print(
            f"{kind:12} {counted.num_sentences:9}  {counted.num_words / total:5.1f}  {counted.num_long / total:6.0%}   "
            f"{counted.num_free_relatives:12}  {bare:9}  {', '.join(counted.plainer)}".rstrip()
        )
    names = [found for path in _modules(root) for found, _ in identifiers(path) if _is_plainer(found)]
    print(f"identifiers with a plainer word: {', '.join(sorted(set(names))) or 'none'}")


def main(argv: list[str] | None = None) -> int:
    """Print the tables, or the faults."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("root", nargs="?", type=Path, default=Path(__file__).parents[1])
    parser.add_argument("--check", action="store_true", help="print faults, and exit with 1 if there is any")
    arguments = parser.parse_args(argv)
    if not arguments.check:
        _print_pages(arguments.root)
        _print_code(arguments.root)
        return 0
    found = list(faults(arguments.root))
    print("\n".join([*found, f"{len(found)} faults"]))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
