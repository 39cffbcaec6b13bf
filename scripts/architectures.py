"""The matrix of architectures: measure it, and write its table into docs/reference/architectures.md.

    python scripts/architectures.py            # measures all (minutes), writes the results and the page
    python scripts/architectures.py --page     # writes the page from the results

The results are kept in docs/reference/architectures.json. The slow tests measure every row again; a fast one checks
that the page holds the table of these results.
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

from support.architectures import ARCHITECTURES  # noqa: E402  # pyright: ignore[reportMissingImports]

PAGE, RESULTS = ROOT / "docs/reference/architectures.md", ROOT / "docs/reference/architectures.json"
BEGIN, END = "<!-- table: scripts/architectures.py -->\n", "<!-- end of table -->\n"
HEADER = """\
| Architecture | Sets it apart | Cache | Updates | KL at update 1 | Same samples at batch 8 and 1 | Padding | Spectra |
|---|---|---|---|---|---|---|---|
"""


def table(results: dict[str, dict[str, Any]]) -> str:
    """The table of the page, from the rows of `support.matrix.measure`."""
    return HEADER + "".join(_line(name, row) for name, row in results.items())


def _line(name: str, row: dict[str, Any]) -> str:
    cells = [name, ARCHITECTURES[name].kind, row["cache"]]
    if row["refused"] is not None:
        cells += ["refused by name", *[""] * 4]
    else:
        cells += [
            str(row["num_updates"]),
            f"{row['kl']:g}",
            f"{row['same_samples']} of {row['num_samples']}",
            f"{max(row['padding'], row['heads']):.0e}",
            str(row["spectra"]),
        ]
    return f"| {' | '.join(cells)} |\n"


def page(text: str, results: dict[str, dict[str, Any]]) -> str:
    """The text of the page with the table of these results."""
    before, rest = text.split(BEGIN)
    return before + BEGIN + "\n" + table(results) + "\n" + END + rest.split(END)[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--page", action="store_true", help="measure nothing; write the page from the results")
    if not parser.parse_args().page:
        from support.matrix import measure  # pyright: ignore[reportMissingImports]

        rows: dict[str, dict[str, Any]] = {}
        for name in ARCHITECTURES:
            with tempfile.TemporaryDirectory() as folder:
                rows[name] = measure(name, Path(folder)).as_json()
            print(f"{name}: {rows[name]}", flush=True)
        RESULTS.write_text(json.dumps(rows, indent=1) + "\n")
    PAGE.write_text(page(PAGE.read_text(), json.loads(RESULTS.read_text())))


if __name__ == "__main__":
    main()
