"""The tables of docs/research/evidence/*.md, from the CSV files of the studies.

python -m evidence.tables.page             writes every table of the pages again, between its marks
python -m evidence.tables.page --check     says which tables are not those of the results, and changes nothing

A mark is a comment, `table NAME`, and the table ends at the next one, `end of table`.
"""

from __future__ import annotations

import argparse
import math
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from evidence.exploration.design import J_DESIGN, read_design
from evidence.tables.tables import Rows, baseline_of, methods_of, read_table

EVIDENCE = Path(__file__).parents[1]
PAGES = EVIDENCE.parent / "docs/research/evidence"
MARKED = re.compile(r"(?P<open><!-- table (?P<name>\w+) -->\n).*?(?P<close><!-- end of table -->)", re.DOTALL)


HACKED = {
    "radius_max": ".2f",
    "condition_median": ".0f",
    "spurious_share": ".2f",
    "length": ".0f",
    "entropy": ".3f",
    "logit_deviation": ".2f",
    "mean@1": ".3f",
}
"""What is shown of a trained policy beside its dispersions, and how."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pages", type=Path, default=PAGES, help="folder of the pages (%(default)s)")
    parser.add_argument("--results", type=Path, default=EVIDENCE / "results", help="(%(default)s)")
    parser.add_argument("--check", action="store_true")
    arguments = parser.parse_args()
    changed = list(changed_tables(arguments.pages, arguments.results))
    if arguments.check and changed:
        sys.exit(f"not those of the results: {', '.join(changed)}")
    if not arguments.check:
        for path in sorted(arguments.pages.glob("*.md")):
            path.write_text(with_tables(path.read_text("utf-8"), arguments.results), encoding="utf-8")


def changed_tables(pages: Path, results: Path) -> Iterator[str]:
    """The tables in a folder of pages that differ from the results, each as PAGE: NAME."""
    for path in sorted(pages.glob("*.md")):
        text = path.read_text("utf-8")
        pairs = zip(MARKED.finditer(text), MARKED.finditer(with_tables(text, results)), strict=True)
        yield from (f"{path.name}: {before['name']}" for before, after in pairs if before[0] != after[0])


def with_tables(text: str, results: Path) -> str:
    """The page with every marked table made again."""
    return MARKED.sub(lambda mark: mark["open"] + made(mark["name"], results) + mark["close"], text)


def made(name: str, results: Path) -> str:
    """One table as Markdown.

    Raises:
        SystemExit: there is no table of that name.
    """
    if name not in TABLES:
        sys.exit(f"the page asks for a table {name!r}; there are {', '.join(TABLES)}")
    file, make = TABLES[name]
    return make(read_table(results / f"{file}.csv"))


def markdown(headings: list[str], rows: list[list[str]]) -> str:
    lines = [headings, ["---"] * len(headings), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def compared(rows: Rows) -> str:
    """Methods: primary measures with their differences to the baseline, then what else there is to know."""
    found = {(row["method"], row["metric"]): row for row in rows}
    baseline = baseline_of(rows)
    lines = []
    for method in methods_of(rows):
        line = [method]
        for metric in ("mean@1", "pass@16"):
            row = found[method, metric]
            line += [f"{row['value']:.3f}", difference(row) if method != baseline else ""]
        line += [f"{found[method, 'pass@64']['value']:.3f}" if (method, "pass@64") in found else ""]
        for metric, form in (("entropy", ".3f"), ("dsd", ".4f")):
            row = found[method, metric]
            line += [f"{row['value']:{form}}{star(row)}"]
        lines.append([*line, f"{found[method, 'length']['value']:.0f}"])
    minus = f"minus {baseline}, p"
    return markdown(["", "mean@1", minus, "pass@16", minus, "pass@64", "entropy", "DSD", "tokens"], lines)


def difference(row: dict) -> str:
    """Difference, interval and corrected p-value; bold where significant."""
    text = f"{row['difference']:+.3f} [{row['difference_low']:+.3f}, {row['difference_high']:+.3f}], "
    p = row["corrected_p"]
    text += "< 0.001" if p < 0.001 else f"{p:.3f}" if p < 0.1 else f"{p:.2f}"
    return f"**{text}**" if p < 0.05 else text


def star(row: dict) -> str:
    """An asterisk where the difference to the baseline is significant."""
    return "*" if row["corrected_p"] < 0.05 else ""


def searched(rows: Rows) -> str:
    lines = [
        [f"{row['strength']}", f"{row['mean@1']:.3f}", f"{row['pass@16']:.3f}", f"{row['mean@1'] + row['pass@16']:.3f}"]
        for row in rows
    ]
    for line, row in zip(lines, rows, strict=True):
        if row["chosen"] == "True":
            line[0] = f"**{line[0]}**"
    return markdown(["strength (bold: taken)", "mean@1", "pass@16", "sum"], lines)


def hacked(rows: Rows) -> str:
    """Trained policies against the start: how often each quantity is what it was."""
    start = next(row for row in rows if row["method"] == "start")
    lines = []
    for row in rows:
        own = row["method"].split()[0] if row["method"] not in ("start", "grpo") else None
        grown = [f"{row[name]:.3g}" for name in ("paper", "singular", "robust")]
        if own:
            place = ("paper", "singular", "robust").index(own)
            grown[place] = f"**{grown[place]}** (x {row[own] / start[own]:.2f})"
        held_out = f"{row['held_out']:.4f} (x {row['held_out'] / start['held_out']:.2f})"
        others = [f"{row[name]:{form}}" for name, form in HACKED.items()]
        lines.append([row["method"], *grown, held_out, *others])
    headings = ["estimator, alpha", "paper", "singular", "robust", "held-out", "max modulus", "condition"]
    return markdown([*headings, "spurious", "tokens", "entropy", "logits", "mean@1"], lines)


def fitted(rows: Rows) -> str:
    lines = []
    for row in rows:
        line = [f"{row['seed']:.0f}", row["method"], row["fit"]]
        if row.get("refused"):
            lines.append([*line, f"refused: {row['refused']}", "", ""])
            continue
        law = error = residual = ""
        if row["a"] == row["a"]:
            ceiling = f"{row['ceiling']:.2f} [{row['ceiling_low']:.2f}, {row['ceiling_high']:.2f}]"
            law = f"a = {row['a']:.2f}, b = {row['b']:.2f}, b - a = {ceiling}"
            error = f"{row['absolute_error']:.3f} (mean of the fitted part: {row['stays_error']:.3f})"
        if row.get("residual") == row.get("residual") and row.get("residual") is not None:
            residual = f"{row['residual']:+.3f}"
        lines.append([*line, law, error, residual])
    return markdown(["seed", "run", "fitted to", "law", "mean absolute error", "above the law"], lines)


def above(rows: Rows) -> str:
    """Mean residual of each method from the baseline's law."""
    lines = []
    for row in rows:
        mean = f"{row['residual']:+.3f} [{row['low']:+.3f}, {row['high']:+.3f}]"
        lines.append([row["method"], f"{row['seeds']:.0f}", mean, f"{row['p']:.3f}"])
    return markdown(["", "seeds", "above the law of grpo, mean over seeds", "p"], lines)


