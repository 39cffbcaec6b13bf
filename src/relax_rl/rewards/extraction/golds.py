"""Gold answers as data sets have them, read by the reader of completions: boxed, stated, whole solutions, any type.

A bare gold answer (mathematics or words without a sentence around them) stays exactly as it is.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from numbers import Integral, Rational, Real
from typing import cast

from relax_rl.rewards.extraction.reader import read_by_default

__all__ = ["Gold", "read_gold", "stated_forms", "written_forms"]

# One of these is in every gold answer that is not bare.
_NOT_BARE = ("box", "nswer", "NSWER", "####", "**", "<|", "</", "</s>")
_BOLD = re.compile(r"\s*\*\*([^*]+)\*\*\s*")
_WORDS = re.compile(r"(?<![\\A-Za-z])[A-Za-z]{2,}")
_COMMAND = re.compile(r"\\[A-Za-z]+|\$[^$]*\$|\\\(.*?\\\)|\\\[.*?\\\]", re.DOTALL)
# Prose of this length is a solution; the longest gold answers in words of the benchmarks have some 15 words.
_SOLUTION_WORDS = 25
_MAX_INTEGER = 1e16


@dataclass(frozen=True)
class Gold:
    """A gold answer as text.

    Attributes:
        text: the answer; None if there is none to read.
        reason: why there is none, as half a sentence for people.
    """

    text: str | None
    reason: str = ""


def read_gold(gold: object) -> Gold:
    """The answer in a gold value of any type.

    Numbers are written plainly (4.0 is ``4``), a list is its members with commas between them. Text is read as a
    completion is, if it boxes, tags, marks or states its answer; else it is the answer.
    """
    match gold:
        case str():
            return _in_text(gold)
        case None:
            return Gold(None, "the gold answer is None")
        case bool():
            return Gold(str(gold))
        case Integral():
            return Gold(str(int(gold)))
        case Rational():
            return Gold(f"{int(gold.numerator)}/{int(gold.denominator)}")
        case Decimal() if gold.is_finite():
            return Gold(str(gold))
        case Real() | Decimal():
            return _number(float(gold))
        case Mapping():
            keys = ", ".join(str(key) for key in list(cast("Mapping[object, object]", gold))[:5])
            return Gold(None, f"the gold answer is a mapping with the keys {keys}; give one of its values")
        case bytes():
            return Gold(None, "the gold answer is bytes; decode it to text")
        case Iterable():
            return _members(list(cast("Iterable[object]", gold)))
        case _:
            return Gold(None, f"the gold answer is of the type {type(gold).__name__}, which is neither text nor number")


def written_forms(gold: str) -> tuple[str, ...]:
    """Completions that state a gold answer, for a trial of the verifier: boxed, tagged and in a sentence."""
    return (
        f"So it is $\\boxed{{{gold}}}$.",
        f"<answer>{gold}</answer>",
        f"Work.\n\nFinal Answer: The final answer is ${gold.strip().strip('$')}$. I hope it is correct.",
    )


def stated_forms(gold: str, policy: str) -> tuple[str, ...]:
    """`written_forms` of a gold answer of the data, as far as a policy reads them; boxed alone if it is unreadable."""
    text = read_gold(gold).text
    boxed, *others = written_forms(gold if text is None else text)
    return (boxed, *others) if text is not None and policy in {"default", "lenient"} else (boxed,)


def _number(value: float) -> Gold:
    if not math.isfinite(value):
        return Gold(None, f"the gold answer is {value}, which is no number")
    return Gold(str(int(value)) if value.is_integer() and abs(value) < _MAX_INTEGER else repr(value))


def _members(members: list[object]) -> Gold:
    if not members:
        return Gold(None, "the gold answer is an empty list")
    read = [read_gold(member) for member in members]
    unread = next((one for one in read if one.text is None), None)
    return Gold(", ".join(one.text or "" for one in read)) if unread is None else unread


def _in_text(gold: str) -> Gold:
    if not gold.strip():
        return Gold(None, "the gold answer is empty")
    if gold.isascii() and not any(part in gold for part in _NOT_BARE):
        return _bare(gold)
    bold = _BOLD.fullmatch(gold)
    if bold:
        return Gold(bold[1].strip())
    found = read_by_default(gold, is_truncated=False)
    if found.text is not None and found.how in {"boxed", "tagged", "stated"}:
        return Gold(found.text) if found.text.strip() else Gold(None, "the gold answer is empty")
    if found.how in {"unclosed box", "unclosed tag", "unclosed thought", "retracted"}:
        return Gold(None, f"the gold answer has no answer to read: {found.how}")
    return _bare(gold)


def _bare(gold: str) -> Gold:
    if len(_WORDS.findall(_COMMAND.sub(" ", gold))) > _SOLUTION_WORDS:
        return Gold(None, "the gold answer is prose that neither boxes nor states an answer")
    return Gold(gold)
