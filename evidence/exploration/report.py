"""Tables, picture and page of study I, from the table of its runs; what is not run yet is said to be missing.

python -m evidence.exploration.report --results evidence/results

writes i_verdicts.csv, i_controls.csv and i_discovery.csv beside i_runs.csv, docs/images/evidence-frontier.svg, and the
marked parts of docs/research/evidence/study-i.md.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np

from evidence.exploration.design import CONFIRMATION, FRONTIER, Design, read_design
from evidence.exploration.picture import frontier_picture, save_picture
from evidence.exploration.table import FAILED, finished, read_runs
from evidence.exploration.verdicts import QUESTIONS, against_controls, discoveries, says_yes, verdicts
from evidence.tables.page import markdown
from evidence.tables.tables import Rows, methods_of, write_table

__all__ = ["PARTS", "main", "with_parts"]

ROOT = Path(__file__).parents[2]
MARKED = re.compile(r"(?P<open><!-- part (?P<name>\w+) -->\n).*?(?P<close><!-- end of part -->)", re.DOTALL)
NAMES = {
    "i1": "I1, credit by oracle modes",
    "i2": "I2, credit by the latent kernel",
    "i3": "I3, discovery",
    "i4": "I4, anchors",
    "i4b": "I4b, anchors with the best credit",
    "i4b control": "I4b control, the anchor and the KL without the credit",
    "i5": "I5, ReLaX",
}
NOTHING = "No run of this is in yet.\n"
COLUMNS = ("mean@1", "pass@16", "pass@64", "modes@16", "modes@64", "top_mode", "entropy", "length", "truncated")


def with_parts(text: str, rows: Rows, confirming: Rows | None = None) -> str:
    """The page with every marked part made anew from the runs, and from those of the confirmation."""
    figures = finished(rows)
    parts = {**{name: part(figures) for name, part in PARTS.items()}, "progress": progress(rows)}
    parts["confirmation"] = distances(finished(confirming or []))
    return MARKED.sub(lambda mark: mark["open"] + parts[mark["name"]] + mark["close"], text)


def progress(rows: Rows) -> str:
    """How many runs of each study are in, of how many, and the error of each that failed."""
    design = read_design()
    lines = []
    for study in dict.fromkeys(stage.study for stage in design.stages):
        for start in dict.fromkeys(stage.start for stage in design.stages if stage.study == study):
            own = [row for row in finished(rows) if (row["study"], row["start"]) == (study, start)]
            seeds = sorted({int(row["seed"]) for row in own})
            names = methods_of(own)
            lacking = [name for name in _methods(design, study, start) if name not in names]
            total = sum(run.stage.study == study and run.start.name == start for run in design.runs())
            lines.append([_label(study), start, f"{len(own)} of {total}", _range(seeds), "; ".join(lacking)])
    failures = [
        f"- Failed: {_label(row['study'])}, {row['start']}, {row['method']}, seed {int(row['seed'])}. {row[FAILED]}\n"
        for row in rows
        if FAILED in row
    ]
    table = markdown(["study", "start", "runs", "seeds", "methods without a run"], lines)
    return table + ("\n" + "".join(failures) if failures else "")


def verdict(rows: Rows) -> str:
    """A sentence for each question."""
    answered = verdicts(rows)
    lines = []
    for question in QUESTIONS:
        own = [row for row in answered if (row["study"], row["start"]) == (question.study, question.start)]
        where = f"**{NAMES[question.study]}, on {question.start}**"
        if not own:
            lines.append(f"- {where}: {_why_nothing(rows, question.study)}.")
            continue
        above = [row["method"] for row in own if row["verdict"] == "above"]
        fewest = min(int(row["seeds"]) for row in own)
        if any("corrected_p" not in row for row in own):
            sums = "; ".join(f"{row['method']} {row['distance']:+.3f} ({row['seeds']:.0f})" for row in own)
            lines.append(
                f"- {where}: no verdict yet, at {fewest} seeds. Mean distance from the frontier in {question.breadth} "
                f"so far (seeds in brackets): {sums}."
            )
        elif above:
            lines.append(f"- {where}: {', '.join(above)} above the frontier in {question.breadth}; {len(own)} tried.")
        else:
            none = f"none of {len(own)} methods is" if len(own) > 1 else f"{own[0]['method']} is not"
            lines.append(f"- {where}: {none} above the frontier in {question.breadth}.")
    lines += _discovery_sentences(rows)
    return "\n".join(lines) + "\n"


def _why_nothing(rows: Rows, study: str) -> str:
    needs = _needed(study)
    if not needs or says_yes(rows, needs):
        return "no run is in yet"
    decides = next(question for question in QUESTIONS if question.study == needs)
    own = [row for row in verdicts(rows) if (row["study"], row["start"]) == (decides.study, decides.start)]
    is_no = len(own) == len(_methods(read_design(), needs, decides.start)) and all("corrected_p" in row for row in own)
    return f"not made, because {needs.upper()} says no" if is_no else f"waits for the verdict of {needs.upper()}"


def _discovery_sentences(rows: Rows) -> list[str]:
    found = discoveries(rows)
    if not found:
        return [f"- **{NAMES['i3']}**: no run is in yet."]
    sooner = [row for row in found if row.get("corrected_p", 1.0) < 0.05 and row["difference"] < 0]
    fewest = min(int(row["seeds"]) for row in found)
    names = "; ".join(f"{row['method']} on {row['start']}" for row in sooner) or "none"
    return [f"- **{NAMES['i3']}**: sooner than GRPO, at {fewest} seeds or more: {names}."]


def frontier(rows: Rows) -> str:
    """What GRPO with each strength of the KL reaches, and the start: means over seeds."""
    traced = {row["start"] for row in rows if row["study"] == FRONTIER}
    return _means([row for row in rows if row["study"] in ("start", FRONTIER) and row["start"] in traced])


def methods(rows: Rows) -> str:
    """What each method reaches: means over seeds."""
    return _means([row for row in rows if row["study"] in ("i1", "i2", "i4", "i4b", "i4b control", "i5")])


def distances(rows: Rows) -> str:
    """The distance of each method from the frontier, with its interval and the corrected p-value of the margin."""
    lines = [
        [
            _label(row["study"]),
            row["start"],
            row["method"],
            f"{row['seeds']:.0f}",
            f"{row['mean@1']:.3f}",
            f"{row['value']:.3f}",
            f"{row['distance']:+.3f}" + (f" [{row['low']:+.3f}, {row['high']:+.3f}]" if "low" in row else ""),
            f"{row['margin']:.2f}",
            f"{row['corrected_p']:.3f}" if "corrected_p" in row else "",
            f"**{row['verdict']}**" if row["verdict"] == "above" else row["verdict"],
        ]
        for row in verdicts(rows)
    ]
    headings = ["study", "start", "method", "seeds", "mean@1", "breadth", "above the frontier by", "margin", "p", ""]
    return markdown(headings, lines) if lines else NOTHING


def controls(rows: Rows) -> str:
    """I2: each latent method minus its controls."""
    lines = [[row["method"], row["control"], f"{row['seeds']:.0f}", _difference(row)] for row in against_controls(rows)]
    return markdown(["method", "control", "seeds", "method minus control, p"], lines) if lines else NOTHING


def discovery(rows: Rows) -> str:
    """I3: updates to the first reward (of a muted task, on problems that need the sign)."""
    lines = [
        [
            row["start"],
            row["method"],
            f"{row['seeds']:.0f}",
            f"{row['first_reward']:.1f}",
            _difference(row) if row["method"] != "grpo" else "",
            f"{row['discovered']:.1f}",
            f"{row['mean@1']:.4f}",
        ]
        for row in discoveries(rows)
    ]
    headings = ["start", "method", "seeds", "first reward", "minus grpo, p", "problems", "mean@1"]
    return markdown(headings, lines) if lines else NOTHING


def agreement(rows: Rows) -> str:
    """How well latent positions tell solutions apart at the end of training, and how large steps and anchors are."""
    shown = {
        "advantage_rms": ".3f",
        "update_rms": ".2e",
        "modes_auc": ".3f",
        "modes_rand": ".3f",
        "anchor_weight": ".3f",
        "anchor_held": ".2f",
        "dsd": ".4f",
        "seconds": ".0f",
    }
    own = [row for row in rows if row["study"] not in ("start", "i3")]
    return _table(
        own, shown, ("RMS of the advantage", "of the update", "AUC", "Rand", "anchor's weight", "held", "DSD", "s")
    )


PARTS: dict[str, Callable[[Rows], str]] = {
    "progress": progress,
    "verdict": verdict,
    "frontier": frontier,
    "methods": methods,
    "distances": distances,
    "controls": controls,
    "discovery": discovery,
    "agreement": agreement,
}


def _means(rows: Rows) -> str:
    forms = {"entropy": ".3f", "length": ".1f"}
    return _table(rows, {name: forms.get(name, ".3f") for name in COLUMNS}, COLUMNS)


def _table(rows: Rows, shown: dict[str, str], headings: tuple[str, ...]) -> str:
    lines = []
    groups = dict.fromkeys((row["study"], row["start"], row["method"]) for row in rows)
    for study, start, method in groups:
        own = [row for row in rows if (row["study"], row["start"], row["method"]) == (study, start, method)]
        line = [_label(study), start, method, str(len(own))]
        for name, form in shown.items():
            values = np.array([row.get(name, np.nan) for row in own], dtype=float)
            values = values[np.isfinite(values)]
            line.append(f"{values.mean():{form}}" if len(values) else "")
        lines.append(line)
    return markdown(["study", "start", "method", "runs", *headings], lines) if lines else NOTHING


def _difference(row: dict) -> str:
    if "difference" not in row:
        return ""
    text = f"{row['difference']:+.3f}"
    return f"{text} [{row['low']:+.3f}, {row['high']:+.3f}], {row['corrected_p']:.3f}" if "p" in row else text


def _methods(design: Design, study: str, start: str) -> list[str]:
    return [name for stage in design.stages if (stage.study, stage.start) == (study, start) for name in stage.methods]


def _needed(study: str) -> str:
    """The study that this one waits for; empty where there is none."""
    return next((stage.needs or "" for stage in read_design().stages if stage.study == study), "")


def _label(study: str) -> str:
    return NAMES[study].partition(",")[0] if study in NAMES else study


def _range(seeds: list[int]) -> str:
    """Neighbours as a range: 41 to 48, 61."""
    parts: list[list[int]] = []
    for seed in seeds:
        if parts and seed == parts[-1][-1] + 1:
            parts[-1].append(seed)
        else:
            parts.append([seed])
    return ", ".join(f"{part[0]} to {part[-1]}" if len(part) > 1 else str(part[0]) for part in parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=ROOT / "evidence/results", help="(%(default)s)")
    parser.add_argument("--images", type=Path, default=ROOT / "docs/images", help="(%(default)s)")
    parser.add_argument("--page", type=Path, help="to write the parts of; none without")
    arguments = parser.parse_args()
    rows = read_runs(arguments.results)
    figures = finished(rows)
    tables = {"verdicts": verdicts(figures), "controls": against_controls(figures), "discovery": discoveries(figures)}
    for name, table in tables.items():
        if table:
            write_table(arguments.results / f"i_{name}.csv", table)
    figure = frontier_picture(figures)
    if figure is not None:
        save_picture(figure, arguments.images / "evidence-frontier.svg")
    if arguments.page:
        text = arguments.page.read_text("utf-8")
        confirming = read_runs(arguments.results, read_design(CONFIRMATION).table)
        arguments.page.write_text(with_parts(text, rows, confirming), encoding="utf-8")


if __name__ == "__main__":
    main()
