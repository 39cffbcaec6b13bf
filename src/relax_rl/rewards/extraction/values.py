"""The value in what follows "the answer is": a formula between dollar signs, a number with words, a whole sentence.

Words are dropped only where they cannot change what is said. ``12 apples that are left`` is 12; ``12 faux`` stays as it
is, and the verifier reads all of it.
"""

from __future__ import annotations

import re

from relax_rl.rewards.extraction.languages import COPULA, DENIAL, PARTICLE

__all__ = ["has_mathematics", "is_denied", "predicate", "sentence", "value_at_head"]

_DELIMITED = (("$$", "$$"), ("\\(", "\\)"), ("\\[", "\\]"), ("$", "$"))
# Possessive: with a step back for every digit, a megabyte of them would take the square of that.
_CURRENCY = re.compile(r"\$\s?\d[\d,]*+(?:\.\d++)?+(?![^$\n]*\$)", re.ASCII)
_SENTENCE_END = re.compile(
    r"[.!?;](?=\s|$|[\"'\u201d*_)]+(?:\s|$))|[\u3002\uff01\uff1f\uff1b]|\n"
    r"|(?<=[^\s,])[,\uff0c](?=\s*(?:(?<=\s)(?:so|because|since|which|as)\b|\u56e0\u4e3a|\u6240\u4ee5))"
    r"|\.\s+(?=I hope)"
)
_FILLER = re.compile(
    r"(?:(?:therefore|thus|hence|simply|just|given by|equal to|equals|clearly|then|exactly|indeed|also|still|option"
    r"|choice|as follows|donc|alors|ainsi|por lo tanto|entonces|pues"
    r"|daher|somit|folglich|quindi|portanto)\b[,: \t]*)+(?=[\d$\\(\[{*A-Z-])",
    re.IGNORECASE,
)
_NUMBER = r"[-+]?(?:\d{1,3}(?:,\d{3})+|\d+)?(?:\.\d+|(?<=\d))(?:/\d+)?(?:\s?\\?%)?"
_NUMBER_THEN_WORDS = re.compile(rf"((?:\\?\$)?\s?{_NUMBER})(?:\s+|(?=[^\W\d_])(?![A-Za-z]))(?!and\b|or\b)(?=[^\W\d_])")
# `12 is not the answer`, `12 at most`; but `12, not 13` states 12.
_BOUNDED = re.compile(
    r"\s*(?:(?:is|are|was|were)\s+)?(?:plus|minus|times|at\s+(?:least|most)|or\s+(?:more|less|fewer|so)"
    r"|to\s|and\s|or\s|if\b)",
    re.IGNORECASE,
)
_SECOND_VALUE = re.compile(
    r"(?:^|\W)(?:or|and|to|versus|vs)\s+(?:maybe\s+|perhaps\s+|possibly\s+)?[$\\(]*[-+]?\d", re.IGNORECASE
)
_WORDS_AFTER = re.compile(
    r"(?:of|per|in|for|that|which|who|from|on|at|each|every|left|remaining|total|altogether|because|since|so|when|after"
    r"|before|by|with|people|men|women|children|mice|geese|sheep|fish|deer|dice|feet|teeth|percent|male|female"
    r"|(?:more\s+|extra\s+|different\s+|possible\s+|distinct\s+|whole\s+|full\s+)[a-z]+s|square|cubic|student|person|child"
    r"|(?:is|are|was)\s+(?:the|our|my)\s+(?:final\s+|correct\s+|right\s+)?(?:\w+est|answer|number|value|total|sum|result"
    r"|maximum|minimum|least|most|only|required|solution|probability|area|volume|length|perimeter))\b",
    re.IGNORECASE,
)
_UNIT = re.compile(
    r"(?:[kcmd]?m|[km]?g|[mc]?l|lb|oz|ft|in|yd|mi|mph|km/h|hr|h|min|sec|s|hour|minute|second|week|month|dollar|euro|pound"
    r"|degree|radian|gallon|lit(?:er|re)|met(?:er|re)|(?:kilo|centi|milli)met(?:er|re)|(?:kilo)?gram|inch|foot|yard|mile"
    r"|acre|unit|dozen|hundred|thousand|million|billion|USD|EUR|Meter|Euro|Stunden|Minuten|Sekunden|Tage|Jahre|Grad|Prozent)\b"
)
_PLURAL = re.compile(
    r"(?!(?:menos|moins|lejos|plus|minus|less|fails|lies|misses|exceeds|differs|always|perhaps|besides|sometimes|antes|sans"
    r"|jamais|pas|alors|dos|deux|tres|seis|apres|mas|is|was|does|has|versus|as|this|thus|yes|times)\b)"
    r"[a-z]{2,}s\b"
)
_JOINED_FORMULA = re.compile(
    r"\s*(?:[,;\u3001\uff0c]\s*(?:and|or)?|and|or|und|oder|et|ou|y|o|e|\u548c|\u6216|/)\s*[$\\(\[{]*[-+]?(?:\d|\\|\$)",
    re.IGNORECASE,
)
_DENIED_AFTER = re.compile(r"\s*(?:(?:is|are|was|were|est|ist|es)\b\s*)?", re.IGNORECASE)
_MATHEMATICS = re.compile(r"\d|[$\\]|(?<![^\W_'])[B-HJ-Zb-z](?![^\W_])|\bA\b(?!\s+[a-z])|[=<>\u2264\u2265^]")
_HEAD = re.compile(
    r"[-+$\\(\[{.|\d\u00b1\u2212\u221a\u03c0\u221e\u2205*_`\"]|[A-Za-z](?![A-Za-z])|(?:sqrt|pi|log|ln|sin|cos|tan|exp)\b"
)
_BOUND_WORDS = re.compile(
    r"\b(?:at\s+(?:least|most)|(?:less|more|fewer|greater|larger|smaller|higher|lower|other)\s+than|different\s+from|between"
    r"|except|instead\s+of|up\s+to|\w+\s+bound)\b|\\[lc]?dots|\.\.\.|\u2026",
    re.IGNORECASE,
)
_SUBJECT = re.compile(r"[^\\!?<>\u2260]*")
_NAMED = re.compile(r"\$?[A-Za-z]\$?\s+(?:is|are|equals?|est|es|ist)\b")
_CLAIM = re.compile(r"(?:\b(?:is|are|was|equals?)\b|(?<![<>!=\\:])=)\s*(?:equal to\s*)?[$\\({\[-]*\d", re.IGNORECASE)
_QUOTES = " \t\r\n*_`\"'\u201c\u201d\u2018\u2019"
# `- 12` on a line of its own is an item of a list, not a negative number.
_BULLET = re.compile(r"\A[^\S\n]*\n\s*[-*\u2022]\s+")
_LEAD = f"{_QUOTES}:\uff1a"
_ENDS = f"{_QUOTES}.,:;!\u3002\uff0c\uff1a\uff1b\u2713\u2714\u2705"


