"""The Koopman spectrum of a model's hidden states: tables, a page with figures, JSON and CSV.

relax spectrum tiny                                  the embedded policy on 20 countdown problems
relax spectrum smollm2 --prompts questions.jsonl     20 prompts of a file, completions of up to 256 tokens
relax spectrum Qwen/Qwen3-0.6B --prompts notes.txt --text     reads the lines as they are, generates nothing
relax spectrum before --compare after --prompts questions.jsonl      do two checkpoints differ?
relax spectrum looped-model --axis cycles            states of each token over the cycles of a repeated block
relax spectrum tiny --jacobian                       how a change of a token's state grows, without a fit
relax spectrum smollm2 --sentences texts.jsonl       does sentence-level dynamics distinguish hallucinated texts?
relax spectrum tiny --segments marker== --num-samples 8      do the steps of completions tell right from wrong?
relax spectrum A B C --landscape                     distances between the dynamics of several models
relax spectrum qwen-vl --images mathvista            what an image does: completions under other images
relax spectrum --states recorded                     hidden states that vLLM, nnsight, TransformerLens or NumPy wrote
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from relax_rl.cli.arguments import add_prompt_form, add_remote_code, at_least_one, refuse_settings, say
from relax_rl.cli.spectrum_images import add_image_arguments, run_images
from relax_rl.cli.spectrum_modes import (
    READING,
    command_words,
    dictionary_files,
    only_reads,
    run_axis,
    run_jacobian,
    run_landscape,
    run_segments,
    run_sentences,
    run_states,
)
from relax_rl.config import task_options
from relax_rl.errors import ConfigError

__all__ = ["add_arguments", "run"]

AXES = ("tokens", "depth", "cycles")
_KINDS = ("sigmoid", "random_fourier", "radial_basis")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Core options first, then the advanced ones."""
    core = parser.add_argument_group("core")
    core.add_argument("model", nargs="*", metavar="MODEL", help="'tiny', 'smollm2', a Hugging Face name, or a folder")
    core.add_argument(
        "--prompts", type=Path, metavar="FILE", help="a prompt a line, or JSON Lines with a prompt column"
    )
    core.add_argument("--task", metavar="NAME", help="prompts of a task, instead (countdown, if neither is given)")
    core.add_argument("-n", "--num-problems", type=at_least_one, metavar="N", help="first prompts (20)")
    core.add_argument("--states", type=Path, metavar="DIR", help="measure recorded hidden states; MODEL gives its norm")
    core.add_argument(
        "--max-completion-length", type=at_least_one, metavar="T", help="completions of at most T tokens (256)"
    )
    core.add_argument("--text", action="store_true", help="generate nothing: read the prompts and what follows them")
    core.add_argument("--compare", metavar="MODEL2", help="measure another model on the same prompts, and test")
    core.add_argument(
        "--axis",
        choices=AXES,
        default=AXES[0],
        help="steps from token to token, layer to layer, or cycle to cycle",
    )
    core.add_argument(
        "--jacobian", action="store_true", help="fit nothing: Lyapunov exponents of the final state, beside fits"
    )
    core.add_argument(
        "--sentences", type=Path, metavar="FILE", help="labelled texts: score hallucinations by sentence-level dynamics"
    )
    core.add_argument(
        "--segments",
        metavar="RULE",
        help="cut completions into steps (newline, marker=TEXT, entropy) and probe which are right",
    )
    core.add_argument(
        "--completions",
        type=Path,
        metavar="PATH",
        help="with --segments: a run, an evaluation, or a file with scores",
    )
    core.add_argument("--landscape", action="store_true", help="distances between several models on the same prompts")
    core.add_argument("-o", "--output", type=Path, metavar="DIR", help="default: spectra/MODEL")
    core.add_argument("--overwrite", action="store_true", help="replace the spectra that are in DIR")
    core.add_argument("--figures", type=Path, metavar="DIR", help="also write the figures: SVG, PNG and CSV")
    add_image_arguments(parser)
    measure = parser.add_argument_group("advanced: what is measured")
    measure.add_argument(
        "--layer-ids", metavar="LIST", help="with --states: the layer ids that vLLM was given, such as 1,14,28"
    )
    measure.add_argument(
        "--skip", type=int, metavar="N", help="with --states: leave out the first N states of each trajectory (1)"
    )
    measure.add_argument("--rank", type=at_least_one, metavar="R", help="with --sentences: directions of the operators")
    measure.add_argument(
        "--miss-cost",
        type=float,
        metavar="C",
        help="with --sentences: of a missed hallucination (1)",
    )
    measure.add_argument("--sites", metavar="LIST", help="embed,layer_3_out,layer_-1_out,final_norm_out or all (five)")
    measure.add_argument(
        "--estimators",
        default="paper,robust",
        help="estimators of the DSD: paper,singular,robust,instrumental (%(default)s)",
    )
    measure.add_argument("--observables", type=at_least_one, metavar="F", help="size of the dictionaries (up to 50)")
    measure.add_argument("--kind", choices=_KINDS, default=_KINDS[0], help="kind of the dictionaries (%(default)s)")
    measure.add_argument(
        "--dictionary", action="append", default=[], metavar="[SITE=]FILE", help="a saved one; may be repeated"
    )
    measure.add_argument("--fit-steps", type=int, default=150, metavar="N", help="0: random dictionaries (%(default)s)")
    measure.add_argument("--seed", type=int, default=0, help="seed of the sampling and the fit (%(default)s)")
    _add_reading(parser.add_argument_group("advanced: how it is read"))


