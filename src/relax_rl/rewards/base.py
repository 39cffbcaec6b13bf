"""What every verifier promises, and the verdict of one that explains itself."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from relax_rl.errors import ConfigError, DataError
from relax_rl.rewards.batch import GradingBatch
from relax_rl.rewards.own_code import as_scores, called, is_own, place_of

__all__ = [
    "BaseVerifier",
    "ExplainingVerifier",
    "OneByOneVerifier",
    "Verdict",
    "Verifier",
    "as_verifier",
    "grade",
    "graded",
]


@dataclass(frozen=True)
class Verdict:
    """The score of one completion and how it came about.

    A ``reason`` says that the score is no judgement on the answer's content. There are two kinds, and the score tells
    which. Make them by `unscored` and `ungradable`.

    ============  ================================  ==========================================
    ``score``     the fault is                      what happens to the completion
    ============  ================================  ==========================================
    None          the gold answer's or the          left out of means and of the loss, and
                  grader's                          counted; too many of them stop a run
    0.0           the answer's: no grader could     counted as wrong, and counted apart
                  read it within its limits
    ============  ================================  ==========================================

    The policy decides whether its answer can be graded. If such an answer were left out, it would be better than a
    wrong one, and a policy would learn to write it.

    Attributes:
        score: 1.0 right, 0.0 wrong, None: could not be scored.
        extracted: the text taken for the answer; None if the completion has none (or the verifier takes none).
        how: where it was found, as :class:`.extraction.Extraction` has it: ``boxed``, ``tagged``, ``stated``, ``bold``,
            ``display`` or ``bare number``; or why there is none: ``no answer``, ``unclosed box``, ``unclosed tag``,
            ``unclosed thought``, ``retracted``, ``truncated`` (all score 0.0).
        reason: None, or what is at fault: ``gold unreadable``, ``too long``, ``too large``, ``budget``, or a reason of
            :class:`.pool.Outcome`.
        detail: the words of an error, or what a format lacks, for people.
        parts: of a weighted set, each member's name and own score.
        type: what kind of answer the gold one is to the verifier: ``number``, ``tuple``, ``interval``, ...; "" if it
            has no kinds.
        mode: key of the solution that the completion found, or in mathematics of its answer: the same for two
            completions of a problem exactly if they found the same one. None if there is none or the verifier has no
            modes (`BaseVerifier.has_modes`). It must not change with what a policy can vary for free, such as white
            space or the order of a sum.
    """

    score: float | None
    extracted: str | None = None
    how: str = ""
    reason: str | None = None
    detail: str = ""
    parts: tuple[tuple[str, float | None], ...] = ()
    type: str = ""
    mode: str | None = None

    @classmethod
    def unscored(cls, reason: str, detail: str = "", *, extracted: str | None = None, how: str = "") -> Verdict:
        """No score: the gold answer or the grader is at fault."""
        return cls(None, extracted, how, reason, detail)

    @classmethod
    def ungradable(cls, reason: str, detail: str = "", *, extracted: str | None = None, how: str = "") -> Verdict:
        """Score 0.0: the answer is at fault, beside a gold answer that can be read."""
        return cls(0.0, extracted, how, reason, detail)

    @property
    def is_ungradable(self) -> bool:
        """Whether the score is 0.0 because no grader could read the answer within its limits."""
        return self.score is not None and self.reason is not None


@runtime_checkable
class Verifier(Protocol):
    """Grades completions against gold answers, in bounded time, whatever a policy wrote.

    A score is 1.0 (right) or 0.0 (wrong), or anything between for a verifier that documents partial credit. ``None``
    means *could not be scored*: the gold answer is unreadable, or the grader itself failed. It is never a polite 0.0;
    callers leave such a completion out of means and out of the loss, and count it. An answer that exhausts the grader's
    limits beside a readable gold answer scores 0.0 (see `Verdict`).
    """

    @property
    def name(self) -> str:
        """Short name for metric keys and tables, such as ``"countdown"``."""
        ...

    def score(self, completions: Sequence[str], answers: Sequence[str]) -> list[float | None]:
        """Score ``completions[i]`` against the gold ``answers[i]``.

        Both sequences have the same length, else ``DataError``. Completions are untrusted text and never raise.
        """
        ...


@runtime_checkable
class ExplainingVerifier(Verifier, Protocol):
    """A verifier whose verdicts say what was extracted, how, and why there is none."""

    def grade(self, completions: Sequence[str], answers: Sequence[str]) -> list[Verdict]:
        """As ``score``, with the reasons."""
        ...


class BaseVerifier(ABC):
    """What the package asks of every verifier. A subclass has a ``name`` and writes `verdicts`.

    Attributes:
        has_modes: its verdicts have a `Verdict.mode` where a solution was found.
    """

    name: str
    has_modes: bool = False

    @property
    def tells_solutions(self) -> bool:
        """Whether right completions of one problem may have different modes. If not, the number of solutions found says
        no more than pass@k, and evaluations leave it out."""
        return self.has_modes

    @property
    def graded_by(self) -> type:
        """The class whose code decides the verdicts; a digest of its file is in every result."""
        return type(self)

    @property
    def described(self) -> str:
        """The verifier in words, with the place of its code, to begin a sentence with."""
        return f"The verifier '{self.name}' ({place_of(self.graded_by)})"

    @property
    def is_own_code(self) -> bool:
        """Whether a user wrote what decides the scores, so that it is tried before a run begins."""
        return is_own(self.graded_by)

    @property
    def grading_options(self) -> Mapping[str, Any]:
        """Options that decide verdicts and are not the default, as JSON: a part of an evaluation's identity."""
        return {}

    def gold_forms(self, gold: str) -> tuple[str, ...]:
        """Completions that state a gold answer in every form that must score 1.0; none if golds are of another kind."""
        return ()

    def with_policy(self, policy: str | None) -> BaseVerifier:
        """The same verifier with another policy of finding the answer in a completion; None: as it is.

        Raises:
            ConfigError: an unknown policy, or a verifier that finds the answer in its own way.
        """
        if policy is None:
            return self
        raise ConfigError(
            f"The verifier '{self.name}' finds the answer in its own way and takes no policy; leave '{policy}' out."
        )

    @abstractmethod
    def verdicts(self, batch: GradingBatch) -> list[Verdict]:
        """One verdict a completion, in their order; never raises, whatever a completion holds."""

    def score(
        self, completions: Sequence[str], answers: Sequence[str], num_tokens: Sequence[int] | None = None
    ) -> list[float | None]:
        """The scores of `grade`."""
        return [verdict.score for verdict in self.grade(completions, answers, num_tokens)]

    def grade(
        self,
        completions: Sequence[str],
        answers: Sequence[str],
        num_tokens: Sequence[int] | None = None,
        *,
        truncated: Sequence[bool] | None = None,
        options: Sequence[Sequence[str]] | None = None,
    ) -> list[Verdict]:
        """The verdicts on ``completions[i]`` beside the gold ``answers[i]``; see `GradingBatch` for the columns.

        Raises:
            DataError: two columns differ in length.
        """
        return self.verdicts(
            GradingBatch(completions, answers, num_tokens=num_tokens, truncated=truncated, options=options)
        )

    def classes(self, answers: Sequence[str | None]) -> list[int | None]:
        """A label for each extracted answer, the same for equal ones; by default equal but for white space."""
        labels: dict[str, int] = {}
        return [None if text is None else labels.setdefault("".join(text.split()), len(labels)) for text in answers]


