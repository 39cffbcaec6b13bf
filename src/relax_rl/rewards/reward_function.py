"""A verifier in the shape in which TRL calls reward functions. Nothing of TRL is needed for that."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from relax_rl.rewards.base import Verdict, Verifier, as_verifier, grade

__all__ = ["VerifierReward", "completion_text"]


class VerifierReward:
    """A verifier as a TRL reward function; `None` (not scored) stays `None`, which TRL leaves out of the baseline.

    It reads the dataset's column ``answer``: ``GRPOTrainer(reward_funcs=[VerifierReward(MathVerifier())], ...)``. Of a
    weighted set the members' own scores are logged too, as ``verifiers/NAME``; completions without a score, or whose
    answer no grader could read, as ``grading/...``. Training of this package tells it which
    completions hit their length limit (``truncated``), which TRL alone does not.

    Args:
        opened: see `relax_rl.rewards.base.grade`.
    """

    def __init__(self, verifier: Verifier, opened: str = "") -> None:
        self._verifier = as_verifier(verifier)
        self._opened = opened
        self.__name__ = verifier.name

    def __call__(
        self,
        completions: Sequence[Any],
        answer: Sequence[str],
        completion_ids: Sequence[Sequence[int]] | None = None,
        log_metric: Callable[[str, float], None] | None = None,
        truncated: Sequence[bool] | None = None,
        gold_answer: Sequence[str] | None = None,
        **_: Any,
    ) -> list[float | None]:
        # A row with a column `answer` of its own keeps it for reward functions of the user.
        golds = answer if gold_answer is None else gold_answer
        texts = [completion_text(completion) for completion in completions]
        num_tokens = None if completion_ids is None else [len(ids) for ids in completion_ids]
        verdicts = grade(self._verifier, texts, list(golds), num_tokens, truncated, self._opened)
        if log_metric is not None:
            for name, mean in _means_of_parts(verdicts).items():
                log_metric(f"verifiers/{name}", mean)
            for name, value in _reasons(verdicts).items():
                log_metric(f"grading/{name}", value)
        return [verdict.score for verdict in verdicts]


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


def completion_text(completion: Any) -> str:
    """A completion's text, whether TRL passes it as text or as a conversation."""
    if isinstance(completion, str):
        return completion
    return "".join(str(message.get("content") or "") for message in completion)
