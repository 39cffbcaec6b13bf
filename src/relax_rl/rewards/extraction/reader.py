"""Which part of a text is its answer, as this package reads it: the last statement that the text commits to.

Only the first turn counts, and in it what follows the thinking. There, the last box or tag is the answer, unless a
later statement replaces it. A text without either may state its answer, or end with it in bold or in a formula of its
own. Every step is linear in the length of the text.
"""

from __future__ import annotations

import re
from dataclasses import replace

from relax_rl.rewards.extraction.boxes import is_retracted, last_box, restored
from relax_rl.rewards.extraction.endings import bold_at_end, display_at_end, is_alone, last_number
from relax_rl.rewards.extraction.finding import Commitment, Extraction
from relax_rl.rewards.extraction.statements import last_statement, later_statement, read_inside
from relax_rl.rewards.extraction.tags import last_tag
from relax_rl.rewards.extraction.thoughts import after_thinking
from relax_rl.rewards.extraction.turns import first_turn
from relax_rl.rewards.extraction.values import has_mathematics

__all__ = ["read_by_default", "read_leniently", "read_strictly"]

_LETTER = re.compile(r"(?:\\text(?:bf)?\{)?\(?([A-Z])\)?\}?")


def read_strictly(completion: str, is_truncated: bool) -> Extraction:
    """The last box, and nothing else."""
    text, _ = _graded(completion)
    if text is None:
        return Extraction(None, "unclosed thought")
    box = last_box(text)
    if box is None:
        return Extraction(None, "no answer")
    if box.found.text is not None and is_retracted(text, box.end):
        return Extraction(None, "retracted")
    return box.found


def read_by_default(completion: str, is_truncated: bool) -> Extraction:
    """The last committed answer: box, tag, statement, or the bold value or formula that ends the text."""
    return _read(completion, is_truncated, is_lenient=False)


def read_leniently(completion: str, is_truncated: bool) -> Extraction:
    """As by default, and the last number of a text that commits to nothing."""
    return _read(completion, is_truncated, is_lenient=True)


def _read(completion: str, is_truncated: bool, is_lenient: bool) -> Extraction:
    text, was_cut = _graded(completion)
    if text is None:
        return Extraction(None, "unclosed thought")
    marked = _marked(text)
    if marked is not None:
        return _with_what_follows(text, marked)
    found = _unmarked(text)
    if found is None and is_lenient:
        found = last_number(text)
    if found is None:
        return Extraction(None, "no answer")
    if is_truncated and not was_cut and not text[found.end :].strip(" \t\r\n*$"):
        return Extraction(None, "truncated")
    return found.found


def _graded(completion: str) -> tuple[str | None, bool]:
    """(what follows the thinking in the first turn, whether a further turn was cut off)."""
    turn, was_cut = first_turn(restored(completion), _commits)
    return after_thinking(turn), was_cut


def _commits(text: str) -> bool:
    marked = _marked(text)
    if marked is not None:
        return marked.found.text is not None
    found = _unmarked(text)
    return found is not None and found.found.how != "display" and has_mathematics(found.found.text or "")


def _marked(text: str) -> Commitment | None:
    """The last box or tag, whichever begins later."""
    box, tag = last_box(text), last_tag(text)
    if box is None or (tag is not None and tag.start > box.start):
        return tag
    boxed = box.found.text
    if boxed is None or box.found.last is not None or "nswer" not in boxed:
        return box
    return replace(box, found=replace(box.found, text=_announced_inside(boxed)))


def _announced_inside(boxed: str) -> str:
    r"""``42`` of ``\text{The answer is } 42``."""
    return read_inside(re.sub(r"\\(?:text|mbox|textbf|mathrm)\s*\{([^{}]*)\}", r"\1", boxed))


def _with_what_follows(text: str, marked: Commitment) -> Extraction:
    """A box or tag, or the statement after it that replaces it, or that names the letter of its option."""
    boxed = marked.found.text
    if boxed is None:
        return marked.found
    if not text[marked.end :].strip(" \t\r\n.$*)}\\"):
        return marked.found
    is_taken_back = is_retracted(text, marked.end)
    later = later_statement(text, marked.end, marked.found.last or boxed, is_corrected=is_taken_back)
    if later is None:
        return Extraction(None, "retracted") if is_taken_back else marked.found
    letter = _LETTER.fullmatch((later.found.text or "").strip())
    if letter and not is_taken_back and not _LETTER.fullmatch(boxed.strip()):
        return replace(marked.found, letter=letter[1])
    return later.found


def _unmarked(text: str) -> Commitment | None:
    """What a text without box and tag states, or ends with."""
    stated, bold = last_statement(text), bold_at_end(text)
    if stated is not None and is_retracted(text, stated.end):
        corrected = later_statement(text, stated.end, stated.found.text or "", is_corrected=True)
        stated = corrected or replace(stated, found=Extraction(None, "retracted"))
    if stated is None:
        return bold or display_at_end(text)
    if bold is not None and bold.start > stated.end and is_alone(text, bold):
        return bold
    return stated
