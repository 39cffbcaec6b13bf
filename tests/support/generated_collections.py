"""The kinds of `support.generated_pairs` that hold several values, a relation or a unit."""

from __future__ import annotations

import random
from collections.abc import Callable

__all__ = ["COLLECTIONS"]

Draw = Callable[[random.Random], tuple[str, list[str], list[str]]]


def _distinct(rng: random.Random, count: int, low: int = -9, high: int = 12) -> list[int]:
    return rng.sample(range(low, high), count)


def points(rng: random.Random) -> tuple[str, list[str], list[str]]:
    a, b, q = *_distinct(rng, 2), rng.choice((2, 5))
    odd = 2 * b + 1 if q == 2 else 5 * b + 1
    gold = f"\\left({a}, \\frac{{{odd}}}{{{q}}}\\right)"
    same = [f"({a},{odd}/{q})", f"({a}, {odd / q})", f"\\left( {a} , \\dfrac{{{odd}}}{{{q}}} \\right)"]
    return gold, same, [f"(\\frac{{{odd}}}{{{q}}}, {a})", f"({a}, {odd}/{q + 1})", f"({a + 1}, {odd}/{q})"]


def sets(rng: random.Random) -> tuple[str, list[str], list[str]]:
    a, b, c = _distinct(rng, 3)
    gold = f"\\{{{a}, {b}, {c}\\}}"
    same = [f"\\{{{c}, {a}, {b}\\}}", f"\\left\\{{{b},{c},{a}\\right\\}}"]
    return gold, same, [f"\\{{{a}, {b}\\}}", f"\\{{{a}, {b}, {c + 30}\\}}", f"\\{{{a}, {b}, {c}, {c + 30}\\}}"]


def lists(rng: random.Random) -> tuple[str, list[str], list[str]]:
    a, b = _distinct(rng, 2)
    gold = f"{a}, {b}"
    same = [f"{b}, {a}", f"{a} \\text{{ and }} {b}", f"x = {a} \\text{{ or }} x = {b}", f"\\{{{a}, {b}\\}}"]
    return gold, same, [f"{a}, {b + 30}", f"{a}", f"{a}, {b}, {b + 30}"]


def plus_minus(rng: random.Random) -> tuple[str, list[str], list[str]]:
    a = rng.randint(2, 20)
    return (
        f"\\pm {a}",
        [f"{a}, -{a}", f"-{a}, {a}", f"x = \\pm {a}", f"\\{{-{a}, {a}\\}}"],
        [f"{a}", f"-{a}", f"\\pm {a + 1}"],
    )


def intervals(rng: random.Random) -> tuple[str, list[str], list[str]]:
    a, b = sorted(_distinct(rng, 2))
    same = [f"{a} < x \\le {b}", f"\\left({a}, {b}\\right]", f"x \\in ({a}, {b}]", f"{b} \\geq x > {a}"]
    return f"({a}, {b}]", same, [f"[{a}, {b})", f"({a}, {b})", f"{a} \\le x \\le {b}", f"({a}, {b + 1}]"]


def rays(rng: random.Random) -> tuple[str, list[str], list[str]]:
    a = rng.randint(-9, 12)
    same = [f"x \\ge {a}", f"x \\geq {a}", f"{a} \\leq x", f"\\left[{a}, \\infty\\right)", f"x >= {a}"]
    return f"[{a}, \\infty)", same, [f"({a}, \\infty)", f"x > {a}", f"x \\le {a}", f"(-\\infty, {a}]"]


def unions(rng: random.Random) -> tuple[str, list[str], list[str]]:
    a, b = sorted(_distinct(rng, 2))
    same = [
        f"(-\\infty,{a})\\cup({b},\\infty)",
        f"x < {a} \\text{{ or }} x > {b}",
        f"({b}, \\infty) \\cup (-\\infty, {a})",
    ]
    other = [f"(-\\infty, {a}] \\cup ({b}, \\infty)", f"({a}, {b})", f"x < {a} \\text{{ and }} x > {b}"]
    return f"(-\\infty, {a}) \\cup ({b}, \\infty)", same, other


def equations(rng: random.Random) -> tuple[str, list[str], list[str]]:
    m, b, k = rng.randint(2, 9), rng.randint(1, 9), rng.randint(2, 4)
    same = [f"y = {b} + {m}x", f"{m}x - y + {b} = 0", f"{k}y = {k * m}x + {k * b}", f"y - {b} = {m}x"]
    return f"y = {m}x + {b}", same, [f"y = {m}x - {b}", f"y = {m + 1}x + {b}", f"x = {m}y + {b}"]


def matrices(rng: random.Random) -> tuple[str, list[str], list[str]]:
    a, b, c, d = _distinct(rng, 4)

    def matrix(kind: str, *cells: int | str) -> str:
        one, two, three, four = cells
        return f"\\begin{{{kind}}} {one} & {two} \\\\ {three} & {four} \\end{{{kind}}}"

    same = [matrix("bmatrix", a, b, c, d), matrix("pmatrix", f"{a}.0", b, c, f"\\frac{{{2 * d}}}{{2}}")]
    return matrix("pmatrix", a, b, c, d), same, [matrix("pmatrix", a, c, b, d), matrix("pmatrix", a, b, c, d + 1)]


def vectors(rng: random.Random) -> tuple[str, list[str], list[str]]:
    a, b, c = _distinct(rng, 3, 1, 12)
    same = [
        f"({a}, {b}, {c})",
        f"\\langle {a}, {b}, {c} \\rangle",
        f"\\begin{{bmatrix}} {a} \\\\ {b} \\\\ {c} \\end{{bmatrix}}",
        f"{a}\\mathbf{{i}} + {b}\\mathbf{{j}} + {c}\\mathbf{{k}}",
    ]
    other = [f"({b}, {a}, {c})", f"\\langle {a}, {b}, {c + 1} \\rangle", f"({a}, {b})"]
    return f"\\begin{{pmatrix}} {a} \\\\ {b} \\\\ {c} \\end{{pmatrix}}", same, other


def units(rng: random.Random) -> tuple[str, list[str], list[str]]:
    a = rng.randint(2, 60)
    same = [f"{a}", f"{100 * a} \\text{{ cm}}", f"{a}\\,\\mathrm{{m}}", f"{a} meters"]
    return f"{a} \\text{{ m}}", same, [f"{a} \\text{{ cm}}", f"{a + 1} \\text{{ m}}", f"{a} \\text{{ m}}^2"]


def named_values(rng: random.Random) -> tuple[str, list[str], list[str]]:
    a, b = _distinct(rng, 2)
    same = [f"q = {b}, p = {a}", f"p={a} \\text{{ and }} q={b}"]
    return f"p = {a}, q = {b}", same, [f"p = {b}, q = {a}", f"p = {a}, q = {b + 1}"]


COLLECTIONS: tuple[Draw, ...] = (
    *(points, sets, lists, plus_minus, intervals, rays, unions, equations, matrices, vectors, units, named_values),
)
