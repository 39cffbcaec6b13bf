"""The folder of `spectrum`: there as a whole or not at all."""

from __future__ import annotations

import json
import math
import os
import shutil
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from relax_rl.comparison.tables import csv_text
from relax_rl.errors import RunError
from relax_rl.reports.spectra.page import SpectrumPage, write_spectrum_page
from relax_rl.reports.spectra.tables import (
    DIFFERENCE_COLUMNS,
    EIGENVALUE_COLUMNS,
    difference_rows,
    eigenvalue_rows,
    trajectory_rows,
)

__all__ = ["finite", "write_folder"]


def write_folder(page: SpectrumPage, output: Path) -> Path:
    """Write the folder and return the path of its page: all of it, in the place of an older one, or nothing.

    Raises:
        RunError: it cannot be written.
    """
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(dir=output.parent, prefix=f".{output.name}."))
        try:
            folder.chmod(0o777 & ~_umask())
            _fill(folder, page)
            if output.exists():
                shutil.rmtree(output)
            os.replace(folder, output)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
    except OSError as error:
        raise RunError(f"cannot write the spectra to {output}: {error}; name another folder with -o DIR") from error
    return output / "spectrum.html"


def _fill(folder: Path, page: SpectrumPage) -> None:
    models, differences = page.models, page.differences
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
    texts["spectrum.json"] = json.dumps(finite(found), indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    for position, spectra in enumerate(models):
        for site, ruler in spectra.rulers.items():
            kept = folder / "dictionaries" / ("" if position == 0 else "compared")
            kept.mkdir(parents=True, exist_ok=True)
            ruler.dictionary.save(kept / f"{site}.safetensors")
    write_spectrum_page(page, folder / "spectrum.html")


def finite(value: Any) -> Any:
    """The same with None for NaN and infinity, which JSON does not know."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: finite(inner) for key, inner in value.items()}
    return [finite(inner) for inner in value] if isinstance(value, list | tuple) else value


def _umask() -> int:
    # A temporary folder is its owner's alone; the one that it becomes is as any other.
    mask = os.umask(0)
    os.umask(mask)
    return mask
