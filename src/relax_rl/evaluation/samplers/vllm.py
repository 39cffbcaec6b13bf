"""Completions from vLLM in this process; the package is imported when a sampler is made, and is not a dependency."""

from __future__ import annotations

from collections.abc import Callable, Container, Generator, Sequence
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

__all__ = ["EngineSampler", "VllmSampler"]


class EngineSampler:
    """vLLM's offline engine. Each sample is a request with its own seed; the prefix cache prefills a prompt once.

    vLLM draws the same tokens from a seed only while its kernels see the same batch: samples that are kept are never
    drawn again, but another run may differ in some.

    Args:
        engine: a `vllm.LLM`.
        tokenizer: tokenizer of its model.
        stop_ids: tokens that end a completion.
        batch_size: requests handed over at once; samples are kept after every lot.
        form: form of the prompts.
    """

    backend = "vllm"
    fingerprint = ""

    def __init__(
        self,
        engine: Any,
        tokenizer: Any,
        stop_ids: Sequence[int],
        *,
        batch_size: int = 2048,
        form: PromptForm | None = None,
    ) -> None:
        self._llm = engine
        self._tokenizer = tokenizer
        self._stop_ids = list(stop_ids)
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
        self,
        problems: Sequence[Problem],
        settings: SamplingSettings,
        done: Container[tuple[int, int]] = frozenset(),
        is_mine: Callable[[int], bool] = lambda number: True,
    ) -> Generator[list[Draw]]:
        """See :class:`.protocol.Sampler`.

        Args:
            is_mine: whether this engine draws a wanted sample, numbered from 0.
        """
        import vllm  # pyright: ignore[reportMissingImports]

        package: Any = vllm
        rows = [(place, index) for place in range(len(problems)) for index in range(settings.num_samples)]
        wanted = [row for row in rows if row not in done]
        wanted = [row for number, row in enumerate(wanted) if is_mine(number)]
        for start in range(0, len(wanted), self._batch_size):
            lot = wanted[start : start + self._batch_size]
            encoded = [encode_prompt(self._tokenizer, problems[place], self._form) for place, _ in lot]
            prompts = [{"prompt_token_ids": ids} for ids in encoded]
            parameters = [
                package.SamplingParams(
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


class VllmSampler(EngineSampler):
    """A model that vLLM loads in this process.

    Args:
        model: a folder or a name on the Hub.
        batch_size, form: see `EngineSampler`.

    Raises:
        DependencyError: vLLM is not installed.
    """

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
        # "vllm": none of the model's generation_config.json, which would steer the sampling; its end tokens are below.
        options = {"dtype": dtype, "revision": revision, "enable_prefix_caching": True, "generation_config": "vllm"}
        package: Any = vllm
        engine: Any = package.LLM(model=model, **options, **remote_code())
        tokenizer = engine.get_tokenizer()
        ends = (read_json(model, "generation_config.json", revision) or {}).get("eos_token_id")
        declared = SimpleNamespace(generation_config=SimpleNamespace(eos_token_id=ends))
        super().__init__(engine, tokenizer, stop_token_ids(declared, tokenizer), batch_size=batch_size, form=form)


def _completion(text: str, output: Any) -> Completion:
    token_ids = tuple(output.token_ids)
    return Completion(text, token_ids, len(token_ids), output.finish_reason == "length")
