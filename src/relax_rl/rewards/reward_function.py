"""A verifier in the shape in which TRL calls reward functions. Nothing of TRL is needed for that."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from relax_rl.errors import DataError
from relax_rl.rewards.base import Verdict, Verifier, as_verifier, grade
from relax_rl.rewards.extraction import read_gold
from relax_rl.rewards.turns import last_turn
from relax_rl.rewards.turns import opened_thought as find_opened_thought

__all__ = ["VerifierReward"]

# Arguments that TRL passes beside the columns.
_NO_COLUMNS = {"trainer_state", "log_extra", "environments", "problem_id"}


class VerifierReward:
    """A verifier as a TRL reward function; `None` (not scored) stays `None`, which TRL leaves out of the baseline.

    ``GRPOTrainer(reward_funcs=[VerifierReward(MathVerifier())], ...)`` reads the dataset's column ``answer``. Only the
    assistant's last message is graded: if a tool or a user has the last word, there is no answer. A gold answer may be
    text, a number, or a list of them; a row whose gold answer is None has no score. Of a weighted set the members' own
    scores are logged too, as ``verifiers/NAME``; completions without a score, or whose answer no grader could read, as
    ``grading/...``; the modes of a verifier that has them and the answers that it extracted are TRL's extra columns
    ``mode`` and ``answer_found``. Training of this package
    tells it which completions hit their length limit (``truncated``) and which prompts opened a thought
    (``opened_thought``), which TRL alone does not.

    Args:
        opened: the marker of a thought that every prompt opens, such as ``"<think>"``. Prompts that are text are read
            for it; name it for conversations if the chat template opens one, outside this package's training.
        answer_column: of the gold answers.

    Raises:
        DataError: when it is called, if the data have no such column.
    """

    def __init__(self, verifier: Verifier, opened: str = "", *, answer_column: str = "answer") -> None:
        self._verifier = as_verifier(verifier)
        self._opened = opened
        self._answer_column = answer_column
        self.__name__ = verifier.name

    def __call__(
        self,
        completions: Sequence[Any],
        prompts: Sequence[Any] | None = None,
        completion_ids: Sequence[Sequence[int]] | None = None,
        log_metric: Callable[[str, float], None] | None = None,
        log_extra: Callable[[str, list[Any]], None] | None = None,
        truncated: Sequence[bool] | None = None,
        opened_thought: Sequence[str] | None = None,
        gold_answer: Sequence[Any] | None = None,
        problem_options: Sequence[Sequence[str]] | None = None,
        **columns: Any,
    ) -> list[float | None]:
        # A row with a column `answer` of its own keeps it for reward functions of the user.
        given = self._answers(columns) if gold_answer is None else gold_answer
        golds = [read_gold(gold) for gold in given]
        turns = [last_turn(completion) for completion in completions]
        num_tokens = None if completion_ids is None else [len(ids) for ids in completion_ids]
        tags = self._tags(len(turns), prompts) if opened_thought is None else opened_thought
        tags = ["" if turn.is_past_thought else tag for turn, tag in zip(turns, tags, strict=True)]
        texts = [turn.text for turn in turns]
        # A verifier gets gold answers that are text as the data have them: not all of them are answers in mathematics.
        answers = [one if isinstance(one, str) else gold.text or "" for one, gold in zip(given, golds, strict=True)]
        verdicts = grade(self._verifier, texts, answers, num_tokens, truncated, tags, problem_options)
        for index, (one, gold) in enumerate(zip(given, golds, strict=True)):
            if gold.text is None and not isinstance(one, str):
                verdicts[index] = Verdict.unscored("gold unreadable", gold.reason)
        if log_metric is not None:
            for name, mean in _means_of_parts(verdicts).items():
                log_metric(f"verifiers/{name}", mean)
            for name, value in _reasons(verdicts).items():
                log_metric(f"grading/{name}", value)
        if log_extra is not None and self._verifier.has_modes:
            log_extra("mode", [verdict.mode for verdict in verdicts])
        if log_extra is not None and any(verdict.extracted or verdict.how for verdict in verdicts):
            log_extra("answer_found", [verdict.extracted for verdict in verdicts])
        return [verdict.score for verdict in verdicts]

    def _answers(self, columns: Mapping[str, Any]) -> Sequence[Any]:
        if self._answer_column in columns:
            return columns[self._answer_column]
        names = ", ".join(sorted(columns.keys() - _NO_COLUMNS)) or "none"
        raise DataError(
            f"The verifier '{self.__name__}' reads the gold answers in the column '{self._answer_column}', which the "
            f"data do not have; their columns are {names}. Name it: VerifierReward(verifier, answer_column=...)."
        )

    def _tags(self, count: int, prompts: Sequence[Any] | None) -> list[str]:
        """The thought that each prompt opened, as far as it shows: conversations are rendered by the trainer."""
        if self._opened or prompts is None:
            return [self._opened] * count
        return [find_opened_thought(prompt) if isinstance(prompt, str) else "" for prompt in prompts]


def _means_of_parts(verdicts: Sequence[Verdict]) -> dict[str, float]:
    """Mean score of each member of a weighted set over what it could score; NaN where that is nothing."""
    scores: dict[str, list[float]] = {}
    for name, score in (part for verdict in verdicts for part in verdict.parts):
        scores.setdefault(name, []).extend([] if score is None else [score])
    return {name: sum(values) / len(values) if values else math.nan for name, values in scores.items()}


def _reasons(verdicts: Sequence[Verdict]) -> dict[str, float]:
    """The share that scores 0 because no grader could read the answer, and how often each reason was met; if any."""
    found: dict[str, float] = {}
    if ungradable := sum(verdict.is_ungradable for verdict in verdicts):
        found["ungradable"] = ungradable / len(verdicts)
    for reason, count in Counter(
        verdict.reason or "none given" for verdict in verdicts if _is_counted(verdict)
    ).items():
        found[f"reasons/{re.sub('[^a-z0-9]+', '_', reason.lower()).strip('_')}"] = float(count)
    return found


def _is_counted(verdict: Verdict) -> bool:
    return verdict.score is None or verdict.is_ungradable
