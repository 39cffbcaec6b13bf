"""The matrix of image-text families, and its table."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from scripts import families
from support.families import FAMILIES, build
from support.family_matrix import measure
from support.launching import ENVIRONMENT, ROOT

RESULTS: dict[str, dict[str, Any]] = json.loads(families.RESULTS.read_text())
ENVIRONMENTS = Path(os.environ.get("RELAX_ENVIRONMENTS", str(ROOT / ".environments")))
LOCK = hashlib.sha256((ROOT / "requirements-vision.lock").read_bytes()).hexdigest()
VISION = (ROOT / ENVIRONMENTS / f"vision-{LOCK[:12]}").absolute()
NEEDS_PACKAGES = [name for name, family in FAMILIES.items() if family.packages]


def judged(row: dict[str, Any]) -> dict[str, Any]:
    """A row with the largest error of a gradient, where it was measured, as no more than rounding if it is none."""
    error = row["gradient"]
    # float32, relative to the largest gradient; a wrong row is wrong by .01 at least.
    return row | {"gradient": "rounding" if error is not None and error < 4e-6 else error}


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in FAMILIES if name not in NEEDS_PACKAGES])
def test_a_family_trains_and_is_measured(name: str, tmp_path: Path) -> None:
    assert judged(measure(name, tmp_path).as_json()) == judged(RESULTS[name])


@pytest.mark.slow
@pytest.mark.skipif(not (VISION / ".installed").is_file(), reason="torchvision is not installed; 'make vision' does so")
@pytest.mark.parametrize("name", NEEDS_PACKAGES)
def test_a_family_that_needs_torchvision_trains_and_is_measured(name: str) -> None:
    """In a process of its own: transformers asks for torchvision when it is imported."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "families.py"), "--only", name],
        env=ENVIRONMENT | {"PYTHONPATH": os.pathsep.join([ENVIRONMENT["PYTHONPATH"], str(VISION)])},
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    (row,) = (json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"'))
    assert judged(row[name]) == judged(RESULTS[name])


def test_the_page_holds_the_table_of_the_results() -> None:
    assert list(RESULTS) == list(FAMILIES), "run scripts/families.py"
    text = families.PAGE.read_text()
    assert families.page(text, RESULTS) == text, "run scripts/families.py --page"


def test_whatever_is_not_done_is_refused_in_a_sentence() -> None:
    for name, row in RESULTS.items():
        done = [*row["trained"].values(), *row["evaluated"].values(), row["spectra"]]
        assert all(done) == (not row["refused"]), name


@pytest.mark.slow
def test_a_model_that_is_shown_no_image_is_refused_before_its_weights_are_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from relax_rl.cli.main import main

    folder = build("Mllama", tmp_path / "model")
    (folder / "model.safetensors").write_bytes(b"no weights")
    monkeypatch.chdir(tmp_path)
    assert main(["eval", str(folder), "--task", "support.images:SquareTask", "-k", "1"]) == 2
    assert "Models of type 'mllama' do not take the features of images" in capsys.readouterr().err
