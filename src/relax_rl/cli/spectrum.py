"""The Koopman spectrum of a model's hidden states: tables, a page with figures, JSON and CSV.

relax spectrum tiny                                  the embedded policy on 20 countdown problems
relax spectrum smollm2 --prompts questions.jsonl     20 prompts of a file, completions of up to 256 tokens
relax spectrum Qwen/Qwen3-0.6B --prompts notes.txt --text     reads the lines as they are, generates nothing
relax spectrum before --compare after --prompts questions.jsonl      do two checkpoints differ?
"""

from __future__ import annotations

import argparse
import math
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from relax_rl.cli.arguments import at_least_one, refuse_settings, task_options
from relax_rl.errors import ConfigError, DataError, RunError

if TYPE_CHECKING:
    from relax_rl.latent.store import LatentStore
    from relax_rl.spectra.measure import LatentSpectra, LatentText
    from relax_rl.spectra.rulers import SpectrumSettings
    from relax_rl.tasks.base import Problem

__all__ = ["HELP", "add_arguments", "run"]

HELP = "the Koopman spectrum of a model's hidden states"

_ESTIMATORS = ("paper", "singular", "robust")
_KINDS = ("sigmoid", "random_fourier", "radial_basis")
_SHOWN_TEXTS = 6


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Core options first, then the advanced ones."""
    core = parser.add_argument_group("core")
    core.add_argument("model", metavar="MODEL", help="'tiny', 'smollm2', a Hugging Face name, or a folder")
    core.add_argument(
        "--prompts", type=Path, metavar="FILE", help="a prompt a line, or JSON Lines with a prompt column"
    )
    core.add_argument("--task", metavar="NAME", help="prompts of a task, instead (countdown, if neither is given)")
    core.add_argument("-n", "--num-prompts", type=at_least_one, default=20, help="first ones (%(default)s)")
    core.add_argument("--generate", type=at_least_one, metavar="T", help="completions of at most T tokens (256)")
    core.add_argument("--text", action="store_true", help="generate nothing: read the prompts and what follows them")
    core.add_argument("--compare", metavar="MODEL2", help="measure another model on the same prompts, and test")
    core.add_argument("-o", "--output", type=Path, metavar="DIR", help="default: spectra/MODEL")
    core.add_argument("--overwrite", action="store_true", help="replace the spectra that are in DIR")
    measure = parser.add_argument_group("advanced: what is measured")
    measure.add_argument("--sites", metavar="LIST", help="embed,layer_3_out,layer_-1_out,final_norm_out or all (five)")
    measure.add_argument("--estimators", default="paper,robust", help="of the DSD: paper,singular,robust (%(default)s)")
    measure.add_argument("--observables", type=at_least_one, metavar="F", help="of the dictionaries (up to 50)")
    measure.add_argument("--kind", choices=_KINDS, default=_KINDS[0], help="of the dictionaries (%(default)s)")
    measure.add_argument(
        "--dictionary", action="append", default=[], metavar="[SITE=]FILE", help="a saved one; may be repeated"
    )
    measure.add_argument("--fit-steps", type=int, default=150, metavar="N", help="0: random dictionaries (%(default)s)")
    measure.add_argument("--seed", type=int, default=0, help="of the sampling and the fit (%(default)s)")
    _add_reading(parser.add_argument_group("advanced: how it is read"))


def _add_reading(reading: argparse._ArgumentGroup) -> None:
    reading.add_argument(
        "--store", type=Path, metavar="DIR", help="keep the states there, and read what it has already"
    )
    reading.add_argument("--statistics-only", action="store_true", help="the store keeps Gram matrices, not states")
    reading.add_argument("--num-samples", type=at_least_one, default=1, help="completions a prompt (%(default)s)")
    reading.add_argument("--temperature", type=float, default=1.0, help="0 is greedy (%(default)s)")
    reading.add_argument("--split", default="test", help="of the task (%(default)s)")
    reading.add_argument("--data-dir", metavar="DIR", help="folder that the task reads its files from")
    reading.add_argument("--batch-tokens", type=at_least_one, default=2**13, help="of one forward (%(default)s)")
    reading.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32", help="(%(default)s)")
    reading.add_argument("--revision", help="of a Hugging Face model")
    reading.add_argument("--device-map", metavar="MAP", help="such as auto: spread the model over devices")


def run(arguments: argparse.Namespace, settings: Sequence[str]) -> int:
    """Measure, print tables, and write the folder when everything is done."""
    output = arguments.output or Path("spectra") / _safe(arguments.model)
    _check(arguments, output)
    problems = _problems(arguments, settings)
    measured = _settings(arguments)

    from relax_rl.cli.spectrum_tables import print_tables, write_folder
    from relax_rl.reports.spectra.page import SpectrumPage
    from relax_rl.spectra.difference import spectra_differences

    first, excerpts = _measure(arguments.model, problems, measured, arguments, arguments.store)
    models, differences = [first], []
    if arguments.compare:
        store = None if arguments.store is None else arguments.store.with_name(f"{arguments.store.name}-compared")
        second, _ = _measure(arguments.compare, problems, measured, arguments, store, ruled_by=first)
        models.append(second)
        differences = spectra_differences(first, second)
    print_tables(models, differences)
    page = SpectrumPage(models, differences, _source(arguments, problems), _command(arguments, settings), excerpts)
    print(write_folder(models, differences, page, output))
    return 0


def _check(arguments: argparse.Namespace, output: Path) -> None:
    """All that can be wrong before torch is loaded and anything is computed."""
    if arguments.prompts and arguments.task:
        raise ConfigError("--prompts and --task both say what to read; give one of them.")
    if arguments.text and arguments.generate:
        raise ConfigError("--text reads what is there and --generate T makes more; give one of them.")
    if arguments.statistics_only and not arguments.store:
        raise ConfigError("--statistics-only says what a store keeps; name one with --store DIR.")
    if arguments.fit_steps < 0:
        raise ConfigError(f"--fit-steps is {arguments.fit_steps}; give 0 or more.")
    if not 0 <= arguments.temperature < math.inf:
        raise ConfigError(f"--temperature is {arguments.temperature}; give 0 (greedy) or a positive number.")
    unknown = [name for name in arguments.estimators.split(",") if name not in _ESTIMATORS]
    if unknown:
        raise ConfigError(f"--estimators has {unknown[0]!r}; choose among {', '.join(_ESTIMATORS)}.")
    if (output / "spectrum.json").is_file():
        if not arguments.overwrite:
            raise RunError(
                f"there are spectra in {output} already; replace them with --overwrite, or name another -o DIR"
            )
    elif output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise RunError(f"{output} is not empty and holds no spectra; name another folder with -o DIR")
    existing = next(folder for folder in output.absolute().parents if folder.exists())
    if not (existing.is_dir() and os.access(existing, os.W_OK | os.X_OK)):
        raise RunError(f"{output} cannot be written: {existing} is a file or forbids it; name another with -o DIR")


def _problems(arguments: argparse.Namespace, settings: Sequence[str]) -> list[Problem]:
    if arguments.prompts:
        refuse_settings(settings, "spectrum --prompts")

        from relax_rl.workflows.prompts import read_prompts

        return read_prompts(arguments.prompts, arguments.num_prompts)

    from relax_rl.tasks.registry import build_task

    name = arguments.task or "countdown"
    task = build_task(name, **task_options(name, settings, arguments.data_dir))
    return task.problems(arguments.split, arguments.num_prompts)


def _settings(arguments: argparse.Namespace) -> SpectrumSettings:
    from relax_rl.spectra.rulers import SpectrumSettings

    return SpectrumSettings(
        sites=tuple(arguments.sites.split(",")) if arguments.sites else (),
        estimators=tuple(arguments.estimators.split(",")),
        observables=arguments.kind,
        num_observables=arguments.observables,
        fit_steps=arguments.fit_steps,
        seed=arguments.seed,
    )


def _measure(
    name: str,
    problems: list[Problem],
    settings: SpectrumSettings,
    arguments: argparse.Namespace,
    store_path: Path | None,
    ruled_by: LatentSpectra | None = None,
) -> tuple[LatentSpectra, list[tuple[str, str]]]:
    """The spectra of a model and what it read, as (prompt, text)."""
    import torch

    from relax_rl.spectra.measure import latent_spectra
    from relax_rl.training.models import load_model

    dictionaries = _dictionaries(arguments.dictionary)
    model, tokenizer = load_model(name, arguments.dtype, arguments.revision, arguments.device_map)
    if arguments.device_map is None and torch.cuda.is_available():
        model = model.to("cuda")  # pyright: ignore[reportArgumentType]
    if ruled_by is not None and _width(model) == next(iter(ruled_by.rulers.values())).dictionary.hidden_size:
        # One ruler for both, or DSD could not be compared.
        dictionaries = {site: ruler.dictionary for site, ruler in ruled_by.rulers.items()} | dictionaries
    _say(f"{name}: {'reading' if arguments.text else 'generating from'} {len(problems)} prompts")
    texts, shown = _texts(model, tokenizer, problems, arguments)
    store = None if store_path is None else _open_store(store_path, name, _sites(model, settings), settings, arguments)
    _say(f"{name}: measuring {sum(len(text.token_ids) - text.start for text in texts)} tokens")
    spectra = latent_spectra(
        model,
        texts,
        settings,
        name=name,
        dictionaries=dictionaries,
        store=store,
        keep_statistics_only=arguments.statistics_only,
        tokens_per_batch=arguments.batch_tokens,
    )
    if store is not None:
        _say(_saving(spectra, store))
    return spectra, shown


def _open_store(
    path: Path, name: str, sites: list[str], settings: SpectrumSettings, arguments: argparse.Namespace
) -> LatentStore:
    """The store, which must hold the same of the same model if it is there already."""
    from relax_rl.latent.store import LatentStore

    about: dict[str, Any] = {"model": name, "revision": arguments.revision, "dtype": arguments.dtype, "sites": sites}
    if not arguments.statistics_only:
        return LatentStore.create(path, about | {"holds": "states"})
    about |= {"holds": "statistics", "estimators": list(settings.estimators), "seed": settings.seed}
    about |= {"kind": settings.observables, "observables": settings.num_observables, "fit_steps": settings.fit_steps}
    return LatentStore.create(path, about)


def _sites(model: Any, settings: SpectrumSettings) -> list[str]:
    from relax_rl.latent.sites import default_sites, resolve_sites

    return resolve_sites(model, settings.sites) if settings.sites else default_sites(model)


def _width(model: Any) -> int:
    return model.config.get_text_config().hidden_size


def _dictionaries(given: Sequence[str]) -> dict[str, Any]:
    from relax_rl.koopman import load_dictionary

    found = {}
    for word in given:
        site, equals, path = word.partition("=")
        found[site if equals else "final_norm_out"] = load_dictionary(path if equals else site)
    return found


def _texts(
    model: Any, tokenizer: Any, problems: list[Problem], arguments: argparse.Namespace
) -> tuple[list[LatentText], list[tuple[str, str]]]:
    """What the model is to read, and the same in words, for the first few.

    Raises:
        DataError: a problem shows an image.
    """
    from relax_rl.evaluation.prompts import encode_prompt
    from relax_rl.evaluation.samplers.transformers import sample_completions
    from relax_rl.spectra.measure import LatentText

    shows = next((problem.id for problem in problems if problem.images), None)
    if shows is not None:
        raise DataError(
            f"The problem {shows!r} shows an image, and `relax spectrum` reads words only; name another task."
        )
    if arguments.text:
        texts = [_given_text(tokenizer, problem) for problem in problems]
        shown = [(problem.prompt, problem.solution or "") for problem in problems[:_SHOWN_TEXTS]]
        return texts, shown
    prompts = [encode_prompt(tokenizer, problem) for problem in problems]
    sampled = sample_completions(
        model,
        tokenizer,
        prompts,
        arguments.num_samples,
        max_new_tokens=arguments.generate or 256,
        temperature=arguments.temperature,
        seed=arguments.seed,
        keys=[problem.id for problem in problems],
    )
    texts = [
        LatentText(problem.id, (*prompt, *draw.token_ids), len(prompt))
        for problem, prompt, draws in zip(problems, prompts, sampled, strict=True)
        for draw in draws
    ]
    shown = [(p.question, draws[0].text) for p, draws in zip(problems[:_SHOWN_TEXTS], sampled, strict=False)]
    return texts, shown


def _given_text(tokenizer: Any, problem: Problem) -> LatentText:
    """The prompt as it is, without a chat template; a solution follows it, and alone is measured."""
    from relax_rl.evaluation.prompts import text_tokenizer
    from relax_rl.spectra.measure import LatentText

    tokenizer = text_tokenizer(tokenizer)
    prompt = tokenizer(problem.prompt)["input_ids"]
    if problem.solution:
        rest = tokenizer(problem.solution, add_special_tokens=False)["input_ids"]
        return LatentText(problem.id, (*prompt, *rest), len(prompt))
    if len(prompt) < 2:
        raise DataError(f"The text '{problem.id}' has {len(prompt)} tokens, and a spectrum needs some; leave it out.")
    return LatentText(problem.id, tuple(prompt))


def _source(arguments: argparse.Namespace, problems: list[Problem]) -> str:
    where = arguments.prompts or f"the task {arguments.task or 'countdown'} ({arguments.split})"
    how = (
        "read as they are"
        if arguments.text
        else (
            f"{arguments.num_samples} completion{'s' * (arguments.num_samples > 1)} each of at most "
            f"{arguments.generate or 256} tokens at temperature {arguments.temperature:g}, seed {arguments.seed}; the "
            "completions are measured"
        )
    )
    return f"{len(problems)} prompts of {where}, {how}."


def _command(arguments: argparse.Namespace, settings: Sequence[str]) -> list[str]:
    """Words that do the same again."""
    words = ["relax", "spectrum", arguments.model, *settings]
    for name, value in vars(arguments).items():
        if name in ("verb", "model", "overwrite") or value is None or value is False:
            continue
        values = value if isinstance(value, list) else [value]
        words += [
            word
            for each in values
            for word in ([f"--{name.replace('_', '-')}"] + ([] if each is True else [str(each)]))
        ]
    return words


def _saving(spectra: LatentSpectra, store: Any) -> str:
    states, held = spectra.num_state_bytes / 2**20, store.num_bytes / 2**20
    if store.about["holds"] == "states":
        return f"{store.path}: {held:.1f} MiB of states"
    size = spectra.settings.num_observables
    return (
        f"{store.path}: {held:.1f} MiB on disk, of which three {size} x {size} matrices a text and site are "
        f"{spectra.num_statistics_bytes / 2**20:.1f} MiB, in place of {states:.1f} MiB of states "
        f"({spectra.num_state_bytes / max(1, spectra.num_statistics_bytes):.1f} times as much)"
    )


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _safe(name: str) -> str:
    """A folder's name for a model's."""
    return "-".join(part for part in Path(name).parts if part not in ("/", ".", "..")) or "model"