class OneByOneVerifier(BaseVerifier):
    """Judges one completion at a time: a subclass writes ``verdict``."""

    @abstractmethod
    def verdict(self, completion: str, answer: str) -> Verdict:
        """The verdict on one completion beside its gold answer; never raises, whatever the completion holds."""

    def verdicts(self, batch: GradingBatch) -> list[Verdict]:
        return [self.verdict(*pair) for pair in zip(batch.texts, batch.answers, strict=True)]


class _OwnVerifier(BaseVerifier):
    """A user's object with ``name`` and ``score``, and what else of `BaseVerifier` it may have, in any combination."""

    def __init__(self, own: Any) -> None:
        if not isinstance(own, Verifier):
            raise ConfigError(f"{own!r} is no verifier: it needs name and score(completions, answers).")
        self._own = own
        self.name = own.name
        self._what = f"The verifier '{own.name}' ({place_of(own)})"
        explains = isinstance(own, ExplainingVerifier)
        self._explain = own.grade if explains else None
        self._asks_truncated = explains and "truncated" in inspect.signature(own.grade).parameters
        self._asks_num_tokens = bool(getattr(own, "needs_num_tokens", False))
        self._classes = getattr(own, "classes", None)
        self.has_modes = bool(getattr(own, "has_modes", False))
        self._tells_solutions = bool(getattr(own, "tells_solutions", self.has_modes))

    @property
    def tells_solutions(self) -> bool:
        return self._tells_solutions

    @property
    def graded_by(self) -> type:
        return type(self._own)

    def verdicts(self, batch: GradingBatch) -> list[Verdict]:
        lengths: tuple[Any, ...] = (batch.num_tokens,) if self._asks_num_tokens else ()
        if self._explain is None:
            scores = called(self._what, self._own.score, batch.texts, batch.answers, *lengths)
            return [Verdict(score) for score in as_scores(scores, len(batch), self._what)]
        is_told = self._asks_truncated and batch.truncated is not None
        flags: dict[str, Any] = {"truncated": batch.truncated} if is_told else {}
        return called(self._what, self._explain, batch.texts, batch.answers, *lengths, **flags)

    def classes(self, answers: Sequence[str | None]) -> list[int | None]:
        return super().classes(answers) if self._classes is None else self._classes(answers)


