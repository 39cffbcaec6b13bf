"""Run the notebooks of docs/notebooks and keep their outputs in them.

    python scripts/notebooks.py [NAME ...] runs each and writes its outputs into it
    python scripts/notebooks.py --check    runs each and writes nothing; a cell that raises ends it with exit code 1

Each runs in a fresh folder, in this process and without Jupyter: what a cell prints and the value of its last line are
its outputs, a matplotlib figure as PNG. Needs about a minute of one core.
"""

from __future__ import annotations

import argparse
import ast
import base64
import contextlib
import io
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

from matplotlib.axes import Axes
from matplotlib.figure import Figure

__all__ = ["NOTEBOOKS", "executed", "markdown", "read_notebook"]

NOTEBOOKS = Path(__file__).resolve().parents[1] / "docs" / "notebooks"
DPI = 72


def read_notebook(path: Path) -> dict[str, Any]:
    """A notebook in the format of Jupyter (nbformat 4)."""
    return json.loads(path.read_text("utf-8"))


def executed(notebook: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The notebook with the outputs of its code cells, run in order in one namespace, `folder` being current.

    Raises:
        Exception: as a cell raises it, with a note that names the cell.
    """
    names: dict[str, Any] = {"__name__": "__main__"}
    cells: list[dict[str, Any]] = []
    with contextlib.chdir(folder):
        for cell in notebook["cells"]:
            if cell["cell_type"] == "code":
                number = sum("outputs" in done for done in cells) + 1
                try:
                    outputs = _outputs_of("".join(cell["source"]), names, number)
                except Exception as error:
                    error.add_note(f"in code cell {number}")
                    raise
                cell = cell | {"execution_count": number, "outputs": outputs}
            cells.append(cell)
    return notebook | {"cells": cells}


def _outputs_of(source: str, names: dict[str, Any], number: int) -> list[dict[str, Any]]:
    tree = ast.parse(source)
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    value = None
    with contextlib.redirect_stdout(io.StringIO()) as said:
        exec(compile(tree, f"cell {number}", "exec"), names)
        if isinstance(last, ast.Expr):
            value = eval(compile(ast.Expression(last.value), f"cell {number}", "eval"), names)
    outputs: list[dict[str, Any]] = []
    if said.getvalue():
        outputs.append({"output_type": "stream", "name": "stdout", "text": said.getvalue().splitlines(keepends=True)})
    if value is not None:
        data = _shown(value)
        outputs.append({"output_type": "execute_result", "execution_count": number, "data": data, "metadata": {}})
    return outputs


def _shown(value: Any) -> dict[str, Any]:
    figure = value.figure if isinstance(value, Axes) else value
    if not isinstance(figure, Figure):
        return {"text/plain": repr(value).splitlines(keepends=True)}
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=DPI, bbox_inches="tight", metadata={"Software": None})
    return {"image/png": base64.b64encode(file.getvalue()).decode("ascii"), "text/plain": ["<Figure>"]}


def markdown(notebook: dict[str, Any], pictures: Path) -> str:
    """The notebook as a page; its pictures become files PICTURES-1.png, ... beside the page."""
    page: list[str] = []
    count = 0
    for cell in notebook["cells"]:
        source = "".join(cell["source"]).rstrip()
        page.append(f"```python\n{source}\n```" if cell["cell_type"] == "code" else source)
        for output in cell.get("outputs", ()):
            data = output.get("data", {})
            if "image/png" in data:
                count += 1
                picture = pictures.with_name(f"{pictures.name}-{count}.png")
                picture.write_bytes(base64.b64decode(data["image/png"]))
                page.append(f"![Output of the cell above]({picture.name})")
            else:
                page.append(f"```text\n{''.join(output.get('text') or data['text/plain']).rstrip()}\n```")
    return "\n\n".join(page) + "\n"


def main(argv: list[str] | None = None) -> int:
    """Run all of them, or those that are named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="notebooks, without .ipynb (all)")
    parser.add_argument("--check", action="store_true", help="write nothing")
    arguments = parser.parse_args(argv)
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    names = arguments.names or sorted(path.stem for path in NOTEBOOKS.glob("*.ipynb"))
    for path in (NOTEBOOKS / f"{name}.ipynb" for name in names):
        print(path.name, flush=True)
        with tempfile.TemporaryDirectory() as folder:
            done = executed(read_notebook(path), Path(folder))
        if not arguments.check:
            path.write_text(json.dumps(done, indent=1, ensure_ascii=False) + "\n", "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
