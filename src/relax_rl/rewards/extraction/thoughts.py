"""Where a completion thinks: the markers of a thought, as the chat templates of many vendors write them.

A thought pays nothing. Only what follows the last one is read, and a text that ends inside one has no answer.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["ThoughtMark", "after_mark", "after_thinking", "open_thoughts", "thought_marks"]

_NAMES = (
    r"think(?:ing)?|longcat_think(?:ing)?|ant_?think(?:ing)?|thoughts?|reason(?:ing)?|reflect(?:ion)?|scratch_?pad"
    r"|rationale|cot|chain[_-]of[_-]thought|(?:inner_?|internal_?)?(?:monologue|thoughts?|reasoning)"
    r"|(?:thinking|thought|reasoning)_process"
)
# One row a family of spellings: (opening, closing). A vendor's prefix, as in `<seed:think>`, is a part of the tag.
_SPELLINGS: tuple[tuple[str, str], ...] = (
    (
        rf"<(?:[\w-]{{1,20}}:)?(?i:{_NAMES})(?:[ \t][^<>\n]{{0,80}})?>",
        rf"</(?:[\w-]{{1,20}}:)?(?i:{_NAMES})[ \t]*>",
    ),
    (rf"<\|(?i:{_NAMES})\|>", rf"<\|/(?i:{_NAMES})\|>"),  # `<|think|>`
    (r"\u25c1think(?:ing)?\u25b7", r"\u25c1/think(?:ing)?\u25b7"),  # Kimi-VL
    (r"\[(?:THINK(?:ING)?|think(?:ing)?|REASONING)\]", r"\[/(?:THINK(?:ING)?|think(?:ing)?|REASONING)\]"),  # Magistral
    (
        r"<\|(?i:begin|start)_(?i:of_)?(?i:thought|thinking|think|reasoning)\|>",  # OpenThoughts, Command A
        r"<\|(?i:end)_(?i:of_)?(?i:thought|thinking|think|reasoning)\|>",
    ),
    (
        r"<\|(?i:thought|thinking|think|reasoning)_(?i:start|begin)\|>",
        r"<\|(?i:thought|thinking|think|reasoning)_(?i:end)\|>",
    ),
    (r"<\|inner_prefix\|>", r"<\|inner_suffix\|>"),  # Apertus
    (r"<unused94>", r"<unused95>"),  # MedGemma
    (r"<\|channel>thought", r"<channel\|>"),  # Gemma
    (r"&lt;(?i:think(?:ing)?)&gt;", r"&lt;/(?i:think(?:ing)?)&gt;"),
    (r"\AHere is my thought process:", r"Here is my response:"),  # Granite
)
_MARK = re.compile(
    "|".join(
        f"(?P<open_{index}>{opening})|(?P<close_{index}>{closing})"
        for index, (opening, closing) in enumerate(_SPELLINGS)
    )
)
# Where a marker can begin: far cheaper to find than the markers themselves.
_CANDIDATE = re.compile(r"[<\u25c1](?=[/|\w])|\[(?=[/TtR])|&lt;|Here is my (?=thought process:|response:)")
_SIGNS = ("<", "\u25c1", "[", "&lt;", "Here is my ")
_FAMILY = re.compile(r"[a-z_]+")
# gpt-oss: every message names its channel, and only the final one is for the reader.
_CHANNEL = re.compile(r"<\|(?:channel|message)\|>")
_FINAL_CHANNEL = re.compile(r"(?:<\|channel\|>|\A)\s*final\b[^<]{0,40}(?:<\|constrain\|>[^<]{0,40})?<\|message\|>")
_CHANNEL_END = re.compile(r"<\|(?:return|end|start|call|channel)\|>")
# The same after a tokenizer has dropped its special tokens.
_BARE_ANALYSIS = re.compile(r"\A\s*(?:assistant)?(?:analysis|commentary)(?=[A-Z\d\\$(*\"'])")
_BARE_FINAL = "assistantfinal"


@dataclass(frozen=True)
class ThoughtMark:
    """An opening or closing marker of a thought.

    Attributes:
        family: markers close each other within a family.
    """

    start: int
    end: int
    family: str
    is_closing: bool


def after_thinking(text: str) -> str | None:
    """What follows the last thought; None if the text ends inside one. The prompt may have opened the first."""
    channelled = _final_channel(text)
    if channelled is not None:
        found, text = channelled
        if not found:
            return None
    marks = thought_marks(text)
    if open_thoughts(marks):
        return None
    return text[marks[-1].end :] if marks else text


def thought_marks(text: str) -> list[ThoughtMark]:
    """All markers, in order."""
    found: list[ThoughtMark] = []
    if not any(sign in text for sign in _SIGNS):
        return found
    for candidate in _CANDIDATE.finditer(text):
        match = _MARK.match(text, candidate.start())
        if match is not None:
            kind, _, index = (match.lastgroup or "").partition("_")
            found.append(ThoughtMark(match.start(), match.end(), _family(match[0], index), kind == "close"))
    return found


def open_thoughts(marks: Sequence[ThoughtMark]) -> tuple[str, ...]:
    """The families that are open after the marks, outermost first.

    A closing marker closes what was opened inside its thought, too. One without an opening ends a thought that the
    prompt opened, unless another thought is open: then it closes nothing.
    """
    stack: tuple[str, ...] = ()
    for mark in marks:
        stack = after_mark(stack, mark)
    return stack


def after_mark(stack: tuple[str, ...], mark: ThoughtMark) -> tuple[str, ...]:
    """The open families after one more marker."""
    if not mark.is_closing:
        # A prompt's marker and the policy's own are one thought.
        return stack if mark.family in stack else (*stack, mark.family)
    if mark.family in stack:
        return stack[: stack.index(mark.family)]
    return () if mark.family == "think" else stack


def _family(marker: str, index: str) -> str:
    """``think`` for ``<thinking>``, ``[/THINK]`` and ``<seed:think>``; else the tag's name, or its row of the table."""
    words = _FAMILY.findall(marker.lower())
    name = words[-1] if words else index
    if "think" in marker.lower():
        return "think"
    if index in {"0", "1"}:
        return name.removesuffix("s")
    return index


def _final_channel(text: str) -> tuple[bool, str] | None:
    """(whether there is a final message, its text) of a text that has channels; None if it has none."""
    if _CHANNEL.search(text):
        final = _FINAL_CHANNEL.search(text)
        if final is None:
            return False, ""
        end = _CHANNEL_END.search(text, final.end())
        return True, text[final.end() : end.start() if end else len(text)]
    if _BARE_ANALYSIS.match(text):
        _, found, after = text.partition(_BARE_FINAL)
        return bool(found), after
    return None
