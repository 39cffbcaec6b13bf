"""The side tasks of ``relax spectrum``: other axes, Jacobians, and states that are on disk already."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from relax_rl.cli.arguments import refuse_settings, say
from relax_rl.config import task_options
from relax_rl.errors import ConfigError

if TYPE_CHECKING:
    from relax_rl.workflows.spectrum_texts import Reading

__all__ = [
    "FITTED",
    "READING",
    "command_words",
    "dictionary_files",
    "reading_of",
    "refuse_beside",
    "run_axis",
    "run_jacobian",
    "run_landscape",
    "run_segments",
    "run_sentences",
    "run_states",
]

READING = (
    *("prompts", "task", "text", "num_problems", "max_completion_length", "num_samples", "temperature", "split"),
    *("seed", "dtype", "revision", "device_map", "plain", "chat_template_kwargs", "overlong"),
)
"""Options that say what is read: fields of `relax_rl.workflows.spectrum_texts.Reading` under the same name."""


def reading_of(arguments: argparse.Namespace, settings: Sequence[str]) -> Reading:
    """The texts to read, as the workflows take them."""
    from relax_rl.workflows.spectrum_texts import Reading

    options = task_options(settings, arguments.data_dir)
    words: dict[str, Any] = {name: getattr(arguments, name) for name in READING}
    words["num_problems"] = arguments.num_problems or 20
    return Reading(**words, task_options=options)


_MEASURE = ("kind", "fit_steps", "seed", "store", "statistics_only", "overwrite", "figures")
_SENTENCES = ("rank", "miss_cost")
_LOADING = ("dtype", "revision", "device_map")
FITTED = (
    *("landscape", "states", "images", "sentences", "segments", "completions", "compare", "sites", "store"),
    *("statistics_only", "observables", "dictionary", "figures"),
)
"""Options of spectra that are fitted."""


def refuse_beside(arguments: argparse.Namespace, needed: str, names: Sequence[str]) -> None:
    """Options that belong to another mode. Raises ``ConfigError`` naming the first that was given."""
    for name in names:
        if getattr(arguments, name):
            raise ConfigError(f"--{name.replace('_', '-')} belongs to {needed}; leave it out.")


def run_axis(arguments: argparse.Namespace, settings: Sequence[str]) -> int:
    """Over layers or cycles: a table, and a file where a folder was named."""
    refuse_beside(
        arguments,
        "--axis tokens",
        ("compare", "sites", "store", "statistics_only", "observables", "dictionary", "figures"),
    )

    from relax_rl.cli.spectrum_tables import print_axes
    from relax_rl.workflows.spectrum_axis import spectrum_along

    result = spectrum_along(
        arguments.model,
        arguments.axis,
        reading_of(arguments, settings),
        output=arguments.output,
        overwrite=arguments.overwrite,
        command=command_words(arguments, settings),
        on_progress=say,
    )
    print_axes(arguments.model, result.axes)
    if result.page is not None:
        print(result.page)
    return 0


def run_jacobian(arguments: argparse.Namespace, settings: Sequence[str]) -> int:
    """Spectra without a fit: tables, and files where a folder was named."""
    if arguments.axis != "tokens":
        raise ConfigError("--jacobian is from token to token; leave --axis out.")

    from relax_rl.cli.spectrum_tables import print_jacobian
    from relax_rl.spectra.jacobian import JacobianSettings
    from relax_rl.workflows.spectrum_jacobian import spectrum_without_fit

    given = arguments.max_completion_length
    measured = JacobianSettings(temperature=arguments.temperature, seed=arguments.seed)
    result = spectrum_without_fit(
        arguments.model,
        reading_of(arguments, settings),
        measured if given is None else replace(measured, max_tokens=given),
        output=arguments.output,
        overwrite=arguments.overwrite,
        command=command_words(arguments, settings),
        on_progress=say,
    )
    print_jacobian(result.spectrum)
    if result.page is not None:
        print(result.page)
    return 0


def run_states(arguments: argparse.Namespace, settings: Sequence[str]) -> int:
    """States on disk: the folder and the tables of the main work."""
    refuse_settings(settings, "spectrum --states")
    others = (*_TEXTS, "segments", "completions")
    refuse_beside(arguments, "a model that reads or writes texts, without --states", others)
    if arguments.axis != "tokens":
        raise ConfigError("--states are measured over tokens; leave --axis out.")

    from relax_rl.workflows.spectrum import default_folder
    from relax_rl.workflows.spectrum_states import spectrum_of_states

    result = spectrum_of_states(
        arguments.states,
        model=arguments.model,
        **{name: getattr(arguments, name) for name in (*_MEASURE, *_LOADING, "skip")},
        estimators=arguments.estimators.split(","),
        num_trajectories=arguments.num_problems,
        num_observables=arguments.observables,
        sites=arguments.sites.split(",") if arguments.sites else (),
        layer_ids=_numbers(arguments.layer_ids),
        dictionaries=dictionary_files(arguments.dictionary),
        output=arguments.output or default_folder(str(arguments.states)),
        command=command_words(arguments, settings),
        on_progress=say,
    )

    from relax_rl.cli.spectrum_tables import print_tables

    print_tables(result.models, result.differences)
    print(result.page)
    return 0


def run_landscape(arguments: argparse.Namespace, models: Sequence[str], settings: Sequence[str]) -> int:
    """Several models on the same prompts: a table and a page."""
    others = (*("states", "sentences", "segments", "completions", "compare", "store", "statistics_only"), *_SENTENCES)
    others = (*others, "observables", "dictionary", "layer_ids", "skip", "figures")
    refuse_beside(arguments, "a spectrum of one model, without --landscape", others)
    if arguments.axis != "tokens":
        raise ConfigError("A landscape is over tokens; leave --axis out.")
    sites = arguments.sites.split(",") if arguments.sites else ["final_norm_out"]
    if len(sites) != 1 or sites == ["all"]:
        raise ConfigError(f"A landscape is of one site, but --sites is {arguments.sites}; name one.")
    command = command_words(argparse.Namespace(**{**vars(arguments), "model": None}), [*models, *settings])

    from relax_rl.cli.spectrum_tables import print_landscapes
    from relax_rl.workflows.spectrum_landscape import spectrum_landscape

    result = spectrum_landscape(
        models,
        reading_of(arguments, settings),
        site=sites[0],
        output=arguments.output or Path("spectra") / "landscape",
        overwrite=arguments.overwrite,
        command=command,
        on_progress=say,
    )
    print_landscapes(result.landscapes)
    print(result.page)
    return 0


def run_sentences(arguments: argparse.Namespace, settings: Sequence[str]) -> int:
    """Labelled texts: tables, and files where a folder was named."""
    refuse_settings(settings, "spectrum --sentences")
    others = (*_TEXTS, "segments", "completions", "sites", "store", "statistics_only", "observables", "dictionary")
    others = (*others, "num_problems", "figures")
    refuse_beside(arguments, "a spectrum over tokens, without --sentences", others)
    if arguments.axis != "tokens":
        raise ConfigError("--sentences is an axis of its own; leave --axis out.")

    from relax_rl.cli.spectrum_tables import print_sentences
    from relax_rl.workflows.spectrum_sentences import spectrum_of_sentences

    measured = spectrum_of_sentences(
        arguments.model,
        arguments.sentences,
        rank=arguments.rank,
        miss_cost=1.0 if arguments.miss_cost is None else arguments.miss_cost,
        **{name: getattr(arguments, name) for name in ("seed", "overwrite", *_LOADING)},
        output=arguments.output,
        command=command_words(arguments, settings),
        on_progress=say,
    )
    print_sentences(arguments.model, measured.result)
    if measured.page is not None:
        print(measured.page)
    return 0


def run_segments(arguments: argparse.Namespace, settings: Sequence[str]) -> int:
    """Completions cut into steps: tables and a page."""
    others = ("compare", "store", "statistics_only", "observables", "dictionary", "sites", "figures")
    refuse_beside(arguments, "a spectrum of whole texts, without --segments", others)
    if arguments.axis != "tokens":
        raise ConfigError("--segments are cut over tokens; leave --axis out.")
    if arguments.completions is not None:
        needed = "completions that are drawn now, without --completions"
        refuse_beside(arguments, needed, ("num_problems", "max_completion_length"))

    from relax_rl.cli.spectrum_tables import print_segments
    from relax_rl.workflows.spectrum import default_folder
    from relax_rl.workflows.spectrum_segments import spectrum_of_segments

    result = spectrum_of_segments(
        arguments.model,
        arguments.segments,
        reading_of(arguments, settings),
        completions=arguments.completions,
        output=arguments.output or default_folder(arguments.model) / "segments",
        overwrite=arguments.overwrite,
        command=command_words(arguments, settings),
        on_progress=say,
    )
    print_segments(result.completions, result.probe)
    print(result.page)
    return 0


_TEXTS = (
    "prompts",
    "task",
    "text",
    "compare",
    "max_completion_length",
    "plain",
    "chat_template_kwargs",
    "overlong",
)


def _numbers(words: str | None) -> list[int]:
    parts = words.split(",") if words else []
    if not all(part.strip().isdecimal() for part in parts):
        raise ConfigError(f"--layer-ids is {words!r}; give whole numbers with commas between, such as 1,14,28.")
    return [int(part) for part in parts]


def dictionary_files(given: Sequence[str]) -> dict[str, str | Path]:
    """Files by site, from words of the form ``[SITE=]FILE``."""
    pairs = [word.partition("=") for word in given]
    return {site if equals else "final_norm_out": path if equals else site for site, equals, path in pairs}


def command_words(arguments: argparse.Namespace, settings: Sequence[str]) -> list[str]:
    """Words that do the same again."""
    words = ["relax", "spectrum", *([] if arguments.model is None else [arguments.model]), *settings]
    for name, value in vars(arguments).items():
        if name in ("verb", "model", "overwrite") or value is None or value is False:
            continue
        values = value if isinstance(value, list) else [value]
        words += [
            word
            for each in values
            for word in ([f"--{name.replace('_', '-')}"] + ([] if each is True else [_word(each)]))
        ]
    return words


def _word(value: object) -> str:
    return json.dumps(value) if isinstance(value, dict) else str(value)
