"""Verifiers of short answers that need no algebra: exact text, a number within a tolerance, the letter of a choice."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from fractions import Fraction

from relax_rl.errors import ConfigError
from relax_rl.rewards.base import BaseVerifier, Verdict, check_lengths
from relax_rl.rewards.mathematics.extraction import extract_answer
from relax_rl.rewards.mathematics.literals import canonical, rational, tidy
from relax_rl.rewards.mathematics.units import read_quantity

__all__ = ["AnswerVerifier", "ChoiceVerifier", "ExactVerifier", "NumericVerifier"]

_WRAPPED_TEXT = re.compile(r"\\(?:text|mbox|textbf|textit|textrm|mathrm|mathbf)\s*\{([^{}]*)\}")
_LETTER = re.compile(r"(?i:(?:option|choice|answer)\b)?[\s:*]*\(?\s*(?P<letter>[A-Za-z])\s*(?:[).:].*)?", re.DOTALL)
# Longer than any answer that these verifiers can be meant for.
_MAX_ANSWER_CHARS = 2000


class AnswerVerifier(BaseVerifier, ABC):
    """Extracts the answer as :func:`.extraction.extract_answer` does, and compares it with the gold answer in place."""

    name: str

    def __init__(self, *, allow_bare_number: bool = False) -> None:
        self.allow_bare_number = allow_bare_number

    @abstractmethod
    def equal(self, gold: str, answer: str) -> bool | None:
        """Whether an extracted answer is right; None if the gold answer is not of this verifier's kind."""

    def extract(self, completion: str) -> str | None:
        """The answer that a completion commits to; None if there is none."""
        return extract_answer(completion, allow_bare_number=self.allow_bare_number).text

    def score(self, completions: Sequence[str], answers: Sequence[str]) -> list[float | None]:
        """1.0, 0.0 or None (gold answer unreadable) for each completion. Raises DataError if the lengths differ."""
        return [verdict.score for verdict in self.grade(completions, answers)]

    def grade(
        self,
        completions: Sequence[str],
        answers: Sequence[str],
        num_tokens: Sequence[int] | None = None,
        *,
        truncated: Sequence[bool] | None = None,
    ) -> list[Verdict]:
        """As ``score``, with what was extracted and how."""
        check_lengths(completions, answers)
        return [self._verdict(*pair) for pair in zip(completions, answers, strict=True)]

    def _verdict(self, completion: str, gold: str) -> Verdict:
        found = extract_answer(completion, allow_bare_number=self.allow_bare_number)
        text = found.text if found.last is None else found.last
        is_short = text is not None and len(text) <= _MAX_ANSWER_CHARS
        equal = self.equal(gold, text if text is not None and is_short else "")
        if equal is None:
            return Verdict(
                None, text, found.how, "gold unreadable", f"{gold[:80]!r} is no answer that {self.name} reads"
            )
        return Verdict(float(equal and is_short), text, found.how)


class ExactVerifier(AnswerVerifier):
    """Right if the extracted text is the gold text, apart from white space, ``$`` and text commands around it.

    Args:
        case_sensitive: whether ``Paris`` differs from ``paris``.
        allow_bare_number: see :func:`.extraction.extract_answer`.
    """

    name = "exact"

    def __init__(self, *, case_sensitive: bool = False, allow_bare_number: bool = False) -> None:
        super().__init__(allow_bare_number=allow_bare_number)
        self.case_sensitive = case_sensitive

    def equal(self, gold: str, answer: str) -> bool | None:
        expected = self._plain(gold)
        return self._plain(answer) == expected if expected else None

    def _plain(self, text: str) -> str:
        words = " ".join(_WRAPPED_TEXT.sub(r"\1", text).strip("$ \t\n").split())
        return words if self.case_sensitive else words.casefold()


class NumericVerifier(AnswerVerifier):
    """Right if the extracted number is within a tolerance of the gold one: ``|x - gold| <= max(rel * |gold|, abs)``.

    Numbers are integers, decimals, fractions, mixed numbers and powers of ten, read exactly, with or without a unit
    (which is not compared); ``50%`` is 50 or 1/2. What takes algebra, such as ``\\sqrt 2``, is no number here.

    Args:
        relative_tolerance: share of the gold number.
        absolute_tolerance: in the gold number's own unit.
        allow_bare_number: see :func:`.extraction.extract_answer`.

    Raises:
        ConfigError: a tolerance that is negative or not finite.
    """

    name = "numeric"

    def __init__(
        self,
        *,
        relative_tolerance: float = 1e-4,
        absolute_tolerance: float = 0.0,
        allow_bare_number: bool = False,
    ) -> None:
        super().__init__(allow_bare_number=allow_bare_number)
        for key, value in (("relative_tolerance", relative_tolerance), ("absolute_tolerance", absolute_tolerance)):
            if not 0 <= value < float("inf"):
                raise ConfigError(f"The verifier 'numeric' has {key} = {value}; it must be a number of at least 0.")
        self.relative_tolerance = Fraction(relative_tolerance)
        self.absolute_tolerance = Fraction(absolute_tolerance)

    def equal(self, gold: str, answer: str) -> bool | None:
        expected = _numbers(gold)
        if not expected:
            return None
        return any(self._is_close(one, other) for one in expected for other in _numbers(answer))

    def _is_close(self, gold: Fraction, number: Fraction) -> bool:
        return abs(number - gold) <= max(self.relative_tolerance * abs(gold), self.absolute_tolerance)


class ChoiceVerifier(AnswerVerifier):
    """Right if the chosen letter is the gold one: ``B``, ``(b)``, ``\\text{(B)}``, ``B. Paris``, ``option B`` choose B.

    Args:
        choices: the letters that there are.

    Raises:
        ConfigError: no letters, one twice, or anything else than letters.
    """

    name = "choice"

    def __init__(self, *, choices: str = "ABCDE") -> None:
        super().__init__()
        self.choices = choices.upper()
        if not (choices.isascii() and choices.isalpha()) or len(set(self.choices)) < len(choices):
            raise ConfigError(f"The verifier 'choice' has choices = {choices!r}; give different letters, such as ABCD.")

    def equal(self, gold: str, answer: str) -> bool | None:
        expected = self._letter(gold)
        return None if expected is None else self._letter(answer) == expected

    def _letter(self, text: str) -> str | None:
        found = _LETTER.fullmatch(_WRAPPED_TEXT.sub(r"\1", text).strip("$*. \t\n"))
        letter = found["letter"].upper() if found else ""
        return letter if letter and letter in self.choices else None


def _numbers(text: str) -> list[Fraction]:
    """What a number can mean: one value, or two of one in percent."""
    _, equals, after = tidy(text).rpartition("=")
    read = rational(canonical(read_quantity(after if equals else tidy(text)).scaled))
    if read is None:
        return []
    value, is_percent = read
    return [value, value / 100] if is_percent else [value]
