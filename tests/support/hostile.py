"""Answers that are wrong by construction: a gold answer with something beside it that makes another statement of it."""

from __future__ import annotations

import random
import unicodedata
from collections.abc import Callable

GOLDS = (
    *("\\frac{1}{2}", "\\frac{22}{7}", "0.5", "50\\%", "12", "-3", "3\\sqrt{2}", "\\pi", "2^{10}", "x^2+1", "x=5"),
    *("(1,2]", "\\{1,2\\}", "5 \\text{ cm}", "1,234"),
)  # fmt: skip
_OTHERS = ("7", "13", "\\frac{1}{3}", "\\frac{5}{9}", "0.7", "2\\sqrt{3}", "19", "x^3", "101", "\\frac{355}{113}")
_DENIALS = (
    *("is wrong", "is not it", "is not the answer", "is never right", "is false", "is incorrect", "or more", "or less"),
    *("not", "no", "isn't", "wrong", "at least", "at most", "falsch", "ist nicht richtig", "faux", "不是", "错误"),
    "plus c",
)  # fmt: skip
_FIRST_WORDS = (
    "not",
    "no",
    "never",
    "at least",
    "less than",
    "more than",
    "wrong:",
    "anything except",
    "不是",
    "neither",
)
_RELATIONS = (
    "\\ne ",
    "\\neq ",
    "\\not= ",
    "\u2260",
    "<",
    ">",
    "\\le ",
    "\\ge ",
    "\\neg ",
    "\\lnot ",
    "\\not\\in ",
    "!=",
)
_BETWEEN = (
    "?",
    "\\to",
    "\\mapsto",
    "\\Rightarrow",
    "|",
    "&",
    "\\\\",
    "@",
    "#",
    "\\vs",
    "->",
    "=>",
    "\\mid",
    ":=",
    "\u2192",
)
_TOWERS = ("9^{9^{9^{9}}}", "((((9!)!)!)!)!", "\\sqrt{9^{9^{9}}}", "10^{10^{10}}", "x^{9^{9^{9}}}")


_BLOCKS = ((0x2600, 0x27BF), (0x4E00, 0x9FFF), (0x1F300, 0x1FAFF), (0x0400, 0x0530), (0x0591, 0x05EA), (1, 8))


def _junk(rng: random.Random) -> str:
    """Visible characters of other scripts, symbols and controls; none that stands for a space, a digit or a sign."""
    while True:
        point = rng.randrange(*rng.choice(_BLOCKS))
        if unicodedata.category(chr(point)) in {"So", "Lo", "Ll", "Lu", "Cc"}:
            return chr(point)


def _other(rng: random.Random, gold: str) -> str:
    return rng.choice([text for text in _OTHERS if text != gold])


def _number(rng: random.Random, gold: str) -> str:
    return rng.choice([text for text in _OTHERS if text != gold and "x" not in text])


def _beside(rng: random.Random, gold: str) -> str:
    before, after = ("".join(_junk(rng) for _ in range(rng.randint(0, 3))) for _ in range(2))
    return f"{before}{gold}{after or _junk(rng)}"


def _among(rng: random.Random, gold: str) -> str:
    letters = [_junk(rng) for _ in range(rng.randint(2, 40))]
    return "".join([*letters, gold, *letters[::-1]])


def _chain(rng: random.Random, gold: str) -> str:
    return "=".join([*(_number(rng, gold) for _ in range(rng.randint(1, 11))), gold])


def _named_chain(rng: random.Random, gold: str) -> str:
    return f"x={_number(rng, gold)}={gold.removeprefix('x=')}"


def _denied(rng: random.Random, gold: str) -> str:
    form = rng.choice(("{} \\text{{ {} }}", "{} {}", "{},\\ \\text{{{}}}"))
    return form.format(gold, rng.choice(_DENIALS))


def _denied_before(rng: random.Random, gold: str) -> str:
    return rng.choice(("\\text{{{} }} {}", "{} {}")).format(rng.choice(_FIRST_WORDS), gold)


def _related(rng: random.Random, gold: str) -> str:
    return f"{rng.choice(_RELATIONS)}{gold}"


def _two(rng: random.Random, gold: str) -> str:
    pair = [gold, _other(rng, gold)]
    rng.shuffle(pair)
    return f" {rng.choice(_BETWEEN)} ".join(pair)


def _tower(rng: random.Random, gold: str) -> str:
    return rng.choice(("{1}", "{0}+{1}", "{1}-{0}", "{0},{1}")).format(gold, rng.choice(_TOWERS))


def _long(rng: random.Random, gold: str) -> str:
    return f"{rng.choice(('x', '1', '(', _junk(rng))) * 2001}{gold}"


def _open(rng: random.Random, gold: str) -> str:
    return rng.choice(("{}, \\ldots", "{}, {}, \\dots", "\\cdots {}")).format(gold, _other(rng, gold))


KINDS: tuple[Callable[[random.Random, str], str], ...] = (
    _beside, _among, _chain, _named_chain, _denied, _denied_before, _related, _two, _tower, _long, _open
)  # fmt: skip


def wrong_pair(rng: random.Random) -> tuple[str, str, str]:
    """(kind, gold answer, completion)."""
    make, gold = rng.choice(KINDS), rng.choice(GOLDS)
    shape = rng.choice(("\\boxed{%s}", "\\boxed{%s}", "So \\boxed{%s}.", "<answer>%s</answer>"))
    return make.__name__.strip("_"), gold, shape.replace("%s", make(rng, gold))
