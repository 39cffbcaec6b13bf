"""The Entropy Mechanism along each run: the law R = -a exp(H) + b, and the covariance against the entropy's changes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from relax_rl.analysis.entropy_change import change_agreement
from relax_rl.analysis.entropy_law import MIN_POINTS, fit_entropy_law
from relax_rl.comparison.records import RunRecord
from relax_rl.errors import DataError
from relax_rl.reports.document import wide_table
from relax_rl.reports.entropy import FORECAST_SHARE, forecast_of, shared_series
from relax_rl.reports.markup import Html, element

__all__ = ["entropy_laws"]

_HEADINGS = (
    "run",
    "a",
    "b",
    "ceiling b − a",
    "R²",
    f"error from the first {FORECAST_SHARE:.0%}".replace("%", " %"),
    "rank correlation of predicted and measured change",
)
_NOTE = (
    "R = −a exp(H) + b fitted to the logged training reward and token entropy of each run (arXiv 2505.22617, which has "
    "validation reward). It is meant for runs without an intervention on the entropy. Brackets are 95 % intervals that "
    "know of the steps' autocorrelation. The error is the root mean square on the other 85 % of the steps, whose "
    "entropy is given; in parentheses that of a reward that stays as it was. Last: Spearman's correlation of the "
    "entropy's change with minus the covariance of log-probability and advantage of the update before."
)


def entropy_laws(runs: Sequence[RunRecord], *plane: Html) -> Html:
    """A section with a row a run; empty where no run has logged entropy and reward of ten steps.

    Args:
        plane: place of the plot of the reward against the entropy, with its data.
    """
    series = [(run, *shared_series(run, "entropy", "reward")[1:]) for run in runs]
    if not any(len(entropy) >= MIN_POINTS for _, entropy, _ in series):
        return Html("")
    rows = [element("tr", element("td", run.label, class_="run"), *_cells(run, *pair)) for run, *pair in series]
    head = element("tr", *(element("th", heading) for heading in _HEADINGS))
    table = wide_table(element("thead", head), element("tbody", *rows), class_="results", label="Entropy and reward")
    return element(
        "section",
        element("h2", "Entropy and reward", id="laws"),
        *plane,
        table,
        element("p", _NOTE, class_="note"),
    )


def _cells(run: RunRecord, entropy: np.ndarray, reward: np.ndarray) -> list[Html]:
    try:
        law = fit_entropy_law(entropy, reward)
    except DataError as error:
        return [element("td", str(error), colspan=5, class_="missing"), _agreement(run)]
    estimates = {"a": law.a, "b": law.b, "ceiling": law.ceiling}
    cells = [
        element(
            "td", f"{value:.3f} ", element("span", _interval(law.intervals[name]), class_="interval"), class_="number"
        )
        for name, value in estimates.items()
    ]
    return [*cells, element("td", f"{law.explained:.2f}", class_="number"), _forecast(entropy, reward), _agreement(run)]


def _forecast(entropy: np.ndarray, reward: np.ndarray) -> Html:
    found = forecast_of(entropy, reward)
    if found is None:
        return element("td", "–", class_="missing")
    return element("td", f"{found.root_mean_square:.3f} ({found.naive:.3f})", class_="number")


def _agreement(run: RunRecord) -> Html:
    try:
        found = change_agreement(*shared_series(run, "entropy/covariance", "entropy")[1:])
    except DataError:
        return element("td", "–", class_="missing")
    return element("td", f"{found.correlation:.2f} over {found.num_updates} updates", class_="number")


def _interval(ends: tuple[float, float]) -> str:
    return f"[{ends[0]:.3f}, {ends[1]:.3f}]"
