"""The effect of an image on a model's next tokens and latent dynamics: the same completions under other images."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from relax_rl.errors import ConfigError, DataError
from relax_rl.runs.files import write_whole
from relax_rl.tasks.base import Problem, Task
from relax_rl.workflows.image_problems import image_problems
from relax_rl.workflows.loading import Loading
from relax_rl.workflows.progress import OnProgress, Progress, Stage, silent
from relax_rl.workflows.spectrum_checks import check_file, check_words
from relax_rl.workflows.spectrum_texts import Reading

if TYPE_CHECKING:
    from relax_rl.evaluation.sight.measuring import Completions, TrueStates
    from relax_rl.evaluation.sight.result import SightResult
    from relax_rl.latent.images.conditions import Condition
    from relax_rl.spectra.measure import LatentSpectra
    from relax_rl.spectra.rulers import SpectrumSettings

__all__ = ["IMAGES_FILE", "NUM_PROBLEMS", "SpectrumImagesResult", "spectrum_images"]

IMAGES_FILE = "images.json"
NUM_PROBLEMS = 32
_SHOWN = 6


@dataclass(frozen=True)
class SpectrumImagesResult:
    """The measurements.

    Attributes:
        sight: by condition.
        spectra: spectra of the tokens of the completions under the true image, and of the image tokens, where these
            form trajectories; each with dictionaries of its own.
        page: None where nothing was kept.
    """

    sight: SightResult
    spectra: tuple[LatentSpectra, ...]
    page: Path | None = None


def spectrum_images(
    model: Any,
    images: str | Path | Task,
    reading: Reading | None = None,
    *,
    conditions: str | Sequence[str] | None = None,
    patch: int | None = None,
    sites: Sequence[str] = (),
    estimators: Sequence[str] = ("paper", "singular", "robust"),
    kind: str = "sigmoid",
    num_observables: int | None = None,
    fit_steps: int = 150,
    batch_tokens: int = 2**13,
    output: str | Path | None = None,
    overwrite: bool = False,
    command: Sequence[str] = (),
    on_progress: OnProgress | None = None,
) -> SpectrumImagesResult:
    """Sample a completion of each problem with its image, then read it under other images, and compare.

    Args:
        model: an image-text model: a name, a folder, or a loaded one.
        images: a file (JSON Lines, CSV, parquet, ...) with a column of prompts and one of images, the name of a task,
            or a task.
        reading: how many problems (the first that show an image), of which split of a task, how completions are
            sampled, and how the model is loaded. None: 32 problems.
        conditions: conditions to show, with commas between: other, masked:SHARE, grey, none, words. None: other,
            masked:0.6, grey and none.
        patch: side of a masked square in pixels. None: 14.
        sites, estimators, kind, num_observables, fit_steps: as for :func:`~relax_rl.workflows.spectrum.spectrum`. The
            dictionaries are fitted under the true image.
        output: folder for ``images.html``, ``images.json`` and ``tokens.csv``. None: nothing is kept on disk.
        The others are those of :func:`~relax_rl.workflows.spectrum.spectrum`.

    Raises:
        ConfigError: settings that do not fit together, or a model that reads text only.
        DataError: no problem with an image, or completions too short for a spectrum.
        ModelError: a model that cannot be loaded, or does not take such problems.
        RunError: an output that is there already or cannot be written.
    """
    from relax_rl.latent.images.conditions import PATCH, USUAL_CONDITIONS, parse_conditions

    say = on_progress or silent
    parsed = parse_conditions(conditions or USUAL_CONDITIONS)
    reading = reading or Reading(num_problems=NUM_PROBLEMS)
    _check(reading)
    asked = _Asked(parsed, patch or PATCH, reading, batch_tokens)
    asked.check()
    check_words(None, False, fit_steps, estimators, kind)
    page = check_file(output, "images.html", overwrite)
    problems, where = image_problems(images, dict(reading.task_options or {}), reading.split, reading.num_problems, say)

    from relax_rl.spectra.rulers import SpectrumSettings

    settings = SpectrumSettings(
        sites=tuple(sites),
        estimators=tuple(estimators),  # pyright: ignore[reportArgumentType] - checked above
        observables=kind,  # pyright: ignore[reportArgumentType] - checked above
        num_observables=num_observables,
        fit_steps=fit_steps,
        seed=reading.seed,
    )
    name, loaded, processor = _loaded(model, reading.loading, settings, problems, say)
    measuring = _Measuring(name, loaded, processor, asked, settings, dict(reading.chat_template_kwargs or {}), say)
    source = (
        f"{len(problems)} problems of {where}: a completion each of at most {reading.length} tokens, sampled with the "
        f"true image at temperature {reading.temperature:g}, seed {reading.seed}, and read again under each condition."
    )
    sight, spectra = measuring.measured(problems, source)
    result = SpectrumImagesResult(sight, spectra)
    return result if page is None else _written(result, problems, page, command)


def _check(reading: Reading) -> None:
    """Whether the reading says nothing that the images decide."""
    reading.check()
    for name in ("prompts", "task", "text", "plain", "overlong"):
        if getattr(reading, name):
            raise ConfigError(f"A reading with {name} does not fit a spectrum of images, which says what is read.")
    if reading.num_samples != 1:
        raise ConfigError(f"Images are read with one completion a problem, but num_samples is {reading.num_samples}.")


@dataclass(frozen=True)
class _Asked:
    """The samples, and the conditions that are shown."""

    conditions: Sequence[Condition]
    patch: int
    reading: Reading
    batch_tokens: int

    def check(self) -> None:
        if self.patch < 1 or self.reading.length < 2:
            raise ConfigError("--patch must be at least 1, and --max-completion-length at least 2.")


def _loaded(
    model: Any, loading: Loading, settings: SpectrumSettings, problems: Sequence[Problem], say: OnProgress
) -> tuple[str, Any, Any]:
    from relax_rl.evaluation.prompts import check_images
    from relax_rl.latent.images.sharing import check_looks
    from relax_rl.workflows.policy import check_sight

    if isinstance(model, str | Path):
        check_sight(str(model), loading.revision, problems)
        if settings.sites:
            loading.check(model, settings.sites)
    name, loaded, processor = loading.load(model, say)
    check_images(processor, problems[0])
    check_looks(loaded, name)
    return name, loaded, processor


@dataclass(frozen=True)
class _Measuring:
    """A loaded model, and what is asked of it."""

    name: str
    model: Any
    processor: Any
    asked: _Asked
    settings: SpectrumSettings
    switches: dict[str, Any]
    say: OnProgress

    def measured(self, problems: Sequence[Problem], source: str) -> tuple[SightResult, tuple[LatentSpectra, ...]]:
        from relax_rl.evaluation.sight.measures import chance_angle, condition_sight
        from relax_rl.evaluation.sight.measuring import read_true, readings_under
        from relax_rl.evaluation.sight.result import SightResult
        from relax_rl.evaluation.sight.sums import NUM_MODES
        from relax_rl.latent.sites import default_sites, resolve_sites

        settings, asked = self.settings, self.asked
        sites = resolve_sites(self.model, settings.sites) if settings.sites else default_sites(self.model)
        held = self._completions(problems)
        self._tell("measuring", f"{self.name}: reading {len(held.ids)} completions under the true image")
        true = read_true(self.model, held, sites, asked.batch_tokens)
        spectra = self._spectra(held, true, replace(settings, sites=tuple(sites)))
        rulers = {site: ruler.dictionary for site, ruler in spectra[0].rulers.items()}
        self._tell("measuring", f"{self.name}: reading them under {len(asked.conditions) - 1} other conditions")
        found = readings_under(
            self.model,
            held,
            true,
            rulers,
            settings.estimators,
            temperature=asked.reading.temperature or 1.0,
            tokens_per_batch=asked.batch_tokens,
            on_problem=lambda done: self.say(Progress("measuring", done, len(held.ids))),
        )
        sight = SightResult(
            model=self.name,
            source=source,
            conditions=tuple(
                condition_sight(condition, found[condition.name], found["true"], seed=asked.reading.seed)
                for condition in asked.conditions
            ),
            chance_angle={site: chance_angle(found["true"], site, seed=asked.reading.seed) for site in sites},
            num_modes=NUM_MODES,
            num_observables={site: rulers[site].num_observables for site in sites},
            tokens=self._tokens(held, problems, found),
        )
        return sight, spectra

    def _tell(self, stage: Stage, words: str) -> None:
        self.say(Progress(stage, message=words))

    def _completions(self, problems: Sequence[Problem]) -> Completions:
        """Completions with the true images, and the prompts of each condition."""
        from relax_rl.evaluation.breakdown import units_of
        from relax_rl.evaluation.prompts import encode_prompt
        from relax_rl.evaluation.samplers.transformers import sample_completions
        from relax_rl.evaluation.sight.measuring import Completions
        from relax_rl.evaluation.sight.shown import shown_under
        from relax_rl.workflows.policy import checked_contract, fit_prompts

        asked = self.asked
        shown = {
            condition.name: shown_under(problems, condition, seed=asked.reading.seed, patch=asked.patch)
            for condition in asked.conditions
        }
        contract = checked_contract(self.model, self.processor, self.name, self.switches)
        every = {f"the condition {name}": [one for one in them if one is not None] for name, them in shown.items()}
        form = fit_prompts(contract, self.processor, every, asked.reading.length, switches=self.switches).form
        self._tell("sampling", f"{self.name}: generating from {len(problems)} problems")
        prompts = [encode_prompt(self.processor, problem, form) for problem in problems]
        drawn = sample_completions(
            self.model,
            self.processor,
            prompts,
            1,
            max_completion_length=asked.reading.length,
            temperature=asked.reading.temperature,
            seed=asked.reading.seed,
            keys=[problem.id for problem in problems],
        )
        kept = [place for place, (draw,) in enumerate(drawn) if len(draw.token_ids) > 1]
        if len(kept) < len(problems):
            left = len(problems) - len(kept)
            self._tell("sampling", f"{left} problems left out, whose completion has a single token and no spectrum")
        if not kept:
            raise DataError("Every completion has a single token, which has no spectrum; name another model or task.")
        for condition in asked.conditions:
            without = sum(shown[condition.name][place] is None for place in kept)
            if without:
                self._tell("sampling", f"{condition.name}: {without} problems cannot be shown under it")
        units = units_of(problems) or [problem.id for problem in problems]
        encoded = {
            name: [None if them[place] is None else encode_prompt(self.processor, them[place], form) for place in kept]  # pyright: ignore[reportArgumentType]
            for name, them in shown.items()
        }
        return Completions(
            ids=[problems[place].id for place in kept],
            units=[units[place] for place in kept],
            token_ids=[list(drawn[place][0].token_ids) for place in kept],
            prompts=encoded,
        )

    def _spectra(self, held: Completions, true: TrueStates, settings: SpectrumSettings) -> tuple[LatentSpectra, ...]:
        """Spectra of the completions' tokens, and of the image tokens where they form trajectories."""
        completions = _spectra_of(held.ids, true.completions, settings, f"{self.name}, completion tokens")
        if min(len(states) for states in next(iter(true.images.values()))) < 2:
            self._tell("measuring", "image tokens have no spectrum: some images become fewer than two tokens")
            return (completions,)
        try:
            own = replace(settings, num_observables=self.settings.num_observables)
            images = _spectra_of(held.ids, true.images, own, f"{self.name}, image tokens")
        except DataError as error:
            self._tell("measuring", f"image tokens have no spectrum: {error}")
            return (completions,)
        return (completions, images)

    def _tokens(self, held: Completions, problems: Sequence[Problem], found: Mapping[str, Any]) -> Any:
        from relax_rl.evaluation.prompts import text_tokenizer
        from relax_rl.evaluation.sight.measuring import token_sights
        from relax_rl.evaluation.sight.result import TokenSight

        words = text_tokenizer(self.processor)
        questions = {problem.id: problem.question for problem in problems}
        return tuple(
            TokenSight(
                identity,
                questions[identity],
                tuple(words.decode([token]) for token in held.token_ids[row]),
                token_sights(found, row),
            )
            for row, identity in enumerate(held.ids[:_SHOWN])
        )


