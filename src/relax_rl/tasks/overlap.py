"""The questions that two sets share, by a digest of a question without its formatting.

Letters, digits, the minus sign and mathematical signs such as ``+`` and ``<`` count; white space, dollar signs, braces,
punctuation, upper case and LaTeX that only changes the look (``\\left``, ``\\displaystyle``, ``\\,``) do not. Rewording
is not seen, so a count of shared questions is a lower bound; ``22.5`` and ``225`` are one, so it is a safe one.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata

__all__ = ["question_digest"]

_LOOK = re.compile(
    r"\\(?:left|right|displaystyle|textstyle|limits|bigg?|quad|qquad)(?![A-Za-z])|\\[ ,;:!]", re.IGNORECASE
)
_SMALL_FRACTION = re.compile(r"\\[dt]frac(?![A-Za-z])")


def question_digest(question: str) -> bytes:
    """128 bits of blake2b over the question without its look."""
    text = unicodedata.normalize("NFKC", question)
    text = _SMALL_FRACTION.sub(r"\\frac", _LOOK.sub("", text)).casefold()
    kept = "".join(sign for sign in text if sign.isalnum() or sign == "-" or unicodedata.category(sign) == "Sm")
    # Nothing is left of a question of emoji; it is then compared as it is.
    return hashlib.blake2b((kept or text).encode("utf-8", "surrogatepass"), digest_size=16).digest()
