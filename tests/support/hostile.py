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
    *("n'est pas", "no es", "não é", "nem jó", "ei ole", "bukan", "nie", "yanlış", "salah", "niet juist"),
    *("не верно", "неверно", "ではない", "아니다", "non è", "è sbagliato", "είναι λάθος", "không đúng"),
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
    *(
        "nicht",
        "pas",
        "non",
        "nem",
        "ikke",
        "bukan",
        "kein",
        "не",
        "niet",
        "nunca",
        "jamais",
        "不等于",
        "아닌",
        "non è",
    ),
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
    *("oder", "ou", "или", "または", "или же", "o bien", "eller", "lub", "veya", "或", "und", "и", "vagy"),
)
_TOWERS = ("9^{9^{9^{9}}}", "((((9!)!)!)!)!", "\\sqrt{9^{9^{9}}}", "10^{10^{10}}", "x^{9^{9^{9}}}")

# A gold answer of each type, with answers of the same type that are wrong, and some of another type.
TYPED = {
    "tuple": (
        "(1,2)",
        ("(2,1)", "(1,3)", "(1,2,0)", "1", "\\{1,2\\}", "[1,2]", "y=1, x=2", "\\langle 2,1\\rangle", "2,1"),
    ),
    "point of roots": ("(\\sqrt{8}, 0)", ("(0, 2\\sqrt{2})", "(2\\sqrt{3}, 0)", "2\\sqrt{2}", "(2\\sqrt{2}, 0, 0)")),
    "list": ("1, -2, 7", ("1, -2", "1, 2, 7", "1, -2, 7, 8", "1, 1, -2, 7", "1", "(7,-2,1)", "1 or -2", "-2")),
    "set": ("\\{1,2\\}", ("\\{1\\}", "\\{1,2,3\\}", "\\{1,2,2\\}", "(1,2)", "\\{2,3\\}", "\\emptyset", "{1,3}")),
    "interval": (
        "[1,4)",
        ("(1,4)", "[1,4]", "(1,4]", "1<x<4", "1 \\le x \\le 4", "[1,5)", "x \\ge 1", "1,4", "[1,\\infty)"),
    ),
    "union": (
        "(-\\infty,-4)\\cup(3,\\infty)",
        ("x<-4", "x<-4 \\text{ or } x \\ge 3", "x<-4 \\text{ and } x>3", "(-4,3)", "x>-4 \\text{ or } x<3", "x \\ne 3"),
    ),
    "excluded": ("x \\ne 3", ("x=3", "x \\ne 4", "x > 3", "\\mathbb{R}", "(-\\infty,3)\\cup[3,\\infty)", "3")),
    "family": (
        "x=\\frac{\\pi}{4}+2k\\pi",
        (
            "\\frac{\\pi}{4}+k\\pi",
            "\\frac{\\pi}{4}",
            "\\frac{\\pi}{3}+2\\pi n",
            "\\pm\\frac{\\pi}{4}+2k\\pi",
            "2k\\pi",
            "\\frac{\\pi}{4}+2n\\pi, n \\in \\mathbb{N}",
            "\\frac{\\pi}{4}+4k\\pi",
        ),
    ),
    "equation": ("2x+4y-3=0", ("2x+4y+3=0", "y=\\frac{1}{2}x+\\frac{3}{4}", "0", "2x+4y-3", "2x-4y=3", "x=0")),
    "vector": (
        "\\langle 1,6 \\rangle",
        ("(6,1)", "\\langle 1,7\\rangle", "6\\mathbf{i}+\\mathbf{j}", "\\mathbf{i}-6\\mathbf{j}", "7", "\\{1,6\\}"),
    ),
    "matrix": (
        "\\begin{pmatrix}1&2\\\\3&4\\end{pmatrix}",
        ("\\begin{pmatrix}1&3\\\\2&4\\end{pmatrix}", "[[1,2],[4,3]]", "[[1,2,3,4]]", "(1,2,3,4)", "-2"),
    ),
    "named": ("p=5, q=2", ("p=2, q=5", "(2,5)", "2, 5", "p=5", "p=5, q=3", "q=5, p=2", "p=5, r=2", "7")),
    "named pairs": (
        "p=5,q=2;p=7,q=2",
        ("(5,2)", "(2,5),(2,7)", "p=5,q=2", "p=5,q=2;p=7,q=3", "(5,2),(7,3)", "5,2,7,2"),
    ),
    "quantity": (
        "6\\text{ km/h}",
        ("6 \\frac{\\text{m}}{\\text{s}}", "6\\text{ km}", "8 \\text{ km/h}", "6 \\text{ mph}"),
    ),
    "money": ("\\$5.50", ("\\$5.05", "5.50 \\text{ cents}", "55", "\\$550", "5.50 \\text{ euros}")),
    "time": ("8:34 \\text{ p.m.}", ("8:34 \\text{ a.m.}", "8:43", "9:34 \\text{ p.m.}", "834", "8.34")),
    "repeating": (
        "0.\\overline{8}",
        ("0.8", "0.88888888", "0.\\overline{4}", "0.0\\overline{8}", "8.\\overline{8}", "8"),
    ),
    "mixed": (
        "2\\frac{1}{2}",
        ("1", "2\\frac{1}{3}", "\\frac{21}{2}", "2 \\cdot \\frac{1}{2}", "-2\\frac{1}{2}", "2,\\frac{1}{2}"),
    ),
    "percent": ("12.5\\%", ("1.25\\%", "125\\%", "0.0125", "1250", "12.5\\% \\text{ more}+1")),
    "ratio": ("1:2:3", ("3:2:1", "1:2:4", "1:2", "(1,3,2)", "6")),
    "choice": (
        "\\text{(B)}\\ \\frac{3}{5}",
        ("C", "(C) \\frac{3}{5}", "(B) \\frac{2}{5}", "\\frac{2}{5}", "A, B", "B or C"),
    ),
    "empty": (
        "\\text{No solution}",
        ("0", "x=0", "\\{0\\}", "\\text{infinitely many}", "\\mathbb{R}", "\\text{one solution}"),
    ),
    "many": ("\\text{infinitely many}", ("\\emptyset", "\\text{no solution}", "1", "\\text{finitely many}")),
    "expression": (
        "x^2+2x+1",
        ("x**2+2*x-1", "(x-1)^2", "x^2+2x", "(x+1)^3", "|x^2+2x+1|+1", "y^2+2y+1", "x^2+2x+1+10^{-30}", "x^3=x^2+2x+1"),
    ),
    "constant": (
        "1-\\frac{1}{\\mathrm{e}}",
        ("1+\\frac{1}{e}", "1-e", "0.632120558828557678404476229838539", "1-exp(-2)", "\\frac{1}{e}", "1-\\frac{1}{E}"),
    ),
    "root": ("|x|", ("x", "-x", "\\sqrt{x}", "\\sqrt{x^2+10^{-20}}", "x^2")),
    "formula": (
        "2n-1 \\text{ for } n \\ge 1",
        ("2n+1", "2n-1 \\text{ for } n = 3", "2n-1 \\text{ for } n \\ge 2", "1-2n"),
    ),
}

_BLOCKS = ((0x2600, 0x27BF), (0x4E00, 0x9FFF), (0x1F300, 0x1FAFF), (0x0400, 0x0530), (0x0591, 0x05EA), (1, 8))


def _junk(rng: random.Random) -> str:
    """Visible characters of other scripts, symbols and controls; none that stands for a space, a digit or a sign, and
    no check mark, which says of an answer that it is right."""
    while True:
        point = rng.randrange(*rng.choice(_BLOCKS))
        if unicodedata.category(chr(point)) in {"So", "Lo", "Ll", "Lu", "Cc"} and chr(point) not in "✓✔✅":
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
    shape = rng.choice(("\\boxed{%s}", "\\boxed{%s}", "So \\boxed{%s}.", "<answer>%s</answer>"))
    if rng.random() < 0.25:
        kind, (gold, others) = rng.choice(list(TYPED.items()))
        return kind, gold, f"\\boxed{{{rng.choice(others)}}}"
    make, gold = (rng.choice(KINDS), rng.choice((*GOLDS, *(gold for gold, _ in TYPED.values()))))
    return make.__name__.strip("_"), gold, shape.replace("%s", make(rng, gold))
