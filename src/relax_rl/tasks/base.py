"""Protocol of every task, and the check that a task can prove itself."""

from __future__ import annotations

import hashlib
import logging
import math
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from relax_rl.errors import ConfigError, DataError
from relax_rl.rewards.base import Verdict, Verifier, as_verifier, grade
from relax_rl.rewards.own_code import called, is_own, place_of
from relax_rl.tasks.images.faults import fault_of, fault_words
from relax_rl.tasks.images.picture import Picture, as_picture

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = [
    "BaseTask",
    "FindsTooLong",
    "Problem",
    "Task",
    "TaskReport",
    "answers_to_try",
    "as_task",
    "digest",
    "image_digest",
    "in_order",
    "validate_task",
]


_LOG = logging.getLogger(__name__)
_MARK = re.compile(r"<image (\d{1,3})>", re.ASCII)


@dataclass(frozen=True)
class Problem:
    """One question, in the words for both kinds of model, with all that its verifier needs.

    Attributes:
        id: Unique within the task, and stable: the same split, seed and index give the same id and the same problem.
        prompt: Plain text for a model without a chat template.
        answer: The gold answer, in the verifier's own format.
        system: System message for a chat model, if the task wants one.
        instruction: What a chat model is asked; ``None`` means the same words as ``prompt`` (see ``question``).
        solution: A whole completion that must score 1.0, if the task knows one.
        mistake: A whole completion that must score 0.0 although it looks like an answer, if the task knows one.
        images: What is shown with the question, before its words: PIL images, or a `Picture`, which is decoded when
            it is used. Only an image-text model with a chat template is given such problems.
        interleaved: ``<image 1>``, ``<image 2>``, ... in the question is where the first, the second, ... image is
            shown. An image without a mark is shown before the words; a second mark of an image stays as words.
        options: The texts of a multiple-choice question, in the order of their letters; a verifier that asks for them
            gets them beside ``answer``.
        turns: (role, text) of what was said before the question, oldest first, without the system message.
        columns: Further columns of the row, for reward functions that take them by name as TRL passes them.
        group: Problems of one group are variants of one question, so that an evaluation resamples groups and asks
            which are right in all variants; "" for a problem that stands alone.
        facets: What the problem is an example of, by the name of the division: ``{"subject": ("Art",)}``. An evaluation
            gives a mean for each.
    """

    id: str
    prompt: str
    answer: str
    system: str | None = None
    instruction: str | None = None
    solution: str | None = None
    mistake: str | None = None
    images: tuple[Image | Picture, ...] = field(default=(), hash=False)
    options: tuple[str, ...] = ()
    turns: tuple[tuple[str, str], ...] = ()
    columns: Mapping[str, Any] = field(default_factory=dict, hash=False)
    # Not in the repr, which stands for what a model reads.
    interleaved: bool = field(default=False, repr=False)
    group: str = field(default="", repr=False)
    facets: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]], hash=False, repr=False)

    @property
    def pictures(self) -> tuple[Picture, ...]:
        """The images, none of them decoded yet. Raises DataError for what is no image."""
        return tuple(
            as_picture(image, name=f"image {place} of {self.id}") for place, image in enumerate(self.images, 1)
        )

    @property
    def image_names(self) -> tuple[str, ...]:
        """A name for each image in records: its file, or the problem's id with its number."""
        return tuple(picture.name or f"{self.id}#{place}" for place, picture in enumerate(self.pictures, 1))

    @property
    def parts(self) -> tuple[str | Picture, ...]:
        """The question as it is shown: words and images in their order."""
        pictures = self.pictures
        if not self.interleaved:
            return (*pictures, self.question)
        words, start, shown = list[str | Picture](), 0, set[int]()
        for mark in _MARK.finditer(self.question):
            place = int(mark[1]) - 1
            if place in shown or not 0 <= place < len(pictures):
                continue
            shown.add(place)
            words += [self.question[start : mark.start()], pictures[place]]
            start = mark.end()
        words.append(self.question[start:])
        before = [picture for place, picture in enumerate(pictures) if place not in shown]
        return (*before, *(part for part in words if part != ""))

    @property
    def question(self) -> str:
        """The user turn for a chat model."""
        return self.prompt if self.instruction is None else self.instruction

    @property
    def messages(self) -> list[dict[str, str]]:
        """The words of the conversation for a chat model, as ``apply_chat_template`` takes them."""
        first = () if self.system is None else (("system", self.system),)
        spoken = (*first, *self.turns, ("user", self.question))
        return [{"role": role, "content": text} for role, text in spoken]


