"""What ``relax spectrum`` leaves: tables on the terminal, and a folder that is there as a whole or not at all."""

from __future__ import annotations

import json
import math
import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from relax_rl.comparison.tables import csv_text
from relax_rl.errors import RunError
from relax_rl.reports.spectra.page import SpectrumPage, summary_cells, text_cells, write_spectrum_page
from relax_rl.reports.spectra.tables import (
    DIFFERENCE_COLUMNS,
    EIGENVALUE_COLUMNS,
    difference_rows,
    eigenvalue_rows,
    remarks,
    site_summaries,
    trajectory_rows,
)
from relax_rl.spectra.difference import SpectraDifference
from relax_rl.spectra.measure import LatentSpectra

__all__ = ["print_tables", "write_folder"]

_MOST_ROWS = 20
_WIDTH = 144


def print_tables(models: Sequence[LatentSpectra], differences: Sequence[SpectraDifference]) -> None:
    """By site, by text at the deepest site, and the differences; then what a reader must be told."""
    console = Console()
    if not console.is_terminal:
        console.width = max(console.width, _WIDTH)  # in a file nothing needs folding
    for spectra in models:
        _print_sites(console, spectra)
        if spectra.sites:
            _print_texts(console, spectra)
    if differences:
        _print_differences(console, models, differences)
    for spectra in models:
        for remark in remarks(spectra):
            console.print(f"note: {spectra.model}: {remark}", markup=False, highlight=False)


def _print_sites(console: Console, spectra: LatentSpectra) -> None:
    estimators = spectra.settings.estimators
    table = Table(
        box=SIMPLE_HEAD,
        title=f"{spectra.model}: by site",
        caption="DSD: mean over prompts [95 % interval]; max |λ|, residual and condition: medians over texts; N / F: "
        "pairs and observables of all texts",
    )
    names = ("site", *(f"DSD {name}" for name in estimators), "defined", "max |λ|", "residual", "condition", "N / F")
    for name in (*names, "dictionary"):
        table.add_column(name, no_wrap=name == "site", overflow="fold")
    for summary in site_summaries(spectra):
        table.add_row(*summary_cells(summary, estimators))
    console.print(table)


def _print_texts(console: Console, spectra: LatentSpectra) -> None:
    site, estimators = spectra.sites[-1].site, spectra.settings.estimators
    rows = spectra.at(site)
    more = f"; {len(rows) - _MOST_ROWS} more in trajectories.csv" if len(rows) > _MOST_ROWS else ""
    table = Table(box=SIMPLE_HEAD, title=f"{spectra.model}: by text at {site}", caption=f"{len(rows)} texts{more}")
    names = ("prompt", "tokens", *(f"DSD {name}" for name in estimators), "max |λ|", "residual", "condition")
    for name in (*names, "eff. rank", "curvature"):
        table.add_column(name)
    for row in rows[:_MOST_ROWS]:
        table.add_row(*text_cells(row, estimators))
    console.print(table)


def _print_differences(
    console: Console, models: Sequence[LatentSpectra], differences: Sequence[SpectraDifference]
) -> None:
    first, second = models
    table = Table(
        box=SIMPLE_HEAD,
        title=f"{second.model} minus {first.model}",
        caption="paired by prompt, sign-flip test; * under two dictionaries, so not of the models alone",
    )
    for name in ("site", "quantity", "first", "second", "difference", "95 % interval", "p", "n"):
        table.add_column(name)
    for d in differences:
        interval = "too few prompts" if math.isinf(d.test.low) else f"{d.test.low:+.3g} to {d.test.high:+.3g}"
        mark = "" if d.is_of_models else " *"
        numbers = (f"{d.first:.4g}", f"{d.second:.4g}", f"{d.test.value:+.3g}", interval, f"{d.test.p_value:.3g}")
        table.add_row(d.site, d.quantity + mark, *numbers, str(d.test.num_pairs))
    console.print(table)


def write_folder(
    models: Sequence[LatentSpectra], differences: Sequence[SpectraDifference], page: SpectrumPage, output: Path
) -> Path:
    """Write the folder and return its page: all of it, in the place of an older one, or nothing.

    Raises:
        RunError: it cannot be written.
    """
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(dir=output.parent, prefix=f".{output.name}."))
        try:
            folder.chmod(0o777 & ~_umask())
            _fill(folder, models, differences, page)
            if output.exists():
                shutil.rmtree(output)
            os.replace(folder, output)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
    except OSError as error:
        raise RunError(f"cannot write the spectra to {output}: {error}; name another folder with -o DIR") from error
    return output / "spectrum.html"


def _fill(
    folder: Path, models: Sequence[LatentSpectra], differences: Sequence[SpectraDifference], page: SpectrumPage
) -> None:
    header = trajectory_rows(models[0])[0]
    texts = {
        "trajectories.csv": csv_text(header, [row for spectra in models for row in trajectory_rows(spectra)[1]]),
        "eigenvalues.csv": csv_text(EIGENVALUE_COLUMNS, [row for s in models for row in eigenvalue_rows(s)]),
    }
    if len(models) > 1:
        texts["differences.csv"] = csv_text(DIFFERENCE_COLUMNS, difference_rows(differences))
    found = {
        "command": list(page.command),
        "models": [spectra.to_dict() for spectra in models],
        "differences": [asdict(difference) for difference in differences],
    }
    texts["spectrum.json"] = json.dumps(_finite(found), indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    for position, spectra in enumerate(models):
        for site, ruler in spectra.rulers.items():
            kept = folder / "dictionaries" / ("" if position == 0 else "compared")
            kept.mkdir(parents=True, exist_ok=True)
            ruler.dictionary.save(kept / f"{site}.safetensors")
    write_spectrum_page(page, folder / "spectrum.html")


def _finite(value: Any) -> Any:
    """The same with None for NaN and infinity, which JSON does not know."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    return [_finite(inner) for inner in value] if isinstance(value, list | tuple) else value


def _umask() -> int:
    # A temporary folder is its owner's alone; the one that it becomes is as any other.
    mask = os.umask(0)
    os.umask(mask)
    return mask
