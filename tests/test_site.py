"""The reference pages that the documentation site makes from the code."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import sys
from pathlib import Path

import pytest

import reference_pages
from relax_rl.objectives import METHODS
from words_in_code import identifiers, words_of

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def site():
    # The standard library has a module of that name, which the interpreter has loaded long ago.
    spec = importlib.util.spec_from_file_location("site_of_docs", ROOT / "scripts" / "site.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["site_of_docs"] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_every_package_has_an_api_page_with_public_names(site):
    packages = {
        f"relax_rl.{path.parent.name}"
        for path in (ROOT / "src" / "relax_rl").glob("*/__init__.py")
        if path.parent.name not in ("assets", "cli", "workflows")  # data, and what the front door offers
    }
    assert packages <= set(site.PACKAGES)
    for package in site.PACKAGES:
        names = site.public_names(package)
        assert names
        for name in names:
            module, _, attribute = name.rpartition(".")
            assert hasattr(importlib.import_module(module), attribute)


def test_the_errors_page_has_every_sentence_with_its_file():
    page = reference_pages.errors_page("runs")
    assert "## relax_rl.runs.directory" in page
    raised = sum(
        isinstance(node, ast.Raise)
        for node in ast.walk(ast.parse((ROOT / "src/relax_rl/runs/lock.py").read_text("utf-8")))
    )
    section = page.partition("## relax_rl.runs.lock\n")[2].partition("\n## ")[0]
    assert 0 < section.count("RunError") <= raised


def test_the_methods_page_has_every_method_and_option():
    page = reference_pages.methods_page()
    assert [line.split()[1] for line in page.splitlines() if line.startswith("## ")] == list(METHODS)
    assert "| `k_ratio` | `0.002` |" in page.partition("## kl_cov")[2]


def test_the_settings_page_has_defaults_and_meanings():
    page = reference_pages.settings_page()
    assert "| `guard.max_share` | `0.1` |" in page
    assert "| `trainer.max_steps` |" in page or "`trainer`" in page


@pytest.mark.slow
def test_the_metrics_page_has_every_metric_with_its_methods_and_meaning():
    page = reference_pages.metrics_page()
    row = next(line for line in page.splitlines() if line.startswith("| `anchor/weight` |"))
    assert "`latent_anchor`" in row
    assert "dual ascent" in row
    assert [line for line in page.splitlines() if line.startswith("| `") and line.endswith("|  |")] == []


def test_words_in_code(tmp_path):
    path = tmp_path / "code.py"
    path.write_text(
        '"""A module."""\n# A comment.\nparser.add_argument("--x", help="of the run")\n\n\n'
        'def mend(told):\n    there = 1\n    raise ConfigError(f"{told} is wrong; " f"fix {there}")\n',
        "utf-8",
    )
    assert [(words.kind, words.text, words.error) for words in words_of(path)] == [
        ("docstring", "A module.", ""),
        ("comment", "A comment.", ""),
        ("help", "of the run", ""),
        ("error", "{...} is wrong; fix {...}", "ConfigError"),
    ]
    assert sorted(identifiers(path)) == [("mend", 6), ("there", 7), ("told", 6)]