@dataclass(frozen=True)
class _Source:
    """A trajectory of one problem."""

    id: str
    key: str
    num_tokens: int


def _spectra_of(
    ids: Sequence[str], states: Mapping[str, Sequence[Any]], settings: SpectrumSettings, name: str
) -> LatentSpectra:
    from relax_rl.latent.trajectories import LatentTrajectory
    from relax_rl.spectra.measure import recorded_spectra

    lengths = [len(one) for one in next(iter(states.values()))]
    sources = [_Source(identity, identity, length) for identity, length in zip(ids, lengths, strict=True)]

    def capture(rows: Sequence[int]) -> Any:
        for row in rows:
            at_sites = {site: every[row] for site, every in states.items()}
            yield LatentTrajectory(row, at_sites, tuple(range(lengths[row])))

    return recorded_spectra(sources, capture, settings, name=name)


def _written(
    result: SpectrumImagesResult, problems: Sequence[Problem], page: Path, command: Sequence[str]
) -> SpectrumImagesResult:
    from relax_rl.comparison.tables import csv_text
    from relax_rl.reports.spectra.images import TOKEN_COLUMNS, token_rows, write_images_page
    from relax_rl.workflows.spectrum_folder import finite

    page.parent.mkdir(parents=True, exist_ok=True)
    shown = {problem.id: problem.pictures for problem in problems}
    write_images_page(result.sight, result.spectra, shown, command, page)
    content = {
        "command": list(command),
        **result.sight.to_dict(),
        "spectra": [spectra.to_dict() for spectra in result.spectra],
    }
    write_whole(page.with_name("tokens.csv"), csv_text(TOKEN_COLUMNS, token_rows(result.sight)))
    write_whole(page.with_name(IMAGES_FILE), json.dumps(finite(content), indent=1, allow_nan=False) + "\n")
    return replace(result, page=page)
