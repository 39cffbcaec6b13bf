r"""What an answer says in words: nothing at all (``no solution``), a denial, a condition behind a value.

A reader that looks for the value alone takes ``12 \text{ is wrong}`` and ``1, 2, \ldots`` for the value in them. Pure
text work, linear in the length of the text.
"""

from __future__ import annotations

import re

from relax_rl.rewards.mathematics.grammar.brackets import pieces

__all__ = ["bare_condition", "meaning_of", "qualifies", "without_condition", "without_preamble", "without_remark"]

_WRAPPED = re.compile(r"\\(?:text|mbox|textbf|textit|textrm|mathrm|mathbf)\s*\{([^{}]*)\}")
_OF_WHAT = r"(?:\s+(?:real|integer|such|positive|negative|valid|possible|other|complex|rational|of|for|the|x|n))*"
_THINGS = r"(?:\s+(?:solutions?|roots?|values?|numbers?|integers?|answers?|zeros|pairs?|triples?|functions?|points?))"
_MEANINGS = {
    "empty set": rf"(?:there\s+(?:is|are)\s+)?no{_OF_WHAT}{_THINGS}(?:\s+exists?)?(?:\s+to\s+the\s+equation)?|none"
    r"|(?:the\s+)?empty\s+set|nothing|\\emptyset|\\\{\s*\\?\}|has\s+no\s+(?:real\s+)?solutions?",
    "infinitely many": rf"(?:there\s+are\s+)?infinitely\s+many{_OF_WHAT}{_THINGS}?"
    rf"|an?\s+infinite\s+number(?:\s+of)?{_OF_WHAT}{_THINGS}?|infinite\s+solutions",
    "all real numbers": r"(?:all|any|every)\s+reals?(?:\s+(?:numbers?|values?))?(?:\s+(?:of\s+)?x)?"
    r"|\\mathbb\s*\{?\s*R\s*\}?"
    r"|(?:all|any)\s+(?:of\s+)?\\mathbb\s*\{?\s*R\s*\}?|\(\s*-\\infty\s*,\s*\+?\\infty\s*\)|\\R",
    "undefined": r"undefined|(?:the\s+limit\s+)?does\s+not\s+exist|dne|not\s+defined",
}  # fmt: skip
_PHRASES = {meaning: re.compile(pattern, re.IGNORECASE) for meaning, pattern in _MEANINGS.items()}
_MAX_PHRASE_CHARS = 80

