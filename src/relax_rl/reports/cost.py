"""Where the time of runs went: rollouts, rewards, DSD, and the update itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from relax_rl.comparison.records import RunRecord
from relax_rl.reports.canvas import color_of
from relax_rl.reports.document import download, wide_table
from relax_rl.reports.markup import Html, element
from relax_rl.reports.stacks import plot_stacks, stack_cell, stack_key

__all__ = ["COST_COLUMNS", "cost_of", "cost_rows", "cost_section", "draw_cost", "duration", "plot_cost"]

PARTS = {"rollout": "rollouts", "reward": "rewards", "update": "update", "dsd": "DSD"}
"""Metric ``time/NAME`` to its words."""
COST_COLUMNS = ("run", "updates", "seconds", *PARTS, "tokens")


def cost_of(run: RunRecord) -> dict[str, float]:
    """Seconds by part; empty for a run that did not log them."""
    found = {part: run.curve(f"time/{part}")[1] for part in PARTS}
    return {part: float(values.sum()) for part, values in found.items()} if len(found["update"]) else {}


def cost_rows(runs: Sequence[RunRecord]) -> list[tuple[str | float | None, ...]]:
    """Rows of `COST_COLUMNS`; None where nothing was logged."""
    rows = []
    for run in runs:
        split = cost_of(run)
        parts = [split.get(part) for part in PARTS]
        rows.append((run.label, len(run.curve("step_time")[1]), run.seconds, *parts, run.tokens or None))
    return rows


def cost_section(runs: Sequence[RunRecord]) -> Html:
    """A row a run: time, speed, and the share of each part; empty where no time was logged."""
    timed = [run for run in runs if len(run.curve("step_time")[1])]
    if not timed:
        return Html("")
    heads = ["run", "updates", "time", "an update (median)", "tokens a second"]
    key = [stack_key(words, _css_color(place)) for place, words in enumerate(PARTS.values())]
    names = [element("th", heading) for heading in (*heads, *key, "share")]
    body = [element("tr", *_cells(run)) for run in timed]
    table = wide_table(
        element("thead", element("tr", *names)), element("tbody", *body), class_="results", label="What it cost"
    )
    note = (
        "Time of the updates with their rollouts, without evaluations and checkpoints. The DSD's share is its forward "
        "part; its gradient counts as update."
    )
    return element(
        "section",
        element("h2", "What it cost", id="cost"),
        table,
        element("p", note, class_="note"),
        download("cost.csv", COST_COLUMNS, cost_rows(runs)),
    )


def _cells(run: RunRecord) -> list[Html]:
    times, split = run.curve("step_time")[1], cost_of(run)
    speed = f"{run.tokens / run.seconds:,.0f}" if run.tokens and run.seconds else "–"
    cells = [element("td", run.label, class_="run")]
    cells += [
        element("td", text, class_="number")
        for text in (str(len(times)), duration(run.seconds), f"{np.median(times):.3g} s", speed)
    ]
    total = sum(split.values())
    shares = {part: split[part] / total for part in PARTS} if total else {}
    for part in PARTS:
        shown_cost = f"{shares[part]:.1%}".replace("%", " %") if part in shares else "–"
        spent = element("span", duration(split[part]), class_="interval") if part in shares else Html("")
        cells.append(element("td", element("span", shown_cost), spent, class_="number"))
    bar = [
        (f"{PARTS[part]} {share:.1%}", share, _css_color(place)) for place, (part, share) in enumerate(shares.items())
    ]
    return [*cells, stack_cell(bar)]


def _css_color(place: int) -> str:
    return f"var(--c{place})"


def plot_cost(costs: Mapping[str, Mapping[str, float]], ax: Axes | None = None) -> Axes:
    """Draw a stacked bar a run of the seconds of each part.

    Args:
        costs: seconds by run, then by part (`cost_of`).
    """
    named = {run: {PARTS[part]: seconds for part, seconds in split.items()} for run, split in costs.items()}
    colors = {words: color_of(place) for place, words in enumerate(PARTS.values())}
    return plot_stacks(named, colors, ax, unit="seconds")


def draw_cost(runs: Sequence[RunRecord]) -> Figure | None:
    """The bars of `plot_cost` in a figure of their own; None where no run logged the split."""
    costs = {run.label: split for run in runs if (split := cost_of(run))}
    if not costs:
        return None
    figure = Figure(figsize=(6.8, 1.0 + 0.42 * len(costs)), layout="constrained")
    plot_cost(costs, figure.add_subplot())
    return figure


def duration(seconds: float) -> str:
    """In words: 2 h 5 min, 3 min 4 s, 0.8 s."""
    if seconds < 10:
        return f"{seconds:.2g} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"
