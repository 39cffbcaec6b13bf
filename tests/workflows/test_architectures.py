"""The matrix of architectures, and its page."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from relax_rl.cli.main import main
from scripts import architectures
from support.architectures import ARCHITECTURES, build
from support.matrix import NUM_UPDATES, measure

RESULTS = json.loads(architectures.RESULTS.read_text())


@pytest.mark.slow
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_an_architecture_trains_and_is_measured(name: str, tmp_path: Path) -> None:
    row = measure(name, tmp_path)
    assert (row.cache, row.refused) == (RESULTS[name]["cache"], RESULTS[name]["refused"])
    if row.refused is not None:
        assert name == "RWKV"
        return
    assert row.num_updates == NUM_UPDATES
    assert row.kl == 0.0
    assert row.same_samples == row.num_samples == 8
    assert row.last_state
    assert row.spectra == 2
    # float32 of values near 6: some units in the last place. What is wrong is wrong by .01 at least.
    assert row.padding is not None
    assert row.heads is not None
    assert max(row.padding, row.heads) < 4e-6


def test_the_page_holds_the_table_of_the_results() -> None:
    assert list(RESULTS) == list(ARCHITECTURES), "run scripts/architectures.py"
    text = architectures.PAGE.read_text()
    assert architectures.page(text, RESULTS) == text, "run scripts/architectures.py --page"


@pytest.mark.parametrize(
    "words",
    [
        ["eval", "MODEL", "--task", "countdown", "-k", "2"],
        ["spectrum", "MODEL", "--task", "countdown"],
        ["train", "countdown", "--model", "MODEL"],
        ["train", "countdown", "--model", "MODEL", "--dry-run"],
    ],
    ids=lambda words: " ".join(words[::3]),
)
def test_a_model_that_is_not_supported_is_one_sentence_before_its_weights_are_loaded(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = build("RWKV", tmp_path / "model")
    # Weights that could not be loaded: whoever loads them says so.
    (folder / "model.safetensors").write_bytes(b"no weights")
    assert main([str(folder) if word == "MODEL" else word for word in words]) == 2
    error = capsys.readouterr().err
    assert "Models of type 'rwkv' are read, but do not write" in error
    assert error.count("error:") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model"]
