"""Completions from vLLM in this process; the package is imported when a sampler is made, and is not a dependency."""

from __future__ import annotations

from collections.abc import Container, Generator, Sequence
from types import SimpleNamespace
from typing import Any

from relax_rl.errors import DependencyError
from relax_rl.evaluation.prompts import PromptForm, encode_prompt, render_prompt
from relax_rl.evaluation.samplers.protocol import Completion, Draw, SamplingSettings, refuse_images, request_seed
from relax_rl.evaluation.texts import completion_texts
from relax_rl.latent.contract import stop_token_ids
from relax_rl.latent.contract.files import read_json
from relax_rl.remote_code import remote_code
from relax_rl.tasks.base import Problem

__all__ = ["VllmSampler"]


class VllmSampler:
    """vLLM's offline engine. Each sample is a request with its own seed; the prefix cache prefills a prompt once.

    vLLM draws the same tokens from a seed only while its kernels see the same batch: samples that are kept are never
    drawn again, but another run may differ in some.

    Args:
        model: a folder or a name on the Hub.
        batch_size: requests handed over at once; samples are kept after every lot.
        form: how problems become prompts.

    Raises:
        DependencyError: vLLM is not installed.
    """

    backend = "vllm"
    fingerprint = ""

    def __init__(
        self,
        model: str,
        *,
        dtype: str = "bfloat16",
        revision: str | None = None,
        batch_size: int = 2048,
        form: PromptForm | None = None,
    ) -> None:
        try:
            import vllm  # pyright: ignore[reportMissingImports]
        except ImportError as error:
            raise DependencyError(
                f"--backend vllm needs the package vllm ({error}); pip install vllm, or leave --backend out."
            ) from error
        self._vllm: Any = vllm
        # "vllm": none of the model's generation_config.json, which would steer the sampling; its end tokens are below.
        options = {"dtype": dtype, "revision": revision, "enable_prefix_caching": True, "generation_config": "vllm"}
        self._llm: Any = self._vllm.LLM(model=model, **options, **remote_code())
        self._tokenizer: Any = self._llm.get_tokenizer()
        ends = (read_json(model, "generation_config.json", revision) or {}).get("eos_token_id")
        declared = SimpleNamespace(generation_config=SimpleNamespace(eos_token_id=ends))
        self._stop_ids = stop_token_ids(declared, self._tokenizer)
        self._batch_size = batch_size
        self._form = form or PromptForm()

    @property
    def tokenizer(self) -> Any:
        """The engine's own."""
        return self._tokenizer

    def render(self, problem: Problem) -> str:
        """The text that the model reads. Raises ConfigError for a problem with images."""
        refuse_images(problem, self.backend)
        return render_prompt(self._tokenizer, problem, self._form)

    def sample(
        self, problems: Sequence[Problem], settings: SamplingSettings, done: Container[tuple[int, int]] = frozenset()
    ) -> Generator[list[Draw]]:
        """See :class:`.sampler.Sampler`."""
        rows = [(place, index) for place in range(len(problems)) for index in range(settings.num_samples)]
        wanted = [row for row in rows if row not in done]
        for start in range(0, len(wanted), self._batch_size):
            lot = wanted[start : start + self._batch_size]
            encoded = [encode_prompt(self._tokenizer, problems[place], self._form) for place, _ in lot]
            prompts = [{"prompt_token_ids": ids} for ids in encoded]
            parameters = [
                self._vllm.SamplingParams(
                    temperature=settings.temperature,
                    top_p=settings.top_p,
                    max_tokens=settings.max_completion_length,
                    seed=request_seed(settings.seed, problems[place].id, index),
                    stop_token_ids=self._stop_ids,
                )
                for place, index in lot
            ]
            replies = self._llm.generate(prompts, parameters, use_tqdm=False)
            outputs = [reply.outputs[0] for reply in replies]
            texts = completion_texts(self._tokenizer, [output.token_ids for output in outputs])
            yield [Draw(*row, _completion(text, output)) for row, text, output in zip(lot, texts, outputs, strict=True)]


def _completion(text: str, output: Any) -> Completion:
    token_ids = tuple(output.token_ids)
    return Completion(text, token_ids, len(token_ids), output.finish_reason == "length")
