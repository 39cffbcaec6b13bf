"""Where the first turn of a completion ends: special tokens left in the text, and turns that a policy runs on into.

A policy that goes on with ``Human: another one`` answers questions of its own. Only its first turn is graded.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from relax_rl.rewards.extraction.thoughts import after_mark, thought_marks

__all__ = ["first_turn"]

# Tokens that do not end a turn: channels and the names of thoughts, boxes and solutions.
_STRUCTURE = re.compile(
    r"/?(?:channel|message|start|constrain|/?think.*|.*thought.*|.*think.*|.*reason.*|inner_(?:prefix|suffix)"
    r"|(?:begin|start|end)_of_(?:box|solution|answer)|start_response|start_text|begin_of_text)",
    re.IGNORECASE,
)
_TOKEN = re.compile(
    r"<\|(?P<name>/?[A-Za-z][\w\u2581./ -]{1,39})\|>|<\uff5c[^<>\uff5c\n]{2,40}\uff5c>|</s>|<(?:eos|EOS)>"
    r"|<(?:end|start)_of_turn>|<(?:pad|PAD|unk)>|\[/?INST\]|\[(?:EOS|PAD)\]|\[\|endofturn\|\]|<\|im_end\||<end_of_utterance>"
)
_LEADING = re.compile(
    r"\A(?:\s|<s>|<bos>|<pad>|<\|begin_of_text\|>|<\|start_header_id\|>assistant<\|end_header_id\|>|\[/INST\]"
    r"|<\|im_start\|>\s*assistant\b|<\|(?:assistant|pad|bos)\|>|<start_of_turn>model\b"
    r"|<\uff5c(?:Assistant|begin\u2581of\u2581sentence)\uff5c>|<\|START_RESPONSE\|>|<\|start\|>assistant(?!<\|channel))+"
)
_SOLUTION = re.compile(r"<\|(?:begin_of_solution|START_RESPONSE|START_TEXT)\|>")
_LINE = r"^[ \t]*(?:\*\*|#{1,6}[ \t]*|>[ \t]*|\[)?"
_SPEAKER = re.compile(
    rf"{_LINE}(?:Human|User|Instruction|Usuario|Utilisateur|Benutzer|\u7528\u6237|\u4eba\u7c7b)"
    r"(?:\*\*|\])?[ \t]*[:\uff1a]",
    re.MULTILINE | re.IGNORECASE,
)
_QUESTION = re.compile(
    rf"{_LINE}(?:(?:new|next|another)[ \t]+)?(?:Q|Question|Problem|Exercise|Example|Pregunta|Frage|"
    r"\u95ee|\u95ee\u9898|\u9898\u76ee|\u95ee\u984c)(?:[ \t]*\d{1,4})?(?:\*\*|\])?[ \t]*[:\uff1a]",
    re.MULTILINE | re.IGNORECASE,
)


def first_turn(text: str, commits: Callable[[str], bool]) -> tuple[str, bool]:
    """(the first turn, whether something was cut off behind it).

    A line that begins with a speaker ends it; one that begins with ``Question:`` does where the text before it has an
    answer, since a solution may restate its problem first. Neither does inside a thought.

    Args:
        commits: whether a piece of text states an answer.
    """
    text = _without_leading(text)
    end = _token_end(text)
    was_cut = end < len(text)
    text = _SOLUTION.sub("\n", text[:end])
    cut = _written_end(text, commits)
    return (text[:cut], True) if cut < len(text) else (text, was_cut)


def _without_leading(text: str) -> str:
    leading = _LEADING.match(text)
    return text[leading.end() :] if leading else text


def _token_end(text: str) -> int:
    if "<" not in text and "[" not in text:
        return len(text)
    has_channels = "<|channel|>" in text or "<|message|>" in text
    for token in _TOKEN.finditer(text):
        name = token["name"]
        if name is not None and _STRUCTURE.fullmatch(name):
            continue
        if has_channels and name in {"end", "call"}:  # ends a message; `.thoughts` finds the final one
            continue
        return token.start()
    return len(text)


def _written_end(text: str, commits: Callable[[str], bool]) -> int:
    """Where a speaker or a further question begins, outside all thoughts."""
    if ":" not in text and "\uff1a" not in text:
        return len(text)
    breaks = sorted(
        [(match.start(), True) for match in _SPEAKER.finditer(text)]
        + [(match.start(), False) for match in _QUESTION.finditer(text)]
    )
    if not breaks:
        return len(text)
    marks = thought_marks(text)
    first_word = len(text) - len(text.lstrip())
    stack: tuple[str, ...] = ()
    begin = passed = 0
    for place, is_speaker in breaks:
        if place <= first_word:
            continue
        while passed < len(marks) and marks[passed].start < place:
            stack, begin = after_mark(stack, marks[passed]), marks[passed].end
            passed += 1
        if stack or (passed < len(marks) and marks[passed].is_closing):
            continue  # inside a thought, which the prompt may have opened
        if is_speaker or commits(text[begin:place]):
            return place
        begin = place
    return len(text)
