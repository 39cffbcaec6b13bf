"""The procedural tasks of ``reasoning-gym`` by name, with its own scorers; an optional dependency, imported on use.

Its items depend on ``seed + index``, so lists of neighbouring seeds share all questions but one. Here each item has a
seed of its own, a digest of (task, configuration, split, seed, index). A question belongs to one split by its own
digest, and a list holds no question twice.

Its scorers run in :class:`~relax_rl.rewards.workers.pool.WorkerPool`, since some hand the completion to a parser that
has no limit. They give partial credit, also for an answer that merely contains the right one; here only a full score
counts, unless partial credit is asked for.
"""

from __future__ import annotations

import difflib
import functools
import json
import os
from collections.abc import Mapping
from typing import Any

from relax_rl.errors import ConfigError, DataError, DependencyError
from relax_rl.import_path import TASK_FAMILIES
from relax_rl.rewards.base import BaseVerifier, Verdict
from relax_rl.rewards.batch import GradingBatch
from relax_rl.rewards.extraction import extract_answer
from relax_rl.rewards.workers.pool import WorkerPool
from relax_rl.tasks.base import BaseTask, Problem, digest

__all__ = ["ReasoningGymTask", "ReasoningGymVerifier", "dataset_names", "score_item"]

PREFIX = TASK_FAMILIES[0]
DEFAULT_SIZES = {"train": 2048, "test": 256}
# Half of all questions are held out: an item of either split takes two draws on average, and making one can be slow.
TEST_SHARE = 0.5
# Draws for one item before we say that the task has run out of new questions.
MAX_DRAWS = 200
# In version 0.1.25 the items of these follow the order of a set of texts, which differs from process to process.
HASH_DEPENDENT = frozenset({"isomorphic_strings", "polynomial_multiplication", "ransom_note"})

_INSTRUCTION = "{question}\n\nThink step by step, then give the final answer alone between <answer> and </answer>."
_FULL_SCORE_MIN = 1.0 - 1e-9


class ReasoningGymTask(BaseTask):
    """The dataset of ``reasoning-gym`` called ``dataset``; splits ``train`` and ``test``.

    ``Problem.answer`` is JSON: the item's seed, from which the scorer makes the item again, a digest of its question,
    and the library's answer (null where every answer is judged by its effect).

    Args:
        dataset: such as ``chain_sum``.
        partial_credit: keep the library's scores between 0 and 1.
        config: configuration of the dataset, such as ``max_terms=4``.
    """

    is_endless = True

    def __init__(self, dataset: str, *, partial_credit: bool = False, **config: Any) -> None:
        self.name = f"{PREFIX}{dataset}"
        self._dataset = dataset
        self._config = config
        self._partial_credit = partial_credit
        self._made: dict[tuple[str, int], list[Problem]] = {}
        self.verifier = ReasoningGymVerifier(dataset, config, partial_credit=partial_credit)

    @property
    def pays_parts(self) -> bool:
        """See `BaseTask.pays_parts`."""
        return self._partial_credit

    def problems(self, split: str, count: int | None = None, seed: int = 0) -> list[Problem]:
        """The first ``count`` problems of ``split`` for this seed; without a count 2048 of train, 256 of test.

        Raises:
            DependencyError: ``reasoning-gym`` is not installed.
            ConfigError: it has no such dataset, or the dataset no such configuration.
            DataError: another split, or the dataset ran out of new questions.
        """
        if self._dataset in HASH_DEPENDENT and not os.environ.get("PYTHONHASHSEED", "").isdigit():
            raise ConfigError(
                f"reasoning-gym's dataset '{self._dataset}' makes other items from the same seed in every process; "
                "start with PYTHONHASHSEED=0 in the environment."
            )
        if split not in DEFAULT_SIZES:
            raise DataError(f"The task '{self.name}' has no split '{split}'; choose one of {', '.join(DEFAULT_SIZES)}.")
        count = DEFAULT_SIZES[split] if count is None else count
        made = self._made.setdefault((split, seed), [])
        seen = {problem.question for problem in made}
        while len(made) < count:
            problem = self._problem(split, seed, len(made), seen)
            seen.add(problem.question)
            made.append(problem)
        return made[:count]

    def _problem(self, split: str, seed: int, index: int, seen: set[str]) -> Problem:
        config = json.dumps(self._config, sort_keys=True)
        for draw in range(MAX_DRAWS):
            item_seed = digest(self.name, config, split, str(seed), str(index), str(draw)) % 2**31
            question, answer = make_item(self._dataset, self._config, item_seed)
            instruction = _INSTRUCTION.format(question=question)
            if instruction not in seen and self._split_of(question) == split:
                gold = {"seed": item_seed, "question": _question_digest(question), "answer": answer}
                return Problem(
                    id=f"{self.name}-{split}-{seed}-{index}",
                    prompt=f"{instruction}\n",
                    answer=json.dumps(gold, ensure_ascii=False),
                    instruction=instruction,
                    solution=None if answer is None else f"<answer>{answer}</answer>",
                )
        raise DataError(
            f"The task '{self.name}' ran out of new {split} questions after {len(seen)}; ask for fewer, or have it "
            "make more by its configuration (--task.KEY VALUE)."
        )

    def _split_of(self, question: str) -> str:
        return "test" if digest(PREFIX, "split", question) < TEST_SHARE * 2**64 else "train"


