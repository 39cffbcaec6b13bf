"""The result of an evaluation and its JSON form: the contract between the run directory and the report page."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from relax_rl.errors import DataError
from relax_rl.statistics.intervals import Estimate

__all__ = ["EvaluationResult", "PooledSpectrum", "ProblemResult", "SampleRecord", "as_spectrum", "with_present_names"]

_RENAMED = {"max_new_tokens": "max_completion_length"}
"""Keys of files that earlier versions wrote, and their present names."""


def with_present_names(data: Mapping[str, Any]) -> dict[str, Any]:
    """The content of a ``result.json`` or ``settings.json`` of any version, under the keys of this one.

    The one place where old keys are known. Call it where such a file is read, never on what a user types.
    """
    return {_RENAMED.get(key, key): value for key, value in data.items()}


@dataclass(frozen=True)
class PooledSpectrum:
    """Koopman spectrum of all completions of an evaluation together.

    Attributes:
        eigenvalues: (real, imaginary) of each discrete eigenvalue; one step is one token.
        residuals: ResDMD residual of each; a large one marks a spurious eigenvalue.
        num_observables: F of the dictionary.
        dictionary_digest: digest of its weights; spectra are comparable only under the same dictionary.
    """

    eigenvalues: tuple[tuple[float, float], ...]
    residuals: tuple[float, ...]
    num_observables: int
    dictionary_digest: str

    @property
    def residual_kind(self) -> str:
        """Always ``primal``: without more pairs than observables, an evaluation has no spectrum."""
        return "primal"


@dataclass(frozen=True)
class ProblemResult:
    """Counts of one problem, and its means over samples where they are defined.

    Attributes:
        mean_score: over the scored samples; differs from the share that is correct only under partial credit.
        entropy: mean over all sampled tokens of the problem, in nats.
        length: mean completion length in tokens.
        dsd: mean over completions whose DSD is defined; None when none is, or without a dictionary.
        truncated: share of the samples that hit the length limit.
        majority: score of the most common answer; None where the verifier does not tell answers.
        no_answer: share of the samples in which no answer was found; None as above.
        distinct_correct: different solutions among the right samples, or different right answers where the verifier
            does not tell solutions apart; None as above.
        distinct_paths: different calculations among the right samples.
        modes: number of right samples in each mode, the largest first; None where the verifier has no modes.
        mode_keys: mode of each of these numbers; None as above, and in files of earlier versions.
        unit: question that it is a variant of; "", and not in the file, for a problem that stands alone.
    """

    id: str
    num_correct: int
    num_scored: int
    mean_score: float | None = None
    entropy: float | None = None
    length: float | None = None
    dsd: float | None = None
    truncated: float | None = None
    majority: float | None = None
    no_answer: float | None = None
    distinct_correct: int | None = None
    distinct_paths: int | None = None
    modes: tuple[int, ...] | None = None
    mode_keys: tuple[str, ...] | None = None
    unit: str = ""


@dataclass(frozen=True)
class SampleRecord:
    """One completion to read, verbatim: untrusted text."""

    problem_id: str
    prompt: str
    completion: str
    answer: str
    score: float | None
    num_tokens: int
    dsd: float | None
    images: tuple[str, ...] = ()
    """Folder of its problem's images; not in the file if it has none."""
    tokens: tuple[str, ...] = ()
    """Texts of its first tokens; not in the file if they are unknown."""
    entropies: tuple[float, ...] = ()
    """Nats at each of these tokens; not in the file likewise."""


