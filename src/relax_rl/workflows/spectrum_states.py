"""The spectrum of hidden states that are on disk already, whatever program wrote them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from relax_rl.errors import ConfigError, DataError
from relax_rl.workflows.loading import Loading
from relax_rl.workflows.progress import OnProgress, Progress, silent
from relax_rl.workflows.spectrum import SpectrumResult
from relax_rl.workflows.spectrum_checks import check_figures, check_output, check_words, load_dictionaries

if TYPE_CHECKING:
    from torch import Tensor

    from relax_rl.koopman.dictionaries.protocol import StoredDictionary
    from relax_rl.latent.recordings import RecordingFolder
    from relax_rl.latent.trajectories import LatentTrajectory

__all__ = ["spectrum_of_states"]

_FINAL = "final_norm_out"


def spectrum_of_states(
    states: str | Path,
    *,
    model: Any = None,
    sites: Sequence[str] = (),
    layer_ids: Sequence[int] = (),
    skip: int | None = None,
    num_trajectories: int | None = None,
    estimators: Sequence[str] = ("paper", "robust"),
    kind: str = "sigmoid",
    num_observables: int | None = None,
    fit_steps: int = 150,
    seed: int = 0,
    dictionaries: Mapping[str, str | Path | StoredDictionary] | None = None,
    tokenizer: Any = None,
    dtype: str = "float32",
    revision: str | None = None,
    device_map: str | None = None,
    store: str | Path | None = None,
    statistics_only: bool = False,
    output: str | Path | None = None,
    overwrite: bool = False,
    figures: str | Path | None = None,
    command: Sequence[str] = (),
    on_progress: OnProgress | None = None,
) -> SpectrumResult:
    """Measure the dynamics of recorded hidden states.

    Args:
        states: a folder or a file as in :mod:`relax_rl.latent.recording_files`, or a latent store of states.
        model: model whose final norm is applied to the last layer's states. None: no model is loaded.
        sites: names in the files, or ``final_norm_out`` of the model. Empty: of the residual stream, at most five.
        layer_ids: those that vLLM was given, of stacked states.
        skip: first states of each trajectory that are left out. None: 1, as of texts.
        num_trajectories: the first so many. None: all.
        estimators, kind, num_observables, fit_steps, seed, dictionaries, store, statistics_only, output, overwrite,
            figures, command, dtype, revision, device_map: as of :func:`~relax_rl.workflows.spectrum.spectrum`.
        tokenizer: tokenizer of a loaded model.

    Raises:
        ConfigError: settings that do not fit together, or a site that the states do not have.
        DataError: files without states, or states of different models.
        ModelError: a model that cannot be loaded, or whose norm is not found.
        RunError: an output folder that holds something else or cannot be written.
    """
    say = on_progress or silent
    check_words(store, statistics_only, fit_steps, estimators, kind)
    if output is not None:
        check_output(Path(output), overwrite)
    if figures is not None:
        check_figures(Path(figures))

    from relax_rl.latent.recordings import RecordingFolder, layer_sites
    from relax_rl.spectra.measure import recorded_spectra
    from relax_rl.spectra.rulers import SpectrumSettings

    folder = RecordingFolder(Path(states), layer_sites(layer_ids), 1 if skip is None else skip)
    norm = _FinalNorm.none()
    if model is not None:
        norm = _FinalNorm.of(model, Loading(tokenizer, dtype, revision, device_map), folder, say)
    chosen = _sites(folder, sites, norm)
    rows = folder.recordings[:num_trajectories]
    say(Progress("measuring", message=f"{states}: measuring {sum(row.num_tokens for row in rows)} states"))
    settings = SpectrumSettings(
        sites=tuple(chosen),
        estimators=tuple(estimators),  # pyright: ignore[reportArgumentType] - checked above
        observables=kind,  # pyright: ignore[reportArgumentType] - checked above
        num_observables=num_observables,
        fit_steps=fit_steps,
        seed=seed,
    )
    place = None if store is None else _open(Path(store), norm.model, settings, statistics_only)
    name = norm.model or Path(states).name

    def capture(wanted: Sequence[int]) -> Iterator[LatentTrajectory]:
        return folder.read(wanted, chosen, norm.apply, norm.before)

    found = recorded_spectra(
        rows,
        capture,
        settings,
        name=name,
        dictionaries=load_dictionaries(dictionaries or {}),
        store=place,
        keep_statistics_only=statistics_only,
    )
    skipped = f", without the first {folder.skip} states of each" if folder.skip > 1 else ""
    skipped = ", without the first state of each" if folder.skip == 1 else skipped
    source = f"{len(rows)} recorded trajectories of {states}{skipped}."
    result = SpectrumResult((found,), (), f"{source} {norm.words(folder, chosen)}".strip(), ())
    if norm.words(folder, chosen):
        say(Progress("measuring", message=norm.words(folder, chosen)))
    if figures is not None:
        from relax_rl.reports.spectra.files import write_spectrum_figures

        write_spectrum_figures(result.models, Path(figures))
    if output is None:
        return result

    from relax_rl.reports.spectra.page import SpectrumPage
    from relax_rl.workflows.spectrum_folder import write_folder

    page = SpectrumPage(result.models, (), result.source, command)
    return replace(result, page=write_folder(page, Path(output)))


class _FinalNorm:
    """The final norm of a model, and the recorded site that stands before it."""

    def __init__(self, model: str, apply: Callable[[Tensor], Tensor] | None, before: str) -> None:
        self.model, self.apply, self.before = model, apply, before

    @classmethod
    def none(cls) -> _FinalNorm:
        return cls("", None, "")

    @classmethod
    def of(cls, named: Any, loading: Loading, folder: RecordingFolder, say: OnProgress) -> _FinalNorm:
        """Final norm of a model, which must be of the states' width.

        Raises:
            DataError: states of another width.
        """
        from relax_rl.latent.final_norm import final_norm_of
        from relax_rl.latent.sites import decoder_layers

        name, loaded, _ = loading.load(named, say)
        width = loaded.config.get_text_config().hidden_size
        site, found = next(iter(folder.widths.items()))
        if found != width:
            raise DataError(
                f"The states in '{folder.path}' have width {found} ({site}), but those of {name} have width {width}; "
                "name the model that they are of."
            )
        before = f"layer_{len(decoder_layers(loaded)) - 1}_out"
        if before not in folder.widths or _FINAL in folder.widths:
            return cls(name, None, before)
        return cls(name, final_norm_of(loaded), before)

    def words(self, folder: RecordingFolder, sites: Sequence[str]) -> str:
        """Remark on the norm."""
        if self.apply is not None and _FINAL in sites:
            return f"{_FINAL} is the final norm of {self.model}, applied to {self.before}."
        if folder.is_before_norm and self.apply is None:
            return (
                "vLLM writes the last layer before the final norm, so no site here is the final state; name the model "
                "to have its norm applied: relax spectrum MODEL --states DIR."
            )
        return ""


def _sites(folder: RecordingFolder, named: Sequence[str], norm: _FinalNorm) -> list[str]:
    sites = list(named) or folder.default_sites()
    if not named and norm.apply is not None:
        sites.append(_FINAL)
    if sites == ["all"]:
        sites = [*folder.widths, *([_FINAL] if norm.apply is not None else [])]
    missing = next((site for site in sites if site not in folder.widths), None)
    if missing is None or (missing == _FINAL and norm.apply is not None):
        return list(dict.fromkeys(sites))
    sites = ", ".join(list(folder.widths)[:8]) + (", ..." if len(folder.widths) > 8 else "")
    if missing != _FINAL:
        raise ConfigError(f"The states in '{folder.path}' have no site '{missing}'; they have {sites}.")
    if not norm.model:
        raise ConfigError(
            f"The states in '{folder.path}' were written without the final norm (they have {sites}); name the model, "
            "whose norm is then applied to its last layer: relax spectrum MODEL --states DIR."
        )
    raise ConfigError(
        f"The final norm of {norm.model} follows {norm.before}, which is not in '{folder.path}' (there are {sites}); "
        "record the last layer too."
    )


def _open(path: Path, model: str, settings: Any, statistics_only: bool) -> Any:
    from relax_rl.latent.store import LatentStore

    about: dict[str, Any] = {"model": model or None, "recorded": True, "sites": list(settings.sites)}
    if not statistics_only:
        return LatentStore.create(path, about | {"holds": "states"})
    about |= {"holds": "statistics", "estimators": list(settings.estimators), "seed": settings.seed}
    about |= {"kind": settings.observables, "observables": settings.num_observables}
    return LatentStore.create(path, about | {"fit_steps": settings.fit_steps})