def has_mathematics(text: str) -> bool:
    """Whether a text has a number, a formula or a single letter, which prose about an answer has not."""
    return _MATHEMATICS.search(text) is not None


def is_denied(text: str) -> bool:
    """Whether a text has a word that denies, in one of the languages of the table."""
    return DENIAL.search(text) is not None


def sentence(tail: str) -> tuple[str, bool]:
    """(the sentence at the head of a text, whether it is a question)."""
    end = _SENTENCE_END.search(tail)
    if end is None:
        return tail, False
    return tail[: end.start()], end[0][0] in "?\uff1f"


def value_at_head(tail: str, *, is_prose: bool = True) -> str:
    """The answer at the head of the text that follows "answer is".

    Args:
        is_prose: words behind a number may go on with the sentence; what stands in a tag is the answer and no more.
    """
    tail = _BULLET.sub("", tail).lstrip(_LEAD)
    filler = _FILLER.match(tail)
    tail = tail[filler.end() :].lstrip(_QUOTES) if filler else tail
    formula = _formula(tail)
    if formula is not None:
        return formula
    text = sentence(tail)[0].rstrip(_ENDS)
    if is_prose and (_HEAD.match(text) is None or _NAMED.match(text)):
        return predicate(text) or text
    return _without_words(text, is_prose)


def predicate(text: str) -> str | None:
    """The value in a sentence that is an answer: ``34`` of ``The largest $n$ is 34``.

    None where there is none to take: the sentence denies or bounds something, or claims more than one value.
    """
    found = [match for match in COPULA.finditer(text) if not _is_in_formula(text, match.start())]
    if not found or is_denied(text) or _BOUND_WORDS.search(text):
        return None
    words = [match for match in found if match[0][0] != "="]
    verb = words[-1] if words else found[0]
    before, after = text[: verb.start()], text[verb.end() :].strip(_QUOTES)
    if _CLAIM.search(before) or _SECOND_VALUE.search(after) or (not words and not _SUBJECT.fullmatch(before)):
        return None
    if _HEAD.match(after) is None and (" " in after or not after):
        return None
    formula = _formula(after)
    return formula if formula is not None else _without_words(after.rstrip(_ENDS), True) or None


def _is_in_formula(text: str, place: int) -> bool:
    return text.count("$", 0, place) % 2 == 1 or text.count("\\(", 0, place) > text.count("\\)", 0, place)


def _formula(tail: str) -> str | None:
    """The formula that a text begins with, unless the sentence goes on to deny it or to name another."""
    if _CURRENCY.match(tail):
        return None
    for opening, closing in _DELIMITED:
        if not tail.startswith(opening):
            continue
        end = tail.find(closing, len(opening))
        while end > 0 and tail[end - 1] == "\\" and closing == "$":  # `$\$36$`
            end = tail.find(closing, end + 1)
        if end < 0:
            continue
        rest = sentence(tail[end + len(closing) :])[0]
        if _JOINED_FORMULA.match(rest) or _denies_before(rest):
            return None
        return tail[len(opening) : end].strip().rstrip(".,;")
    return None


def _denies_before(rest: str) -> bool:
    """Whether what follows a value denies or bounds it; ``12, not 13`` does not."""
    verb = _DENIED_AFTER.match(rest)
    start = verb.end() if verb else 0
    return DENIAL.match(rest, start) is not None or _BOUNDED.match(rest) is not None


def _without_words(text: str, is_prose: bool) -> str:
    found = _NUMBER_THEN_WORDS.match(text)
    if found is None:
        return text
    number, tail = found[1].strip(), text[found.end() :]
    particle = PARTICLE.fullmatch(tail)
    if particle is not None:
        return number
    if not is_prose or is_denied(tail.partition(",")[0]) or _BOUNDED.match(tail) or _SECOND_VALUE.search(tail):
        return text
    return number if _goes_on(tail) else text


def _goes_on(tail: str) -> bool:
    """Whether the words behind a number name what is counted, or go on with the sentence."""
    return _WORDS_AFTER.match(tail) is not None or _UNIT.match(tail) is not None or _PLURAL.match(tail) is not None
