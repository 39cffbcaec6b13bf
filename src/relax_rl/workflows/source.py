"""Sampler of an evaluation's policy: this process, vLLM, or a server."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from relax_rl.errors import ConfigError
from relax_rl.evaluation.samplers.protocol import SamplingSettings
from relax_rl.tasks.base import FindsTooLong, Problem
from relax_rl.workflows.loading import load_quietly
from relax_rl.workflows.processes import can_fork, check_processes, cores_for
from relax_rl.workflows.progress import OnProgress, Progress
from relax_rl.workflows.subject import PromptSettings, Subject

if TYPE_CHECKING:
    from relax_rl.evaluation.samplers.processes import ForkingSampler
    from relax_rl.evaluation.samplers.transformers import TransformersSampler
    from relax_rl.koopman import KoopmanDictionary
    from relax_rl.latent.contract import ModelContract
    from relax_rl.workflows.policy import FittedPrompts

__all__ = ["BACKENDS", "Asked", "Source"]

BACKENDS = ("transformers", "vllm", "server")


@dataclass(frozen=True)
class Asked:
    """Questions to the policy; ``may_shorten``: the completion length is a default, and gives way to the context."""

    problems: Sequence[Problem]
    sampling: SamplingSettings
    dictionary: Any
    may_shorten: bool
    fitting: Callable[[FindsTooLong, FindsTooLong | None], Sequence[Problem]] | None = None
    """The problems without those that the task leaves out, and those that the evaluation does; None: all stay."""


@dataclass(frozen=True)
class Source:
    """Sampler of the policy, and its loading."""

    tokenizer: Any
    batch_size: int
    backend: str
    base_url: str | None
    prompts: PromptSettings
    concurrency: int
    timeout: float
    dtype: str
    revision: str | None
    processes: int | None

    def check(self, dictionary: Any, subject: Subject) -> None:
        """All that can be wrong before a model is loaded. Raises ConfigError, or ModelError for a missing folder."""
        if self.backend not in BACKENDS:
            raise ConfigError(f"backend is {self.backend!r}; choose among {', '.join(BACKENDS)}.")
        if self.backend != "transformers" and dictionary is not None:
            raise ConfigError(f"--dictionary needs the hidden states, which --backend {self.backend} does not show")
        if self.backend != "transformers" and subject.is_loaded:
            raise ConfigError(f"a loaded model is sampled in this process; leave backend={self.backend!r} out.")
        drops = self.prompts.overlong == "drop" or self.prompts.max_prompt_length is not None
        if self.backend == "server" and drops:
            raise ConfigError(
                "--max-prompt-length and --overlong drop count tokens, which only a server knows how to make of words; "
                "leave them out with --backend server"
            )
        if (self.backend == "server") != (self.base_url is not None):
            raise ConfigError("--backend server and --base-url URL go together; give both or neither")
        if self.revision is not None:
            if self.backend == "server" or subject.is_loaded:
                raise ConfigError(
                    "--revision is of a model that is loaded here by its name; leave it out for a server, and for a "
                    "loaded model"
                )
            from relax_rl.latent.contract.files import check_revision

            check_revision(subject.model, self.revision)
        check_processes(self.processes, self.backend)

    def policy(self, subject: Subject, asked: Asked, say: OnProgress) -> dict[str, Any]:
        """``sampler`` and ``settings`` of an `Evaluation`, and for a model in this process what measures its states."""
        if self.backend == "server":
            return {"sampler": self._server(subject), "settings": asked.sampling}

        from relax_rl.evaluation.runner import replay_with
        from relax_rl.evaluation.samplers.transformers import TransformersSampler

        if self.backend == "vllm":
            return self._vllm(subject, asked, say)
        ruler = _dictionary(asked.dictionary or subject.dictionary)
        model, tokenizer = subject.model, self.tokenizer
        from relax_rl.workflows.policy import check_sight, checked_contract

        if not subject.is_loaded:
            check_sight(subject.model, self.revision, asked.problems)
            model, tokenizer = load_quietly(subject.model, self.dtype, self.revision, say=say)
        contract = checked_contract(model, tokenizer, subject.name or "the model", self.prompts.switches)
        fitted, sampling = self._fitted(contract, tokenizer, asked, say)
        ruler = None if ruler is None else ruler.to(model.device)
        sampler = TransformersSampler(model, tokenizer, self.batch_size, fitted.form)
        return {
            "sampler": self._in_processes(model, sampler, asked, sampling, say),
            "settings": sampling,
            **replay_with(model, tokenizer, sampling.temperature, ruler, form=fitted.form),
        }

    def _in_processes(
        self, model: Any, sampler: TransformersSampler, asked: Asked, settings: SamplingSettings, say: OnProgress
    ) -> TransformersSampler | ForkingSampler:
        """The sampler, in as many processes as the settings say."""
        from relax_rl.evaluation.samplers.processes import ForkingSampler

        if not can_fork(self.processes, model) or not asked.problems:
            return sampler
        longest = max(asked.problems, key=lambda problem: len(problem.prompt))
        num_tokens = sampler.prompt_length(longest) + settings.max_completion_length
        num_samples = len(asked.problems) * settings.num_samples
        cores = cores_for(self.processes, model, self.batch_size, num_tokens, num_samples, say)
        return ForkingSampler(sampler, cores.processes, cores.threads)

    def _server(self, subject: Subject) -> Any:
        from relax_rl.evaluation.samplers.server import ServerSampler

        options: dict[str, Any] = {"plain": self.prompts.plain, "switches": self.prompts.switches}
        options |= {"concurrency": self.concurrency, "timeout_s": self.timeout}
        api_key = os.environ.get("OPENAI_API_KEY")
        return ServerSampler(str(self.base_url), subject.model, **options, api_key=api_key)

    def _vllm(self, subject: Subject, asked: Asked, say: OnProgress) -> dict[str, Any]:
        from relax_rl.evaluation.samplers.vllm import VllmSampler
        from relax_rl.latent.contract import read_contract
        from relax_rl.training.models import load_tokenizer, model_location

        contract = read_contract(subject.model, self.revision)
        if contract.adapter is not None:
            raise ConfigError(
                f"--backend vllm takes whole models, and {subject.name} is an adapter; merge it first: relax merge "
                f"{subject.name} DIR"
            )
        contract.tokens.check(subject.name)
        fitted, sampling = self._fitted(contract, load_tokenizer(subject.model, self.revision), asked, say)
        place = model_location(subject.model)
        sampler = VllmSampler(place, dtype=self.dtype, revision=self.revision, form=fitted.form)
        return {"sampler": sampler, "settings": sampling}

    def _fitted(
        self, contract: ModelContract, tokenizer: Any, asked: Asked, say: OnProgress
    ) -> tuple[FittedPrompts, SamplingSettings]:
        from relax_rl.evaluation.prompts import PromptForm
        from relax_rl.workflows.policy import finds_left_out, finds_too_long, fit_prompts, shortened_length

        prompts, sampling = self.prompts, asked.sampling
        if asked.fitting is not None:
            about = (contract, tokenizer, sampling.max_completion_length, PromptForm(prompts.plain, prompts.switches))
            left_out = finds_left_out(*about, overlong=prompts.overlong, max_prompt_length=prompts.max_prompt_length)
            asked = replace(asked, problems=asked.fitting(finds_too_long(*about), left_out))
        if asked.may_shorten:
            length = shortened_length(
                contract, tokenizer, asked.problems, sampling.max_completion_length, prompts.plain, prompts.switches
            )
            if length < sampling.max_completion_length:
                words = f"completions have at most {length:,} tokens: the context of {contract.name} leaves no more"
                say(Progress("loading", message=f"{words} beside the longest prompt"))
            sampling = replace(sampling, max_completion_length=length)
        fitted = fit_prompts(
            contract,
            tokenizer,
            {"the evaluation": asked.problems},
            sampling.max_completion_length,
            plain=prompts.plain,
            switches=prompts.switches,
            overlong=prompts.overlong,
        )
        for note in fitted.notes:
            say(Progress("loading", message=note))
        return fitted, sampling


def _dictionary(given: str | Path | KoopmanDictionary | None) -> KoopmanDictionary | None:
    from relax_rl.koopman import KoopmanDictionary

    return KoopmanDictionary.load(Path(given)) if isinstance(given, str | Path) else given
