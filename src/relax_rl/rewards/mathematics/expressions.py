r"""Expressions in LaTeX, plain text or programming notation, as functions of their letters.

``sum := [sign] product (sign product)*``, ``product := factor (("*" | "/" | nothing) factor)*``,
``factor := atom "!"* ["^" exponent]``. The text is taken whole or not at all: `UnreadableError` says that it is not in
this grammar, which has no integrals, no sums with a sign, and no words.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from relax_rl.rewards.mathematics import functions as of
from relax_rl.rewards.mathematics.functions import Evaluate

__all__ = ["Expression", "UnreadableError", "parse"]


class UnreadableError(Exception):
    """The text is not in the grammar."""


@dataclass(frozen=True)
class Expression:
    """What was read.

    Attributes:
        evaluate: its value where its letters have the values of a point. Raises `functions.OutsideError`.
        letters: in it, constants apart.
        is_complex: whether ``i`` stands in it.
        digits: that tell it from any other of its size: ``1 + 10^{-40}`` from 1.
    """

    evaluate: Evaluate
    letters: frozenset[str]
    is_complex: bool
    digits: int = 0


_SMALL = re.compile(r"(?:\^|\*\*)\s*[{(]?\s*-?\s*(?P<exponent>\d{1,6})|(?P<factorial>\d{1,6})\s*!", re.ASCII)
_MAX_DEPTH = 60
_FUNCTIONS = (
    "arcsin", "arccos", "arctan", "arccot", "arcsec", "arccsc", "asin", "acos", "atan", "asinh", "acosh", "atanh",
    "sinh", "cosh", "tanh", "coth", "sin", "cos", "tan", "cot", "sec", "csc", "exp", "ln", "lg", "log", "sqrt",
    "cbrt", "abs", "floor", "ceil", "ceiling", "factorial", "gamma", "sgn", "sign", "binom", "binomial", "gcd", "lcm",
    "min", "max",
)  # fmt: skip
_GREEK = (
    "alpha", "beta", "gamma", "delta", "epsilon", "varepsilon", "zeta", "eta", "theta", "vartheta", "iota", "kappa",
    "lambda", "mu", "nu", "xi", "rho", "sigma", "tau", "upsilon", "phi", "varphi", "chi", "psi", "omega", "Gamma",
    "Delta", "Theta", "Lambda", "Xi", "Sigma", "Phi", "Psi", "Omega", "ell", "hbar",
)  # fmt: skip
_TOKEN = re.compile(
    r"\s*(?:(?P<number>\d+(?:\.\d+)?|\.\d+)|(?P<wrapped>\\(?:text|mathrm|mathbf|operatorname|mathit|textit|rm)\*?\s*\{\s*[A-Za-z]+\s*\})"
    r"|(?P<power>\*\*|\^)|(?P<times>\\cdot(?![A-Za-z])|\\times(?![A-Za-z])|\\ast(?![A-Za-z])|\*)"
    r"|(?P<over>/|\\div(?![A-Za-z])|\\over(?![A-Za-z]))|(?P<command>\\[A-Za-z]+)"
    r"|(?P<word>[A-Za-z]+)|(?P<mark>[-+(){}\[\]!|_,])|(?P<other>.))",
    re.ASCII,
)
_WORD_IN = re.compile(r"\{\s*([A-Za-z]+)\s*\}")
_OPENING = {"(": ")", "{": "}", "[": "]", "\\lfloor": "\\rfloor", "\\lceil": "\\rceil", "\\lvert": "\\rvert"}
_ROUNDING = {"\\lfloor": "floor", "\\lceil": "ceil", "\\lvert": "abs"}
_NO_FACTOR = frozenset(
    {"", "+", "-", ")", "}", "]", ",", "/", "!", "_", "\\rfloor", "\\rceil", "\\rvert", "\\div", "\\over"}
)
_OPAQUE = frozenset("fgh")
_ARITY = {"binom": 2, "binomial": 2, "gcd": 2, "lcm": 2, "min": 2, "max": 2}


def parse(text: str) -> Expression:
    """An expression. Raises UnreadableError if the text, all of it, is none."""
    reader = _Reader(_tokens(text))
    evaluate = reader.whole()
    return Expression(evaluate, frozenset(reader.letters), reader.is_complex, _digits(text))


def _digits(text: str) -> int:
    found = _SMALL.finditer(text)
    return len(text) + sum(int(small["exponent"] or 0) + 3 * int(small["factorial"] or 0) for small in found)


def _tokens(text: str) -> list[tuple[str, str]]:
    tokens: list[tuple[str, str]] = []
    for match in _TOKEN.finditer(text.strip()):
        kind, token = match.lastgroup or "", match[match.lastgroup or 0]
        if kind == "other":
            raise UnreadableError(token)
        if kind == "wrapped":
            word = _WORD_IN.search(token)
            kind, token = "word", word[1] if word else ""
            if len(token) > 1 and token not in _FUNCTIONS:
                raise UnreadableError(token)
        if kind == "command" and token[1:] in _FUNCTIONS and token != "\\binom":
            kind, token = "function", token[1:]
        if kind == "word":
            tokens += _letters(token)
        else:
            tokens.append((kind, token))
    return tokens


def _letters(word: str) -> list[tuple[str, str]]:
    """A run of letters: a function, a constant by name, or a product of letters."""
    if word in _FUNCTIONS:
        return [("function", word)]
    if word in {"pi", "Pi", *_GREEK}:
        return [("command", "\\" + word.replace("Pi", "pi"))]
    for name in _FUNCTIONS:  # `xsin`, `nlog`
        if len(name) > 2 and word.endswith(name) and len(word) - len(name) <= 2:
            return [*(("letter", letter) for letter in word[: -len(name)]), ("function", name)]
    if len(word) > 3:
        raise UnreadableError(word)
    return [("letter", letter) for letter in word]


class _Reader:
    def __init__(self, tokens: list[tuple[str, str]]) -> None:
        self._tokens = tokens
        self._place = 0
        self._depth = 0
        self._bars = 0
        self.letters: set[str] = set()
        self.is_complex = False

    def whole(self) -> Evaluate:
        value = self._sum()
        if self._place < len(self._tokens):
            raise UnreadableError(self._next[1])
        return value

    @property
    def _next(self) -> tuple[str, str]:
        return self._tokens[self._place] if self._place < len(self._tokens) else ("", "")

    def _peek(self, ahead: int) -> tuple[str, str]:
        place = self._place + ahead
        return self._tokens[place] if place < len(self._tokens) else ("", "")

    def _takes(self, *texts: str) -> str:
        text = self._next[1]
        if text and text in texts:
            self._place += 1
            return text
        return ""

    def _needs(self, text: str) -> None:
        if not self._takes(text):
            raise UnreadableError(self._next[1])

    def _sum(self) -> Evaluate:
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise UnreadableError("too deep")
        value = self._signed()
        while sign := self._takes("+", "-"):
            value = of.added(value, self._signed(), sign)
        self._depth -= 1
        return value

    def _signed(self) -> Evaluate:
        negative = False
        while sign := self._takes("+", "-"):
            negative ^= sign == "-"
        value = self._product()
        return of.negated(value) if negative else value

    def _product(self) -> Evaluate:
        start = self._place
        value = self._factor()
        while self._goes_on():
            kind, text = self._next
            if kind in ("times", "over"):
                self._place += 1
                negative = bool(self._takes("-"))
                other = self._factor()
                other = of.negated(other) if negative else other
                value = of.divided(value, other) if kind == "over" else of.multiplied(value, other)
                start = -1
            elif self._is_mixed(start):
                value = of.added(value, self._factor(), "+")
                start = -1
            else:
                if kind == "number" and self._tokens[self._place - 1][1] not in (")", "}", "]", "!"):
                    raise UnreadableError(text)  # neither `3 4` nor `x 4` is a product
                value = of.multiplied(value, self._factor())
                start = -1
        return value

    def _goes_on(self) -> bool:
        kind, text = self._next
        if kind in ("times", "over"):
            return True
        return kind != "power" and text not in _NO_FACTOR and not (text == "|" and self._bars)

    def _is_mixed(self, start: int) -> bool:
        r"""Whether an integer and a fraction of two are a mixed number: ``2\frac{1}{2}``."""
        if start != self._place - 1 or self._tokens[start][0] != "number" or "." in self._tokens[start][1]:
            return False
        ahead = [self._peek(step) for step in range(7)]
        kinds = [token[0] if token[0] == "number" else token[1] for token in ahead]
        is_fraction = kinds == ["\\frac", "{", "number", "}", "{", "number", "}"]
        return is_fraction and "." not in ahead[2][1] + ahead[5][1]

    def _factor(self) -> Evaluate:
        value = self._atom()
        while self._takes("!"):
            step = 1
            while self._takes("!"):  # `n!!` is the double factorial
                step += 1
            value = of.factorial(value, step)
        if self._next[0] != "power":
            return value
        self._place += 1
        if self._takes("\\circ"):
            return of.degrees(value)
        if self._next[1] == "{" and self._peek(1)[1] == "\\circ" and self._peek(2)[1] == "}":
            self._place += 3
            return of.degrees(value)
        exponent = self._exponent()
        return of.raised(value, exponent)

    def _exponent(self) -> Evaluate:
        negative = False
        while sign := self._takes("+", "-"):
            negative ^= sign == "-"
        value = self._atom()
        if self._next[1] == "!":
            raise UnreadableError("!")
        if self._next[0] == "power":  # from the right
            self._place += 1
            value = of.raised(value, self._exponent())
        return of.negated(value) if negative else value

    def _atom(self) -> Evaluate:
        kind, text = self._next
        self._place += 1
        if kind == "number":
            return of.number(text)
        if kind == "function":
            return self._function(text)
        if text == "|":
            self._bars += 1
            inside = self._sum()
            self._bars -= 1
            self._needs("|")
            return of.applied("abs", [inside])
        if text in _OPENING and kind in ("mark", "command"):
            bars, self._bars = self._bars, 0
            inside = self._sum()
            self._bars = bars
            self._needs(_OPENING[text])
            return of.applied(_ROUNDING[text], [inside]) if text in _ROUNDING else inside
        if kind == "letter":
            return self._letter(text)
        if kind == "command":
            return self._command(text[1:])
        raise UnreadableError(text)

    def _command(self, name: str) -> Evaluate:
        if name in ("frac", "dfrac", "tfrac", "cfrac"):
            return of.divided(self._argument(), self._argument())
        if name in ("binom", "dbinom", "tbinom"):
            return of.applied("binom", [self._argument(), self._argument()])
        if name == "pi":
            return of.constant("pi")
        if name in _GREEK:
            return self._letter("\\" + name)
        raise UnreadableError(name)

    def _argument(self) -> Evaluate:
        """The next group, letter or digit."""
        kind, text = self._next
        if kind == "number" and len(text) > 1:
            self._tokens[self._place : self._place + 1] = [("number", text[0]), ("number", text[1:])]
        return self._atom()

    def _letter(self, letter: str) -> Evaluate:
        index = self._index()
        if not index and letter == "e":
            return of.constant("e")
        if not index and letter == "i":
            self.is_complex = True
            return of.constant("i")
        if letter in _OPAQUE and self._next[1] == "(":
            self._place += 1
            inside = self._sum()
            self._needs(")")
            return of.opaque(letter + index, inside)
        name = (letter if letter.startswith("\\") else letter.lower()) + index
        self.letters.add(name)
        return of.letter(name)

    def _index(self) -> str:
        if not self._takes("_"):
            return ""
        kind, text = self._next
        self._place += 1
        if kind in ("number", "letter", "command", "function"):
            return "_" + text
        if text != "{":
            raise UnreadableError(text)
        parts: list[str] = []
        depth = 1
        while depth and self._next[1]:
            token = self._next[1]
            depth += (token == "{") - (token == "}")
            parts.append(token)
            self._place += 1
        if depth:
            raise UnreadableError("_")
        return "_" + "".join(parts[:-1])

    def _function(self, name: str) -> Evaluate:
        base = self._base() if name == "log" else None
        degree = self._bracketed() if name == "sqrt" and self._next[1] == "[" else None
        power: Evaluate | None = None
        inverse = False
        if self._next[0] == "power" and name not in ("exp", "sqrt"):
            self._place += 1
            inverse = [token[1] for token in (self._next, self._peek(1), self._peek(2), self._peek(3))] == [
                "{",
                "-",
                "1",
                "}",
            ]
            power = self._exponent()
        if base is None and name == "log":
            base = self._base()
        arguments = self._arguments(name)
        if inverse and name in ("sin", "cos", "tan", "cot", "sec", "csc"):
            return of.applied("arc" + name, arguments)
        if name == "log" and base is None and len(arguments) == 2:  # of a program: `log(8, 2)`
            base = arguments[1]
        if base is not None:
            value = of.log(arguments[0], base)
        else:
            value = of.root(arguments[0], degree) if name == "sqrt" else of.applied(name, arguments)
        return value if power is None else of.raised(value, power)

    def _base(self) -> Evaluate | None:
        return self._argument() if self._takes("_") else None

    def _bracketed(self) -> Evaluate:
        self._needs("[")
        value = self._sum()
        self._needs("]")
        return value

    def _arguments(self, name: str) -> list[Evaluate]:
        if self._next[1] in ("(", "[") or name in _ARITY:
            closing = {"(": ")", "[": "]", "{": "}"}.get(self._next[1], "")
            if not closing:
                raise UnreadableError(name)
            bars, self._bars = self._bars, 0
            self._place += 1
            found = [self._sum()]
            while self._takes(","):
                found.append(self._sum())
            self._needs(closing)
            self._bars = bars
            if len(found) not in (_ARITY.get(name, 1), _ARITY.get(name, 2 if name == "log" else 1)):
                raise UnreadableError(name)
            return found
        if name in ("sqrt", "exp", "abs", "floor", "ceil", "cbrt"):
            return [self._argument()]
        negative = bool(self._takes("-"))
        value = self._factor()
        while self._goes_on() and self._next[0] not in ("times", "over", "function"):
            value = of.multiplied(value, self._factor())
        return [of.negated(value) if negative else value]
