"""The samples of a finished evaluation, graded again without sampling."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from relax_rl.errors import DataError
from relax_rl.evaluation.breakdown import break_down, units_of
from relax_rl.evaluation.folder import EvaluationFolder
from relax_rl.evaluation.grading import grade_samples, grader_version, grading_options
from relax_rl.evaluation.published import with_official_scores
from relax_rl.evaluation.records import Sample
from relax_rl.evaluation.result import EvaluationResult
from relax_rl.evaluation.summary import summarize
from relax_rl.evaluation.thoughts import opened_again
from relax_rl.rewards.base import Verifier, as_verifier
from relax_rl.tasks.base import Task

if TYPE_CHECKING:
    from relax_rl.evaluation.judge import Judge
    from relax_rl.evaluation.judging import Judged

__all__ = ["Regraded", "rescore"]


@dataclass(frozen=True)
class Regraded:
    """Samples that were graded again.

    Attributes:
        result: the new one. Entropy, DSD and spectrum stay as they were measured.
        changes: number of samples that went from one score to another, by (old, new); None is no score.
        judged: verdicts of a judge on them; None without one.
    """

    result: EvaluationResult
    changes: dict[tuple[float | None, float | None], int]
    judged: Judged | None = None

    @property
    def num_changed(self) -> int:
        """Verdicts that changed."""
        return sum(self.changes.values())


def rescore(
    folder: EvaluationFolder, task: Task, verifier: Verifier | None = None, judge: Judge | None = None
) -> Regraded:
    """Grade the samples of a complete evaluation again, and rewrite samples and result.

    Folders of earlier versions lack what later ones record: the thought that a prompt opened is then read off the
    prompts that the result shows.

    Args:
        task: task of the evaluation.
        verifier: in place of the task's own.
        judge: reads what the benchmark's published rule leaves to a model; see `.judging`.

    Raises:
        DataError: the evaluation is not complete, or the task does not have its problems.
        ModelError: the judge's server gives no reply at all.
    """
    settings, samples = folder.read_settings(), folder.read_samples()
    verifier = task.verifier if verifier is None else verifier
    old = EvaluationResult.load(folder.result_path)
    by_problem: dict[str, list[Sample]] = {}
    for sample in samples:
        by_problem.setdefault(sample.problem_id, []).append(sample)
    asked = settings["num_problems"] + len(old.left_out)
    problems = task.problems(settings["split"], asked, settings["problem_seed"])
    problems = [problem for problem in problems if problem.id not in old.left_out]
    if [problem.id for problem in problems] != list(by_problem):
        raise DataError(f"The task {task.name!r} no longer has the problems that {folder.path} holds samples of.")
    before = list(by_problem.values())
    answers = [problem.answer for problem in problems]
    opened = opened_again(settings, old.samples, before)
    after = grade_samples(verifier, before, answers, opened, [problem.options for problem in problems])
    after = with_official_scores(after, problems, task.name)
    found: Judged | None = None
    if judge is not None:
        from relax_rl.evaluation.judging import judged

        found = judged(after, problems, task.name, judge)
        after = found.samples
    summary = summarize(
        after,
        seed=old.seed,
        with_dsd=old.dsd_estimator is not None,
        units=units_of(problems),
        counts_solutions=as_verifier(verifier).tells_solutions,
    )
    scores = {(sample.problem_id, sample.index): sample.score for row in after for sample in row}
    result = replace(
        old,
        metrics=summary.metrics,
        pass_at_k=summary.pass_at_k,
        per_problem=summary.per_problem,
        samples=tuple(
            replace(sample, score=scores[sample.problem_id, place // len(problems)])
            for place, sample in enumerate(old.samples)
        ),
        grader=grader_version(verifier),
        grading=grading_options(verifier),
        reasons=summary.reasons,
        breakdown=break_down(problems, after, seed=old.seed),
    )
    folder.finish(after, result)
    folder.regraded(result.grading)
    pairs = ((sample.score, scores[sample.problem_id, sample.index]) for row in before for sample in row)
    return Regraded(result, dict(Counter(pair for pair in pairs if pair[0] != pair[1])), found)
