"""Evaluate a policy on a task: sample, grade, replay once, and put an interval on every number."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from relax_rl.errors import DataError
from relax_rl.evaluation.breakdown import break_down, units_of
from relax_rl.evaluation.dynamics import Dynamics, measure_dynamics
from relax_rl.evaluation.folder import EvaluationFolder
from relax_rl.evaluation.grading import grade_samples, grader_version, grading_options
from relax_rl.evaluation.pieces import MOST_TOKENS, pieces_of
from relax_rl.evaluation.prompts import PromptForm, encode_prompt
from relax_rl.evaluation.published import with_official_scores
from relax_rl.evaluation.records import Sample, sample_of
from relax_rl.evaluation.result import EvaluationResult, PooledSpectrum, ProblemResult, SampleRecord
from relax_rl.evaluation.samplers.protocol import Sampler, SamplingSettings
from relax_rl.evaluation.samplers.transformers import TransformersSampler
from relax_rl.evaluation.summary import Summary, summarize
from relax_rl.evaluation.thoughts import opened_by_prompts
from relax_rl.koopman import Estimator, KoopmanDictionary
from relax_rl.rewards.base import BaseVerifier, as_verifier
from relax_rl.rewards.turns import opened_thought
from relax_rl.stopping import current, deferred
from relax_rl.tasks.base import Problem, Task, as_task, image_digest

__all__ = ["Evaluation", "digest_of", "evaluate", "replay_with"]

_NUM_SAMPLES_TO_READ = 20

Replay = Callable[[Sequence[Problem], Sequence[Sequence[Sample]]], Dynamics]
"""Measures the dynamics of samples, one list a problem."""


def evaluate(
    model: Any,
    tokenizer: Any,
    task: Task,
    *,
    split: str = "test",
    num_problems: int | None = None,
    num_samples: int = 16,
    max_completion_length: int = 256,
    temperature: float = 1.0,
    top_p: float = 1.0,
    batch_size: int = 128,
    dictionary: KoopmanDictionary | None = None,
    estimator: Estimator = "paper",
    seed: int = 0,
    problem_seed: int = 0,
    name: str = "",
    form: PromptForm | None = None,
    folder: EvaluationFolder | None = None,
    overwrite: bool = False,
    on_progress: Callable[[int, int], None] | None = None,
) -> EvaluationResult:
    """Sample ``num_samples`` completions of each problem and measure the policy.

    Args:
        model, tokenizer: a Hugging Face causal language model and its tokenizer, or an image-text model and its
            processor.
        num_problems: the first so many of the split; all of it when None.
        dictionary: observables for DSD and the spectrum; both are left out without one.
        estimator: estimator of the DSD.
        seed: seed of sampling and of the bootstrap. The same seed draws the same numbers for the same problem.
        problem_seed: seed of a procedural task's problems.
        name: name of the model, for the result.
        form: form of the prompts.
        folder, overwrite, on_progress: see `Evaluation.run`.

    Returns:
        Every metric with a 95 % interval by bootstrap over problems; a metric of which no value exists is left out.

    Raises:
        DataError: the task has no problem, or its verifier returns another number of scores than it was asked for.
        RunError: the folder holds another evaluation.
    """
    evaluation = Evaluation(
        sampler=TransformersSampler(model, tokenizer, batch_size, form),
        task=task,
        settings=SamplingSettings(num_samples, max_completion_length, temperature, top_p, seed),
        split=split,
        num_problems=num_problems,
        problem_seed=problem_seed,
        name=name,
        **replay_with(model, tokenizer, temperature, dictionary, estimator, form),
    )
    return evaluation.run(folder, overwrite=overwrite, on_progress=on_progress)


def replay_with(
    model: Any,
    tokenizer: Any,
    temperature: float,
    dictionary: KoopmanDictionary | None,
    estimator: Estimator = "paper",
    form: PromptForm | None = None,
) -> dict[str, Any]:
    """``replay`` and ``measured_by`` of an `Evaluation` of a model in this process; nothing without a dictionary."""
    if dictionary is None:
        return {}

    def replay(problems: Sequence[Problem], samples: Sequence[Sequence[Sample]]) -> Dynamics:
        prompts = [encode_prompt(tokenizer, problem, form or PromptForm()) for problem in problems]
        pairs = [(prompt, sample.token_ids) for prompt, row in zip(prompts, samples, strict=True) for sample in row]
        places = {problem * len(samples[0]) + draw for problem, draw in _places_to_read(samples)}
        found = measure_dynamics(
            model,
            [prompt for prompt, _ in pairs],
            [ids for _, ids in pairs],
            temperature=temperature,
            dictionary=dictionary,
            estimator=estimator,
            by_token=places,
        )
        found.tokens = {
            row: (
                pieces_of(pairs[row][1][:MOST_TOKENS], lambda ids: str(tokenizer.decode(ids))),
                tuple(float(f"{value:.4g}") for value in entropies[:MOST_TOKENS]),
            )
            for row, entropies in found.token_entropy.items()
        }
        return found

    return {"replay": replay, "measured_by": (dictionary.digest, estimator)}


@dataclass(frozen=True)
class Evaluation:
    """Model, task and settings of an evaluation.

    Attributes:
        sampler: the policy.
        task, split, num_problems, problem_seed: the problems; all of the split when ``num_problems`` is None.
        settings: settings of the sampling; the bootstrap has its seed too.
        name: name of the model, for the result.
        task_options: options of the task, for the folder.
        policy: name of the policy that finds the answer in a completion; None: that of the task's verifier.
        replay: measures dynamics by another forward over all samples; None: it is left out.
        measured_by: digest of the dictionary, and the DSD's estimator, if the replay measures it.
    """

    sampler: Sampler
    task: Task
    settings: SamplingSettings
    split: str = "test"
    num_problems: int | None = None
    problem_seed: int = 0
    name: str = ""
    task_options: dict[str, Any] | None = None
    policy: str | None = None
    replay: Replay | None = None
    measured_by: tuple[str, str] | None = None

    @property
    def verifier(self) -> BaseVerifier:
        """The task's verifier, with the requested policy."""
        return as_verifier(self.task.verifier).with_policy(self.policy)

    def run(
        self,
        folder: EvaluationFolder | None = None,
        *,
        overwrite: bool = False,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> EvaluationResult:
        """Sample the missing completions, grade, measure.

        Args:
            folder: folder of samples and result. The same evaluation there is resumed, or read if
                it is complete.
            overwrite: delete an evaluation that is there.
            on_progress: is told samples that are there, and samples in all, after every lot.

        Raises:
            DataError: the task has no problem, or its verifier returns another number of scores than it was asked for.
            RunError: the folder holds another evaluation.
            Stopped: a stop was asked for (`relax_rl.stopping`); the folder keeps the samples there are.
        """
        problems, prompt_digest = self._problems()
        kept = [] if folder is None else folder.start(self._identity(problems, prompt_digest), overwrite=overwrite)
        if folder is not None and folder.is_complete:
            return EvaluationResult.load(folder.result_path)
        samples = self._sample(problems, kept, folder, on_progress)
        prompts = [self.sampler.render(problem) for problem in problems]
        opened = opened_by_prompts(prompts, samples, self.sampler.backend)
        answers = [problem.answer for problem in problems]
        samples = grade_samples(self.verifier, samples, answers, opened, [problem.options for problem in problems])
        samples = with_official_scores(samples, problems, self.task.name)
        samples, dynamics = self._measured(problems, samples)
        spectrum = None if dynamics is None else dynamics.spectrum
        summary = summarize(
            samples,
            seed=self.settings.seed,
            with_dsd=self.measured_by is not None,
            units=units_of(problems),
            counts_solutions=self.verifier.tells_solutions,
        )
        to_read = _to_read(prompts, samples, dynamics)
        result = self._result(summary, to_read, spectrum, prompt_digest)
        left_out = as_task(self.task).left_out(self.split, self.num_problems, self.problem_seed)
        breakdown = break_down(problems, samples, seed=self.settings.seed)
        result = replace(result, breakdown=breakdown, left_out=left_out)
        if folder is not None:
            folder.finish(samples, result)
        return result

    def expected(self) -> EvaluationResult:
        """The result as far as it is known before anything is sampled: every setting, no metric, empty completions.

        Raises:
            DataError: as `run`, for a task without problems or with two of the same id.
        """
        problems, prompt_digest = self._problems()
        samples = tuple(
            SampleRecord(problem.id, self.sampler.render(problem), "", problem.answer, None, 0, None)
            for problem in problems
        )
        unmeasured = Summary({}, (), tuple(ProblemResult(problem.id, 0, 0) for problem in problems))
        return self._result(unmeasured, samples, None, prompt_digest)

    def _problems(self) -> tuple[list[Problem], str]:
        """The problems, and the digest of all prompts."""
        problems = self.task.problems(self.split, self.num_problems, self.problem_seed)
        if not problems:
            raise DataError(f"task {self.task.name!r} has no problem in split {self.split!r}; name another split.")
        if len({problem.id for problem in problems}) < len(problems):
            raise DataError(f"task {self.task.name!r} has two problems of the same id in split {self.split!r}.")
        # Words alone would not tell a problem from the same one with another image.
        return problems, digest_of(
            [self.sampler.render(problem) + image_digest(problem.images) for problem in problems]
        )

    def _identity(self, problems: Sequence[Problem], prompt_digest: str) -> dict[str, Any]:
        """Everything that decides the samples; the batch size does not."""
        return {
            "model": self.name,
            "backend": self.sampler.backend,
            "fingerprint": self.sampler.fingerprint,
            "task": self.task.name,
            "task_options": self.task_options or {},
            "split": self.split,
            "num_problems": len(problems),
            "problem_seed": self.problem_seed,
            "prompt_digest": prompt_digest,
            "measured_by": self.measured_by,
            **_opened_by_all([self.sampler.render(problem) for problem in problems]),
            **({"grading": options} if (options := grading_options(self.verifier)) else {}),
            **vars(self.settings),
        }

    def _sample(
        self,
        problems: Sequence[Problem],
        kept: Sequence[Sample],
        folder: EvaluationFolder | None,
        on_progress: Callable[[int, int], None] | None,
    ) -> list[list[Sample]]:
        position = {problem.id: index for index, problem in enumerate(problems)}
        found = {(position[sample.problem_id], sample.index): sample for sample in kept}
        total = len(problems) * self.settings.num_samples
        if len(found) < total:
            # Samples without a folder are lost in any case, and no block of them is worth waiting for.
            stops = deferred() if folder is not None else contextlib.nullcontext(current())
            lots = self.sampler.sample(problems, self.settings, frozenset(found))
            # Closed at once: an exception would keep the generator, and its processes, as long as its traceback.
            with stops as request, contextlib.closing(lots):
                for draws in lots:
                    new = [sample_of(draw, problems) for draw in draws]
                    if folder is not None:
                        folder.append(new)
                    found.update({(draw.prompt, draw.index): sample for draw, sample in zip(draws, new, strict=True)})
                    if on_progress is not None:
                        on_progress(len(found), total)
                    request.check()
        return [[found[index, draw] for draw in range(self.settings.num_samples)] for index in range(len(problems))]

    def _measured(
        self, problems: Sequence[Problem], samples: list[list[Sample]]
    ) -> tuple[list[list[Sample]], Dynamics | None]:
        if self.replay is None:
            return samples, None
        dynamics = self.replay(problems, samples)
        values = iter(zip(dynamics.entropy.tolist(), dynamics.dsd.tolist(), strict=True))
        measured = []
        for row in samples:
            pairs = [(sample, *next(values)) for sample in row]
            measured.append([replace(s, entropy=_finite(entropy), dsd=_finite(dsd)) for s, entropy, dsd in pairs])
        return measured, dynamics

    def _result(
        self,
        summary: Summary,
        samples: tuple[SampleRecord, ...],
        spectrum: PooledSpectrum | None,
        prompt_digest: str,
    ) -> EvaluationResult:
        return EvaluationResult(
            task=self.task.name,
            split=self.split,
            num_problems=len(summary.per_problem),
            num_samples=self.settings.num_samples,
            temperature=self.settings.temperature,
            top_p=self.settings.top_p,
            max_completion_length=self.settings.max_completion_length,
            seed=self.settings.seed,
            metrics=summary.metrics,
            spectrum=spectrum,
            per_problem=summary.per_problem,
            samples=samples,
            dsd_estimator=None if self.measured_by is None else self.measured_by[1],
            pass_at_k=summary.pass_at_k,
            model=self.name,
            backend=self.sampler.backend,
            prompt_digest=prompt_digest,
            problem_seed=self.problem_seed,
            grader=grader_version(self.verifier),
            grading=grading_options(self.verifier),
            reasons=summary.reasons,
        )


def _places_to_read(samples: Sequence[Sequence[Sample]]) -> list[tuple[int, int]]:
    """Problem and draw of the first samples of the first problems, round-robin, so that several problems are seen."""
    count = min(_NUM_SAMPLES_TO_READ, len(samples) * len(samples[0]))
    return [(place % len(samples), place // len(samples)) for place in range(count)]


def _to_read(
    prompts: Sequence[str], samples: Sequence[Sequence[Sample]], dynamics: Dynamics | None
) -> tuple[SampleRecord, ...]:
    """The samples of `_places_to_read`, with what is known of their tokens."""
    records = []
    for index, draw in _places_to_read(samples):
        tokens, entropies = dynamics.tokens.get(index * len(samples[0]) + draw, ((), ())) if dynamics else ((), ())
        sample = samples[index][draw]
        records.append(
            SampleRecord(
                problem_id=sample.problem_id,
                prompt=prompts[index],
                completion=sample.completion,
                answer=sample.answer,
                score=sample.score,
                num_tokens=sample.num_tokens,
                dsd=sample.dsd,
                images=sample.images,
                tokens=tokens,
                entropies=entropies,
            )
        )
    return tuple(records)


def _opened_by_all(prompts: Sequence[str]) -> dict[str, str]:
    """The marker of a thought that every prompt opens, if there is one; the digest tells prompts that differ in it."""
    marker, *others = {opened_thought(prompt) for prompt in prompts}
    return {"opened": marker} if marker and not others else {}


def digest_of(prompts: Sequence[str]) -> str:
    """A digest of rendered prompts, which tells whether two evaluations asked the same."""
    return hashlib.blake2b("\x00".join(prompts).encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None