def varied(rows: Rows) -> str:
    """Each method's average and worst case over variants: the mean over its seeds, and each seed."""
    lines = []
    for method in methods_of(rows):
        line = [method]
        for name in ("average", "worst"):
            values = [row[name] for row in rows if row["method"] == method]
            each = f" ({', '.join(f'{value:.3f}' for value in values)})" if len(values) > 1 else ""
            line.append(f"{sum(values) / len(values):.3f}{each}")
        lines.append(line)
    return markdown(["", "average over variants (each seed)", "worst variant (each seed)"], lines)


def sighted(rows: Rows) -> str:
    """What another image changes, by condition and size of the dictionary: means over seeds, and how many differ."""

    def mean(own: Rows, name: str, form: str) -> str:
        values = [row[name] for row in own]
        return f"{sum(values) / len(values):{form}}"

    def changed(own: Rows, name: str, form: str) -> str:
        up = sum(row[f"{name}_low"] > 0 for row in own)
        down = sum(row[f"{name}_high"] < 0 for row in own)
        return f"{mean(own, name, form)} ({up} up, {down} down)"

    lines = []
    for condition, size in dict.fromkeys((row["condition"], row["observables"]) for row in rows):
        own = [row for row in rows if (row["condition"], row["observables"]) == (condition, size)]
        line = [condition, f"{size:.0f}", f"{len(own)}", mean(own, "kl", ".2f"), mean(own, "distance", ".2f")]
        line += [changed(own, "error_change", "+.3f")]
        for estimator, form in (("paper", "+.4f"), ("singular", "+.2f")):
            line += [mean(own, f"{estimator}_true", form.strip("+")), changed(own, f"{estimator}_change", form)]
        lines.append(line)
    headings = ["shown", "observables", "seeds", "KL", "distance", "change of error"]
    return markdown([*headings, "DSD paper", "change", "DSD singular", "change"], sorted(lines, key=_shown_order))


def _shown_order(line: list[str]) -> tuple[int, int]:
    return ("other", "masked:0.6", "grey", "none").index(line[0]), int(line[1])