# Closed classes: words that deny or bound what stands beside them, in the languages of the Latin alphabet that models
# write most, and the verb "to be", which makes a sentence of a label. Nouns and units are none of them.
_NEGATION = (
    r"not|no|non|never|neither|nor|none|cannot|can'?t|isn'?t|aren'?t|wasn'?t|doesn'?t|don'?t|won'?t|wrong|incorrect|false"
    r"|invalid|untrue|except|unless|without|reject(?:ed)?|excluded?|impossible|mistake|error"
    r"|nicht|kein|keine|keinesfalls|nie|niemals|falsch|pas|jamais|faux|fausse|aucun|aucune|nunca|jam[aá]s|falso|falsa"
    r"|incorrecto|incorrecta|errado|errada|n[aã]o|nenhum|nessuno|nessuna|sbagliato|sbagliata|errato|niet|geen|nooit|fout"
    r"|onjuist|inte|aldrig|ikke|ikkje|fel|feil|forkert|falskt|v[aä][aä]rin|vale|nie|nigdy|[zź][lł]e|b[lł][eę]dn[aey]"
    r"|fa[lł]szyw[aey]|nem|soha|hib[aá]s|rossz|hamis|niciodat[aă]|gre[sș]it|nikdy|nen[ií]|nije|nikad|netočno|pogre[sš]no"
    r"|[sš]patn[eě]|nespr[aá]vn[eaey]|nepravda|de[gǧğ]il|yanl[iı][sş]|asla|hay[iı]r|tidak|bukan|jangan|salah|hindi|mali|kh[oô]ng"
    r"|sai|nuk|asnj[eë]|hapana|sio|uongo|nincs|nincsen|sem|deyil|emas|[zż]aden|[zž][aá]dn[yý]|ingen|inga|ingenting|nada|nulla|niente|ningun[oa]|ning[uú]n|nenhuma|nessun|rien|nimic|nic|ni[sš]ta|nič|mik[aä][aä]n|hi[cç]bir|walang|tiada|ch[aẳ]ng|aldri|ekki|engin|n[ií]l|ddim|cap|gens|nav|nepareizi|n[eė]ra|neteisingai|nahi|galat"
)
# What is done to the number before it, or a number beside it: `12 times two` is not 12.
_ARITHMETIC = (
    r"times|squared|cubed|factorial|doubled|tripled|halved|twice|thrice|divided|multiplied|mod|modulo"
    r"|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|(?:thir|four|fif|six|seven|eigh|nine)teen"
    r"|(?:twen|thir|for|fif|six|seven|eigh|nine)ty"
)
_DOUBT = r"fails?|failed|nope|nah|unknown|unsure|undecided"
_COPULA = r"is|are|was|were|be|ist|sind|est|sont|es|son|[éè]|s[aã]o|[aä]r|er|zijn|jest|van|este|je|jsou|on|adalah"
# As short as a product of letters is: words only between spaces or braces.
_SHORT = r"ni|ej|ei|nu|ne|jo|si|ez|mai"
_BOUND = (
    r"at\s+(?:least|most)|(?:more|less|fewer|greater|larger|smaller|higher|lower)\s+than"
    r"|or\s+(?:more|less|fewer|greater|larger|smaller|higher|lower|above|below|so)|plus|minus"
    r"|(?:approximately|about|almost|nearly)\s+(?:not)"
    r"|mindestens|h[oö]chstens|au\s+(?:moins|plus)|(?:al|por\s+lo)\s+menos|como\s+m[aá]ximo|almeno|al\s+massimo|minst|tenminste"
)
_QUALIFIED = re.compile(
    rf"(?<![^\W\d_])(?<!\\)(?:{_NEGATION}|{_BOUND}|{_ARITHMETIC}|{_DOUBT})(?![^\W\d_])"
    rf"|(?:(?<=[\s{{])|^)(?:{_SHORT})(?=[\s}}]|$)"
    r"|\\(?:not|neg|lnot|nless|ngtr|nleq|ngeq|notin)(?![A-Za-z])|[不没沒非無无错錯誤未]|ない|[¬≮≯≰≱∉]",
    re.IGNORECASE,
)
_SENTENCE = re.compile(rf"(?<=[\d}})])\s*(?:\\text\s*\{{)?\s*(?:{_COPULA})(?![^\W\d_])", re.IGNORECASE)
_ELLIPSIS = re.compile(r"\\[lcdv]?dots[a-z]?(?![A-Za-z])|\.\.\.|[\u2026\u22ef]")

_PREAMBLE = re.compile(
    r"\s*(?:\\text\s*\{\s*)?(?:the\s+|our\s+)?(?:final\s+|correct\s+|required\s+)?answers?\s*(?:is|are|:|=)\s*:?\s*(?P<close>\})?",
    re.IGNORECASE,
)
_CONDITION = (
    r"[,(]?\s*\\(?:text|mbox|textrm)\s*\{\s*[,(]?\s*(?:for|where|with|when)(?![A-Za-z])"
    r"|,?\s*(?<![A-Za-z\\])(?:for|where|with)(?![A-Za-z])"
    r"|,\s*(?:\\(?:text|mbox)\s*\{\s*(?:and|with)\s*\}\s*)?[a-zA-Z]\s*\\in\s*\\?(?:math(?:bb|bf)\s*\{?|Bbb\s*)?[ZN](?![A-Za-z])"
    r"|,\s*\\forall(?![A-Za-z])|,\s*[a-z]\s*(?:\\text\s*\{)?\s*(?:is\s+|being\s+)?any?\s+(?:\w+\s+)?integer"
)
_CONDITION_WORDS = re.compile(
    r"\\(?:text|mbox|textrm)\s*\{|(?<![A-Za-z\\])(?:for|where|with|when|all|any|every)(?![A-Za-z])"
)
_BOUNDED = re.compile(
    r"(?:,|\(|\\text\s*\{\s*\(?)\s*(?P<letter>[a-z])\s*(?:\\(?:ge|le|ne)(?![A-Za-z])|[<>])[^,()]*\)?\s*\}?\s*$"
)
_RELATION = re.compile(r"\\(?:ge|le|ne|in)(?![A-Za-z])|[<>]")
_WORDS = re.compile(r"[A-Za-z\s\\{}().$'-]*")
_BOUND_TEXT = re.compile(
    r"[A-Za-z\s\\{}()$]*(?:-?[\w.]+\s*(?:\\le(?![A-Za-z])|<)\s*)?[A-Za-z]\w*(?:\s*_\s*\{?\w+\}?)?\s*(?:\\(?:ge|le|ne|in)(?![A-Za-z])|[<>])"
    r"\s*(?:[-+]?[\d.]+|[A-Za-z]\w*|\\pi|\\?(?:math(?:bb|bf)\s*\{?|Bbb\s*)?\s*[A-Z]\s*\}?(?:\s*[_^]\s*\{?\s*[+*\\a-z\d]*\s*\}?)?)"
    r"[A-Za-z\s\\{}()$.]*",
    re.ASCII,
)
_IN_PARENTHESES = re.compile(
    r"\(\s*[a-zA-Z](?:\s*,\s*[a-zA-Z])*\s*\\in\s*\\?(?:math(?:bb|bf)\s*\{?)?\s*[ZN]\s*\}?\s*\)\s*$"
)
_REMARK = re.compile(r"(?<=\S)\s*\\(?:text|mbox)\s*\{\s*\([A-Za-z ,]+\)\s*\}\s*$")
_FIXED = re.compile(r"(?<![<>\\])=\s*-?\d")