@runtime_checkable
class Task(Protocol):
    """A source of problems together with the verifier that grades them."""

    @property
    def name(self) -> str:
        """Name on the command line and in tables."""
        ...

    @property
    def verifier(self) -> Verifier:
        """The verifier that reads this task's ``Problem.answer``."""
        ...

    def problems(self, split: str, count: int | None = None, seed: int = 0) -> list[Problem]:
        """The first ``count`` problems of a split, the same ones every time.

        ``None`` means the whole split, or the size that a task without end documents. Raises ``DataError`` for a split
        that the task does not have, or if it has fewer problems than asked for.
        """
        ...


FindsTooLong = Callable[[Sequence[Problem]], Collection[str]]
"""The ids of those among some problems whose prompt is too long."""


class BaseTask:
    """Base of every task, with defaults for all but `Task`'s three members.

    Attributes:
        is_endless: problems are made as many as asked for, so that an evaluation needs another number than "all".
        group_size: problems of ``test`` come in multiples of it: the variants of a question.
    """

    name: str
    verifier: Verifier
    is_endless: bool = False
    group_size: int = 1

    @property
    def pays_parts(self) -> bool:
        """Whether its verifier gives scores between 0 and 1."""
        return False

    def problems(self, split: str, count: int | None = None, seed: int = 0) -> list[Problem]:
        """See `Task.problems`."""
        raise NotImplementedError

    def remarks(self, split: str) -> list[str]:
        """Remarks on the data of a split, a line each: repeats, contradictions, guesses."""
        return []

    def fitting(self, too_long: FindsTooLong) -> BaseTask:
        """The task without the problems that are too long, if the user asked for that; else the task as it is.

        Args:
            too_long: gives the ids of those among some problems whose prompt leaves the model no room.
        """
        return self

    def left_out(self, split: str, count: int | None = None, seed: int = 0) -> tuple[str, ...]:
        """Ids of the problems that the same call of `problems` leaves out, since their prompt is too long."""
        return ()


class _OwnTask(BaseTask):
    """A user's object with `Task`'s three members, and ``is_endless`` if it likes."""

    def __init__(self, own: Task) -> None:
        self._own = own
        self.name = own.name
        self._what = f"The task '{own.name}' ({place_of(own)})"
        self.verifier = as_verifier(own.verifier)
        self.is_endless = bool(getattr(own, "is_endless", False))

    def problems(self, split: str, count: int | None = None, seed: int = 0) -> list[Problem]:
        problems = list(called(self._what, self._own.problems, split, count, seed))
        for number, problem in enumerate(problems):
            if not isinstance(problem, Problem):
                raise DataError(f"{self._what} returned {problem!r:.80} as problem {number}; return a list of Problem.")
            wrong = [name for name in ("id", "prompt", "answer") if not isinstance(getattr(problem, name), str)]
            if wrong:
                raise DataError(
                    f"{self._what} returned problem {number} with {wrong[0]} = {getattr(problem, wrong[0])!r:.80}; it "
                    "must be text."
                )
        return self._usable(problems)

    def _usable(self, problems: list[Problem]) -> list[Problem]:
        """The problems without those whose images cannot be used, which are named and counted in the log."""
        faults = {problem.id: why for problem in problems if problem.images and (why := fault_of(problem.images))}
        if (words := fault_words(faults.items())) is not None:
            _LOG.warning("%s: %s.", self._what, words)
        return [problem for problem in problems if problem.id not in faults]