class ReasoningGymVerifier(BaseVerifier):
    """The dataset's own scorer, applied to the answer that a completion commits to.

    Args:
        partial_credit: False: a score is 1.0 if the library's is, else 0.0.
        timeout_s: CPU seconds that scoring one completion may take, the making of its item included.
    """

    def __init__(
        self, dataset: str, config: Mapping[str, Any], *, partial_credit: bool = False, timeout_s: float = 10.0
    ) -> None:
        self.name = f"{PREFIX}{dataset}"
        self._dataset = dataset
        self._config = dict(config)
        self._partial_credit = partial_credit
        self._pool = WorkerPool("relax_rl.tasks.gym:score_item", timeout_s=timeout_s, memory_mb=4096)

    def verdicts(self, batch: GradingBatch) -> list[Verdict]:
        """1.0 or 0.0, or between them with partial credit; None: could not be scored."""
        found = [extract_answer(text) for text in batch.texts]
        texts = [extraction.verbatim for extraction in found]
        asked = {(answer, text): None for answer, text in zip(batch.answers, texts, strict=True) if text is not None}
        items = [(self._dataset, self._config, answer, text) for answer, text in asked]
        outcomes = dict(zip(asked, self._pool.map(items), strict=True))
        verdicts = []
        for answer, text, extraction in zip(batch.answers, texts, found, strict=True):
            if text is None:
                verdicts.append(Verdict(0.0, None, extraction.how))
                continue
            outcome = outcomes[answer, text]
            score = None if outcome.value is None else self._credit(outcome.value)
            reason = outcome.reason or ("gold unreadable" if score is None else None)
            verdicts.append(Verdict(score, text, extraction.how, reason, outcome.detail))
        return verdicts

    def _credit(self, score: float) -> float:
        return min(max(score, 0.0), 1.0) if self._partial_credit else float(score >= _FULL_SCORE_MIN)


def score_item(dataset: str, config: dict[str, Any], answer: str, text: str) -> float | None:
    """The library's score of ``text`` for the item that the gold ``answer`` names; None if that is not its item.

    Runs in a worker process.
    """
    try:
        gold = json.loads(answer)
        seed, expected = gold["seed"], gold["question"]
    except (ValueError, TypeError, KeyError):
        return None
    scorer, entry = _entry(dataset, json.dumps(config, sort_keys=True), seed)
    if _question_digest(entry["question"]) != expected:  # another version of the library makes another item
        return None
    return float(scorer.score_answer(text, entry))


def make_item(dataset: str, config: Mapping[str, Any], seed: int) -> tuple[str, str | None]:
    """Question and answer of the one item that the dataset makes from a seed."""
    entry = _entry(dataset, json.dumps(config, sort_keys=True), seed)[1]
    answer = entry["answer"]
    return entry["question"], None if answer is None else str(answer)


@functools.lru_cache(maxsize=64)
def _entry(dataset: str, config: str, seed: int) -> tuple[Any, dict[str, Any]]:
    """The dataset of one item, which scores it, and the item."""
    library = _library(dataset)
    known = library.factory.DATASETS
    if dataset not in known:
        near = difflib.get_close_matches(dataset, known, n=1)
        hint = f", did you mean '{near[0]}'?" if near else ""
        raise ConfigError(f"reasoning-gym has no dataset '{dataset}'{hint}; it has {', '.join(sorted(known))}.")
    try:
        maker = library.create_dataset(dataset, **json.loads(config), size=1, seed=seed)
    except (TypeError, ValueError, AssertionError) as error:
        raise ConfigError(f"reasoning-gym's dataset '{dataset}' cannot be configured so: {error}.") from error
    return maker, maker[0]


def dataset_names() -> tuple[str, ...]:
    """All datasets of the installed library, in alphabetical order. Raises DependencyError without it."""
    return tuple(sorted(_library("NAME").factory.DATASETS))


def _library(dataset: str) -> Any:
    try:
        import reasoning_gym  # pyright: ignore[reportMissingImports]
        import reasoning_gym.factory  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise DependencyError(
            f"The task '{PREFIX}{dataset}' needs the package reasoning-gym ({error}); pip install 'relax-rl[gym]'."
        ) from error
    return reasoning_gym


def _question_digest(question: str) -> str:
    return f"{digest(PREFIX, 'question', question):016x}"
