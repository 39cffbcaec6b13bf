"""Spectra over the layers of a model, or over the cycles of a block that it repeats."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from relax_rl.runs.files import write_whole
from relax_rl.workflows.progress import OnProgress, Progress, silent
from relax_rl.workflows.spectrum_checks import check_file
from relax_rl.workflows.spectrum_texts import Reading, problems_of, texts_of

if TYPE_CHECKING:
    from torch import Tensor

    from relax_rl.spectra.axes import AxisSpectrum

__all__ = ["AXIS_FILE", "AxisResult", "spectrum_along"]

AXIS_FILE = "axis.json"

_MOST_TOKENS = 4096
"""Tokens measured: each is a trajectory of its own, and the operator needs no more of them."""


@dataclass(frozen=True)
class AxisResult:
    """The measurements: one spectrum a repeated block (or one over all layers), the texts, and the folder."""

    axes: tuple[AxisSpectrum, ...]
    source: str
    file: Path | None = None
    page: Path | None = None


def spectrum_along(
    model: Any,
    axis: Literal["depth", "cycles"],
    reading: Reading | None = None,
    *,
    rank: int = 8,
    output: str | Path | None = None,
    overwrite: bool = False,
    command: Sequence[str] = (),
    on_progress: OnProgress | None = None,
) -> AxisResult:
    """Measure how the state of each token changes over the layers, or over the cycles of each repeated block.

    Args:
        model: as in :func:`~relax_rl.workflows.spectrum.spectrum`.
        axis: "depth" or "cycles".
        reading: texts to read. None: 20 countdown problems.
        rank: most directions of the changes to keep.
        output: folder for ``axis.json`` and ``axis.html``; None: nothing is kept on disk.
        command: words that do the same again, for the page.

    Raises:
        ModelError: "cycles" of a model whose layers all run once.
        ConfigError, DataError: as `spectrum`; fewer than three steps.
        RunError: the folder holds an ``axis.json`` already, and `overwrite` is False.
    """
    import torch

    from relax_rl.latent.repeats import capture_cycles, capture_depth
    from relax_rl.spectra.axes import axis_spectrum

    say = on_progress or silent
    file = check_file(output, AXIS_FILE, overwrite)
    reading = reading or Reading()
    reading.check()
    problems, where = problems_of(reading)
    name, loaded, words = reading.loading.load(model, say)
    texts, _ = texts_of(loaded, words, problems, reading, name, lambda line: say(Progress("sampling", message=line)))
    found: dict[str, list[Tensor]] = {}
    num_tokens = 0
    for given in texts:
        if num_tokens >= _MOST_TOKENS:
            break
        inputs = {"input_ids": torch.tensor([given.token_ids])}
        states = {"layers": capture_depth(loaded, inputs)} if axis == "depth" else capture_cycles(loaded, inputs)
        for block, values in states.items():
            found.setdefault(block, []).append(values[given.start :])
        num_tokens += len(given.token_ids) - given.start
    axes = tuple(axis_spectrum(block, torch.cat(values), rank=rank) for block, values in found.items())
    source = f"{len(problems)} prompts of {where}, {reading.words()}."
    if file is None:
        return AxisResult(axes, source)

    from relax_rl.reports.spectra.axis import write_axis_page

    page = write_axis_page(axes, name, axis, source, command, file.with_suffix(".html"))
    content = {"model": name, "axis": axis, "source": source, "blocks": [each.to_dict() for each in axes]}
    write_whole(file, json.dumps(content, indent=1) + "\n")
    return AxisResult(axes, source, file, page)
