"""Units of measure behind a number: which they are, and whether two quantities can be compared.

A table of exact factors and a reader of written units such as ``\\text{ cm}^2``, ``km/h``, ``square feet`` and
``million dollars``. Text and fractions only, linear in the length of the text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from relax_rl.rewards.mathematics.literals import canonical, rational

__all__ = ["Quantity", "Unit", "in_same_unit", "read_quantity", "with_currency_in_words", "with_radians"]


@dataclass(frozen=True)
class Unit:
    """``scale * factor * pi**pi_power`` times a product of base units.

    Attributes:
        base: base unit -> exponent, sorted.
        factor: in base units.
        pi_power: 1 for degrees, whose factor is pi / 180.
        scale: of a word such as *million*, which is a part of the number and not of the unit.
    """

    base: tuple[tuple[str, int], ...] = ()
    factor: Fraction = Fraction(1)
    pi_power: int = 0
    scale: Fraction = Fraction(1)

    def __mul__(self, other: Unit) -> Unit:
        exponents = dict(self.base)
        for name, exponent in other.base:
            exponents[name] = exponents.get(name, 0) + exponent
        base = tuple(sorted((name, exponent) for name, exponent in exponents.items() if exponent))
        return Unit(base, self.factor * other.factor, self.pi_power + other.pi_power, self.scale * other.scale)

    def __pow__(self, exponent: int) -> Unit:
        base = tuple((name, power * exponent) for name, power in self.base)
        return Unit(base, self.factor**exponent, self.pi_power * exponent, self.scale**exponent)


@dataclass(frozen=True)
class Quantity:
    """A value with what is written behind it.

    Attributes:
        value: the text before the unit.
        unit: None if the words are not a known unit ("apples", "ways").
        is_certain: False if the unit could as well be a variable: the ``m`` of ``5 m``.
    """

    value: str
    unit: Unit | None
    is_certain: bool = True

    @property
    def scaled(self) -> str:
        """The value with its words of scale multiplied in: ``3000000`` of ``3 million``."""
        return self.value if self.unit is None else _multiplied(self.value, self.unit.scale)


def _base(name: str, factor: Fraction | int | str = 1) -> Unit:
    return Unit(((name, 1),), Fraction(factor))


_METRE, _GRAM, _SECOND, _YEAR = _base("m"), _base("g"), _base("s"), _base("year")
_INCH = _base("m", "0.0254")
_LITRE = Unit((("m", 3),), Fraction(1, 1000))
_NEWTON = _base("g", 1000) * _METRE * _SECOND**-2
_JOULE = _NEWTON * _METRE
_AMPERE = _base("A")
_VOLT = _JOULE * _SECOND**-1 * _AMPERE**-1


def _times(factor: Fraction | int | str, unit: Unit) -> Unit:
    return Unit(factor=Fraction(factor)) * unit


_FOOT, _MINUTE, _HOUR = _times(12, _INCH), _times(60, _SECOND), _times(3600, _SECOND)
_MILE = _times(5280, _FOOT)

# Names as they are written, apart from metric prefixes and the plural s.
_METRIC_SYMBOLS = {
    "m": _METRE, "g": _GRAM, "s": _SECOND, "L": _LITRE, "l": _LITRE, "J": _JOULE, "N": _NEWTON, "A": _AMPERE,
    "W": _JOULE * _SECOND**-1, "V": _VOLT, "Pa": _NEWTON * _METRE**-2, "Hz": _SECOND**-1, "K": _base("K"),
    "mol": _base("mol"), "eV": _times("1.602176634e-19", _JOULE), "C": _AMPERE * _SECOND, "T": _base("T"),
}  # fmt: skip
_METRIC_WORDS = {
    "meter": _METRE, "metre": _METRE, "gram": _GRAM, "second": _SECOND, "liter": _LITRE, "litre": _LITRE,
    "joule": _JOULE, "newton": _NEWTON, "watt": _JOULE * _SECOND**-1, "volt": _VOLT, "hertz": _SECOND**-1,
}  # fmt: skip
_PREFIXES = {
    "n": ("nano", -9), "\u03bc": ("micro", -6), "\u00b5": ("micro", -6), "u": ("micro", -6), "m": ("milli", -3),
    "c": ("centi", -2), "d": ("deci", -1), "k": ("kilo", 3), "M": ("mega", 6), "G": ("giga", 9),
}  # fmt: skip
_OTHERS = {
    "in": _INCH, "inch": _INCH, "inches": _INCH, "ft": _FOOT, "foot": _FOOT, "feet": _FOOT,
    "yd": _times(3, _FOOT), "yard": _times(3, _FOOT), "mi": _MILE, "mile": _MILE, "acre": _times(43560, _FOOT**2),
    "hectare": _times(10**4, _METRE**2), "ha": _times(10**4, _METRE**2), "gm": _GRAM, "cc": _times("1e-6", _METRE**3),
    "lb": _times("453.59237", _GRAM), "pound": _times("453.59237", _GRAM), "oz": _times("28.349523125", _GRAM),
    "ounce": _times("28.349523125", _GRAM), "gallon": _times(231, _INCH**3), "gal": _times(231, _INCH**3),
    "quart": _times("57.75", _INCH**3), "pint": _times("28.875", _INCH**3), "cup": _times("14.4375", _INCH**3),
    "sec": _SECOND, "min": _MINUTE, "minute": _MINUTE, "h": _HOUR, "hr": _HOUR, "hour": _HOUR,
    "day": _times(24, _HOUR), "week": _times(168, _HOUR), "year": _YEAR, "yr": _YEAR,
    "month": _times(Fraction(1, 12), _YEAR), "mph": _MILE * _HOUR**-1, "kph": _times(1000, _METRE) * _HOUR**-1,
    "kmh": _times(1000, _METRE) * _HOUR**-1, "dollar": _base("dollar"), "USD": _base("dollar"),
    "buck": _base("dollar"), "cent": _base("dollar", Fraction(1, 100)), "euro": _base("euro"),
    "erg": _times("1e-7", _JOULE), "cal": _times("4.184", _JOULE), "calorie": _times("4.184", _JOULE),
    "degree": Unit((("angle", 1),), Fraction(1, 180), 1), "deg": Unit((("angle", 1),), Fraction(1, 180), 1),
    "rad": _base("angle"), "radian": _base("angle"), "celsius": _base("celsius"), "fahrenheit": _base("fahrenheit"),
    "unit": _base("unit"),
    "hundred": Unit(scale=Fraction(100)), "thousand": Unit(scale=Fraction(1000)), "dozen": Unit(scale=Fraction(12)),
    "million": Unit(scale=Fraction(10**6)), "billion": Unit(scale=Fraction(10**9)),
    "trillion": Unit(scale=Fraction(10**12)),
}  # fmt: skip


def _all_names() -> dict[str, Unit]:
    names = {**_METRIC_SYMBOLS, **_METRIC_WORDS, **_OTHERS}
    for symbol, (word, power) in _PREFIXES.items():
        prefix = Unit(factor=Fraction(10) ** power)
        names |= {symbol + name: prefix * unit for name, unit in _METRIC_SYMBOLS.items() if symbol + name not in names}
        names |= {word + name: prefix * unit for name, unit in _METRIC_WORDS.items()}
    plurals = {name + "s": unit for name, unit in names.items() if len(name) > 1}
    return {**plurals, **names}


_NAMES = _all_names()
_CELSIUS, _FAHRENHEIT, _DEGREE = _NAMES["celsius"], _NAMES["fahrenheit"], _NAMES["degree"]
_POWERS = {"square": 2, "sq": 2, "cubic": 3, "cu": 3}
_POWERS_AFTER = {"squared": 2, "cubed": 3}
# Two letters that hardly ever are two variables.
_CERTAIN_PAIRS = frozenset({"cm", "km", "mm", "kg", "ft", "in", "hr", "lb", "oz", "yd"})

_WRAPPED = r"\\(?:text|mbox|mathrm|textrm|rm|operatorname)\s*\{[^{}]*\}"
_TOKEN = re.compile(
    rf"(?P<wrapped>{_WRAPPED})|(?P<degree>\^\\circ(?![A-Za-z]))|(?P<exponent>\^\s*(?:\{{\s*-?\d\s*\}}|\d))"
    r"|(?P<times>\\cdot(?![A-Za-z])|\\times(?![A-Za-z])|\*)|(?P<over>/)|(?P<other>\\[A-Za-z]+|\\.|\d)"
    r"|(?P<word>[A-Za-z\u03bc\u00b5]+\.?)|(?P<space>[\s~]+)|(?P<rest>.)",
    re.DOTALL,
)
_INSIDE = re.compile(r"\{(.*)\}", re.DOTALL)
_CURRENCY = re.compile(r"\\?\$\s*([-+]?[\d,]*\.?\d+)", re.ASCII)
_TRIGONOMETRIC = re.compile(r"\\(?:sin|cos|tan|cot|sec|csc)(?![a-z])")
_PLAIN_NUMBER = re.compile(r"[-+]?[\d,]*\.?\d+(?:/\d+)?|[-+]?\d*\s*\\frac\{\d+\}\{\d+\}", re.ASCII)
_MAX_UNIT_TOKENS = 24


def with_currency_in_words(text: str) -> str:
    """``\\$18`` and ``$18`` as ``18 \\text{ dollars}``; any other text as it is."""
    amount = _CURRENCY.fullmatch(text.strip())
    return text if amount is None else f"{amount.group(1)} \\text{{ dollars}}"


def with_radians(one: Quantity, other: Quantity) -> tuple[Quantity, Quantity]:
    """Beside degrees, a value with pi in it and without a unit is in radians."""
    if one.unit == _DEGREE and other.unit is None and "\\pi" in other.value:
        return one, replace(other, unit=_NAMES["radian"])
    if other.unit == _DEGREE and one.unit is None and "\\pi" in one.value:
        return replace(one, unit=_NAMES["radian"]), other
    return one, other


def in_same_unit(one: Quantity, other: Quantity) -> tuple[str, str] | None:
    """The two values in one unit, as texts; None if they measure different things."""
    assert one.unit is not None
    assert other.unit is not None
    units = {one.unit, other.unit}
    if len(units) == 1 or units in ({_DEGREE, _CELSIUS}, {_DEGREE, _FAHRENHEIT}):
        return one.value, other.value
    if sum("unit" in dict(unit.base) for unit in units) == 1:  # "square units" are those of the question
        return one.value, other.value
    if one.unit.base != other.unit.base:
        return None
    return _in_base_units(one.value, one.unit), _in_base_units(other.value, other.unit)


def _in_base_units(value: str, unit: Unit) -> str:
    return _multiplied(value, unit.factor * unit.scale, unit.pi_power)


def _multiplied(value: str, factor: Fraction, pi_power: int = 0) -> str:
    if factor == 1 and pi_power == 0:
        return value
    number = rational(canonical(value))
    if number is not None and not number[1]:
        factor, value = factor * number[0], ""
    pi = f" \\cdot \\pi^{{{pi_power}}}" if pi_power else ""
    return f"{factor}{pi} \\cdot ({value})" if value else f"{factor}{pi}"


def read_quantity(text: str) -> Quantity:
    """The value and the unit of a tidied answer; the whole text and no unit if no unit is written."""
    tokens = [(match.lastgroup or "", match.group(), match.start()) for match in _TOKEN.finditer(text)]
    first = len(tokens)
    while first > 0 and len(tokens) - first < _MAX_UNIT_TOKENS and tokens[first - 1][0] not in {"other", "rest"}:
        first -= 1
    for begin in range(first, len(tokens)):
        kind, _, position = tokens[begin]
        value = text[:position].strip()
        if kind not in {"wrapped", "word", "degree"} or not re.search(r"[\d})%]$|[A-Za-z]$", value):
            continue
        read = _read_unit([(kind, token) for kind, token, _ in tokens[begin:]])
        if read is not None:
            return _quantity(text, value, tokens[begin:], *read)
    return Quantity(text, None)


def _quantity(
    text: str, value: str, tokens: Sequence[tuple[str, str, int]], unit: Unit | None, is_label: bool
) -> Quantity:
    kinds = {kind for kind, _, _ in tokens} - {"space"}
    if "degree" in kinds and _TRIGONOMETRIC.search(value):
        return Quantity(text, None)  # of the function's argument
    if kinds & {"wrapped", "degree"}:
        return Quantity(value, unit)
    plain = _PLAIN_NUMBER.fullmatch(value) is not None
    words = [token for kind, token, _ in tokens if kind == "word"]
    if is_label:
        apart = text[len(value) : len(value) + 1].isspace()
        return Quantity(value, None) if plain and apart and min(map(len, words)) > 2 else Quantity(text, None)
    if all(len(word) > 2 or word in _CERTAIN_PAIRS for word in words):
        return Quantity(value, unit)
    alone = len(words) == 1 or "over" in kinds
    return Quantity(value, unit, is_certain=False) if plain and alone else Quantity(text, None)


def _read_unit(tokens: Sequence[tuple[str, str]]) -> tuple[Unit | None, bool] | None:
    """(unit, whether it is but a label) of what follows a value; None if it is neither.

    A product of units may be followed by prose of nothing but words, as in "feet long"; words alone are a label.
    """
    atoms = list(_atoms(tokens))
    if not atoms or any(kind == "other" for kind, _ in atoms):
        return None
    unit, position = Unit(), 0
    while (factor := _read_factor(atoms, position)) is not None:
        unit, position = unit * factor[0], factor[1]
    return (None, True) if position == 0 else (unit, False)


def _read_factor(atoms: Sequence[tuple[str, str]], position: int) -> tuple[Unit, int] | None:
    """``[per] [square] NAME [squared] [^2]`` and where it ends; None if no name of a unit stands there."""

    def word(index: int, kind: str = "word") -> str:
        return atoms[index][1] if index < len(atoms) and atoms[index][0] == kind else ""

    sign = -1 if word(position, "per") else 1
    position += sign < 0
    power = _POWERS.get(word(position).lower().rstrip("."), 1)
    position += power > 1
    named = _named(word(position), word(position + 1))
    if named is None:
        return None
    unit, num_words = named
    position += num_words
    if after := _POWERS_AFTER.get(word(position).lower()):
        power, position = after, position + 1
    if exponent := word(position, "exponent"):
        power, position = int(exponent), position + 1
    return unit ** (sign * power), position


def _named(word: str, following: str) -> tuple[Unit, int] | None:
    """The unit of a word, and whether it takes one word or two: ``degrees Celsius``, ``^\\circ F``."""
    word = word if word in _NAMES else word.rstrip(".")
    unit = _NAMES.get(word) or (_NAMES.get(word.lower()) if len(word) > 2 else None)
    if unit is None or unit != _DEGREE:
        return None if unit is None else (unit, 1)
    scale = {"c": _CELSIUS, "celsius": _CELSIUS, "f": _FAHRENHEIT, "fahrenheit": _FAHRENHEIT}.get(following.lower())
    return (unit, 1) if scale is None else (scale, 2)


def _atoms(tokens: Sequence[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """Words, exponents and ``per``; a product sign is nothing, and wrapped text is its words."""
    for kind, token in tokens:
        if kind == "wrapped":
            inside = _INSIDE.search(token)
            content = inside.group(1) if inside else ""
            yield from _atoms([(found.lastgroup or "", found.group()) for found in _TOKEN.finditer(content)])
        elif kind == "degree":
            yield "word", "degree"
        elif kind == "exponent":
            yield kind, token.strip("^{} \t\n")
        elif kind == "over" or (kind == "word" and token == "per"):
            yield "per", token
        elif kind == "word":
            yield kind, token
        elif kind not in {"times", "space"} and token not in ",;":
            yield "other", token
