"""The verifier of mathematical answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from relax_rl.errors import ConfigError
from relax_rl.rewards.base import Verdict
from relax_rl.rewards.batch import GradingBatch
from relax_rl.rewards.extraction import Extraction, Gold, chosen_pair, read_gold
from relax_rl.rewards.mathematics.classes import class_in_place, spelling_class
from relax_rl.rewards.mathematics.grammar.matching import is_collection, same_in_place, type_of
from relax_rl.rewards.mathematics.literals import is_too_large, with_decimal_points
from relax_rl.rewards.reading import ReadingVerifier
from relax_rl.rewards.workers.pool import Outcome, WorkerPool

__all__ = ["MathVerifier"]

# Longer than any gold answer known (210 characters), shorter than what a parser should be given.
_MAX_ANSWER_CHARS = 2000
# Of the limit of one comparison: what every pair gets first, before some of them may use all of it.
_QUICK_SHARE = 0.2
# The budget of a batch in CPU seconds, at least, and a pair.
_MIN_BUDGET_S, _PAIR_BUDGET_S = 60.0, 0.1


class MathVerifier(ReadingVerifier):
    """Grades completions against gold answers in LaTeX or plain text.

    Equal spellings, rational numbers (exactly: 0.333 is not 1/3) and collections of them are decided in place.
    Everything else is compared by ``math-verify`` in worker processes with hard limits, started when first needed. A
    verdict depends on the pair of texts alone: not on load, order or the number of workers. The one exception is a
    batch with more slow comparisons than its budget bears; the batch decides which of them are left out, not the
    machine.

    The mode of a completion is the class of its answer: ``right``, or ``wrong:`` and one text for all forms of the
    value (`.classes`). There is none without an answer that could be compared. All right completions of a problem are
    of one mode, so that modes tell wrong answers apart and no two solutions.

    An answer that is too long, too large, or that exhausts the limits of a grading process scores 0.0 with a reason, if
    its gold answer can be compared with other answers; else the gold answer is at fault, and there is no score.

    Args:
        timeout_s: CPU seconds that one comparison may take.
        budget_s: CPU seconds for the slow comparisons of one batch together: those that take more than a fifth of
            ``timeout_s``. Beyond it they score 0.0, reason ``budget``. None: 60, or 0.1 a pair if that is more.
        num_workers: worker processes; None: one per CPU, at most 8.
        memory_mb: address space of a worker, MiB.
        policy: convention of where the answer is; see `relax_rl.rewards.extraction.policies`.
        allow_bare_number: the policy ``lenient``: the last number of a completion that commits to no answer.
        decimal_comma: gold answers and completions write ``3,5`` for 3.5 and ``1.234,5`` for 1234.5; their lists are
            written with semicolons, or with a space behind the comma.

    Raises:
        ConfigError: an unknown policy, or a negative budget.
    """

    name = "math"
    has_modes = True

    def __init__(
        self,
        *,
        timeout_s: float = 5.0,
        num_workers: int | None = None,
        memory_mb: int = 1024,
        policy: str = "default",
        allow_bare_number: bool = False,
        budget_s: float | None = None,
        decimal_comma: bool = False,
    ) -> None:
        if budget_s is not None and not budget_s >= 0:
            raise ConfigError(f"budget_s is {budget_s}; give a number of seconds of at least 0.")
        super().__init__(policy=policy, allow_bare_number=allow_bare_number)
        self.budget_s = budget_s
        self.decimal_comma = decimal_comma
        self._is_comparable: dict[str, bool] = {}
        self._pool = WorkerPool(
            "relax_rl.rewards.mathematics.equivalence:ask",
            num_workers=num_workers,
            timeout_s=timeout_s,
            memory_mb=memory_mb,
        )

    @property
    def tells_solutions(self) -> bool:
        """No: equal answers are one solution."""
        return False

    @property
    def grading_options(self) -> Mapping[str, Any]:
        """The policy and the decimal comma, where they are not the default."""
        return {**super().grading_options, **({"decimal_comma": True} if self.decimal_comma else {})}

    def verdicts(self, batch: GradingBatch) -> list[Verdict]:
        """See `BaseVerifier.verdicts`.

        A stated answer at the very end of a truncated completion may be cut and is none. Where the options of a problem
        are known, a letter is as good as its value.
        """
        verdicts: list[Verdict | None] = []
        golds: list[str] = []
        undecided: dict[tuple[str, str], list[tuple[int, str]]] = {}
        rows = zip(batch.texts, batch.answers, batch.is_cut, batch.choices, strict=True)
        for index, (completion, answer, is_truncated, texts) in enumerate(rows):
            found = self._policy.read(completion, is_truncated)
            gold, text, verdict = _read_beside(read_gold(answer), found, texts)
            gold, text = (self._with_points(gold), None if text is None else self._with_points(text))
            golds.append(gold)
            verdicts.append(verdict or _verdict_in_place(gold, text, found.how))
            if verdicts[-1] is None and text is not None:
                undecided.setdefault((gold, text), []).append((index, found.how))
        outcomes = self._compare(list(undecided))
        self._probe({gold for (gold, _), outcome in zip(undecided, outcomes, strict=True) if outcome.is_of_item})
        for (gold, text), outcome in zip(undecided, outcomes, strict=True):
            for index, how in undecided[gold, text]:
                verdicts[index] = self._verdict(gold, text, how, outcome)
        typed = [
            replace(verdict, type=type_of(gold) if len(gold) <= _MAX_ANSWER_CHARS else "")
            for verdict, gold in zip(verdicts, golds, strict=True)
            if verdict is not None
        ]
        return self._with_modes(typed)

    def classes(self, answers: Sequence[str | None]) -> list[int | None]:
        """A label for each extracted answer, the same for equal ones, so that ``0.5`` and ``\\frac12`` are one vote.

        Labels count from 0 in order of first appearance; None where there is no answer. Which answers share a label
        does not depend on their order. An answer that cannot be compared is equal only to its own spelling.
        """
        left = sorted({answer for answer in answers if answer is not None}, key=lambda text: (len(text), text))
        leader: dict[str, str] = {}
        while left:
            first, *rest = left
            leader[first] = first
            verdicts = self._same(first, rest)
            leader.update({text: first for text, is_same in zip(rest, verdicts, strict=True) if is_same})
            left = [text for text, is_same in zip(rest, verdicts, strict=True) if not is_same]
        labels: dict[str, int] = {}
        return [None if text is None else labels.setdefault(leader[text], len(labels)) for text in answers]

    def close(self) -> None:
        """End the worker processes now rather than with the interpreter."""
        self._pool.close()

    def _with_modes(self, verdicts: Sequence[Verdict]) -> list[Verdict]:
        """The verdicts with the class of each answer that was compared."""
        texts = dict.fromkeys(
            of.extracted for of in verdicts if of.score == 0 and of.reason is None and of.extracted is not None
        )
        classes = {text: class_in_place(text) for text in texts if not is_too_large(text)}
        asked = [text for text, found in classes.items() if found is None]
        limit = _QUICK_SHARE * self._pool.timeout_s
        for text, outcome in zip(
            asked, self._pool.map([("class", text) for text in asked], timeout_s=limit), strict=True
        ):
            classes[text] = spelling_class(text) if outcome.value is None else outcome.value["class"]
        return [replace(of, mode=_mode(of, classes)) for of in verdicts]

    def _with_points(self, text: str) -> str:
        return with_decimal_points(text) if self.decimal_comma else text

    def _same(self, first: str, others: Sequence[str]) -> list[bool]:
        """Which of the others equal the first; one that cannot be compared does not."""
        short = [text for text in others if max(len(first), len(text)) <= _MAX_ANSWER_CHARS]
        known = {text: same_in_place(first, text) for text in short}
        asked = [text for text in short if known[text] is None and not is_too_large(text)]
        if asked and is_too_large(first):
            asked = []
        compared = self._compare([(first, text) for text in asked])
        known.update({text: _equality(outcome) for text, outcome in zip(asked, compared, strict=True)})
        return [bool(known.get(text)) for text in others]

    def _compare(self, pairs: Sequence[tuple[str, str]]) -> list[Outcome]:
        """What the grading processes say of each pair, gold first."""
        limit = self._pool.timeout_s
        outcomes = self._pool.map([("compare", *pair) for pair in pairs], timeout_s=_QUICK_SHARE * limit)
        slow = [place for place, outcome in enumerate(outcomes) if outcome.reason == "timeout"]
        if not slow:
            return outcomes
        budget = max(_MIN_BUDGET_S, _PAIR_BUDGET_S * len(pairs)) if self.budget_s is None else self.budget_s
        # As if each took its whole limit, so that the choice does not depend on the machine; short answers first.
        slow.sort(key=lambda place: (len(pairs[place][1]), pairs[place]))
        num_chosen = int(budget / limit)
        for place in slow[num_chosen:]:
            outcomes[place] = Outcome(reason="budget", detail=f"{len(slow)} slow comparisons in {budget:g} s")
        chosen = slow[:num_chosen]
        again = self._pool.map([("compare", *pairs[place]) for place in chosen])
        for place, outcome in zip(chosen, again, strict=True):
            outcomes[place] = outcome
        return outcomes

    def _probe(self, golds: set[str]) -> None:
        """Find out which gold answers can be compared with a harmless answer, within the same limits."""
        asked = sorted(golds - self._is_comparable.keys())
        for gold, outcome in zip(asked, self._pool.map([("compare", gold, None) for gold in asked]), strict=True):
            if outcome.reason is None or outcome.is_of_item:
                self._is_comparable[gold] = _equality(outcome) is not None

    def _verdict(self, gold: str, text: str, how: str, outcome: Outcome) -> Verdict:
        if outcome.reason is None:
            same = _equality(outcome)
            if same is not None:
                return Verdict(float(same), text, how)
            return Verdict.unscored("gold unreadable", extracted=text, how=how)
        if not outcome.is_of_item:
            return Verdict.unscored(outcome.reason, outcome.detail, extracted=text, how=how)
        if not self._is_comparable.get(gold, False):
            detail = f"no answer can be compared with it ({outcome.reason})"
            return Verdict.unscored("gold unreadable", detail, extracted=text, how=how)
        return Verdict.ungradable(outcome.reason, outcome.detail, extracted=text, how=how)


def _mode(verdict: Verdict, classes: Mapping[str, str | None]) -> str | None:
    """``right``, or the class of an answer that is wrong and not merely unreadable."""
    if verdict.score == 1:
        return "right"
    found = classes.get(verdict.extracted or "") if verdict.score == 0 and verdict.reason is None else None
    return None if found is None else f"wrong: {found}"


def _equality(outcome: Outcome) -> bool | None:
    """What `.equivalence.compare` found; None if the gold answer is unreadable, or there is no value."""
    return None if outcome.value is None else outcome.value["verdict"]


def _read_beside(gold: Gold, found: Extraction, options: Sequence[str]) -> tuple[str, str | None, Verdict | None]:
    """(gold answer, answer) as they are compared, or the verdict, if reading both is enough for one.

    Boxes that are joined are one list beside a gold list; beside a single gold answer the last box wins.
    """
    if gold.text is None:
        verdict = Verdict.unscored("gold unreadable", gold.reason, extracted=found.text, how=found.how)
        return "", found.text, verdict
    text = found.text if found.last is None or is_collection(gold.text) else found.last
    if text is None or max(len(text), len(gold.text)) > _MAX_ANSWER_CHARS:
        return gold.text, text, None
    pair = chosen_pair(gold.text, found, text, options, same_in_place)
    return (gold.text, text, Verdict(0.0, text, found.how)) if pair is None else (*pair, None)


def _verdict_in_place(gold: str, extracted: str | None, how: str) -> Verdict | None:
    """The verdict, if it takes no algebra."""
    if not gold:
        return Verdict.unscored("gold unreadable", "the gold answer is empty", extracted=extracted, how=how)
    if len(gold) > _MAX_ANSWER_CHARS:
        detail = f"the gold answer has {len(gold)} characters, at most {_MAX_ANSWER_CHARS} are read"
        return Verdict.unscored("gold unreadable", detail, extracted=extracted, how=how)
    if extracted is None:
        return Verdict(0.0, None, how)
    if len(extracted) > _MAX_ANSWER_CHARS:
        detail = f"{len(extracted)} characters, at most {_MAX_ANSWER_CHARS}"
        return Verdict.ungradable("too long", detail, extracted=extracted, how=how)
    same = same_in_place(gold, extracted)
    if same is None and is_too_large(extracted) and not is_too_large(gold):
        return Verdict.ungradable("too large", "a number of thousands of digits", extracted=extracted, how=how)
    return None if same is None else Verdict(float(same), extracted, how)
