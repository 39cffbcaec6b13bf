"""The verifier of answers with a type."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from relax_rl.rewards.base import Verdict
from relax_rl.rewards.batch import GradingBatch
from relax_rl.rewards.extraction import Gold, read_choice, stated_forms
from relax_rl.rewards.mathematics.answers import AnswerVerifier, ChoiceVerifier
from relax_rl.rewards.mathematics.verifier import MathVerifier
from relax_rl.rewards.visual.comparison import COMPARED
from relax_rl.rewards.visual.gold import TypedGold, read_typed

__all__ = ["TypedVerifier"]

_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


class TypedVerifier(AnswerVerifier):
    """Grades each completion by the type of its gold answer (`.gold.TypedGold`).

    A gold answer without a type is mathematics. A completion that says nothing scores 0.0 under every type.

    Args:
        policy: convention of where the answer is; see `relax_rl.rewards.extraction.policies`.
    """

    name = "typed"

    def __init__(self, *, policy: str = "default") -> None:
        super().__init__(policy=policy)
        self._math = MathVerifier(policy=policy)
        self._choice = ChoiceVerifier(choices=_LETTERS, policy=policy)

    def gold_forms(self, gold: str) -> tuple[str, ...]:
        """See `BaseVerifier.gold_forms`; of a value in the form that a completion gives it."""
        one = read_typed(gold)
        if one is None:
            return stated_forms(gold, self.policy)
        return stated_forms(one.members[0] if one.kind == "any" else one.value, self.policy)

    def equal(self, gold: str, answer: str) -> bool | None:
        one = read_typed(gold)
        return None if one is None or one.kind not in COMPARED else COMPARED[one.kind](one, answer)

    def verdicts(self, batch: GradingBatch) -> list[Verdict]:
        """See `BaseVerifier.verdicts`; ``type`` is the kind of the gold answer."""
        texts, flags = batch.texts, batch.is_cut
        golds = [read_typed(answer) or TypedGold("math", answer) for answer in batch.answers]
        verdicts = [self._one(*row) for row in zip(texts, golds, flags, batch.choices, strict=True)]
        places = [place for place, gold in enumerate(golds) if gold.kind == "math"]
        policy = self._math.with_policy(self.policy)
        graded = policy.grade(
            [texts[place] for place in places],
            [golds[place].value for place in places],
            truncated=[flags[place] for place in places],
        )
        for place, verdict in zip(places, graded, strict=True):
            verdicts[place] = verdict
        return [replace(one, type=one.type or gold.kind) for one, gold in zip(verdicts, golds, strict=True)]

    def _one(self, completion: str, gold: TypedGold, is_cut: bool, options: Sequence[str]) -> Verdict:
        if gold.kind == "math":  # graded together
            return Verdict(0.0)
        if gold.kind == "choice":
            return self._chosen(completion, gold, is_cut, options)
        found = self._policy.read(completion, is_cut)
        if gold.kind in ("list", "set") and found.text is not None:
            found = replace(found, last=None)
        return self._verdict(found, Gold(str(gold)))

    def _chosen(self, completion: str, gold: TypedGold, is_cut: bool, options: Sequence[str]) -> Verdict:
        """The verdict on a letter, its option's text, or both; options of equal text are one."""
        letter = gold.value.strip().strip("().").upper()
        if len(letter) != 1 or letter not in _LETTERS or (options and _LETTERS.index(letter) >= len(options)):
            return Verdict.unscored("gold unreadable", f"{gold.value[:80]!r} is the letter of no option")
        verifier = self._choice.with_policy(self.policy)
        golds = [letter]
        if options:
            same = " ".join(options[_LETTERS.index(letter)].split())
            golds = [one for one, text in zip(_LETTERS, options, strict=False) if " ".join(text.split()) == same]
        verdicts = verifier.grade(
            [completion] * len(golds), golds, truncated=[is_cut] * len(golds), options=[options] * len(golds)
        )
        best = max(verdicts, key=lambda verdict: verdict.score or 0.0)
        if best.score == 1.0 and _is_ambiguous(best.extracted or "", letter, options):
            return replace(best, score=0.0, detail="the letter is also the text of another option")
        if best.score == 0.0 and len(golds) > 1 and _repeats(best.extracted or "", options[_LETTERS.index(letter)]):
            return replace(best, score=1.0)
        return best


def _is_ambiguous(answer: str, letter: str, options: Sequence[str]) -> bool:
    """Whether a lone letter is the text of another option than its own, so that nobody can say what was chosen."""
    choice = read_choice(answer)
    if choice.value or not choice.letter:
        return False
    named = [place for place, text in enumerate(options) if text.strip().strip("().") == choice.letter]
    return bool(named) and _LETTERS.index(letter) not in named


def _repeats(answer: str, option: str) -> bool:
    """Whether the answer is the text of an option that stands twice, which a letter alone cannot tell apart."""
    return bool(answer.strip()) and " ".join(answer.split()).casefold() == " ".join(option.split()).casefold()
