"""What `spectrum` reads: the prompts, and the texts that a model makes of them or finds in them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from relax_rl.errors import ConfigError, DataError
from relax_rl.tasks.base import Problem, Task, as_task
from relax_rl.tasks.registry import build_task
from relax_rl.workflows.prompts import read_prompts

if TYPE_CHECKING:
    from relax_rl.evaluation.room import Overlong
    from relax_rl.spectra.measure import LatentText

__all__ = ["Reading", "problems_of", "texts_of"]

_LENGTH = 256
_SHOWN_TEXTS = 6


@dataclass(frozen=True)
class Reading:
    """How prompts become the texts that are measured.

    Attributes:
        text: read prompts and solutions as they are, instead of completions.
        max_completion_length: in tokens; None: 256.
        num_samples, temperature, seed: of the sampling.
        plain, switches, overlong: of the prompts, see `relax_rl.workflows.policy.fit_prompts`.
    """

    text: bool
    max_completion_length: int | None
    num_samples: int
    temperature: float
    seed: int
    plain: bool = False
    switches: dict[str, Any] = field(default_factory=dict)
    overlong: Overlong = "refuse"

    @property
    def length(self) -> int:
        """The length limit that applies."""
        return _LENGTH if self.max_completion_length is None else self.max_completion_length

    def check(self) -> None:
        """Raises ConfigError for settings out of range, or that exclude each other."""
        if self.text and self.max_completion_length is not None:
            raise ConfigError("--text reads what is there and --max-completion-length T makes more; give one of them.")
        for name in ("num_samples", "length"):
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


def problems_of(
    prompts: str | Path | Sequence[str] | None, task: str | Task | None, options: dict[str, Any], split: str, count: int
) -> tuple[list[Problem], str]:
    """The first `count` prompts of a file, of a list or of a task, and where they are from, in words.

    Raises:
        ConfigError: a count below 1, or a task that does not exist.
        DataError: prompts that cannot be read, none at all, or one with an image.
    """
    if count < 1:
        raise ConfigError(f"num_problems = {count} must be at least 1.")
    if isinstance(prompts, str | Path):
        problems, where = read_prompts(Path(prompts), count), str(prompts)
    elif prompts is not None:
        problems = [Problem(f"prompt-{number}", prompt, "") for number, prompt in enumerate(prompts, start=1)][:count]
        where = "those given"
    else:
        name = "countdown" if task is None else task
        source = build_task(name, **options) if isinstance(name, str) else as_task(name)
        problems, where = source.problems(split, count), f"the task {name if isinstance(name, str) else source.name}"
        where += f" ({split})"
    if not problems:
        raise DataError("There is no prompt to read; give at least one.")
    shows = next((problem.id for problem in problems if problem.images), None)
    if shows is not None:
        raise DataError(
            f"The problem {shows!r} shows an image, and `relax spectrum` reads words only; name another task."
        )
    return problems, where


def texts_of(
    model: Any,
    tokenizer: Any,
    problems: list[Problem],
    reading: Reading,
    name: str = "the model",
    say: Callable[[str], None] = lambda _: None,
) -> tuple[list[LatentText], list[tuple[str, str]]]:
    """What the model is to read, and the same in words, for the first few.

    Args:
        say: is told of texts that are left out, since a single token has no spectrum.

    Raises:
        ConfigError: texts that are longer than the model's context.
        DataError: all texts are of a single token.
        ModelError: a model that is to write and has no end token.
    """
    from relax_rl.evaluation.prompts import encode_prompt
    from relax_rl.evaluation.samplers.transformers import sample_completions
    from relax_rl.spectra.measure import LatentText
    from relax_rl.workflows.policy import checked_contract, fit_prompts

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
    contract = checked_contract(model, tokenizer, name, reading.switches)
    asked = {"this spectrum": problems}
    form: dict[str, Any] = {"plain": reading.plain, "switches": reading.switches, "overlong": reading.overlong}
    fitted = fit_prompts(contract, tokenizer, asked, reading.length, **form)
    prompts = [encode_prompt(tokenizer, problem, fitted.form) for problem in problems]
    sampled = sample_completions(
        model,
        tokenizer,
        prompts,
        reading.num_samples,
        max_completion_length=reading.length,
        temperature=reading.temperature,
        seed=reading.seed,
        keys=[problem.id for problem in problems],
    )
    texts = [
        LatentText(problem.id, (*prompt, *draw.token_ids), len(prompt))
        for problem, prompt, draws in zip(problems, prompts, sampled, strict=True)
        for draw in draws
    ]
    shown = [(p.question, draws[0].text) for p, draws in zip(problems[:_SHOWN_TEXTS], sampled, strict=False)]
    return texts, shown


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
