"""Pairs of answers that are equal, and pairs that are not, made and checked by sympy: 36 kinds.

Each kind draws a gold answer, other spellings of the same value, and other values close to it in the same spelling.
sympy builds the values and renders them, and `_check` proves with exact arithmetic or at random points that the equal
ones are equal and the others are not, before a verifier sees any of them.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import sympy as sp

from support.generated_collections import COLLECTIONS

__all__ = ["KINDS", "Pair", "pairs"]

X, Y, A, N = sp.symbols("x y a n")
Draw = Callable[[random.Random], tuple[str, list[str], list[str]]]
"""A gold answer, other spellings of its value, and other values."""


@dataclass(frozen=True)
class Pair:
    """A gold answer, an answer, and whether they are equal."""

    kind: str
    gold: str
    answer: str
    is_equal: bool


def _tex(expression: Any) -> str:
    return sp.latex(expression)


def _check(value: Any, same: list[Any], other: list[Any]) -> None:
    """Prove what is claimed: at random points with 30 digits, for expressions in one or several letters."""
    for expression, is_equal in [*((e, True) for e in same), *((e, False) for e in other)]:
        difference = sp.sympify(value) - sp.sympify(expression)
        letters = sorted(difference.free_symbols, key=str)
        points = [{letter: sp.Rational(7 * k + 3 * i + 5, 11) for i, letter in enumerate(letters)} for k in range(3)]
        sizes = [abs(sp.N(difference.subs(point), 30)) for point in points]
        assert (max(sizes) < 1e-20) == is_equal, (value, expression)
        assert is_equal or min(sizes) > 1e-9, (value, expression)


def _expressions(gold: Any, same: list[Any], other: list[Any]) -> tuple[str, list[str], list[str]]:
    _check(gold, same, other)
    return _tex(gold), [_tex(e) for e in same], [_tex(e) for e in other]


def thousands(rng: random.Random) -> tuple[str, list[str], list[str]]:
    n = rng.randint(1001, 9_999_999)
    return str(n), [f"{n:,}", f"{n:,}".replace(",", "{,}"), f"{n}.0"], [f"{n + 1:,}", f"{n * 10}", f"-{n}"]


def fractions(rng: random.Random) -> tuple[str, list[str], list[str]]:
    p, q, k = rng.randint(1, 40), rng.choice((7, 9, 11, 13, 17)), rng.randint(2, 6)
    f = Fraction(p, q) if p % q else Fraction(p + 1, q)
    p, q = f.numerator, f.denominator
    same = [f"\\frac{{{k * p}}}{{{k * q}}}", f"{p}/{q}", f"\\dfrac{{{p}}}{{{q}}}", f"{{{p} \\over {q}}}"]
    return f"\\frac{{{p}}}{{{q}}}", same, [f"\\frac{{{p + 1}}}{{{q}}}", f"{q}/{p}", f"-\\tfrac{{{p}}}{{{q}}}"]


def decimals(rng: random.Random) -> tuple[str, list[str], list[str]]:
    f = Fraction(2 * rng.randint(1, 99) + 1, rng.choice((4, 8, 20, 40)))
    text = f"{float(f):.10f}".rstrip("0")
    return f"\\frac{{{f.numerator}}}{{{f.denominator}}}", [text, text + "0"], [text + "1", f"{float(f) + 0.1:.6f}"]


def repeating(rng: random.Random) -> tuple[str, list[str], list[str]]:
    digits = rng.choice(("3", "6", "12", "27", "45", "142857"))
    f = Fraction(int(digits), 10 ** len(digits) - 1)
    other = str(int(digits) + 1)
    gold = f"\\frac{{{f.numerator}}}{{{f.denominator}}}"
    return (
        gold,
        [f"0.\\overline{{{digits}}}", f"0.{digits}\\overline{{{digits}}}"],
        [f"0.\\overline{{{other}}}", f"0.{digits}"],
    )


def mixed(rng: random.Random) -> tuple[str, list[str], list[str]]:
    whole, p, q = rng.randint(2, 9), rng.randint(1, 4), rng.choice((5, 7))
    gold = f"\\frac{{{whole * q + p}}}{{{q}}}"
    same = [f"{whole}\\frac{{{p}}}{{{q}}}", f"{whole} {p}/{q}", f"{whole}\\ \\frac{{{p}}}{{{q}}}"]
    return gold, same, [f"{whole + 1}\\frac{{{p}}}{{{q}}}", f"\\frac{{{whole * p}}}{{{q}}}"]


def percent(rng: random.Random) -> tuple[str, list[str], list[str]]:
    p = rng.choice((5, 12, 35, 48, 60, 85))
    f = Fraction(p, 100)
    return (
        f"{p}\\%",
        [f"{p}%", f"\\frac{{{f.numerator}}}{{{f.denominator}}}", f"{p} \\text{{ percent}}"],
        [f"{p + 1}\\%", f"{p}.5\\%"],
    )


def scientific(rng: random.Random) -> tuple[str, list[str], list[str]]:
    digits, power = rng.randint(11, 99), rng.randint(3, 9)
    text = f"{digits / 10}"
    same = [f"{text}e{power}", f"{text} \\cdot 10^{{{power}}}", str(digits * 10 ** (power - 1)), f"{text}*10^{power}"]
    return f"{text} \\times 10^{{{power}}}", same, [f"{text} \\times 10^{{{power + 1}}}", f"{text}e-{power}"]


def surds(rng: random.Random) -> tuple[str, list[str], list[str]]:
    k, r = rng.randint(2, 9), rng.choice((2, 3, 5, 7, 11))
    gold = k * sp.sqrt(r)
    _check(gold, [], [(k + 1) * sp.sqrt(r), k * sp.sqrt(r + 1)])
    same = [f"\\sqrt{{{k * k * r}}}", f"\\sqrt{{{r}}}\\cdot {k}", f"{k}\\sqrt {r}", f"\\sqrt{{{k * k}}}\\sqrt{{{r}}}"]
    return _tex(gold), same, [f"{k + 1}\\sqrt{{{r}}}", f"\\sqrt{{{k * r}}}", f"-{k}\\sqrt{{{r}}}"]


def rationalised(rng: random.Random) -> tuple[str, list[str], list[str]]:
    p, r, c = rng.randint(1, 9), rng.choice((2, 3, 5, 7)), rng.randint(3, 6)
    gold = sp.radsimp(p / (c + sp.sqrt(r)))
    _check(gold, [p / (c + sp.sqrt(r))], [p / (c - sp.sqrt(r))])
    return (
        _tex(gold),
        [f"\\frac{{{p}}}{{{c}+\\sqrt{{{r}}}}}"],
        [f"\\frac{{{p}}}{{{c}-\\sqrt{{{r}}}}}", f"\\frac{{{p + 1}}}{{{c}+\\sqrt{{{r}}}}}"],
    )


def nested(rng: random.Random) -> tuple[str, list[str], list[str]]:
    a, r = rng.randint(2, 6), rng.choice((2, 3, 5))
    square = sp.expand((a + sp.sqrt(r)) ** 2)
    return _expressions(a + sp.sqrt(r), [sp.sqrt(square, evaluate=False)], [sp.sqrt(square + 1), a - sp.sqrt(r)])


def cube_roots(rng: random.Random) -> tuple[str, list[str], list[str]]:
    k, r = rng.randint(2, 5), rng.choice((2, 3, 5))
    gold = f"{k}\\sqrt[3]{{{r}}}"
    return (
        gold,
        [f"\\sqrt[3]{{{k**3 * r}}}", f"{k} \\cdot {r}^{{1/3}}", f"{k}\\cdot {r}^{{\\frac{{1}}{{3}}}}"],
        [f"{k}\\sqrt{{{r}}}", f"\\sqrt[3]{{{k**3 * r + 1}}}"],
    )


def powers(rng: random.Random) -> tuple[str, list[str], list[str]]:
    b, e = rng.choice((2, 3, 5)), rng.randint(4, 9)
    return (
        f"{b}^{{{e}}}",
        [str(b**e), f"{b}^{{{e - 1}}} \\cdot {b}", f"{b}**{e}"],
        [f"{b}^{{{e + 1}}}", str(b**e + 1), f"-{b}^{{{e}}}"],
    )


def logarithms(rng: random.Random) -> tuple[str, list[str], list[str]]:
    p, q = rng.choice((2, 3, 5)), rng.choice((7, 11, 13))
    return (
        f"\\ln {p * q}",
        [f"\\ln {p} + \\ln {q}", f"\\log_e {p * q}", f"\\ln({p}) + \\ln({q})"],
        [f"\\ln {p} \\cdot \\ln {q}", f"\\ln {p * q + 1}"],
    )


def log_bases(rng: random.Random) -> tuple[str, list[str], list[str]]:
    b, e = rng.choice((2, 3, 5)), rng.randint(2, 5)
    return (
        str(e),
        [f"\\log_{{{b}}} {b**e}", f"\\log_{b}({b**e})", f"\\frac{{\\ln {b**e}}}{{\\ln {b}}}"],
        [f"\\log_{{{b}}} {b ** (e + 1)}", f"\\log_{{{b + 1}}} {b**e}"],
    )


def special_angles(rng: random.Random) -> tuple[str, list[str], list[str]]:
    f, n = rng.choice((sp.sin, sp.cos)), rng.choice((3, 4, 6))
    k = rng.choice((1, 2) if n == 3 else (1, 3) if n == 4 else (1, 5))
    name = "\\sin" if f is sp.sin else "\\cos"
    angle = "\\pi" if k == 1 else f"{k}\\pi"
    gold = f(k * sp.pi / n)
    return (
        _tex(gold),
        [f"{name}\\left(\\frac{{{angle}}}{{{n}}}\\right)", f"{name}\\frac{{{angle}}}{{{n}}}"],
        [f"{name}\\frac{{{angle}}}{{{n + 6}}}", _tex(gold + 1)],
    )


def trigonometry(rng: random.Random) -> tuple[str, list[str], list[str]]:
    k = rng.randint(1, 5)
    gold = k * sp.sin(2 * X)
    return _expressions(gold, [2 * k * sp.sin(X) * sp.cos(X)], [k * sp.sin(X) * sp.cos(X), k * sp.cos(2 * X)])


def expanded(rng: random.Random) -> tuple[str, list[str], list[str]]:
    a, b, c = rng.randint(2, 5), rng.randint(1, 9), rng.randint(1, 9)
    product = (a * X + b) * (X - c)
    return _expressions(
        sp.expand(product), [product, (X - c) * (a * X + b)], [(a * X + b) * (X + c), sp.expand(product) + 1]
    )


def reordered(rng: random.Random) -> tuple[str, list[str], list[str]]:
    a, b, c = (rng.randint(2, 9) for _ in range(3))
    gold = f"{a}x^2 + {b}x - {c}"
    return (
        gold,
        [f"-{c} + {b}x + {a}x^2", f"{b}x+{a}x^{{2}}-{c}", f"{a}*x**2 + {b}*x - {c}"],
        [f"{a}x^2 - {b}x - {c}", f"{a}x^2 + {b}x + {c}", f"{b}x^2 + {a + 1}x - {c}"],
    )


def quotients(rng: random.Random) -> tuple[str, list[str], list[str]]:
    a, b, c = rng.randint(1, 6), rng.randint(2, 6), rng.randint(1, 5)
    gold: Any = sp.together(a / (X + c) + b / (X - c))
    return _expressions(gold, [a / (X + c) + b / (X - c)], [a / (X - c) + b / (X + c + 1), -gold])


def cancelled(rng: random.Random) -> tuple[str, list[str], list[str]]:
    c, d = rng.randint(1, 6), rng.randint(7, 12)
    top, bottom = sp.expand((X - c) * (X + d)), sp.expand((X - c) * (X + c))
    return _expressions((X + d) / (X + c), [top / bottom], [(X + d) / (X - c), (X + c) / (X + d)])


def two_letters(rng: random.Random) -> tuple[str, list[str], list[str]]:
    a, b = rng.randint(2, 6), rng.randint(2, 6)
    product = (a * X + Y) * (X - b * Y)
    return _expressions(sp.expand(product), [product], [(a * X - Y) * (X - b * Y), sp.expand(product) + Y])


def exponentials(rng: random.Random) -> tuple[str, list[str], list[str]]:
    a, b = rng.randint(2, 5), rng.randint(1, 4)
    gold = f"e^{{{a}x+{b}}}"
    return (
        gold,
        [f"e^{{{a}x}} \\cdot e^{{{b}}}", f"e^{{{b}}} e^{{{a}x}}", f"\\exp({a}x+{b})", f"\\mathrm{{e}}^{{{a}x+{b}}}"],
        [f"e^{{{a}x}}+e^{{{b}}}", f"e^{{{a}x-{b}}}", f"{b}e^{{{a}x}}"],
    )


def complex_products(rng: random.Random) -> tuple[str, list[str], list[str]]:
    a, b, c, d = (rng.randint(1, 7) for _ in range(4))
    re, im = a * c - b * d, a * d + b * c
    return (
        f"{re}+{im}i",
        [f"({a}+{b}i)({c}+{d}i)", f"{im}i + {re}" if re >= 0 else f"{im}i - {-re}"],
        [f"{re}-{im}i", f"{re + 1}+{im}i", f"({a}-{b}i)({c}+{d}i)"],
    )


def complex_quotients(rng: random.Random) -> tuple[str, list[str], list[str]]:
    a, c = rng.randint(1, 9), rng.randint(1, 5)
    value = sp.radsimp(a / (c + sp.I))
    gold = _tex(sp.expand(value))
    return (
        gold,
        [f"\\frac{{{a}}}{{{c}+i}}", f"\\frac{{{a * c}-{a}i}}{{{c * c + 1}}}"],
        [f"\\frac{{{a}}}{{{c}-i}}", f"\\frac{{{a + 1}}}{{{c}+i}}"],
    )


def combinations(rng: random.Random) -> tuple[str, list[str], list[str]]:
    n, k = rng.randint(6, 12), rng.randint(2, 4)
    value = int(sp.binomial(n, k))
    return (
        str(value),
        [f"\\binom{{{n}}}{{{k}}}", f"\\frac{{{n}!}}{{{k}!{n - k}!}}", f"\\frac{{{n}!}}{{{k}! \\cdot {n - k}!}}"],
        [f"\\binom{{{n}}}{{{k + 1}}}" if 2 * k + 1 != n else f"\\binom{{{n + 1}}}{{{k}}}", f"{n}!"],
    )


def letters_in_exponents(rng: random.Random) -> tuple[str, list[str], list[str]]:
    b, c = rng.choice((2, 3, 5)), rng.randint(1, 3)
    return (
        f"{b}^{{n+{c}}}",
        [f"{b**c} \\cdot {b}^n", f"{b}^n \\cdot {b}^{{{c}}}"],
        [f"{b}^{{n}}+{c}", f"{b**c + 1} \\cdot {b}^n", f"{b}^{{n-{c}}}"],
    )


def pi_multiples(rng: random.Random) -> tuple[str, list[str], list[str]]:
    p, q = rng.randint(2, 11), rng.choice((13, 17, 19))
    return (
        f"\\frac{{{p}\\pi}}{{{q}}}",
        [f"\\frac{{{p}}}{{{q}}}\\pi", f"{p}\\pi/{q}", f"\\frac{{\\pi \\cdot {p}}}{{{q}}}", f"{p}*pi/{q}"],
        [f"\\frac{{{p}}}{{{q}}}", f"\\frac{{{p}\\pi}}{{{q + 1}}}", f"\\frac{{{p + 1}\\pi}}{{{q}}}"],
    )


def programming(rng: random.Random) -> tuple[str, list[str], list[str]]:
    a, b, r = rng.randint(2, 9), rng.randint(2, 5), rng.choice((2, 3, 5))
    value: Any = a * X**b + sp.sqrt(r) * X
    return (
        _tex(value),
        [str(value).replace(" ", ""), str(value)],
        [str(value + 1), str(value + 2 * X)],
    )


_EXPRESSIONS: tuple[Draw, ...] = (
    *(thousands, fractions, decimals, repeating, mixed, percent, scientific, surds, rationalised, nested, cube_roots),
    *(powers, logarithms, log_bases, special_angles, trigonometry, expanded, reordered, quotients, cancelled),
    *(two_letters, exponentials, complex_products, complex_quotients, combinations, letters_in_exponents),
    *(pi_multiples, programming),
)
KINDS: dict[str, Draw] = {kind.__name__: kind for kind in (*_EXPRESSIONS, *COLLECTIONS)}


def pairs(draws: int, seed: int = 0) -> Iterator[Pair]:
    """``draws`` gold answers of each kind, each with all its equal and unequal answers."""
    for name, draw in KINDS.items():
        rng = random.Random(f"{seed}/{name}")
        for _ in range(draws):
            gold, same, other = draw(rng)
            yield from (Pair(name, gold, text, True) for text in same)
            yield from (Pair(name, gold, text, False) for text in other)