def _add_reading(reading: argparse._ArgumentGroup) -> None:
    reading.add_argument(
        "--store", type=Path, metavar="DIR", help="keep the states there, and read what it has already"
    )
    reading.add_argument("--statistics-only", action="store_true", help="the store keeps Gram matrices, not states")
    reading.add_argument("--num-samples", type=at_least_one, default=1, help="completions a prompt (%(default)s)")
    reading.add_argument("--temperature", type=float, default=1.0, help="0 is greedy (%(default)s)")
    add_prompt_form(reading)
    reading.add_argument("--split", default="test", help="split of the task (%(default)s)")
    reading.add_argument("--data-dir", metavar="DIR", help="folder that the task reads its files from")
    reading.add_argument("--batch-tokens", type=at_least_one, default=2**13, help="tokens of one forward (%(default)s)")
    reading.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32", help="(%(default)s)")
    reading.add_argument("--revision", help="revision of a Hugging Face model")
    add_remote_code(reading)
    reading.add_argument("--device-map", metavar="MAP", help="such as auto: spread the model over devices")


def run(arguments: argparse.Namespace, settings: Sequence[str]) -> int:
    """Measure, write the folder when everything is done, and print tables."""
    if arguments.prompts is not None:
        refuse_settings(settings, "spectrum --prompts")
    models = list(arguments.model)
    if arguments.landscape:
        return run_landscape(arguments, models, settings)
    if len(models) > 1:
        raise ConfigError(f"{len(models)} models were named; compare two with --compare, or several with --landscape.")
    arguments.model = models[0] if models else None
    if arguments.states is not None:
        return run_states(arguments, settings)
    if arguments.model is None:
        raise ConfigError("relax spectrum needs a model, or recorded states: relax spectrum MODEL, or --states DIR.")
    if arguments.sentences is not None:
        return run_sentences(arguments, settings)
    if arguments.images is not None:
        return run_images(arguments, settings)
    if arguments.segments is not None:
        return run_segments(arguments, settings)
    if arguments.jacobian:
        return run_jacobian(arguments, settings)
    if arguments.axis != AXES[0]:
        return run_axis(arguments, settings)
    only_reads(arguments, "MODEL", (*READING, *_PASSED_ON, *_RENAMED))
    arguments.num_problems = arguments.num_problems or 20

    from relax_rl.workflows.spectrum import default_folder, spectrum

    words = vars(arguments)
    result = spectrum(
        arguments.model,
        **{name: words[name] for name in (*READING, *_PASSED_ON)},
        num_observables=arguments.observables,
        sites=arguments.sites.split(",") if arguments.sites else (),
        estimators=arguments.estimators.split(","),
        dictionaries=dictionary_files(arguments.dictionary),
        task_options=task_options(settings, arguments.data_dir),
        output=arguments.output or default_folder(arguments.model),
        command=command_words(arguments, settings),
        on_progress=say,
    )

    from relax_rl.cli.spectrum_tables import print_tables

    print_tables(result.models, result.differences)
    print(result.page)
    return 0


_PASSED_ON = ("compare", "kind", "fit_steps", "batch_tokens", "store", "statistics_only", "overwrite", "figures")
"""Options that are arguments of `spectrum` under the same name, beside those of the reading."""
_RENAMED = ("observables", "sites", "estimators", "dictionary", "data_dir")
"""Options that `spectrum` has under another name or in another form."""
