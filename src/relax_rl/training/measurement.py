"""How good a run's policy is before and after, by one and the same ruler.

All processes of a run sample; each then grades and measures every completion, so that none waits long for another, and
the first one writes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from accelerate import PartialState
from torch import Tensor

from relax_rl.config import EvaluationConfig
from relax_rl.config.settings import Precision
from relax_rl.errors import ConfigError
from relax_rl.evaluation.prompts import PromptForm, encode_prompt
from relax_rl.evaluation.replay import replay
from relax_rl.evaluation.result import EvaluationResult
from relax_rl.evaluation.runner import Evaluation, replay_with
from relax_rl.evaluation.samplers.protocol import Sampler, SamplingSettings
from relax_rl.evaluation.samplers.transformers import TransformersSampler
from relax_rl.evaluation.samplers.vllm import EngineSampler
from relax_rl.koopman import KoopmanDictionary
from relax_rl.latent.contract import stop_token_ids
from relax_rl.objectives import Objective
from relax_rl.objectives.probe import DictionarySettings
from relax_rl.runs import RunDirectory
from relax_rl.tasks.base import BaseTask, Problem
from relax_rl.tasks.images.thumbnails import thumbnail
from relax_rl.training.colocated import ColocatedEngine, SharingEngine
from relax_rl.training.notices import Notices
from relax_rl.training.precision import computing_in
from relax_rl.training.shared_start import SharedStart, identity_of
from relax_rl.training.together import IMPOSSIBLE, SharingSampler, made_once

__all__ = ["PolicyEvaluation"]

_NUM_PROMPTS = 32
_NUM_SAMPLES = 2
"""Completions of each for the dictionary; not those of the evaluation, whose dispersion would come out too small."""
_ESTIMATOR = "paper"


class PolicyEvaluation:
    """Evaluations of a run, each under ``evaluations/``.

    Dispersion is a property of the dictionary as much as of the policy, so the evaluations have a dictionary of their
    own. It is fitted on completions of the initial policy with settings and a seed that do not depend on the method:
    runs of different methods from the same start are measured by the same dictionary (its digest is in each result).

    Raises:
        ConfigError: weights that are sharded, with a folder to share.

    Args:
        settings: settings of the sampling.
        task: its own verifier grades, whatever the run is rewarded by.
        run: directory of the evaluations.
        train_split: the dictionary is fitted on prompts of it.
        max_completion_length: tokens of a completion, as in training.
        precision: type in which the policy is computed.
        num_observables: number of observables of the dictionary; None takes the default of `DictionarySettings`.
        say: receives a sentence where the dispersion cannot be measured; Python warnings when None.
        form: form of the prompts, as in training.
        is_sharded: whether each process holds a part of the weights alone.
        shared: folder in which runs from one start share the evaluation before training and the dictionary; None: each
            run makes its own.
        engine: vLLM's beside the policy, which draws in place of it, with the weights of the policy that is measured;
            None: the policy draws itself.
    """

    def __init__(
        self,
        settings: EvaluationConfig,
        task: BaseTask,
        run: RunDirectory,
        *,
        train_split: str = "train",
        max_completion_length: int = 256,
        precision: Precision = "float32",
        num_observables: int | None = None,
        say: Notices | None = None,
        form: PromptForm | None = None,
        is_sharded: bool = False,
        shared: Path | None = None,
        engine: ColocatedEngine | None = None,
    ) -> None:
        if is_sharded and shared is not None:
            raise ConfigError(
                f"--share-before {shared} tells starts apart by their weights, of which each process here holds a "
                "part; leave it out."
            )
        self._is_sharded = is_sharded
        self._shared = shared
        self._engine = engine
        self._form = form or PromptForm()
        self._settings = settings
        self._task = task
        self._train_split = train_split
        self._max_completion_length = max_completion_length
        self._precision: Precision = precision
        self._num_observables = num_observables
        self._say = Notices() if say is None else say
        self._has_no_dictionary = False
        self._run = run
        self._dictionary_path = run.evaluations / "dictionary.safetensors"

    def before(self, model: Any, tokenizer: Any, objective: Objective) -> None:
        """Fit the dictionary on this policy, measure it unless the settings say not to, and keep both.

        Where no dictionary can be fitted, the evaluations have no dispersion and no spectrum. Collective.
        """
        probe = objective.probe
        num_observables = self._num_observables if probe is None else probe.settings.num_observables
        with computing_in(self._precision, model):
            start = None
            if self._shared is not None:
                start = SharedStart(self._shared, self._identity(model, tokenizer, num_observables))
            if start is not None and made_once(lambda: start.take(self._run.evaluations)):
                self._say(f"The evaluation before training is the one in {start.path}, of the same start.")
                return
            dictionary = self._fit(model, tokenizer, num_observables)
            if self._settings.before:
                self._write("before", model, tokenizer, dictionary)
        if PartialState().is_main_process:
            self._run.evaluations.mkdir(exist_ok=True)
            if dictionary is not None:
                dictionary.save(self._dictionary_path)
        # Without one, each run says itself why.
        if start is not None and dictionary is not None:
            files = [self._dictionary_path] + [self._run.evaluations / "before.json"] * self._settings.before
            made_once(lambda: start.keep(files))

    def _identity(self, model: Any, tokenizer: Any, num_observables: int | None) -> dict[str, Any]:
        settings = self._settings
        evaluated = self._task.problems(settings.split, settings.num_problems) if settings.before else []
        return identity_of(
            model,
            tokenizer,
            self._task,
            [*self._problems_of_dictionary(), *evaluated],
            lambda problem: encode_prompt(tokenizer, problem, self._form),
            {
                **settings.model_dump(),
                "max_completion_length": self._max_completion_length,
                "precision": self._precision,
                "num_observables": num_observables,
                **({} if self._engine is None else {"sampled_by": EngineSampler.backend}),
            },
        )

    def _problems_of_dictionary(self) -> list[Problem]:
        # A task without end makes every problem that it is asked for.
        count = _NUM_PROMPTS if self._task.is_endless else None
        return self._task.problems(self._train_split, count)[:_NUM_PROMPTS]

    def after(self, model: Any, tokenizer: Any) -> None:
        """Measure the trained policy with the dictionary of the initial one. Collective."""
        # Another machine may not see the folder.
        dictionary = made_once(self._kept_dictionary)
        if dictionary is None and not self._has_no_dictionary:
            self._say(
                f"The evaluation after training has no dispersion: there is no {self._dictionary_path}, which is "
                "fitted on the initial policy."
            )
        with computing_in(self._precision, model):
            self._write("after", model, tokenizer, dictionary)

    def during(self, model: Any, tokenizer: Any, problems: Sequence[Problem], split: str) -> EvaluationResult:
        """Measure a policy in training, without its dynamics. Collective.

        Args:
            problems: problems of the measurement.
            split: split of the problems, for the result.
        """
        with computing_in(self._precision, model):
            return self._evaluation(model, tokenizer, _Listed(self._task, problems), split, len(problems)).run()

    def _kept_dictionary(self) -> KoopmanDictionary | None:
        return KoopmanDictionary.load(self._dictionary_path) if self._dictionary_path.is_file() else None

    def _sampler(self, model: Any, tokenizer: Any) -> Sampler:
        if self._engine is not None:
            ends = stop_token_ids(model, tokenizer)
            return SharingEngine(EngineSampler(self._engine.llm, tokenizer, ends, form=self._form), self._engine)
        sampler = TransformersSampler(model, tokenizer, self._settings.batch_size, self._form)
        return SharingSampler(sampler, is_sharded=self._is_sharded)

    def _fit(self, model: Any, tokenizer: Any, num_observables: int | None) -> KoopmanDictionary | None:
        given = {} if num_observables is None else {"num_observables": num_observables}
        trajectories = self._trajectories(model, tokenizer, self._problems_of_dictionary())
        try:
            return made_once(lambda: DictionarySettings.parse(given, DictionarySettings()).fit(trajectories))
        except IMPOSSIBLE as error:
            self._has_no_dictionary = True
            self._say(
                f"The evaluations have no dispersion: {str(error).rstrip('.')}. They are measured with a dictionary of "
                "their own, fitted on completions of the initial policy."
            )
            return None

    def _trajectories(self, model: Any, tokenizer: Any, problems: list[Problem]) -> list[Tensor]:
        """Hidden states (T_i, H) of completions that the policy samples, in the order of the problems."""
        settings = SamplingSettings(_NUM_SAMPLES, self._max_completion_length, seed=self._settings.seed)
        draws = [draw for lot in self._sampler(model, tokenizer).sample(problems, settings) for draw in lot]
        draws.sort(key=lambda draw: (draw.prompt, draw.index))
        prompts = [encode_prompt(tokenizer, problem, self._form) for problem in problems]
        pairs = [(prompts[draw.prompt], draw.completion.token_ids) for draw in draws]
        trajectories: dict[int, Tensor] = {}
        for batch in replay(model, [prompt for prompt, _ in pairs], [ids for _, ids in pairs]):
            for row, states, mask in zip(batch.rows, batch.hidden_states, batch.mask, strict=True):
                trajectories[row] = states[mask].float().cpu()
        return [trajectories[row] for row in range(len(pairs))]

    def _write(self, name: str, model: Any, tokenizer: Any, dictionary: KoopmanDictionary | None) -> None:
        settings = self._settings
        estimated_by = None if dictionary is None else dictionary.to(model.device)
        replay = replay_with(model, tokenizer, settings.temperature, estimated_by, _ESTIMATOR, self._form)
        result = self._evaluation(model, tokenizer, self._task, settings.split, settings.num_problems, replay).run()
        if PartialState().is_main_process:
            self._run.write_evaluation(name, result.to_dict())
            self._keep_thumbnails({sample.problem_id for sample in result.samples})

    def _keep_thumbnails(self, ids: set[str]) -> None:
        """Small copies of the images of the samples that a page shows."""
        for problem in self._task.problems(self._settings.split, self._settings.num_problems):
            if problem.id in ids and problem.images:
                for name, picture in zip(problem.image_names, problem.pictures, strict=True):
                    if not self._run.thumbnails.has(name):
                        self._run.thumbnails.write(name, thumbnail(picture.open()))

    def _evaluation(
        self,
        model: Any,
        tokenizer: Any,
        task: BaseTask,
        split: str,
        num_problems: int,
        replay: Mapping[str, Any] | None = None,
    ) -> Evaluation:
        settings = self._settings
        return Evaluation(
            sampler=self._sampler(model, tokenizer),
            task=task,
            settings=SamplingSettings(
                settings.num_samples,
                self._max_completion_length,
                settings.temperature,
                settings.top_p,
                settings.seed,
            ),
            split=split,
            num_problems=num_problems,
            **(replay or {}),
        )


class _Listed(BaseTask):
    """A task of these problems alone."""

    def __init__(self, task: BaseTask, problems: Sequence[Problem]) -> None:
        self.name, self.verifier = task.name, task.verifier
        self._problems = list(problems)

    def problems(self, split: str, count: int | None = None, seed: int = 0) -> list[Problem]:
        return self._problems[:count]
