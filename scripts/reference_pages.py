"""Reference pages made from the code: settings, commands, methods with their options, error sentences, metrics.

`scripts/site.py` writes them into the documentation site, so they are as new as the site is.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import inspect
import io
import json
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel

from relax_rl.cli.main import VERBS
from relax_rl.cli.main import main as relax
from relax_rl.config import TrainConfig
from relax_rl.objectives import METHODS, build_objective, method_options
from relax_rl.objectives.inputs import HIDDEN_STATES
from relax_rl.workflows.methods import MethodEntry, method_entries
from words_in_code import attribute_docstrings, words_of

__all__ = ["PAGES"]

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "relax_rl"


def settings_page() -> str:
    """Every setting of `relax train`, from the schema."""
    rows = [
        f"| `{name}` | `{_cell(json.dumps(_plain(default), default=str))}` | {_cell(about)} |"
        for name, default, about in _settings(TrainConfig)
    ]
    head = "# Settings\n\nEvery setting of `relax train` with its default. Give it as `--NAME VALUE` or in a file.\n\n"
    return head + "| Setting | Default | Meaning |\n|---|---|---|\n" + "\n".join(rows) + "\n"


def _settings(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, Any, str]]:
    words = {
        name: text
        for kind in reversed(model.__mro__)
        if kind.__module__.startswith("relax_rl.")
        for (owner, name), text in attribute_docstrings(Path(inspect.getfile(kind))).items()
        if owner == kind.__name__
    }
    for name, field in model.model_fields.items():
        default = field.get_default(call_default_factory=True)
        if isinstance(default, BaseModel):
            yield from _settings(type(default), f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", default, words.get(name, "")


def commands_page() -> str:
    """The help of every command."""
    page = ["# Commands\n"]
    for verb in VERBS:
        said = io.StringIO()
        with contextlib.redirect_stdout(said), contextlib.suppress(SystemExit):
            relax([verb, "--help"])
        page.append(f"## relax {verb}\n\n```text\n{said.getvalue().rstrip()}\n```\n")
    return "\n".join(page)


def methods_page() -> str:
    """Every method with its paper and its options, as `relax methods NAME` prints them."""
    head = (
        "# All methods and their options\n\nAs `relax methods NAME` prints them. Give an option as "
        "`--objective.OPTION VALUE`.\n† means that we did not read the formula at its source. Tests and state of each "
        "are in [methods](methods.md).\n\n"
    )
    return head + "\n".join(_method(entry) for entry in method_entries())


def _method(entry: MethodEntry) -> str:
    paper = f" [arXiv {entry.paper}](https://arxiv.org/abs/{entry.paper})." if entry.paper else ""
    mark = "" if entry.is_verified else " †"
    rows = [
        f"| `{option.name}` | `{_cell(repr(option.default))}` | {_cell(option.about)} |" for option in entry.options
    ]
    table = "| Option | Default | Meaning |\n|---|---|---|\n" + "\n".join(rows) + "\n" if rows else ""
    return f"## {entry.name}{mark}\n\n{_cell(entry.about)}{paper}\n\n{table}"


def errors_page(folder: str = "") -> str:
    """Every sentence that the package, or a folder of it, raises on purpose, by file."""
    page = [
        "# All error messages\n\nEvery sentence that the package raises on purpose; `{...}` stands for a value. The "
        "fixes of the common ones are in [errors](errors.md).\n"
    ]
    for path in sorted((PACKAGE / folder).rglob("*.py")):
        said = sorted({(words.error, _cell(words.text)) for words in words_of(path) if words.kind == "error"})
        if said:
            module = ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")
            page.append(f"## {module}\n\n| Error | Message |\n|---|---|")
            page.append("\n".join(f"| {error} | `{text.replace('`', chr(39))}` |" for error, text in said) + "\n")
    return "\n".join(page)


def metrics_page() -> str:
    """The metrics that each method logs on a small batch, with their meanings from the hand-written page."""
    meanings = _meanings((ROOT / "docs" / "reference" / "metrics.md").read_text("utf-8"))
    of_method = {method: _metrics(method) for method in METHODS}
    of_metric: dict[str, list[str]] = {}
    for method, metrics in of_method.items():
        for metric in metrics:
            of_metric.setdefault(metric, []).append(method)
    rows = []
    for metric, methods in sorted(of_metric.items()):
        listed = "every method" if len(methods) == len(METHODS) else ", ".join(f"`{name}`" for name in methods)
        listed = f"{len(methods)} methods" if 8 < len(methods) < len(METHODS) else listed
        rows.append(f"| `{metric}` | {listed} | {meanings.get(metric, '')} |")
    head = (
        "# Metrics by method\n\nMetrics that the loss of each method logs, measured on a small batch with a KL. "
        "[Metrics](metrics.md) has the trainer's, too.\n\n| Metric | Logged by | Meaning |\n|---|---|---|\n"
    )
    return head + "\n".join(rows) + "\n"


def _metrics(method: str) -> list[str]:
    sys.path.insert(0, str(ROOT / "tests"))
    try:
        random_batch = importlib.import_module("objectives.batches").random_batch
    finally:
        sys.path.pop(0)
    batch = random_batch(prompts=2, group=4, tokens=40)
    batch = dataclasses.replace(batch, mask=torch.ones(2, 4, 40, dtype=torch.bool))
    known = method_options(method)
    dictionary = {"num_observables": 2, "steps": 1, "fit_objective": "relative_residual"}
    wanted = {"beta": 0.1, "dictionary": dictionary, "xi": 0.0, "max_completion_length": 40}
    objective = build_objective(method, **{name: value for name, value in wanted.items() if name in known})
    states = batch.required(HIDDEN_STATES)
    return sorted(objective.calibrated(states.flatten(0, 1), batch.mask.flatten(0, 1))(batch).metrics)


def _meanings(page: str) -> dict[str, str]:
    """Of each key in a table of the page, its last cell, without links: they lead from another page."""
    found = {}
    for line in page.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("| `") and len(cells) == 3:
            words = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", cells[2])
            found |= dict.fromkeys(re.findall(r"`([^`]+)`", cells[0]), words)
    return found


def _plain(value: Any) -> Any:
    return dict(value) if isinstance(value, Mapping) else value


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "/")


PAGES = {
    "settings": settings_page,
    "commands": commands_page,
    "all-methods": methods_page,
    "all-errors": errors_page,
    "all-metrics": metrics_page,
}
"""The pages of docs/reference on the site, by file name."""