@dataclass(frozen=True)
class EvaluationResult:
    """An evaluation with every setting that its numbers mean nothing without.

    Attributes:
        metrics: name to estimate. ``mean@1`` is the mean over problems and over all their samples, an estimate of the
            score of one sample; ``pass@k`` for powers of two up to ``num_samples``; ``maj@k``, ``no_answer`` (share)
            and ``distinct_correct`` (a problem) where the verifier tells answers; ``distinct_paths`` (a problem);
            ``modes@k``, ``effective_modes`` and ``top_mode`` (`.coverage`) where the verifier has modes; ``all_wrong``
            and ``all_right`` (shares of the problems);
            ``entropy`` (nats a token), ``dsd``, ``dsd_defined`` (share), ``length`` (tokens), ``truncated``,
            ``not_scored`` (shares); ``official/RULE`` (share by a published rule of the benchmark); ``ungradable``
            (share that scores 0 because no grader could read the answer) where there are such samples. Intervals are
            95 %, by bootstrap over problems.
        spectrum: None without a dictionary.
        dsd_estimator: name of the DSD that was measured: their values are not on one scale. None without a dictionary.
        pass_at_k: pass@k for every k from 1 to ``num_samples``.
        model: as it was named; empty for a model that was handed over.
        backend: sampler of the completions.
        prompt_digest: digest of all prompts as the model read them.
        problem_seed: seed of a procedural task's problems.
        grader: the verifier and its version (`.grading.grader_version`).
        grading: the verifier's options that decide verdicts and are not the default, such as the policy of finding the
            answer (`.grading.grading_options`); not in the file if there are none.
        reasons: number of samples of each reason (`relax_rl.rewards.Verdict.reason`); not in the file if none has.
        breakdown: means by subject and the like, and metrics of variants (`.breakdown.break_down`); not in the file if
            there are none. Problems that are variants of one question are one unit of every interval.
        left_out: ids of problems that were left out since their prompt is too long; not in the file if there are none.
    """

    task: str
    split: str
    num_problems: int
    num_samples: int
    temperature: float
    top_p: float
    max_completion_length: int
    seed: int
    metrics: Mapping[str, Estimate]
    spectrum: PooledSpectrum | None = None
    per_problem: tuple[ProblemResult, ...] = ()
    samples: tuple[SampleRecord, ...] = field(default=(), repr=False)
    dsd_estimator: str | None = None
    pass_at_k: tuple[Estimate, ...] = ()
    model: str = ""
    backend: str = ""
    prompt_digest: str = ""
    problem_seed: int = 0
    grader: str = ""
    grading: Mapping[str, Any] = field(default_factory=dict)
    reasons: Mapping[str, int] = field(default_factory=dict)
    breakdown: Mapping[str, Estimate] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()

    def to_json(self) -> str:
        """The result as JSON text: finite numbers, ``null`` and ASCII alone, so that any reader takes it.

        A completion may end in half a surrogate pair, which no encoding would write as it is.
        """
        return json.dumps(self.to_dict(), indent=1, allow_nan=False) + "\n"

    def to_dict(self) -> dict[str, Any]:
        """The same as `to_json`, as plain tables and lists."""
        data = asdict(self)
        for name in ("grading", "reasons", "breakdown", "left_out"):
            if not data[name]:
                del data[name]
        for problem in data["per_problem"]:
            if not problem["unit"]:
                del problem["unit"]
        for sample in data["samples"]:
            for name in ("images", "tokens", "entropies"):
                if not sample[name]:
                    del sample[name]
        return data

    @classmethod
    def from_json(cls, text: str) -> EvaluationResult:
        """Read what `to_json` wrote; unknown keys are ignored, so that older code reads newer files.

        Raises:
            DataError: not JSON, or a required key is missing.
        """
        try:
            data = with_present_names(json.loads(text))
            return cls(
                **{name: data[name] for name in _SETTINGS},
                metrics={name: Estimate(**_known(Estimate, value)) for name, value in data["metrics"].items()},
                **{name: data[name] for name in _LATER_SETTINGS if name in data},
                breakdown={
                    name: Estimate(**_known(Estimate, value)) for name, value in data.get("breakdown", {}).items()
                },
                pass_at_k=tuple(Estimate(**_known(Estimate, value)) for value in data.get("pass_at_k", ())),
                left_out=tuple(data.get("left_out", ())),
                spectrum=as_spectrum(data.get("spectrum")),
                per_problem=tuple(_read_problem(row) for row in data.get("per_problem", ())),
                samples=tuple(_read_sample(row) for row in data.get("samples", ())),
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError(
                f"this is not an evaluation result ({type(error).__name__}: {error}); write it with to_json()."
            ) from error

    def save(self, path: Path) -> Path:
        """Write the JSON to ``path`` (its folder is made) and return the path."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(self.to_json(), encoding="utf-8")
        return path

    @classmethod
    def load(cls, path: Path) -> EvaluationResult:
        """Read a result file; a `DataError` names the file."""
        try:
            return cls.from_json(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, DataError) as error:
            raise DataError(f"{path}: {error}") from error


_SETTINGS = ("task", "split", "num_problems", "num_samples", "temperature", "top_p", "max_completion_length", "seed")
# Files of earlier versions lack them.
_LATER_SETTINGS = ("dsd_estimator", "model", "backend", "prompt_digest", "problem_seed", "grader", "grading", "reasons")


def _known(kind: type, data: Mapping[str, Any]) -> dict[str, Any]:
    return {name: data[name] for name in kind.__dataclass_fields__ if name in data}


def _read_problem(row: Mapping[str, Any]) -> ProblemResult:
    found = _known(ProblemResult, row)
    if found.get("modes") is not None:  # JSON has lists alone
        found["modes"] = tuple(int(count) for count in found["modes"])
    if found.get("mode_keys") is not None:
        found["mode_keys"] = tuple(str(key) for key in found["mode_keys"])
    return ProblemResult(**found)


def _read_sample(row: Mapping[str, Any]) -> SampleRecord:
    found = _known(SampleRecord, row)
    for name in ("images", "tokens", "entropies"):
        found[name] = tuple(found.get(name, ()))
    return SampleRecord(**found)


def as_spectrum(data: Mapping[str, Any] | None) -> PooledSpectrum | None:
    """Read a spectrum from a plain table; None stays None. Raises KeyError, TypeError or ValueError."""
    if data is None:
        return None
    return PooledSpectrum(
        eigenvalues=tuple((float(re), float(im)) for re, im in data["eigenvalues"]),
        residuals=tuple(float(residual) for residual in data["residuals"]),
        num_observables=int(data["num_observables"]),
        dictionary_digest=str(data["dictionary_digest"]),
    )
