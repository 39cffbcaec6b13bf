"""The sections about latent dynamics: spectra over training, the tokens of a mode, trajectories of one prompt."""

from __future__ import annotations

from collections.abc import Sequence

from relax_rl.comparison.records import RunRecord
from relax_rl.reports.canvas import svg_source
from relax_rl.reports.document import download, part, still
from relax_rl.reports.files import eigenvalue_rows
from relax_rl.reports.interactive.modes import run_modes
from relax_rl.reports.markup import Html, element
from relax_rl.reports.spectra.planes import SPURIOUS_RESIDUAL, draw_spectra
from relax_rl.reports.trajectories import TRAJECTORY_COLUMNS, draw_trajectories, trajectory_rows

__all__ = ["spectra_section", "trajectory_section"]


def spectra_section(runs: Sequence[RunRecord]) -> Html:
    """Eigenvalues before, during and after training, and the tokens where a mode is active."""
    heading = element("h2", "Koopman spectra", id="spectra")
    drawn = draw_spectra(runs)
    measured = drawn is not None or any(snapshot.spectrum for run in runs for snapshot in run.snapshots)
    if not measured:
        return element("section", heading, element("p", "No evaluation measured a spectrum.", class_="lead"))
    caption = (
        "Discrete eigenvalues (one step is one token) of the operator matrix pooled over all completions, with the "
        "unit circle: those of the evaluations before and after training, and those of a rollout batch at each "
        "checkpoint. The stronger the colour, the smaller the relative ResDMD residual; hollow grey marks a spurious "
        f"pair, with a residual of {SPURIOUS_RESIDUAL:g} or more."
    )
    alt = f"Eigenvalues in the complex plane with the unit circle, for {', '.join(run.label for run in runs)}."
    header = ["run", "evaluation", "real", "imaginary", "residual", "dictionary"]
    data = download("spectra.csv", header, eigenvalue_rows(runs))
    images = [still(svg_source(drawn), alt)] if drawn is not None else []
    figure = element("figure", part("spectra"), *images, element("figcaption", caption))
    return element("section", heading, figure, *(_modes() if run_modes(runs) else []), data)


def _modes() -> list[Html]:
    note = (
        "Choose a mode here, or click an eigenvalue of a checkpoint above. The stronger a token's shade, the larger "
        "the mode's eigenfunction is there. The completions are those of one prompt of the checkpoint's rollout batch."
    )
    heading = element("h3", "The tokens where a mode is active", class_="screen", id="modes")
    return [heading, element("p", note, class_="note screen"), part("modes")]


def trajectory_section(runs: Sequence[RunRecord]) -> Html:
    """Completions of one prompt in two dimensions; empty where no run has snapshots."""
    drawn = draw_trajectories(runs)
    if drawn is None:
        return Html("")
    caption = (
        "The hidden states of one prompt's completions, token by token, at each checkpoint: blue completions are "
        "rewarded, orange ones are not; over time from violet to yellow. PCA is in axes that all checkpoints of a run "
        "share. In t-SNE only neighbourhoods mean something, and each picture has axes of its own. Each checkpoint has "
        "another prompt: the one whose completions differ most in reward."
    )
    alt = f"Latent trajectories by PCA and t-SNE, for {', '.join(run.label for run in runs)}."
    figure = element("figure", part("trajectories"), still(svg_source(drawn), alt), element("figcaption", caption))
    data = download("trajectories.csv", TRAJECTORY_COLUMNS, trajectory_rows(runs))
    return element("section", element("h2", "Latent trajectories", id="trajectories"), figure, data)