def as_task(own: Any, words: str = "") -> BaseTask:
    """The door for tasks that users write: any object with `Task`'s three members, as a `BaseTask`.

    Args:
        words: the user's words for it, for the error.

    Raises:
        ConfigError: one of the members is missing.
    """
    if isinstance(own, BaseTask) and not is_own(type(own)):
        return own
    if not isinstance(own, Task):
        raise ConfigError(f"{words or repr(own)} is no task: it needs name, verifier and problems(split, count, seed).")
    return _OwnTask(own)


@dataclass(frozen=True)
class TaskReport:
    """Result of ``validate_task``; every tuple of ids is empty for a sound task."""

    task: str
    split: str
    checked: int
    unsolved: tuple[str, ...]
    """Ids whose gold solution did not score 1.0."""
    too_lenient: tuple[str, ...]
    """Ids for which a wrong completion did not score 0.0."""
    without_solution: tuple[str, ...]
    """Ids with no known solution: only wrong completions were tried."""
    repeated_ids: tuple[str, ...]
    unscored: tuple[str, ...] = ()
    """Ids with a completion that got no score, None or NaN, right or wrong: they are failures above, too."""
    unreadable: Mapping[str, str] = field(default_factory=dict[str, str])
    """Ids whose gold answer does not score 1 where a completion boxes it, or in no other form, and why."""

    @property
    def ok(self) -> bool:
        """Whether no problem failed. Problems without a known solution are no failure, but nothing proves them."""
        return not (self.unsolved or self.too_lenient or self.repeated_ids or self.unreadable)

    @property
    def failures(self) -> dict[str, str]:
        """Fault of each id that failed, in words."""
        found = [
            (self.unsolved, "the gold solution does not score 1"),
            (self.too_lenient, "a wrong answer does not score 0"),
            (self.repeated_ids, "the id occurs more than once"),
            (self.unscored, "a completion gets no score"),
        ]
        words = {problem_id: f"gold unreadable: {why}" for problem_id, why in self.unreadable.items()}
        for ids, what in found:
            for problem_id in ids:
                words[problem_id] = f"{words[problem_id]}; {what}" if problem_id in words else what
        return words

    def __str__(self) -> str:
        """One line for people."""
        proven = self.checked - len(self.without_solution) - len(self.unsolved)
        unscored = f", {len(self.unscored)} have completions without a score" if self.unscored else ""
        unscored += f", {len(self.unreadable)} have an unreadable gold answer" if self.unreadable else ""
        return (
            f"{self.task}/{self.split}: {self.checked} problems, {proven} gold solutions score 1, "
            f"{len(self.unsolved)} do not, {len(self.too_lenient)} accept a wrong answer, "
            f"{len(self.without_solution)} have no known solution, {len(self.repeated_ids)} repeated ids{unscored}"
        )


# Wrong for any task with a checkable answer: an empty completion, and one that commits to nothing readable.
WRONG_COMPLETIONS = ("", "I do not know. <answer>unknown</answer> \\boxed{\\text{unknown}}")


