"""A spectrum as a small picture, for trackers."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from relax_rl.evaluation.result import PooledSpectrum

__all__ = ["spectrum_image"]

_DOTS = 130


def spectrum_image(spectrum: PooledSpectrum, title: str) -> bytes:
    """The eigenvalues in the complex plane with the unit circle, as PNG."""
    # Here, since a run without trackers draws nothing and should not wait for the import.
    from matplotlib.figure import Figure

    from relax_rl.reports.canvas import INK
    from relax_rl.reports.spectra.planes import plot_spectrum

    figure = Figure(figsize=(3.6, 3.8), layout="constrained")
    ax = figure.add_subplot()
    plot_spectrum(spectrum, ax)
    ax.set_title(title, fontsize=9.5, color=INK, parse_math=False)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=_DOTS)
    return buffer.getvalue()
