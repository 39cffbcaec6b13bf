"""Whether two answers are equal: their types first, then their values one by one."""

from __future__ import annotations

from collections.abc import Callable

from relax_rl.rewards.mathematics.grammar.families import Family, domain_of
from relax_rl.rewards.mathematics.grammar.phrases import bare_condition, qualifies
from relax_rl.rewards.mathematics.grammar.reader import read
from relax_rl.rewards.mathematics.grammar.regions import read_inequality
from relax_rl.rewards.mathematics.grammar.singles import same_single
from relax_rl.rewards.mathematics.grammar.values import Compare
from relax_rl.rewards.mathematics.literals import canonical, rational, same_literal, same_rational

__all__ = ["CompareFamilies", "is_collection", "is_long", "same_answer", "same_in_place", "single_values", "type_of"]

CompareFamilies = Callable[[Family, Family], bool | None]

# What the training process takes apart itself; it has no limit of time, the grading processes have.
_MAX_PARTS_IN_PLACE = 32


def same_answer(gold: str, answer: str, algebra: Compare, families: CompareFamilies) -> bool | None:
    """Whether two answers are equal; None: the algebra could not tell."""
    if canonical(gold) == canonical(answer):
        return True
    quick = same_rational(gold, answer)
    if quick is not None:
        return quick
    mine, other = read(gold), read(answer)
    if not other.value.meaning() and qualifies(gold, answer):
        return False
    if not _agree(mine.condition, other.condition):
        return False
    if mine.family is not None and mine.family.is_certain and other.family is not None:
        return families(mine.family, other.family)
    return mine.value.matches(other.value, lambda one, two: same_single(one, two, algebra))


def _agree(gold: str, answer: str) -> bool:
    """Whether two conditions may be one, as far as they say it in signs; one that is left out agrees with any."""
    if not gold or not answer:
        return True
    domains = {domain_of(gold), domain_of(answer)} - {""}
    regions = [read_inequality(bare_condition(text)) for text in (gold, answer)]
    first, second = regions
    if first is None or second is None:
        return len(domains) < 2
    return first.matches(second, same_literal) is True


def is_long(text: str) -> bool:
    """Whether an answer has more parts than are taken apart without a limit of time."""
    return sum(map(text.count, ",([{")) > _MAX_PARTS_IN_PLACE


def same_in_place(gold: str, answer: str) -> bool | None:
    """Whether two answers are equal, if that takes no algebra and little time; None: it does."""
    if is_long(gold) or is_long(answer):
        return False if qualifies(gold, answer) else same_literal(gold, answer)
    return same_answer(gold, answer, lambda _gold, _answer: None, lambda _gold, _answer: None)


def is_collection(text: str) -> bool:
    """Whether an answer is a set or a bare list of several members; ``1,234`` is one number."""
    value = read(text).value
    return len(value.members() or ()) > 1 and value.claims() is None


def single_values(text: str) -> list[str]:
    """The values that an answer is made of, in order; a single value is its own."""
    return [value.text for value in read(text).value.singles()]


def type_of(text: str) -> str:
    """The type of an answer in the grammar."""
    number = None if "$" in text else rational(canonical(text))
    return read(text).type if number is None else "percent" if number[1] else "number"
