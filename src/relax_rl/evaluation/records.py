"""One sample with all that was found out about it, and its line of JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from relax_rl.errors import DataError
from relax_rl.evaluation.samplers.protocol import Completion, Draw
from relax_rl.tasks.base import Problem

__all__ = ["Sample", "sample_of"]


# Other types in a line would be found out only when the sample is graded.
_KINDS = {"problem_id": str, "index": int, "completion": str, "num_tokens": int, "truncated": bool, "answer": str}


@dataclass(frozen=True)
class Sample:
    """A completion, its verdict and its dynamics.

    Attributes:
        problem_id, index: id of the problem, and number of the sample.
        completion: verbatim: untrusted text.
        token_ids: with the stop token; empty where the backend does not tell them.
        num_tokens: length in tokens.
        truncated: the length limit was reached.
        answer: the gold answer it was graded against.
        score: the verdict; None: could not be scored, or not graded yet.
        extracted: the answer it commits to, if it has one and the verifier tells.
        how: place of the answer, or the reason why there is none; empty if the verifier does not tell.
        reason: why there is no score, or why the score is 0.0 without a look at the answer's content (see
            `relax_rl.rewards.Verdict`). Earlier versions gave no score in the latter case.
        detail: the words of an error, or what a format lacks.
        type: type of the gold answer in the grammar of the verifier (see `relax_rl.rewards.Verdict`); empty if it has
            none.
        opened: the marker of the thought that the prompt had opened; empty for none.
        official: its scores by the published rules of the benchmark, by their names (see `relax_rl.rewards.official`).
        answer_class: the same number for equal answers to one problem; None without an answer.
        mode: key of the solution that it found (see `relax_rl.rewards.Verdict`); None where there is none.
        path: digest of its calculation (see `.grading.solution_path`).
        entropy: summed over its tokens, in nats; None where it was not measured.
        dsd: None where it is not defined or not measured.
        images: places of its problem's images; not in the line if it has none.
    """

    problem_id: str
    index: int
    completion: str
    token_ids: tuple[int, ...]
    num_tokens: int
    truncated: bool
    answer: str = ""
    score: float | None = None
    extracted: str | None = None
    how: str = ""
    reason: str | None = None
    detail: str = ""
    type: str = ""
    opened: str = ""
    official: dict[str, float] = field(default_factory=dict[str, float], hash=False)
    answer_class: int | None = None
    path: str = ""
    entropy: float | None = None
    dsd: float | None = None
    mode: str | None = None
    images: tuple[str, ...] = ()

    @property
    def is_ungradable(self) -> bool:
        """Whether the answer is at fault that it could not be graded; it scores 0.0."""
        return self.score is not None and self.reason is not None

    def to_json(self) -> str:
        """One line, without its end. Any text survives, also half a surrogate pair."""
        data = asdict(self)
        if not self.images:
            del data["images"]
        return json.dumps(data, allow_nan=False)

    @classmethod
    def from_json(cls, line: str) -> Sample:
        """Read what `to_json` wrote; unknown keys are ignored.

        Raises:
            DataError: not JSON, or a key is missing.
        """
        try:
            row: dict[str, Any] = json.loads(line)
            known: dict[str, Any] = {one.name: row[one.name] for one in fields(cls) if one.name in row}
            known["token_ids"] = tuple(known["token_ids"])
            known["images"] = tuple(known.get("images", ()))
            for name, kind in _KINDS.items():
                if name in known and type(known[name]) is not kind:
                    raise TypeError(f"{name} is {known[name]!r:.40}")
            return cls(**known)
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise DataError(f"this is no record of a sample ({type(error).__name__}: {error}).") from error


def sample_of(draw: Draw, problems: Sequence[Problem]) -> Sample:
    """The record of a new draw: what was sampled, and nothing yet of what it is worth."""
    completion: Completion = draw.completion
    problem = problems[draw.prompt]
    return Sample(
        problem.id,
        draw.index,
        completion.text,
        completion.token_ids,
        completion.num_tokens,
        completion.is_truncated,
        problem.answer,
        entropy=completion.entropy,
        images=problem.image_names,
    )