def validate_task(
    task: Task, split: str, count: int | None = None, *, seed: int = 0, wrong: Sequence[str] = WRONG_COMPLETIONS
) -> TaskReport:
    """Let a task prove itself on every problem: the gold solution scores 1.0; ``wrong`` and its mistake score 0.0.

    If the verifier reads gold answers as it reads completions, each one must also score 1.0 when a completion boxes it,
    and when one tags it or states it in a sentence. A gold answer against itself would prove nothing: equal texts are
    equal. A score of None or NaN counts as failure on both sides: a problem whose gold answer cannot be read is broken.

    Raises:
        DataError: The split is empty, so that nothing would be proven.
    """
    problems = task.problems(split, count, seed)
    if not problems:
        raise DataError(f"Task {task.name!r} has no problems in split {split!r}, so there is nothing to validate.")
    right = [(problem, problem.solution) for problem in problems if problem.solution is not None]
    slips = [(problem, problem.mistake) for problem in problems if problem.mistake is not None]
    slips += [(problem, completion) for completion in wrong for problem in problems]
    solved, accepted = _scores(task, right), _scores(task, slips)
    seen: set[str] = set()
    repeated = {p.id for p in problems if p.id in seen or seen.add(p.id)}
    return TaskReport(
        task=task.name,
        split=split,
        checked=len(problems),
        unsolved=tuple(problem_id for problem_id, score in solved if score != 1.0),
        too_lenient=tuple(sorted({problem_id for problem_id, score in accepted if score != 0.0})),
        without_solution=tuple(p.id for p in problems if p.solution is None),
        repeated_ids=tuple(sorted(repeated)),
        unscored=tuple(sorted({problem_id for problem_id, score in [*solved, *accepted] if math.isnan(score)})),
        unreadable=_unreadable(task, problems),
    )


def _unreadable(task: Task, problems: Sequence[Problem]) -> dict[str, str]:
    """Why a gold answer is not right where a completion boxes it, or nowhere else either, by the problem's id."""
    verifier = as_verifier(task.verifier)
    stated = [(problem, form) for problem in problems for form in verifier.gold_forms(problem.answer)]
    golds, options = [problem.answer for problem, _ in stated], [problem.options for problem, _ in stated]
    verdicts = grade(verifier, [form for _, form in stated], golds, options=options)
    by_problem: dict[str, list[Verdict]] = {}
    for (problem, _), verdict in zip(stated, verdicts, strict=True):
        by_problem.setdefault(problem.id, []).append(verdict)
    found: dict[str, str] = {}
    for problem_id, (boxed, *others) in by_problem.items():
        if boxed.score != 1.0 or (others and all(other.score != 1.0 for other in others)):
            first = boxed if boxed.score != 1.0 else others[0]
            found[problem_id] = (
                first.detail or first.reason or f"a completion with it is read as {first.extracted!r:.80}"
            )
    return found


def _scores(task: Task, pairs: Sequence[tuple[Problem, str]]) -> list[tuple[str, float]]:
    """(id, score) of each completion; NaN: it has none."""
    scores = task.verifier.score([text for _, text in pairs], [problem.answer for problem, _ in pairs])
    return [
        (problem.id, math.nan if score is None else score) for (problem, _), score in zip(pairs, scores, strict=True)
    ]


def answers_to_try(problems: Sequence[Problem]) -> tuple[list[str], list[str | None]]:
    """Gold answers and known solutions of the first problems, as `relax_rl.rewards.trial.try_verifier` takes them."""
    return [problem.answer for problem in problems[:16]], [problem.solution for problem in problems[:16]]


def in_order(problems: Sequence[Problem], count: int | None, seed: int, *, source: str, split: str) -> list[Problem]:
    """The first ``count`` of a stored list: its own order for seed 0, another fixed one for each other seed.

    Raises:
        DataError: fewer problems than asked for; ``source`` says of what, ``split`` of which part.
    """
    if count is not None and count < 0:
        raise DataError(f"{count} problems of '{split}' were asked for; give a number of at least 0.")
    if count is not None and count > len(problems):
        raise DataError(f"{source} has {len(problems)} problems in '{split}'; {count} were asked for.")
    if seed != 0:
        problems = sorted(problems, key=lambda problem: digest("math", str(seed), problem.id))
    return list(problems[:count])


def digest(*parts: str) -> int:
    """64 bits of blake2b over the parts: seeds and shares that depend on nothing else."""
    return int.from_bytes(hashlib.blake2b("\x1f".join(parts).encode(), digest_size=8).digest(), "big")


def image_digest(images: Sequence[Any]) -> str:
    """Hexadecimal digits that tell images by what they show (PIL) or by their encoded bytes; "" without any."""
    found = hashlib.blake2b(digest_size=8)
    for image in images:
        found.update(as_picture(image).identity)
    return found.hexdigest() if images else ""
