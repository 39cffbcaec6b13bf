"""The side tasks of ``relax spectrum``: other axes, Jacobians, and states that are on disk already."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from relax_rl.cli.arguments import refuse_settings, refuse_unread, say
from relax_rl.config import task_options
from relax_rl.errors import ConfigError

if TYPE_CHECKING:
    from relax_rl.workflows.spectrum_texts import Reading

__all__ = [
    "READING",
    "command_words",
    "dictionary_files",
    "only_reads",
    "reading_of",
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
_LOADING = ("dtype", "revision", "device_map")


def only_reads(arguments: argparse.Namespace, form: str, read: Sequence[str]) -> None:
    """Raises ``ConfigError`` where an option was given that a form, such as ``--states``, does not read."""
    refuse_unread(arguments, f"spectrum {form}", (*read, "output", "overwrite"))


def run_axis(arguments: argparse.Namespace, settings: Sequence[str]) -> int:
    """Over layers or cycles: a table, and a file where a folder was named."""
    only_reads(arguments, f"--axis {arguments.axis}", (*READING, "data_dir", "axis"))

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
    only_reads(arguments, "--jacobian", (*READING, "data_dir", "jacobian"))

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
    read = ("states", "skip", "layer_ids", "num_problems", "observables", "sites", "estimators", "dictionary")
    only_reads(arguments, "--states", (*_MEASURE, *_LOADING, *read))

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
    only_reads(arguments, "--landscape", (*READING, "data_dir", "landscape", "sites"))
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
    only_reads(arguments, "--sentences", (*_LOADING, "sentences", "rank", "miss_cost", "seed"))

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
    if arguments.completions is None:
        only_reads(arguments, "--segments", (*READING, "data_dir", "segments"))
    else:
        read = ("segments", "completions", "task", "data_dir", "prompts", "text", "plain", "chat_template_kwargs")
        only_reads(arguments, "--segments --completions", (*_LOADING, *read, "seed"))

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
        if name in ("verb", "model", "overwrite", "given") or value is None or value is False:
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
