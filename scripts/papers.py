"""Rewrite the table of docs/reference/papers.md from the methods and the results of the studies.

python scripts/papers.py
"""

from __future__ import annotations

import csv
import re
from collections import defaultdict
from pathlib import Path

from relax_rl.workflows.methods import MethodEntry, method_entries

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "reference" / "papers.md"
_TABLE = re.compile(r"(?<=\|---\|---\|---\|---\|---\|---\|\n)(?:\|.*\n)+")
_RELAX = "2512.07558"


def studies_of() -> dict[str, set[str]]:
    """The letters of the studies that trained with each method."""
    found: defaultdict[str, set[str]] = defaultdict(set)
    for path in sorted((ROOT / "evidence" / "results").glob("*_runs.csv")):
        with path.open(newline="") as file:
            for row in csv.DictReader(file):
                found[re.split(r"[,: ]", row.get("method", ""))[0]].add(path.name[0].upper())
    return found


def row_of(paper: str, entries: list[MethodEntry], studies: dict[str, set[str]]) -> str:
    """One line of the table."""
    first, letters = entries[0], sorted(set().union(*(studies.get(entry.name, set()) for entry in entries)))
    names = ", ".join(f"`{entry.name}`" for entry in entries)
    mark = "" if any(entry.is_verified for entry in entries) else " †"
    ran = f"studies {', '.join(letters)}, small policy" if letters else "no"
    config, number = f"`--objective {first.name}`", "-"
    if paper == _RELAX:
        config, number = "`relax recipes`: `qwen2.5-7b` and others", "in `relax recipes`, such as 17.4 to 43.5"
        ran += "; the recipes: no"
    link = f"[{paper}](https://arxiv.org/abs/{paper}){mark}"
    return f"| {link} | {names} | {first.about.replace('|', '/')} | {config} | {number} | {ran} |\n"


def main() -> None:
    """Rewrite the page."""
    papers: defaultdict[str, list[MethodEntry]] = defaultdict(list)
    for entry in method_entries():
        if entry.paper:
            papers[entry.paper].append(entry)
    studies = studies_of()
    rows = "".join(row_of(paper, entries, studies) for paper, entries in sorted(papers.items()))
    PAGE.write_text(_TABLE.sub(lambda _: rows, PAGE.read_text("utf-8"), count=1), "utf-8")


if __name__ == "__main__":
    main()
