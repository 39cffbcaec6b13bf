"""Verdicts on samples: what was extracted, which answers are equal, which calculations are the same."""

from __future__ import annotations

import hashlib
import importlib.metadata
import inspect
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from relax_rl.evaluation.records import Sample
from relax_rl.rewards.base import Verifier, as_verifier, grade
from relax_rl.version import __version__

__all__ = ["grade_samples", "grader_version", "grading_options", "solution_path"]

_STEP = re.compile(r"\d+(?:[.,]\d+)*|[-+*/^=<>]|\\(?:frac|cdot|times|div|sqrt)(?![A-Za-z])", re.ASCII)
_SPELLINGS = {"\\times": "*", "\\cdot": "*", "\\div": "/", "×": "*", "·": "*", "÷": "/", "−": "-"}


def grade_samples(
    verifier: Verifier,
    samples: Sequence[Sequence[Sample]],
    answers: Sequence[str],
    opened: Sequence[str] | None = None,
    options: Sequence[Sequence[str]] | None = None,
) -> list[list[Sample]]:
    """Every sample with its verdict, the class of its answer and its path.

    Args:
        samples: one list a problem.
        answers: the gold answer of each problem.
        opened: the marker of the thought that each problem's prompt opened; None: no prompt did.
        options: the texts of the options of each problem; None: no problem has any.

    Raises:
        DataError: the verifier returns another number of scores than it was asked for.
    """
    flat = [sample for row in samples for sample in row]
    golds = [answer for row, answer in zip(samples, answers, strict=True) for _ in row]
    markers = [""] * len(samples) if opened is None else opened
    tags = [marker for row, marker in zip(samples, markers, strict=True) for _ in row]
    choices = None if options is None else [of for row, of in zip(samples, options, strict=True) for _ in row]
    # An answer that the length limit cut is none; only the caller knows that it was reached.
    cut = [sample.truncated for sample in flat]
    texts = [sample.completion for sample in flat]
    verdicts = iter(grade(verifier, texts, golds, truncated=cut, opened=tags, options=choices))
    graded, known = [], as_verifier(verifier)
    for row, answer, marker in zip(samples, answers, markers, strict=True):
        found = [next(verdicts) for _ in row]
        classes = known.classes([verdict.extracted for verdict in found])
        graded.append(
            [
                replace(
                    sample,
                    answer=answer,
                    score=verdict.score,
                    extracted=verdict.extracted,
                    how=verdict.how,
                    reason=verdict.reason,
                    detail=verdict.detail,
                    type=verdict.type,
                    opened=marker,
                    answer_class=label,
                    path=solution_path(sample.completion),
                    mode=verdict.mode,
                )
                for sample, verdict, label in zip(row, found, classes, strict=True)
            ]
        )
    return graded


def solution_path(completion: str) -> str:
    """A digest of the numbers and signs of a completion in their order: its calculation without its words.

    Two completions that calculate the same in other words, other white space or other spellings of a sign take the same
    path. Empty for a completion without numbers.
    """
    for spelling, sign in _SPELLINGS.items():
        completion = completion.replace(spelling, sign)
    steps = " ".join(_STEP.findall(completion))
    return hashlib.blake2b(steps.encode(), digest_size=8).hexdigest() if steps else ""


def grading_options(verifier: Verifier) -> dict[str, Any]:
    """The verifier's options that decide verdicts and are not the default, as JSON: a part of an evaluation's identity.

    Two evaluations with other options are not compared as if they were one.
    """
    return dict(as_verifier(verifier).grading_options)


def grader_version(verifier: Verifier) -> str:
    """The verifier's name, our version, a digest of the code beside it, and math-verify's version if it is used."""
    kind = as_verifier(verifier).graded_by
    source = inspect.getsourcefile(kind)
    files = sorted(Path(source).parent.glob("*.py")) if source else []
    if not kind.__module__.startswith("relax_rl."):
        files = files and [Path(source or "")]  # a user's own verifier: its neighbours may have nothing to do with it
    digest = hashlib.blake2b(b"".join(file.read_bytes() for file in files), digest_size=4).hexdigest()
    uses = f", math-verify {importlib.metadata.version('math-verify')}" if verifier.name == "math" else ""
    return f"{verifier.name}, relax-rl {__version__} ({digest}){uses}"
