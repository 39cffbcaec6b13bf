"""The Koopman spectrum of a model's hidden states, or of two models' on the same prompts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from relax_rl.errors import DataError
from relax_rl.tasks.base import Problem, Task
from relax_rl.workflows.loading import Loading
from relax_rl.workflows.progress import OnProgress, Progress, Stage, silent
from relax_rl.workflows.spectrum_checks import check_figures, check_output, check_words, load_dictionaries
from relax_rl.workflows.spectrum_texts import Reading, problems_of, texts_of
from relax_rl.workflows.spectrum_tokens import with_pieces

if TYPE_CHECKING:
    from relax_rl.evaluation.room import Overlong
    from relax_rl.koopman.dictionaries.protocol import StoredDictionary
    from relax_rl.latent.store import LatentStore
    from relax_rl.spectra.difference import SpectraDifference
    from relax_rl.spectra.measure import LatentSpectra
    from relax_rl.spectra.rulers import SpectrumSettings

__all__ = ["SpectrumResult", "default_folder", "spectrum"]


@dataclass(frozen=True)
class SpectrumResult:
    """The measurements.

    Attributes:
        models: the spectra of the model and, if there is one, of the model it is compared with.
        differences: second minus first, with a sign-flip test by prompt; empty for one model.
        source: the texts that were read, in a sentence.
        excerpts: prompt and text of the first few texts; untrusted.
        page: the page in the output folder; None where nothing was kept.
    """

    models: tuple[LatentSpectra, ...]
    differences: tuple[SpectraDifference, ...]
    source: str
    excerpts: tuple[tuple[str, str], ...]
    page: Path | None = None

    @property
    def spectra(self) -> LatentSpectra:
        """Those of the model, without the one it is compared with."""
        return self.models[0]


def spectrum(
    model: Any,
    *,
    prompts: str | Path | Sequence[str] | None = None,
    task: str | Task | None = None,
    text: bool = False,
    compare: Any = None,
    num_problems: int = 20,
    max_completion_length: int | None = None,
    num_samples: int = 1,
    temperature: float = 1.0,
    split: str = "test",
    seed: int = 0,
    sites: Sequence[str] = (),
    estimators: Sequence[str] = ("paper", "robust"),
    kind: str = "sigmoid",
    num_observables: int | None = None,
    fit_steps: int = 150,
    dictionaries: Mapping[str, str | Path | StoredDictionary] | None = None,
    tokenizer: Any = None,
    dtype: str = "float32",
    revision: str | None = None,
    device_map: str | None = None,
    batch_tokens: int = 2**13,
    store: str | Path | None = None,
    statistics_only: bool = False,
    plain: bool | None = None,
    chat_template_kwargs: Mapping[str, Any] | None = None,
    overlong: Overlong | None = None,
    task_options: Mapping[str, Any] | None = None,
    output: str | Path | None = None,
    overwrite: bool = False,
    figures: str | Path | None = None,
    command: Sequence[str] = (),
    on_progress: OnProgress | None = None,
) -> SpectrumResult:
    """Read texts with a model, or let it write them, and measure the dynamics of its hidden states.

    Args:
        model: "tiny", "smollm2", a Hugging Face name, a folder, or a loaded Hugging Face model.
        prompts: a file (a prompt a line, or JSON Lines with a prompt column), or the prompts themselves.
        task: prompts of a task in their place: a name, ``package.module:Class``, or a task object. With neither:
            countdown.
        text: generate nothing; read the prompts, and the solutions behind them, as they are.
        compare: another model, of the same kinds, to be measured on the same prompts and tested against the first.
        num_problems: the first so many prompts.
        max_completion_length: largest length of a completion, in tokens. None: 256.
        num_samples, temperature: completions of each prompt, and temperature of the sampling; 0 is greedy.
        split: split of the task.
        seed: seed of the sampling and of the fit.
        sites: sites of the states, such as ``final_norm_out`` or ``layer_3_out``; ("all",) for every one. Empty:
            the embedding, three layers and the final norm.
        estimators: estimators of the DSD, of `ESTIMATORS`.
        kind, num_observables, fit_steps: kind, size and steps of the dictionaries that are fitted: one of `KINDS`; F,
            None for a third of the median number of tokens, at most 50; updates of a sigmoid dictionary, 0 for a random
            one.
        dictionaries: by site, to be used instead: files or dictionaries.
        tokenizer: tokenizer of a loaded model (and of a loaded `compare`), or its processor.
        dtype, revision, device_map: data type, revision and device map of models given by name.
        batch_tokens: tokens of one forward.
        store: folder that keeps the hidden states, and is read first.
        statistics_only: the store keeps Gram matrices in place of states.
        plain: plain prompts, also for a model with a chat template. None: no.
        chat_template_kwargs: switches of the chat template, such as ``{"enable_thinking": False}``.
        overlong: "refuse" prompts that leave no room for a whole completion in the model's context, or "cut" their
            start. None: refuse.
        task_options: options of a task given by name.
        output: folder for page, JSON, CSV and dictionaries. None: nothing is kept on disk.
        overwrite: replace the spectra in `output`.
        figures: folder for the page's figures as SVG and PNG, with their data as CSV. None: no such files.
        command: words that do the same again, for the page.
        on_progress: receives messages.

    Raises:
        ConfigError: settings that do not fit together, a site that a model does not have, or texts that are longer than
            its context.
        DataError: prompts that cannot be read, or too few tokens for the observables.
        ModelError: a model that cannot be loaded.
        RunError: an output folder that holds something else or cannot be written.
    """
    say = on_progress or silent
    reading = Reading(
        prompts=prompts,
        task=task,
        text=text,
        num_problems=num_problems,
        max_completion_length=max_completion_length,
        num_samples=num_samples,
        temperature=temperature,
        split=split,
        seed=seed,
        plain=plain,
        chat_template_kwargs=chat_template_kwargs,
        overlong=overlong,
        task_options=task_options,
        tokenizer=tokenizer,
        dtype=dtype,
        revision=revision,
        device_map=device_map,
    )
    reading.check()
    check_words(store, statistics_only, fit_steps, estimators, kind)
    if output is not None:
        check_output(Path(output), overwrite)
    if figures is not None:
        check_figures(Path(figures))
    problems, where = problems_of(reading)

    from relax_rl.spectra.rulers import SpectrumSettings

    settings = SpectrumSettings(
        sites=tuple(sites),
        estimators=tuple(estimators),  # pyright: ignore[reportArgumentType] - checked above
        observables=kind,  # pyright: ignore[reportArgumentType] - checked above
        num_observables=num_observables,
        fit_steps=fit_steps,
        seed=seed,
    )
    loading = reading.loading
    measuring = _Measuring(problems, reading, settings, loading, statistics_only, batch_tokens, say)
    given = load_dictionaries(dictionaries or {})
    place = None if store is None else Path(store)
    for named in (model, compare):
        if named is not None and (settings.sites or named is compare):
            loading.check(named, settings.sites)
    first, excerpts = measuring.spectra(model, given, place)
    models, differences = [first], []
    if compare is not None:
        from relax_rl.spectra.difference import spectra_differences

        place = None if place is None else place.with_name(f"{place.name}-compared")
        second, _ = measuring.spectra(compare, given, place, ruled_by=first)
        models.append(second)
        differences = spectra_differences(first, second)
    result = SpectrumResult(
        tuple(models), tuple(differences), f"{len(problems)} prompts of {where}, {reading.words()}.", tuple(excerpts)
    )
    if figures is not None:
        from relax_rl.reports.spectra.files import write_spectrum_figures

        write_spectrum_figures(result.models, Path(figures))
    if output is None:
        return result

    from relax_rl.reports.spectra.page import SpectrumPage
    from relax_rl.workflows.spectrum_folder import write_folder

    names = {problem.id: problem.question for problem in problems}
    page = SpectrumPage(result.models, result.differences, result.source, command, result.excerpts, names)
    return replace(result, page=write_folder(page, Path(output)))


def default_folder(model: str) -> Path:
    """Where the command keeps the spectra of a model that is given no folder."""
    return Path("spectra") / ("-".join(part for part in Path(model).parts if part not in ("/", ".", "..")) or "model")


@dataclass(frozen=True)
class _Measuring:
    """The settings that both models of a comparison share."""

    problems: list[Problem]
    reading: Reading
    settings: SpectrumSettings
    loading: Loading
    statistics_only: bool
    batch_tokens: int
    say: OnProgress

    def spectra(
        self,
        named: Any,
        dictionaries: dict[str, StoredDictionary],
        store_path: Path | None,
        ruled_by: LatentSpectra | None = None,
    ) -> tuple[LatentSpectra, list[tuple[str, str]]]:
        """The spectra of a model, and the first texts it read, as (prompt, text)."""
        from relax_rl.spectra.measure import latent_spectra

        name, model, tokenizer = self.loading.load(named, self.say)
        if ruled_by is not None and _width(model) == next(iter(ruled_by.rulers.values())).dictionary.hidden_size:
            # One ruler for both, or DSD could not be compared.
            dictionaries = {site: ruler.dictionary for site, ruler in ruled_by.rulers.items()} | dictionaries
        sites = _sites(model, self.settings)
        has_rulers = store_path is not None and self.statistics_only and (store_path / "rulers").is_dir()
        must_fit = not has_rulers and not set(sites) <= dictionaries.keys()
        if must_fit and not self.reading.text:
            self._check_pairs(len(self.problems) * self.reading.num_samples * (self.reading.length - 1))
        store = None if store_path is None else self._open_store(store_path, name, sites)
        self._say(
            "sampling", f"{name}: {'reading' if self.reading.text else 'generating from'} {len(self.problems)} prompts"
        )
        texts, shown = texts_of(
            model, tokenizer, self.problems, self.reading, name, lambda words: self._say("sampling", words)
        )
        if must_fit:
            self._check_pairs(sum(max(0, len(text.token_ids) - text.start - 1) for text in texts))
        self._say("measuring", f"{name}: measuring {sum(len(text.token_ids) - text.start for text in texts)} tokens")
        spectra = latent_spectra(
            model,
            texts,
            self.settings,
            name=name,
            dictionaries=dictionaries,
            store=store,
            keep_statistics_only=self.statistics_only,
            tokens_per_batch=self.batch_tokens,
        )
        spectra = with_pieces(spectra, texts, tokenizer)
        if store is not None:
            self._say("measuring", _saving(spectra, store))
        return spectra, shown

    def _say(self, stage: Stage, message: str) -> None:
        self.say(Progress(stage, message=message))

    def _check_pairs(self, most: int) -> None:
        """Before the model runs: as many observables as pairs, and the fit could only interpolate."""
        wanted = self.settings.num_observables
        if wanted is not None and most <= wanted:
            raise DataError(
                f"A dictionary of {wanted} observables needs more than {wanted} snapshot pairs, but these texts hold "
                f"at most {most}; give more or longer texts, or fewer observables."
            )

    def _open_store(self, path: Path, name: str, sites: list[str]) -> LatentStore:
        """The store, which must hold the same of the same model if it is there already."""
        from relax_rl.latent.store import LatentStore

        about: dict[str, Any] = {"model": name, "revision": self.loading.revision, "dtype": self.loading.dtype}
        about["sites"] = sites
        if not self.statistics_only:
            return LatentStore.create(path, about | {"holds": "states"})
        settings = self.settings
        about |= {"holds": "statistics", "estimators": list(settings.estimators), "seed": settings.seed}
        about |= {"kind": settings.observables, "observables": settings.num_observables}
        return LatentStore.create(path, about | {"fit_steps": settings.fit_steps})


def _sites(model: Any, settings: SpectrumSettings) -> list[str]:
    from relax_rl.latent.repeats import usual_sites
    from relax_rl.latent.sites import resolve_sites

    return resolve_sites(model, settings.sites) if settings.sites else usual_sites(model)


def _width(model: Any) -> int:
    return model.config.get_text_config().hidden_size


def _saving(spectra: LatentSpectra, store: LatentStore) -> str:
    states, held = spectra.num_state_bytes / 2**20, store.num_bytes / 2**20
    if store.about["holds"] == "states":
        return f"{store.path}: {held:.1f} MiB of states"
    size = spectra.settings.num_observables
    return (
        f"{store.path}: {held:.1f} MiB on disk, of which three {size} x {size} matrices a text and site are "
        f"{spectra.num_statistics_bytes / 2**20:.1f} MiB, in place of {states:.1f} MiB of states "
        f"({spectra.num_state_bytes / max(1, spectra.num_statistics_bytes):.1f} times as much)"
    )
