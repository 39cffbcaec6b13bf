"""Several models on the same prompts: one landscape of their dynamics, and a page."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from relax_rl.errors import ConfigError, DataError
from relax_rl.runs.files import write_whole
from relax_rl.tasks.base import Problem
from relax_rl.workflows.progress import OnProgress, Progress, silent
from relax_rl.workflows.spectrum_checks import check_file
from relax_rl.workflows.spectrum_texts import Reading, problems_of, texts_of

if TYPE_CHECKING:
    from torch import Tensor

    from relax_rl.spectra.landscape import ModelLandscape

__all__ = ["LandscapeResult", "spectrum_landscape"]


@dataclass(frozen=True)
class LandscapeResult:
    """One landscape a method, what was read, and the page."""

    landscapes: tuple[ModelLandscape, ...]
    source: str
    page: Path | None = None


def spectrum_landscape(
    models: Sequence[str],
    reading: Reading | None = None,
    *,
    site: str = "final_norm_out",
    output: str | Path | None = None,
    overwrite: bool = False,
    command: Sequence[str] = (),
    on_progress: OnProgress | None = None,
) -> LandscapeResult:
    """Measure the distances between the dynamics of all models on all prompts.

    Args:
        models: two or more names or folders, all different.
        reading: texts that they read. None: 20 countdown problems.
        site: site of the states, in every model.
        output: folder for ``landscape.html`` and ``landscape.json``. None: nothing is kept on disk.

    Prompts whose text is shorter than 48 tokens for any model are left out, and that is told.

    Raises:
        ConfigError: fewer than two models, one twice, or more than one sample a prompt.
        DataError: fewer than three prompts that are long enough.
        RunError: an output that is there already or cannot be written.
    """
    if len(models) < 2 or len(set(models)) < len(models):
        raise ConfigError(f"A landscape compares two different models or more, got {', '.join(models) or 'none'}.")
    reading = reading or Reading()
    reading.check()
    if reading.num_samples != 1:
        raise ConfigError(
            f"--num-samples is {reading.num_samples}, but a landscape takes one text a prompt; leave it out."
        )
    page = check_file(output, "landscape.html", overwrite)
    say = on_progress or silent
    problems, where = problems_of(reading)
    loading = reading.loading
    for name in models:
        loading.check(name, (site,))
    states = {name: _states(name, problems, reading, site, say) for name in models}

    from relax_rl.spectra.landscape import LEAST_TOKENS, model_landscapes

    whole = [
        problem.id
        for problem in problems
        if all(len(found.get(problem.id, ())) >= LEAST_TOKENS for found in states.values())
    ]
    if len(whole) < len(problems):
        left = len(problems) - len(whole)
        say(Progress("measuring", message=f"{left} prompts left out: shorter than {LEAST_TOKENS} tokens for a model"))
    if len(whole) < 3:
        raise DataError(
            f"Only {len(whole)} of {len(problems)} prompts give {LEAST_TOKENS} tokens or more with every model; a "
            "landscape needs three: give more or longer prompts, or a larger --max-completion-length."
        )
    short = [Path(name).name for name in models]
    # Whole paths leave a table and a figure no room; where two end alike, nothing else tells them apart.
    labels = dict(zip(models, short if len(set(short)) == len(short) else models, strict=True))
    found = model_landscapes(
        {labels[name]: [by[one] for one in whole] for name, by in states.items()}, seed=reading.seed
    )
    source = f"{len(whole)} prompts of {where}, {reading.words()}; states at {site}."
    if page is None:
        return LandscapeResult(tuple(found), source)

    from relax_rl.reports.spectra.landscape import write_landscape_page

    write_landscape_page(found, source, command, page)
    content = {
        "models": list(models),
        "source": source,
        "prompts": whole,
        "methods": [each.to_dict() for each in found],
    }
    write_whole(page.with_suffix(".json"), json.dumps(content, indent=1) + "\n")
    return LandscapeResult(tuple(found), source, page)


def _states(name: str, problems: Sequence[Problem], reading: Reading, site: str, say: OnProgress) -> dict[str, Tensor]:
    """(T, H) of each prompt's text, by its id."""
    from relax_rl.latent.trajectories import capture_sequences

    _, model, tokenizer = reading.loading.load(name, say)
    say(Progress("sampling", message=f"{name}: {len(problems)} prompts"))
    texts, _ = texts_of(
        model, tokenizer, list(problems), reading, name, lambda line: say(Progress("sampling", message=line))
    )
    kept = [text for text in texts if text.num_tokens > 0]
    ids = [text.token_ids for text in kept]
    read = capture_sequences(model, ids, [site], starts=[text.start for text in kept])
    return {kept[each.row].id: each.states[site].float() for each in read}
