"""The matrix of image-text families: measure it, and write its table into docs/guides/vision.md.

    make vision                                                # prints FOLDER
    PYTHONPATH=FOLDER python scripts/families.py               # measures all (minutes), writes results and page
    python scripts/families.py --page                          # writes the page from the results
    PYTHONPATH=FOLDER python scripts/families.py --only NAME   # prints rows, writes nothing

The results are kept in docs/reference/families.json. The slow tests measure every row again; a fast one sees to it that
the page holds the table of these results.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from support.families import FAMILIES  # noqa: E402  # pyright: ignore[reportMissingImports]

PAGE, RESULTS = ROOT / "docs" / "guides" / "vision.md", ROOT / "docs" / "reference" / "families.json"
BEGIN, END = "<!-- table: scripts/families.py -->\n", "<!-- end of table -->\n"
HEADER = """\
| Family | Needs | Trains | Evaluates | Greedy as `generate` | Gradient | Spectrum of words | Why not |
|---|---|---|---|---|---|---|---|
"""
TASKS = ("one", "ragged", "two", "mixed")


def table(results: dict[str, dict[str, Any]]) -> str:
    """The table of the page, from the rows of `support.family_matrix.measure`."""
    return HEADER + "".join(_line(name, row) for name, row in results.items())


def _line(name: str, row: dict[str, Any]) -> str:
    trains = [task for task in TASKS if row["trained"][f"{task}/grpo"] and row["trained"][f"{task}/relax"]]
    evaluates = [task for task in TASKS if row["evaluated"][task]]
    asked = 4 * len([task for task in TASKS if row["as_generate"][task]])
    cells = [
        f"{name} (`{FAMILIES[name].released.split('/')[1]}`)",
        ", ".join(FAMILIES[name].packages),
        _words(trains),
        _words(evaluates),
        f"{sum(row['as_generate'].values())} of {asked}" if asked else "",
        "" if row["gradient"] is None else f"{row['gradient']:.0e}",
        "yes" if row["spectra"] else "no",
        " ".join(dict.fromkeys(_shortened(sentence) for sentence in row["refused"])),
    ]
    return f"| {' | '.join(cells)} |\n"


def _words(tasks: list[str]) -> str:
    return "all" if len(tasks) == len(TASKS) else ", ".join(tasks) or "no"


def _shortened(sentence: str) -> str:
    """Up to the advice."""
    return sentence.split(";")[0].split(". A model")[0].replace("|", "\\|").rstrip(".") + "."


def page(text: str, results: dict[str, dict[str, Any]]) -> str:
    """The text of the page with the table of these results."""
    before, rest = text.split(BEGIN)
    return before + BEGIN + "\n" + table(results) + "\n" + END + rest.split(END)[1]


def _measured(names: list[str]) -> dict[str, dict[str, Any]]:
    from support.torchvision_without_operators import declare_operators  # pyright: ignore[reportMissingImports]

    declare_operators()
    from support.family_matrix import measure  # pyright: ignore[reportMissingImports]

    rows: dict[str, dict[str, Any]] = {}
    for name in names:
        with tempfile.TemporaryDirectory() as folder:
            rows[name] = measure(name, Path(folder)).as_json()
        print(json.dumps({name: rows[name]}), flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--page", action="store_true", help="measure nothing; write the page from the results")
    parser.add_argument("--only", nargs="+", choices=FAMILIES, metavar="NAME", help="print these rows, write nothing")
    arguments = parser.parse_args()
    if arguments.only:
        _measured(arguments.only)
        return
    if not arguments.page:
        RESULTS.write_text(json.dumps(_measured(list(FAMILIES)), indent=1) + "\n")
    PAGE.write_text(page(PAGE.read_text(), json.loads(RESULTS.read_text())))


if __name__ == "__main__":
    main()
