"""The notebooks of docs/notebooks run, and their outputs are in them."""

from __future__ import annotations

import json

import pytest

from notebooks import NOTEBOOKS, executed, markdown, read_notebook

PATHS = sorted(NOTEBOOKS.glob("*.ipynb"))
PICTURE = {"cell_type": "code", "source": ["from matplotlib.figure import Figure\n", "Figure(figsize=(1, 1))"]}


def _cells(*sources):
    return {"cells": [{"cell_type": "code", "source": [source]} for source in sources]}


@pytest.mark.slow
@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_a_notebook_runs_and_gives_outputs_where_it_has_them(path, tmp_path):
    kept = read_notebook(path)
    done = executed(kept, tmp_path)
    kinds = [
        [[output["output_type"] for output in cell.get("outputs", ())] for cell in notebook["cells"]]
        for notebook in (kept, done)
    ]
    assert kinds[0] == kinds[1]


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_a_notebook_is_in_the_format_of_jupyter_with_small_outputs(path):
    notebook = read_notebook(path)
    assert (notebook["nbformat"], notebook["metadata"]["kernelspec"]["name"]) == (4, "python3")
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    assert sum(bool(cell["outputs"]) for cell in code) >= 3
    assert len(path.read_bytes()) < 150_000
    assert json.dumps(notebook, indent=1, ensure_ascii=False) + "\n" == path.read_text("utf-8")


def test_there_are_three_notebooks():
    assert [path.stem for path in PATHS] == ["adding-a-method", "first-run", "spectrum-of-your-model"]


def test_cells_share_names_and_their_last_line_is_an_output(tmp_path):
    first, second = executed(_cells("x = 2\nprint(x)", "x + 1"), tmp_path)["cells"]
    assert first["outputs"] == [{"output_type": "stream", "name": "stdout", "text": ["2\n"]}]
    assert second["outputs"][0]["data"] == {"text/plain": ["3"]}


def test_a_cell_that_raises_is_named(tmp_path):
    with pytest.raises(ZeroDivisionError) as caught:
        executed(_cells("x = 0", "1 / x"), tmp_path)
    assert caught.value.__notes__ == ["in code cell 2"]


def test_a_page_of_a_notebook_has_its_code_outputs_and_pictures(tmp_path):
    cells = [{"cell_type": "markdown", "source": ["# Title"]}, *_cells("print(1)")["cells"], PICTURE]
    page = markdown(executed({"cells": cells}, tmp_path), tmp_path / "page")
    assert page.startswith("# Title\n\n```python\nprint(1)\n```\n\n```text\n1\n```\n")
    assert "![Output of the cell above](page-1.png)" in page
    assert (tmp_path / "page-1.png").read_bytes().startswith(b"\x89PNG")