def paired_by_seed(rows: Rows) -> str:
    """Methods of study J: both primary measures with their differences to GRPO; no p-value before all runs are in."""
    found, is_whole = _by_name(rows), _is_whole(rows)
    lines = []
    for method in methods_of(rows):
        line = [method, f"{found[method, 'mean@1']['seeds']:.0f}"]
        for metric in ("mean@1", "worst"):
            row = found[method, metric]
            line += [f"{row['value']:.3f}", "" if method == "grpo" else _difference_of(row, is_whole)]
        described = [found.get((method, name)) for name in ("robustness", "pass@16", "entropy")]
        line += ["" if row is None else f"{row['value']:.3f}" for row in described]
        sizes = [found.get((one, "update_rms")) for one in (method, "grpo")]
        lines.append([*line, f"{sizes[0]['value'] / sizes[1]['value']:.2f}" if sizes[0] and sizes[1] else ""])
    minus = "minus grpo, p"
    return markdown(
        ["", "seeds", "average", minus, "worst", minus, "robustness", "pass@16", "entropy", "update"], lines
    )


J_LEARNED = 0.05
"""GRPO learns if the interval of its gain in average lies above it."""
J_ASKED = ("relax", "papo", "image_credit")
"""Methods of which the plan of study J asks whether they end elsewhere than GRPO."""


def answered(rows: Rows) -> str:
    """The questions of study J with what decides them; no answer before all runs are in."""
    found, is_whole = _by_name(rows), _is_whole(rows)
    gain = found.get(("grpo", "gain"))
    lines = [["J0: does GRPO learn?", "", ""]]
    if gain is not None:
        interval = (
            f"gain in average {gain['value']:+.3f} [{gain['difference_low']:+.3f}, {gain['difference_high']:+.3f}]"
        )
        answer = "yes" if gain["difference_low"] > J_LEARNED else "no"
        lines[0][1:] = [interval, answer if is_whole else _NO_VERDICT]
    for question, metric, name in (("J1", "mean@1", "average"), ("J2", "worst", "worst")):
        for method in J_ASKED:
            row = found.get((method, metric), {})
            shift = row.get("difference", math.nan)
            answer = "no difference found"
            if row.get("corrected_p", math.nan) < 0.05:
                answer = "yes, higher" if shift > 0 else "yes, lower"
            words = f"{question}: does {method} end elsewhere in {name}?"
            decided_by = difference(row) if is_whole else "" if math.isnan(shift) else f"{shift:+.3f}"
            lines.append([words, decided_by, answer if is_whole else _NO_VERDICT])
    return markdown(["Question", "Decided by", "Answer"], lines)


_NO_VERDICT = "no verdict yet"


def _by_name(rows: Rows) -> dict[tuple[str, str], dict]:
    return {(row["method"], row["metric"]): row for row in rows}


def _is_whole(rows: Rows) -> bool:
    """Whether every method of study J has all its seeds: a correction over fewer methods would be another one."""
    design = read_design(J_DESIGN)
    planned = {run.method for run in design.runs()}
    seeds = {row["method"]: row["seeds"] for row in rows if row["metric"] == "mean@1"}
    return all(seeds.get(method, 0) >= len(design.seeds) for method in planned)


def _difference_of(row: dict, is_whole: bool) -> str:
    shift = row.get("difference", math.nan)
    if math.isnan(shift):
        return ""
    return difference(row) if is_whole else f"{shift:+.3f}, {_NO_VERDICT}"


TABLES: dict[str, tuple[str, Callable[[Rows], str]]] = {
    "learning_rate": ("b_learning_rate_methods", compared),
    "search": ("b_search", searched),
    "head_to_head": ("b_methods", compared),
    "second_family": ("b2_methods", compared),
    "terms": ("c_terms_methods", compared),
    "ablations": ("c_methods", compared),
    "confirmation": ("h_methods", compared),
    "confirmation_control": ("h_control_methods", compared),
    "confirmation_gate": ("h_gate_methods", compared),
    "long_runs": ("h_long_methods", compared),
    "long_control": ("h_long_control_methods", compared),
    "long_laws": ("h_long_laws", fitted),
    "long_residuals": ("h_long_residuals", above),
    "hacking": ("d_measured", hacked),
    "laws": ("e_laws", fitted),
    "pretrained": ("f_methods", compared),
    "vision": ("f_vision_methods", compared),
    "vision_variants": ("f_vision_variants", varied),
    "signals_search": ("g_search", searched),
    "signals": ("g_methods", compared),
    "images": ("images", sighted),
    "figures": ("j_methods", paired_by_seed),
    "figures_answers": ("j_methods", answered),
}


if __name__ == "__main__":
    main()
