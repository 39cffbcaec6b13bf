"""Answers between tags: ``<answer>7</answer>`` and what other templates write for it."""

from __future__ import annotations

import re

from relax_rl.rewards.extraction.finding import PLACEHOLDER, Commitment, Extraction
from relax_rl.rewards.extraction.statements import read_inside
from relax_rl.rewards.extraction.values import has_mathematics, predicate, sentence, value_at_head

__all__ = ["last_tag"]

_TAG = re.compile(
    r"<(?P<closing>/?)(?i:(?:final[_ -]?)?answer|boxed)[ \t]*>|<\|(?P<word>begin|end)_of_(?:box|answer)\|>"
)


def last_tag(text: str) -> Commitment | None:
    """The last tag that holds something; None if there is none. One that never closes has no answer."""
    closing: re.Match[str] | None = None
    for tag in reversed(list(_TAG.finditer(text))):
        if tag["closing"] or tag["word"] == "end":
            closing = tag
        elif closing is None:
            return Commitment(tag.start(), len(text), Extraction(None, "unclosed tag"))
        else:
            content, end = text[tag.end() : closing.start()], closing.end()
            closing = None
            if not PLACEHOLDER.fullmatch(content):
                return Commitment(tag.start(), end, Extraction(_tagged(content), "tagged", whole=content.strip()))
    return None


def _tagged(content: str) -> str:
    inside = read_inside(content)
    if inside is not content:
        return inside
    content = content.strip()
    first, is_question = sentence(content)
    # A question is no statement (`12 ? 7`), and a number in a second sentence may be another answer.
    if "\n" in content or is_question or "?" in content or has_mathematics(content[len(first) :].strip(" .$\\)]*")):
        return content
    stated = predicate(first) if _is_words(content) else None
    return stated or value_at_head(content, is_prose=False)


def _is_words(content: str) -> bool:
    """Whether a tag holds a sentence rather than a value."""
    return re.match(r"[A-Za-z][a-z]+\s+[A-Za-z$]\S*\s+\S", content) is not None
