"""Draw the pictures of docs/start/concepts.md from the results of the studies and from the embedded policy.

    python scripts/concept_figures.py [OUT]

The curves and the pass@k values come from evidence/results. The spectrum is measured here, on the embedded policy's
completions of 20 countdown problems, which takes some 20 s.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import relax_rl  # noqa: E402
from evidence.tables.tables import Rows, read_table  # noqa: E402
from relax_rl.reports.canvas import INK, color_of, quieten  # noqa: E402
from relax_rl.reports.curves import smooth  # noqa: E402
from relax_rl.reports.spectra.planes import plot_spectrum  # noqa: E402

RESULTS = ROOT / "evidence" / "results"
METHODS = {"grpo": "GRPO", "relax, paper": "ReLaX"}


def draw_collapse(rows: Rows) -> Figure:
    """Reward and entropy of GRPO and ReLaX over 512 updates of countdown, a line a seed."""
    figure = Figure(figsize=(7.2, 2.7), layout="constrained")
    titles = {"reward": "Reward", "entropy": "Token entropy (nats)"}
    for ax, (key, title) in zip(figure.subplots(1, 2), titles.items(), strict=True):
        _frame(ax, title, "rollout batch (four updates each)")
        for place, (method, label) in enumerate(METHODS.items()):
            chosen = [row for row in rows if row["method"] == method]
            for number, seed in enumerate(sorted({row["seed"] for row in chosen})):
                values = smooth(np.array([row[key] for row in chosen if row["seed"] == seed]))
                ax.plot(
                    np.arange(1, len(values) + 1),
                    values,
                    color=color_of(place),
                    linewidth=1,
                    alpha=0.8,
                    label=label if number == 0 else None,
                )
    figure.axes[0].legend(frameon=False, fontsize=8)
    return figure


def draw_pass_at_k(rows: Rows) -> Figure:
    """pass@k of both methods with 95 % intervals over seeds and problems, against k."""
    figure = Figure(figsize=(4.6, 2.9), layout="constrained")
    ax = figure.add_subplot()
    _frame(ax, "pass@k after training", "k")
    for place, (method, label) in enumerate(METHODS.items()):
        mine = {row["metric"]: row for row in rows if row["method"] == method}
        points = sorted(
            (int(name.partition("@")[2]), row) for name, row in mine.items() if name.startswith(("pass@", "mean@1"))
        )
        ks = np.array([k for k, _ in points]) * (1 + 0.03 * place)  # side by side, not on top of each other
        values = np.array([row["value"] for _, row in points])
        bars = np.abs(np.array([[row["low"], row["high"]] for _, row in points]).T - values)
        ax.errorbar(ks, values, bars, color=color_of(place), marker="o", markersize=3.5, linewidth=1.2, label=label)
    ax.set_xscale("log", base=2)
    ax.set_xticks(shown := [1, 4, 16, 64], [str(k) for k in shown])
    ax.legend(frameon=False, fontsize=8)
    return figure


def draw_spectrum() -> Figure:
    """The pooled spectrum of the embedded policy at its embedding and at its final norm."""
    spectra = relax_rl.spectrum("tiny", num_problems=20).spectra
    figure = Figure(figsize=(6.4, 3.3), layout="constrained")
    for ax, (site, title) in zip(
        figure.subplots(1, 2), {"embed": "Embedding", "final_norm_out": "Final norm"}.items(), strict=True
    ):
        plot_spectrum(spectra[site], ax)
        ax.set_title(title, fontsize=9.5, color=INK, loc="left")
    return figure


def draw_breadths() -> Figure:
    """Two policies that solve as many problems, and find other numbers of solutions of each."""
    figure = Figure(figsize=(6.4, 2.4), layout="constrained")
    cells = {
        "Narrow within problems": ((1, 0, 0), (1, 0, 0), (0, 1, 0), (1, 0, 0)),
        "Narrow over problems": ((1, 1, 1), (1, 1, 1), (0, 0, 0), (0, 0, 0)),
        "Broad in both": ((1, 1, 0), (1, 1, 1), (0, 1, 1), (1, 0, 1)),
    }
    for ax, (title, found) in zip(figure.subplots(1, 3), cells.items(), strict=True):
        for problem, modes in enumerate(found):
            for mode, is_found in enumerate(modes):
                ax.scatter(mode, -problem, s=110, color=color_of(0) if is_found else "#e4e4e4")
        ax.set(xlim=(-0.6, 2.6), ylim=(-3.6, 0.6), xticks=range(3), yticks=[-3, -2, -1, 0])
        ax.set_xticklabels(["a", "b", "c"], fontsize=8)
        ax.set_yticklabels(["4", "3", "2", "1"], fontsize=8)
        ax.set_title(title, fontsize=9.5, color=INK, loc="left")
        ax.set_xlabel("solution", fontsize=8.5, color=INK)
        for side in ax.spines.values():
            side.set_visible(False)
    figure.axes[0].set_ylabel("problem", fontsize=8.5, color=INK)
    return figure


def _frame(ax: Axes, title: str, xlabel: str) -> None:
    quieten(ax)
    ax.set_title(title, fontsize=9.5, color=INK, loc="left")
    ax.set_xlabel(xlabel, fontsize=8.5, color=INK)


def main(out: Path) -> None:
    """Write the four pictures."""
    figures = {
        "concepts-collapse": draw_collapse(read_table(RESULTS / "h_long_curves.csv")),
        "concepts-breadths": draw_breadths(),
        "concepts-pass-at-k": draw_pass_at_k(read_table(RESULTS / "h_methods.csv")),
        "concepts-spectrum": draw_spectrum(),
    }
    for name, figure in figures.items():
        figure.savefig(out / f"{name}.png", dpi=110)
        print(f"{out / name}.png")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs" / "images")
