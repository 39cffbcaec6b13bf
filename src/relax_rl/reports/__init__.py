"""The only place that draws: figures and one page about runs, read from their directories alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from relax_rl.lazy_names import lazy_names

if TYPE_CHECKING:
    from relax_rl.reports.board import RunState, board_page
    from relax_rl.reports.curves import Panel, plot_curve
    from relax_rl.reports.page import write_report
    from relax_rl.reports.passes import plot_differences, plot_pass_curves
    from relax_rl.reports.spectra.landscape import write_landscape_page
    from relax_rl.reports.spectra.page import SpectrumPage, write_spectrum_page
    from relax_rl.reports.spectra.planes import Eigenpairs, plot_spectrum

__all__ = [
    "Eigenpairs",
    "Panel",
    "RunState",
    "SpectrumPage",
    "board_page",
    "plot_curve",
    "plot_differences",
    "plot_pass_curves",
    "plot_spectrum",
    "write_landscape_page",
    "write_report",
    "write_spectrum_page",
]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "board": ("RunState", "board_page"),
        "curves": ("Panel", "plot_curve"),
        "page": ("write_report",),
        "passes": ("plot_differences", "plot_pass_curves"),
        "spectra.landscape": ("write_landscape_page",),
        "spectra.page": ("SpectrumPage", "write_spectrum_page"),
        "spectra.planes": ("Eigenpairs", "plot_spectrum"),
    },
)
