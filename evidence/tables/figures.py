"""The pictures of docs/research/evidence, from the tables of the studies.

python -m evidence.tables.figures --results evidence/results --out docs/images

A picture whose table is not there is left out.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from evidence.tables.tables import Rows, baseline_of, methods_of, read_table
from relax_rl.analysis import fit_entropy_law
from relax_rl.errors import DataError
from relax_rl.reports.canvas import MUTED, color_of, linestyle_of, quieten

PRIMARY = ("mean@1", "pass@16")
CURVES = {"reward": "reward", "entropy": "entropy (nats)", "dsd": "DSD, as trained", "length": "length (tokens)"}
SMOOTHING = 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=Path("evidence/results"), help="(%(default)s)")
    parser.add_argument("--out", type=Path, default=Path("docs/images"), help="(%(default)s)")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    for name, (tables, draw) in FIGURES.items():
        paths = [arguments.results / f"{table}.csv" for table in tables]
        if all(path.is_file() for path in paths):
            figure = draw(*map(read_table, paths))
            for axis in figure.axes:
                quieten(axis)
            figure.savefig(arguments.out / f"evidence-{name}.png", dpi=110, bbox_inches="tight")
            plt.close(figure)
            print(arguments.out / f"evidence-{name}.png")


def style(position: int) -> dict[str, Any]:
    """Of the line of the method at a position."""
    return {"color": color_of(position), "linestyle": linestyle_of(position)}


def curves(rows: Rows) -> Figure:
    """Means over seeds along training, and one standard deviation for the baseline and ReLaX."""
    figure, axes = plt.subplots(1, len(CURVES), figsize=(15, 3.4))
    for axis, (column, label) in zip(axes, CURVES.items(), strict=True):
        for position, method in enumerate(methods_of(rows)):
            own = [row for row in rows if row["method"] == method]
            runs = [
                [row[column] for row in own if row["seed"] == seed] for seed in dict.fromkeys(r["seed"] for r in own)
            ]
            table = np.array([smooth(run) for run in runs])
            place, mean = np.arange(1, table.shape[1] + 1), table.mean(0)
            axis.plot(place, mean, label=method, linewidth=1.4, **style(position))
            if method in ("grpo", "relax, paper") and len(table) > 1:
                spread = table.std(0, ddof=1)
                axis.fill_between(
                    place, mean - spread, mean + spread, color=color_of(position), alpha=0.12, linewidth=0
                )
        axis.set(xlabel="rollout batch", title=label)
        if column == "dsd":
            axis.set_yscale("log")
    axes[-1].legend(bbox_to_anchor=(1.02, 1), loc="upper left", frameon=False, fontsize=9)
    return figure


def smooth(values: list[float]) -> np.ndarray:
    """Mean of the last SMOOTHING values, of fewer at the start."""
    return np.array([np.mean(values[max(0, i + 1 - SMOOTHING) : i + 1]) for i in range(len(values))])


def forest(rows: Rows) -> Figure:
    """Differences to the baseline with their intervals, one panel a primary measure; filled where p < 0.05."""
    figure, axes = plt.subplots(1, len(PRIMARY), figsize=(11, 0.6 + 0.32 * len(methods_of(rows))), sharey=True)
    compared = [row for row in rows if np.isfinite(row["difference"])]
    names = methods_of(compared)[::-1]
    for axis, metric in zip(axes, PRIMARY, strict=True):
        for row in compared:
            if row["metric"] != metric:
                continue
            place, is_seen = names.index(row["method"]), row["corrected_p"] < 0.05
            axis.plot([row["difference_low"], row["difference_high"]], [place, place], color=color_of(0))
            axis.plot(row["difference"], place, "o", color=color_of(0), mfc=color_of(0) if is_seen else "white")
        axis.axvline(0, color=MUTED, linewidth=0.8)
        axis.set_ylim(-0.6, len(names) - 0.4)
        axis.set(title=f"{metric}, minus {baseline_of(rows)}", yticks=range(len(names)), yticklabels=names)
    return figure


def pass_at_k(rows: Rows) -> Figure:
    """pass@k of each method against k, means over seeds."""
    figure, axis = plt.subplots(figsize=(6, 4))
    ks = sorted(int(name[5:]) for name in rows[0] if name.startswith("pass@"))
    for position, method in enumerate(methods_of(rows)):
        own = [row for row in rows if row["method"] == method]
        means = [np.mean([row[f"pass@{k}" if k > 1 else "mean@1"] for row in own]) for k in (1, *ks)]
        axis.plot((1, *ks), means, marker="o", label=method, linewidth=1.2, markersize=3, **style(position))
    axis.set(xscale="log", xlabel="k", ylabel="pass@k", xticks=(1, *ks), xticklabels=(1, *ks))
    axis.legend(bbox_to_anchor=(1.02, 1), loc="upper left", frameon=False, fontsize=9)
    return figure


def hacking(rows: Rows) -> Figure:
    """How much an estimator grew under its own reward, and what held-out pairs, length and entropy say of it."""
    start = next(row for row in rows if row["method"] == "start")
    trained = [row for row in rows if row["method"] not in ("start", "grpo")]
    figure, axis = plt.subplots(figsize=(9, 3.8))
    labels = [row["method"] for row in trained]
    width = 0.2
    for shift, (name, value) in enumerate(
        (
            ("its own dispersion", lambda row: row[row["method"].split()[0]] / start[row["method"].split()[0]]),
            ("held-out heterogeneity", lambda row: row["held_out"] / start["held_out"]),
            ("length", lambda row: row["length"] / start["length"]),
            ("entropy", lambda row: row["entropy"] / start["entropy"]),
        )
    ):
        place = np.arange(len(trained)) + (shift - 1.5) * width
        grown = np.array([value(row) for row in trained])
        axis.bar(place, grown - 1, width, bottom=1, label=name, color=color_of(shift))
    axis.axhline(1, color=MUTED, linewidth=0.8)
    axis.set(yscale="log", ylabel="times the start", xticks=range(len(labels)))
    axis.set_xticklabels(labels, rotation=30, ha="right")
    axis.legend(frameon=False, fontsize=9)
    return figure


def entropy_law(rows: Rows) -> Figure:
    """Reward against entropy, means of neighbouring batches, one panel a seed, with the law of the baseline."""
    seeds = list(dict.fromkeys(row["seed"] for row in rows))
    figure, axes = plt.subplots(1, len(seeds), figsize=(5.2 * len(seeds), 3.8), squeeze=False)
    for axis, seed in zip(axes[0], seeds, strict=True):
        for position, method in enumerate(methods_of(rows)):
            own = [row for row in rows if row["method"] == method and row["seed"] == seed]
            entropy, reward = (_blocks([row[column] for row in own]) for column in ("entropy", "reward"))
            axis.plot(entropy, reward, marker="o", label=method, linewidth=0.6, markersize=4, **style(position))
            if method == "grpo":
                _draw_law(axis, [row["entropy"] for row in own], [row["reward"] for row in own])
        axis.set(xlabel="entropy (nats)", ylabel="reward", title=f"seed {seed:.0f}")
    axes[0][-1].legend(frameon=False, fontsize=9)
    return figure


def _draw_law(axis: Axes, entropy: list[float], reward: list[float]) -> None:
    try:
        law = fit_entropy_law(entropy, reward)
    except DataError:  # the table says why; a picture has no place for it
        return
    grid = np.linspace(min(entropy), max(entropy), 50)
    axis.plot(grid, law.predict(grid), "--", color=MUTED, label="-a exp(H) + b of grpo")


def _blocks(values: list[float], size: int = 8) -> np.ndarray:
    whole = len(values) // size * size
    return np.array(values[:whole]).reshape(-1, size).mean(1)


FIGURES: dict[str, tuple[tuple[str, ...], Callable[..., Figure]]] = {
    "curves": (("b_curves",), curves),
    "head-to-head": (("b_methods",), forest),
    "pass-at-k": (("b_runs",), pass_at_k),
    "second-family": (("b2_methods",), forest),
    "terms": (("c_terms_methods",), forest),
    "ablations": (("c_methods",), forest),
    "hacking": (("d_measured",), hacking),
    "entropy-law": (("e_curves",), entropy_law),
    "signals": (("g_methods",), forest),
    "confirmation": (("h_methods",), forest),
    "long-runs": (("h_long_curves",), entropy_law),
}


if __name__ == "__main__":
    main()
