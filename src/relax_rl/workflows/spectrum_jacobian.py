"""Spectra of a language model without a fit: exponents and Jacobians from token to token, beside fitted ones."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from relax_rl.errors import RunError
from relax_rl.runs.files import plain, write_whole
from relax_rl.workflows.progress import OnProgress, Progress, silent
from relax_rl.workflows.spectrum_texts import Reading, problems_of, texts_of

if TYPE_CHECKING:
    from relax_rl.spectra.jacobian import JacobianSettings, JacobianSpectrum

__all__ = ["JACOBIAN_FILE", "JacobianResult", "spectrum_of_jacobian"]

JACOBIAN_FILE = "jacobian.json"

_TEXTS = 8
"""Texts measured, unless `reading` names a number: the interval is over texts, and each costs some hundred forwards."""


@dataclass(frozen=True)
class JacobianResult:
    """What was measured, of what, and where it was written."""

    spectrum: JacobianSpectrum
    source: str
    file: Path | None = None


def spectrum_of_jacobian(
    model: Any,
    reading: Reading | None = None,
    settings: JacobianSettings | None = None,
    *,
    output: str | Path | None = None,
    overwrite: bool = False,
    on_progress: OnProgress | None = None,
) -> JacobianResult:
    """Lyapunov exponents of a model's final state from token to token, and leading values of single Jacobians.

    Args:
        model: as in :func:`~relax_rl.workflows.spectrum.spectrum`.
        reading: what is read. None: 8 countdown problems.
        settings: how much is measured of each text. None: 4 exponents over at most 48 tokens.
        output: folder for ``jacobian.json``; None: nothing is kept on disk.

    Raises:
        ConfigError, DataError, ModelError: as `spectrum`, and as :func:`~relax_rl.spectra.jacobian.jacobian_spectrum`.
        RunError: the folder holds a ``jacobian.json`` already, and `overwrite` is False.
    """
    from relax_rl.spectra.jacobian import jacobian_spectrum

    say = on_progress or silent
    file = None if output is None else Path(output) / JACOBIAN_FILE
    if file is not None and file.exists() and not overwrite:
        raise RunError(f"there is {file} already; replace it with --overwrite, or name another -o DIR")
    reading = reading or Reading(num_problems=_TEXTS)
    reading.check()
    problems, where = problems_of(reading)
    name, loaded, words = reading.loading.load(model, say)
    texts, _ = texts_of(loaded, words, problems, reading, name, lambda line: say(Progress("sampling", message=line)))

    def told(number: int) -> None:
        say(Progress("measuring", message=f"{name}: Jacobians of text {number} of {len(texts)}"))

    found = jacobian_spectrum(loaded, texts, settings, name=name, on_text=told)
    source = f"{len(problems)} prompts of {where}, {reading.words()}."
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_whole(file, json.dumps(plain({"source": source, **found.to_dict()}), indent=1) + "\n")
    return JacobianResult(found, source, file)
