"""Spectra without a fit: how a small change of a token's final state grows, and what fits of the same states say."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from relax_rl.runs.files import write_whole
from relax_rl.workflows.progress import OnProgress, Progress, silent
from relax_rl.workflows.spectrum_checks import check_file
from relax_rl.workflows.spectrum_texts import Reading, problems_of, texts_of

if TYPE_CHECKING:
    from relax_rl.spectra.jacobian import JacobianSettings, JacobianSpectrum

__all__ = ["JACOBIAN_FILE", "JacobianResult", "spectrum_without_fit"]

JACOBIAN_FILE = "jacobian.json"


@dataclass(frozen=True)
class JacobianResult:
    """The measurements, the texts, and the folder."""

    spectrum: JacobianSpectrum
    source: str
    file: Path | None = None
    page: Path | None = None


def spectrum_without_fit(
    model: Any,
    reading: Reading | None = None,
    settings: JacobianSettings | None = None,
    *,
    output: str | Path | None = None,
    overwrite: bool = False,
    command: Sequence[str] = (),
    on_progress: OnProgress | None = None,
) -> JacobianResult:
    """Measure finite-time Lyapunov exponents of a model's final state, and single Jacobians, along texts.

    Args:
        model: as in :func:`~relax_rl.workflows.spectrum.spectrum`.
        reading: texts to read. None: completions of 20 countdown problems. Completions are as long as
            `settings` measure them.
        settings: how much is measured. None: the defaults.
        output: folder for ``jacobian.html``, ``jacobian.json`` and ``jacobian.csv``. None: nothing is kept on disk.
        overwrite: replace those that are there.
        command: words that do the same again, for the page.
        on_progress: receives messages.

    Raises:
        ModelError: a model whose logits are not its head applied to the final state, or that has an operation without
            forward-mode derivatives.
        ConfigError, DataError: as `spectrum`; a temperature of 0, or texts that are all too short.
        RunError: an output that is there already or cannot be written.
    """
    from relax_rl.spectra.jacobian import JacobianSettings, jacobian_spectrum

    say = on_progress or silent
    file = check_file(output, JACOBIAN_FILE, overwrite)
    settings, reading = settings or JacobianSettings(), reading or Reading()
    if not reading.text:
        reading = replace(reading, max_completion_length=settings.max_tokens)
    reading.check()
    problems, where = problems_of(reading)
    name, loaded, words = reading.loading.load(model, say)
    texts, _ = texts_of(loaded, words, problems, reading, name, lambda line: say(Progress("sampling", message=line)))
    say(Progress("measuring", message=f"{name}: Jacobians of at most {settings.max_tokens} tokens of each text"))
    found = jacobian_spectrum(
        loaded, texts, settings, name=name, on_text=lambda done: say(Progress("measuring", done, len(texts)))
    )
    source = f"{len(problems)} prompts of {where}, {reading.words()}."
    if file is None:
        return JacobianResult(found, source)

    from relax_rl.comparison.tables import csv_text
    from relax_rl.reports.spectra.jacobian import EXPONENT_COLUMNS, exponent_rows, write_jacobian_page

    page = write_jacobian_page(found, source, command, file.with_suffix(".html"))
    write_whole(file.with_suffix(".csv"), csv_text(EXPONENT_COLUMNS, exponent_rows(found)))
    write_whole(file, json.dumps({"source": source, **found.to_dict()}, indent=1) + "\n")
    return JacobianResult(found, source, file, page)