def as_verifier(own: Verifier) -> BaseVerifier:
    """The door for verifiers that users write: any object with `Verifier`'s two members, as a `BaseVerifier`.

    The object may also have ``grade(completions, answers)``, with a parameter ``truncated`` if it asks for it,
    ``classes(answers)``, ``has_modes = True`` if its verdicts have modes, with ``tells_solutions = False`` if all right
    completions of a problem have one, and ``needs_num_tokens = True`` if both of its methods take ``num_tokens`` as the
    third argument. Nothing else in the package asks a verifier what it has.

    Raises:
        ConfigError: it has no ``name`` or no ``score``.
    """
    return own if isinstance(own, BaseVerifier) else _OwnVerifier(own)


def grade(
    verifier: Verifier,
    completions: Sequence[str],
    answers: Sequence[str],
    num_tokens: Sequence[int] | None = None,
    truncated: Sequence[bool] | None = None,
    opened: str | Sequence[str] = "",
    options: Sequence[Sequence[str]] | None = None,
) -> list[Verdict]:
    """The verdicts of any verifier; those of one that does not explain itself hold its scores alone.

    Args:
        opened: the tag of the thought that every prompt opened, or one for each completion; "" for none.
        num_tokens, truncated, options: see `GradingBatch`.

    Raises:
        DataError: two columns differ in length, or the verifier returns another number of verdicts.
    """
    tags = [opened] * len(completions) if isinstance(opened, str) else opened
    return graded(as_verifier(verifier), GradingBatch(completions, answers, tags, num_tokens, truncated, options))


def graded(verifier: BaseVerifier, batch: GradingBatch) -> list[Verdict]:
    """The verdicts on a batch. Raises DataError if the verifier returns more or fewer than there are completions."""
    verdicts = verifier.verdicts(batch)
    if len(verdicts) != len(batch):
        raise DataError(f"The verifier '{verifier.name}' returned {len(verdicts)} scores for {len(batch)} completions.")
    return verdicts
