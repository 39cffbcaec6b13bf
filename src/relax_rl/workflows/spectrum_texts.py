"""The inputs of `spectrum`: the prompts, and the texts that a model makes of them or finds in them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from relax_rl.errors import ConfigError, DataError
from relax_rl.tasks.base import BaseTask, Problem, Task, as_task
from relax_rl.tasks.registry import build_task
from relax_rl.workflows.loading import Loading
from relax_rl.workflows.prompts import read_prompts

if TYPE_CHECKING:
    from relax_rl.evaluation.prompts import PromptForm
    from relax_rl.evaluation.room import Overlong
    from relax_rl.evaluation.samplers.protocol import Completion
    from relax_rl.spectra.measure import LatentText

__all__ = ["Reading", "SampledTexts", "problems_of", "sampled_texts", "task_of", "texts_of"]

_LENGTH = 256
_SHOWN_TEXTS = 6


@dataclass(frozen=True)
class Reading:
    """The texts that a model reads or writes, and the loading of the model: the arguments that all spectra share.

    Attributes:
        prompts: a file (a prompt a line, or JSON Lines with a prompt column), or the prompts themselves.
        task: prompts of a task instead: a name, ``package.module:Class``, or a task object. None of both: countdown.
        text: read prompts and solutions as they are, instead of completions.
        num_problems: the first so many prompts.
        max_completion_length: in tokens; None: 256.
        num_samples, temperature, seed: number of samples, temperature and seed of the sampling.
        split, task_options: split and options of the task.
        plain, chat_template_kwargs, overlong: form of the prompts, see
            `relax_rl.workflows.policy.fit_prompts`.
        tokenizer, dtype, revision, device_map: see `Loading`.
    """

    prompts: str | Path | Sequence[str] | None = None
    task: str | Task | None = None
    text: bool = False
    num_problems: int = 20
    max_completion_length: int | None = None
    num_samples: int = 1
    temperature: float = 1.0
    split: str = "test"
    seed: int = 0
    plain: bool | None = None
    chat_template_kwargs: Mapping[str, Any] | None = None
    overlong: Overlong | None = None
    task_options: Mapping[str, Any] | None = None
    tokenizer: Any = None
    dtype: str = "float32"
    revision: str | None = None
    device_map: str | None = None

    @property
    def loading(self) -> Loading:
        """How the model is loaded."""
        return Loading(self.tokenizer, self.dtype, self.revision, self.device_map, writes=not self.text)

    @property
    def form(self) -> dict[str, Any]:
        """How problems become prompts, as `relax_rl.workflows.policy.fit_prompts` takes it."""
        switches = dict(self.chat_template_kwargs or {})
        return {"plain": bool(self.plain), "switches": switches, "overlong": self.overlong or "refuse"}

    @property
    def length(self) -> int:
        """The length limit that applies."""
        return _LENGTH if self.max_completion_length is None else self.max_completion_length

    def check(self) -> None:
        """Raises ConfigError for settings out of range, or that exclude each other."""
        if self.prompts is not None and self.task is not None:
            raise ConfigError("--prompts and --task both say what to read; give one of them.")
        if self.text and self.max_completion_length is not None:
            raise ConfigError("--text reads what is there and --max-completion-length T makes more; give one of them.")
        if self.text and self.num_samples != 1:
            raise ConfigError("--text reads what is there and --num-samples N draws completions; give one of them.")
        for name in ("num_problems", "num_samples", "length"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} = {getattr(self, name)} must be at least 1.")
        if not 0 <= self.temperature < math.inf:
            raise ConfigError(f"--temperature is {self.temperature}; give 0 (greedy) or a positive number.")

    def words(self) -> str:
        """The same in a sentence, for the page."""
        if self.text:
            return "read as they are"
        return (
            f"{self.num_samples} completion{'s' * (self.num_samples > 1)} each of at most {self.length} tokens at "
            f"temperature {self.temperature:g}, seed {self.seed}; the completions are measured"
        )


def problems_of(reading: Reading) -> tuple[list[Problem], str]:
    """The first prompts of a file, of a list or of a task, and where they are from, in words.

    Raises:
        ConfigError: a task that does not exist.
        DataError: prompts that cannot be read, none at all, or one with an image.
    """
    prompts, count = reading.prompts, reading.num_problems
    if isinstance(prompts, str | Path):
        problems, where = read_prompts(Path(prompts), count), str(prompts)
    elif prompts is not None:
        problems = [Problem(f"prompt-{number}", prompt, "") for number, prompt in enumerate(prompts, start=1)][:count]
        where = "those given"
    else:
        task = task_of(reading)
        name = reading.task if isinstance(reading.task, str) else task.name
        problems, where = task.problems(reading.split, count), f"the task {name} ({reading.split})"
    if not problems:
        raise DataError("There is no prompt to read; give at least one.")
    shows = next((problem.id for problem in problems if problem.images), None)
    if shows is not None:
        raise DataError(
            f"The problem {shows!r} shows an image, and `relax spectrum` reads words only; name another task."
        )
    return problems, where


def task_of(reading: Reading) -> BaseTask:
    """The task that is read. Raises ConfigError for one that does not exist."""
    named = "countdown" if reading.task is None else reading.task
    return build_task(named, **dict(reading.task_options or {})) if isinstance(named, str) else as_task(named)


def texts_of(
    model: Any,
    tokenizer: Any,
    problems: list[Problem],
    reading: Reading,
    name: str = "the model",
    say: Callable[[str], None] = lambda _: None,
) -> tuple[list[LatentText], list[tuple[str, str]]]:
    """The texts for the model, and the same in words, for the first few.

    Args:
        say: is told of texts that are left out, since a single token has no spectrum.

    Raises:
        ConfigError: texts that are longer than the model's context.
        DataError: all texts are of a single token.
        ModelError: a model that is to write and has no end token.
    """
    from relax_rl.spectra.measure import LatentText

    if reading.text:
        found = [(problem, _given_text(tokenizer, problem)) for problem in problems]
        long = [(problem, text) for problem, text in found if len(text.token_ids) > 1]
        short = [problem.id for problem, text in found if len(text.token_ids) < 2]
        if not long:
            raise DataError(f"Every text has fewer than 2 tokens, such as '{short[0]}'; a spectrum needs longer ones.")
        if short:
            ids = ", ".join(short[:_SHOWN_TEXTS]) + (", ..." if len(short) > _SHOWN_TEXTS else "")
            say(f"{len(short)} of {len(found)} texts left out, since a single token has no spectrum: {ids}")
        texts = [text for _, text in long]
        _check_length(model, texts, name)
        return texts, [(problem.prompt, problem.solution or "") for problem, _ in long[:_SHOWN_TEXTS]]
    drawn = sampled_texts(model, tokenizer, problems, reading, name)
    texts = [
        LatentText(problem.id, (*prompt, *draw.token_ids), len(prompt))
        for problem, prompt, draws in zip(problems, drawn.prompts, drawn.completions, strict=True)
        for draw in draws
    ]
    shown = [(p.question, row[0].text) for p, row in zip(problems[:_SHOWN_TEXTS], drawn.completions, strict=False)]
    return texts, shown


@dataclass(frozen=True)
class SampledTexts:
    """The output of a model: prompts as it read them, their form, and the completions of each."""

    prompts: list[Sequence[int]]
    form: PromptForm
    completions: list[list[Completion]]


def sampled_texts(
    model: Any, tokenizer: Any, problems: list[Problem], reading: Reading, name: str = "the model"
) -> SampledTexts:
    """Let the model write completions of the prompts.

    Raises:
        ConfigError: prompts that leave no room for them.
        ModelError: a model without an end token.
    """
    from relax_rl.evaluation.prompts import encode_prompt
    from relax_rl.evaluation.samplers.transformers import sample_completions
    from relax_rl.workflows.policy import checked_contract, fit_prompts

    form = reading.form
    contract = checked_contract(model, tokenizer, name, form["switches"])
    fitted = fit_prompts(contract, tokenizer, {"this spectrum": problems}, reading.length, **form)
    prompts = [encode_prompt(tokenizer, problem, fitted.form) for problem in problems]
    completions = sample_completions(
        model,
        tokenizer,
        prompts,
        reading.num_samples,
        max_completion_length=reading.length,
        temperature=reading.temperature,
        seed=reading.seed,
        keys=[problem.id for problem in problems],
    )
    return SampledTexts(prompts, fitted.form, completions)


def _check_length(model: Any, texts: Sequence[LatentText], name: str) -> None:
    from relax_rl.latent.contract.architecture import context_length

    context = context_length(model.config)
    longest = max(texts, key=lambda text: len(text.token_ids))
    if context is not None and len(longest.token_ids) > context:
        raise ConfigError(
            f"The text {longest.id!r} has {len(longest.token_ids):,} tokens, but {name} has a context of "
            f"{context:,}; shorten it or leave it out."
        )


def _given_text(tokenizer: Any, problem: Problem) -> LatentText:
    """The prompt as it is, without a chat template; a solution follows it, and alone is measured."""
    from relax_rl.evaluation.prompts import text_tokenizer
    from relax_rl.spectra.measure import LatentText

    tokenizer = text_tokenizer(tokenizer)
    prompt = tokenizer(problem.prompt)["input_ids"]
    if problem.solution:
        rest = tokenizer(problem.solution, add_special_tokens=False)["input_ids"]
        return LatentText(problem.id, (*prompt, *rest), len(prompt))
    return LatentText(problem.id, tuple(prompt))
