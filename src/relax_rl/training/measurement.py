"""How good a run's policy is before and after, by one and the same ruler."""

from __future__ import annotations

from typing import Any

import torch
from accelerate import PartialState
from torch import Tensor

from relax_rl.config import EvaluationConfig
from relax_rl.config.settings import Precision
from relax_rl.errors import RelaxError
from relax_rl.evaluation.prompts import PromptForm, encode_prompt
from relax_rl.evaluation.replay import replay
from relax_rl.evaluation.runner import evaluate
from relax_rl.evaluation.samplers.transformers import sample_completions
from relax_rl.koopman import KoopmanDictionary
from relax_rl.objectives import Objective
from relax_rl.objectives.probe import DictionarySettings
from relax_rl.runs import RunDirectory
from relax_rl.tasks.base import BaseTask, Problem
from relax_rl.training.notices import Notices
from relax_rl.training.precision import computing_in

__all__ = ["PolicyEvaluation"]

_NUM_PROMPTS = 32
_NUM_SAMPLES = 8
_ESTIMATOR = "paper"


class PolicyEvaluation:
    """Evaluations of a run, each under ``evaluations/``.

    Dispersion is a property of the dictionary as much as of the policy, so the evaluations have a dictionary of their
    own. It is fitted on completions of the initial policy with settings and a seed that do not depend on the method:
    runs of different methods from the same start are measured by the same dictionary (its digest is in each result).

    Args:
        settings: what is sampled.
        task: its own verifier grades, whatever the run is rewarded by.
        run: where the evaluations are kept.
        train_split: the dictionary is fitted on prompts of it.
        max_completion_length: tokens of a completion, as in training.
        precision: that the policy is computed in.
        num_observables: of the dictionary; None takes the default of `DictionarySettings`.
        say: receives a sentence where the dispersion cannot be measured; Python warnings when None.
        form: how problems become prompts, as in training.
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
    ) -> None:
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

        Where no dictionary can be fitted, the evaluations have no dispersion and no spectrum.
        """
        if not PartialState().is_main_process:
            return
        probe = objective.probe
        num_observables = self._num_observables if probe is None else probe.settings.num_observables
        with computing_in(self._precision, model):
            dictionary = self._fit(model, tokenizer, num_observables)
            if self._settings.before:
                self._write("before", model, tokenizer, dictionary)
        self._run.evaluations.mkdir(exist_ok=True)
        if dictionary is not None:
            dictionary.save(self._dictionary_path)

    def after(self, model: Any, tokenizer: Any) -> None:
        """Measure the trained policy with the dictionary of the initial one."""
        if not PartialState().is_main_process:
            return
        dictionary = None
        if self._dictionary_path.is_file():
            dictionary = KoopmanDictionary.load(self._dictionary_path)
        elif not self._has_no_dictionary:
            self._say(
                f"The evaluation after training has no dispersion: there is no {self._dictionary_path}, which is "
                "fitted on the initial policy."
            )
        with computing_in(self._precision, model):
            self._write("after", model, tokenizer, dictionary)

    def _fit(self, model: Any, tokenizer: Any, num_observables: int | None) -> KoopmanDictionary | None:
        given = {} if num_observables is None else {"num_observables": num_observables}
        # A task without end makes every problem that it is asked for.
        count = _NUM_PROMPTS if self._task.is_endless else None
        problems = self._task.problems(self._train_split, count)[:_NUM_PROMPTS]
        trajectories = self._trajectories(model, tokenizer, problems)
        try:
            return DictionarySettings.parse(given, DictionarySettings()).fit(trajectories)
        except (RelaxError, torch.linalg.LinAlgError) as error:
            self._has_no_dictionary = True
            self._say(
                f"The evaluations have no dispersion: {str(error).rstrip('.')}. They are measured with a dictionary of "
                "their own, fitted on completions of the initial policy."
            )
            return None

    def _trajectories(self, model: Any, tokenizer: Any, problems: list[Problem]) -> list[Tensor]:
        """Hidden states (T_i, H) of completions that the policy samples, in the order of the problems."""
        settings = self._settings
        prompts = [encode_prompt(tokenizer, problem, self._form) for problem in problems]
        sampled = sample_completions(
            model,
            tokenizer,
            prompts,
            _NUM_SAMPLES,
            max_completion_length=self._max_completion_length,
            batch_size=settings.batch_size,
            seed=settings.seed,
            keys=[problem.id for problem in problems],
        )
        pairs = [(prompt, draw.token_ids) for prompt, row in zip(prompts, sampled, strict=True) for draw in row]
        trajectories: list[Tensor] = [torch.empty(0)] * len(pairs)
        for batch in replay(model, [prompt for prompt, _ in pairs], [ids for _, ids in pairs]):
            for row, states, mask in zip(batch.rows, batch.hidden_states, batch.mask, strict=True):
                trajectories[row] = states[mask].float().cpu()
        return trajectories

    def _write(self, name: str, model: Any, tokenizer: Any, dictionary: KoopmanDictionary | None) -> None:
        settings = self._settings
        result = evaluate(
            model,
            tokenizer,
            self._task,
            split=settings.split,
            num_problems=settings.num_problems,
            num_samples=settings.num_samples,
            max_completion_length=self._max_completion_length,
            temperature=settings.temperature,
            top_p=settings.top_p,
            batch_size=settings.batch_size,
            dictionary=None if dictionary is None else dictionary.to(model.device),
            estimator=_ESTIMATOR,
            seed=settings.seed,
            form=self._form,
        )
        self._run.write_evaluation(name, result.to_dict())
