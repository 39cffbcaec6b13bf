"""Verifiers of short answers that need no algebra: exact text, a number within a tolerance, the letter of a choice."""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any

from relax_rl.errors import ConfigError
from relax_rl.rewards.base import Verdict
from relax_rl.rewards.batch import GradingBatch
from relax_rl.rewards.extraction import Extraction, Gold, read_choice, read_gold
from relax_rl.rewards.mathematics.literals import canonical, rational, tidy
from relax_rl.rewards.mathematics.units import read_quantity
from relax_rl.rewards.reading import ReadingVerifier

__all__ = ["AnswerVerifier", "ChoiceVerifier", "ExactVerifier", "NumericVerifier"]

_WRAPPED_TEXT = re.compile(r"\\(?:text|mbox|textbf|textit|textrm|mathrm|mathbf)\s*\{([^{}]*)\}")
_LETTER = re.compile(r"(?i:(?:option|choice|answer)\b)?[\s:*]*\(?\s*(?P<letter>[A-Za-z])\s*(?:[).:].*)?", re.DOTALL)
# Longer than any answer that these verifiers can be meant for.
_MAX_ANSWER_CHARS = 2000


class AnswerVerifier(ReadingVerifier):
    """Finds the answer by a policy, and compares it with the gold one in place."""

    name: str
    # Whether all that a tag holds may be the answer, too: the point at the end of a sentence.
    is_verbatim = False

    @abstractmethod
    def equal(self, gold: str, answer: str) -> bool | None:
        """Whether an extracted answer is right; None if the gold answer is not of this verifier's kind."""

    def verdicts(self, batch: GradingBatch) -> list[Verdict]:
        found = [self._policy.read(text, is_cut) for text, is_cut in zip(batch.texts, batch.is_cut, strict=True)]
        return [self._verdict(*row) for row in zip(found, map(read_gold, batch.answers), strict=True)]

    def _verdict(self, found: Extraction, gold: Gold) -> Verdict:
        text = found.text if found.last is None else found.last
        if gold.text is None:
            return Verdict(None, text, found.how, "gold unreadable", gold.reason)
        is_short = text is not None and len(text) <= _MAX_ANSWER_CHARS
        equal = self.equal(gold.text, text if text is not None and is_short else "")
        if equal is False and self.is_verbatim and found.whole is not None and is_short:
            equal = self.equal(gold.text, found.whole)
        if equal is None:
            detail = f"{gold.text[:80]!r} is no answer that {self.name} reads"
            return Verdict(None, text, found.how, "gold unreadable", detail)
        return Verdict(float(equal and is_short), text, found.how)


class ExactVerifier(AnswerVerifier):
    """Right if the extracted text is the gold text, apart from white space, ``$`` and text commands around it.

    Args:
        case_sensitive: whether ``Paris`` differs from ``paris``.
        policy, allow_bare_number: see `ReadingVerifier`.
    """

    name = "exact"
    is_verbatim = True

    def __init__(
        self, *, case_sensitive: bool = False, policy: str = "default", allow_bare_number: bool = False
    ) -> None:
        super().__init__(policy=policy, allow_bare_number=allow_bare_number)
        self.case_sensitive = case_sensitive

    @property
    def grading_options(self) -> Mapping[str, Any]:
        """See `ReadingVerifier.grading_options`."""
        return {**super().grading_options, **({"case_sensitive": True} if self.case_sensitive else {})}

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
        policy, allow_bare_number: see `ReadingVerifier`.

    Raises:
        ConfigError: a tolerance that is negative or not finite.
    """

    name = "numeric"

    def __init__(
        self,
        *,
        relative_tolerance: float = 1e-4,
        absolute_tolerance: float = 0.0,
        policy: str = "default",
        allow_bare_number: bool = False,
    ) -> None:
        super().__init__(policy=policy, allow_bare_number=allow_bare_number)
        for key, value in (("relative_tolerance", relative_tolerance), ("absolute_tolerance", absolute_tolerance)):
            if not 0 <= value < float("inf"):
                raise ConfigError(f"The verifier 'numeric' has {key} = {value}; it must be a number of at least 0.")
        self.relative_tolerance = Fraction(relative_tolerance)
        self.absolute_tolerance = Fraction(absolute_tolerance)

    @property
    def grading_options(self) -> Mapping[str, Any]:
        """See `ReadingVerifier.grading_options`."""
        given = {
            "relative_tolerance": (float(self.relative_tolerance), 1e-4),
            "absolute_tolerance": (float(self.absolute_tolerance), 0.0),
        }
        return {**super().grading_options, **{name: one for name, (one, usual) in given.items() if one != usual}}

    def equal(self, gold: str, answer: str) -> bool | None:
        expected = _numbers(gold)
        if not expected:
            return None
        return any(self._is_close(one, other) for one in expected for other in _numbers(answer))

    def _is_close(self, gold: Fraction, number: Fraction) -> bool:
        return abs(number - gold) <= max(self.relative_tolerance * abs(gold), self.absolute_tolerance)


class ChoiceVerifier(AnswerVerifier):
    """Right if the chosen letter is the gold one: ``B``, ``(b)``, ``\\text{(B)}``, ``B. Paris``, ``option B`` choose B.

    Where the options are known, the text of an option chooses it, too, and a letter beside another option's text
    chooses nothing.

    Args:
        choices: the letters that there are.
        policy: see `ReadingVerifier`.

    Raises:
        ConfigError: no letters, one twice, or anything else than letters; an unknown policy.
    """

    name = "choice"

    def __init__(self, *, choices: str = "ABCDE", policy: str = "default") -> None:
        super().__init__(policy=policy)
        self.choices = choices.upper()
        if not (choices.isascii() and choices.isalpha()) or len(set(self.choices)) < len(choices):
            raise ConfigError(f"The verifier 'choice' has choices = {choices!r}; give different letters, such as ABCD.")

    def verdicts(self, batch: GradingBatch) -> list[Verdict]:
        found = [self._policy.read(text, is_cut) for text, is_cut in zip(batch.texts, batch.is_cut, strict=True)]
        golds = map(read_gold, batch.answers)
        return [self._choice(*row) for row in zip(found, golds, batch.choices, strict=True)]

    def equal(self, gold: str, answer: str) -> bool | None:
        expected = self._letter(gold)
        return None if expected is None else self._letter(answer) == expected

    def _choice(self, found: Extraction, gold: Gold, options: Sequence[str]) -> Verdict:
        """The verdict on letters alone, after each side's text has been exchanged for its option's letter."""
        text = found.text if found.last is None else found.last
        if text is not None and found.letter is not None and self._letter(text) is None:
            text = found.letter
        if not options or text is None or gold.text is None:
            return self._verdict(replace(found, text=text, last=None), gold)
        expected, chosen = self._option(gold.text, options), self._option(text, options)
        verdict = self._verdict(replace(found, text=chosen, last=None), Gold(expected))
        return replace(verdict, extracted=text)

    def _option(self, text: str, options: Sequence[str]) -> str:
        """The letter of the option whose letter, text or both a text gives; the text itself if it is none of them."""
        named = [self._text(option) for option in options]
        letter, value = self._letter(text), self._text(read_choice(text).value)
        if letter is None:
            places = [place for place, option in enumerate(named) if option == self._text(text)]
            return chr(ord("A") + places[0]) if len(places) == 1 else text
        place = ord(letter) - ord("A")
        return "" if value and place < len(named) and value != named[place] else letter

    def _text(self, text: str) -> str:
        return canonical(read_choice(text).value or text).casefold()

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