def meaning_of(text: str) -> str:
    """What a tidied phrase means: a key of the table above; "" if it is none."""
    if len(text) > _MAX_PHRASE_CHARS:
        return ""
    plain = " ".join(_WRAPPED.sub(r"\1", text).split()).rstrip(".")
    return next((meaning for meaning, phrase in _PHRASES.items() if phrase.fullmatch(plain)), "")


def qualifies(gold: str, answer: str) -> bool:
    """Whether the answer denies, bounds or leaves open what it says, in a way in which the gold answer does not."""
    if set(map(str.casefold, _QUALIFIED.findall(answer))) - set(map(str.casefold, _QUALIFIED.findall(gold))):
        return True
    if _SENTENCE.search(answer) is not None and _SENTENCE.search(gold) is None:
        return True
    return _ELLIPSIS.search(answer) is not None and _ELLIPSIS.search(gold) is None


def without_preamble(text: str) -> str:
    r"""``\text{The answer is } 42`` as ``42``."""
    found = _PREAMBLE.match(text)
    if found is None or found.end() == len(text):
        return text
    if "\\text" not in found.group():
        return text[found.end() :]
    return text[found.end() :] if found["close"] else "\\text{" + text[found.end() :]


def without_remark(text: str) -> str:
    r"""``42 \text{ (approximately)}`` as ``42``."""
    return _REMARK.sub("", text)


def bare_condition(condition: str) -> str:
    r"""``n \ge 1`` of ``\text{ for } n \ge 1``."""
    return _CONDITION_WORDS.sub(" ", condition).strip(" ,;(){}")


def without_condition(text: str) -> tuple[str, str]:
    r"""The value and its condition: ``2n-1`` and ``\text{ for } n \ge 1``; a value for one case only keeps it."""
    if tail := _IN_PARENTHESES.search(text):
        return text[: tail.start()], tail.group()
    bounded = _BOUNDED.search(text)
    if bounded and bounded.start() > 1 and _is_formula(text[: bounded.start()], bounded["letter"]):
        return text[: bounded.start()].strip(), bounded.group()
    parts, marks = pieces(text, _CONDITION)
    if not marks or not parts[0]:
        return text, ""
    condition = text[text.index(marks[0]) :]
    return (text, "") if _FIXED.search(condition) or not _is_condition(condition) else (parts[0], condition)


def _is_condition(text: str) -> bool:
    """Whether all of a condition is words or bounds: `for n \\ge 1, 7` says another value beside it."""
    parts = re.split(r",|(?<![A-Za-z])and(?![A-Za-z])", _WRAPPED.sub(r" \1 ", text).strip(" ,;(){}."))
    return all(_WORDS.fullmatch(part) or (_RELATION.search(part) and _BOUND_TEXT.fullmatch(part)) for part in parts)


def _is_formula(head: str, letter: str) -> bool:
    """Whether a bound on a letter behind a text is one of a formula in it, and no answer of its own."""
    is_used = re.search(rf"(?<![A-Za-z\\]){letter}(?![A-Za-z])", head) is not None
    return is_used and not _RELATION.search(head) and len(head.strip()) > 1
