"""Unusable images on every way in: the command goes on without them, and names and counts them."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from relax_rl.cli.main import main
from relax_rl.runs import RunDirectory
from relax_rl.tasks.base import Problem
from relax_rl.tasks.images.picture import file_picture
from support.hostile_images import HOSTILE, encoded
from support.images import SIDE, EvenVerifier, llava_folder
from support.visual_layouts import write

pytestmark = pytest.mark.slow

NUM_SOUND = 4
TRAIN = [
    *("--objective=grpo", "--trainer.max_steps=1", "--trainer.per_device_train_batch_size=8"),
    *("--trainer.gradient_accumulation_steps=2", "--trainer.num_generations=4", "--trainer.max_completion_length=4"),
    *("--monitor=false", "--evaluation.enabled=false", "--output=run"),
]
EVAL = ["-k", "1", "--max-completion-length", "4", "-o", "evaluated"]
SPECTRUM = [
    "--max-completion-length",
    "20",
    "--observables",
    "4",
    "--fit-steps",
    "2",
    "--conditions",
    "other",
    "-o",
    "s",
]


def images() -> dict[str, bytes]:
    """Unusable ones first, so that whoever takes the first few meets them."""
    sound = {f"sound{place}": encoded(Image.new("RGB", (SIDE, SIDE), (60 * place, 9, 9))) for place in range(NUM_SOUND)}
    return {name: make() for name, (make, _) in HOSTILE.items()} | sound


def write_files(folder: Path) -> Path:
    """A file of JSON lines whose rows name their images."""
    (folder / "images").mkdir(parents=True)
    rows = []
    for name, data in images().items():
        (folder / "images" / f"{name}.png").write_bytes(data)
        row = {"id": name, "prompt": f"<image>{name}:", "answer": "1", "image": f"images/{name}.png"}
        rows.append(json.dumps(row))
    (folder / "data.jsonl").write_text("\n".join(rows))
    return folder / "data.jsonl"


def write_mmstar(folder: Path) -> Path:
    """The published layout of a benchmark: images inside a parquet file."""
    about = {"answer": "A", "category": "math", "l2_category": "x"}
    rows = [
        {"index": name, "question": f"{name}?\nOptions: A: 1, B: 2, C: 3, D: 4", **about,
         "image": {"bytes": data, "path": None}}
        for name, data in images().items()
    ]  # fmt: skip
    write(folder / "val.parquet", rows, ("image",))
    return folder


def write_virl39k(folder: Path) -> Path:
    """The published layout of the training data: a parquet file beside its images."""
    write_files(folder)
    rows = [
        {"qid": name, "question": f"<image>{name}?", "answer": "\\boxed{1}", "image": [f"images/{name}.png"],
         "category": "x", "source": "y"}
        for name in images()
    ]  # fmt: skip
    write(folder / "39Krelease.parquet", rows, ())
    return folder


@dataclass(frozen=True)
class OwnTask:
    """A task of a user's own, that refers to files beside it."""

    name: str = "own"
    verifier: EvenVerifier = field(default_factory=EvenVerifier)

    def problems(self, split: str, count: int | None = None, seed: int = 0) -> list[Problem]:
        files = [Path("own/images") / f"{name}.png" for name in images()]
        return [Problem(file.stem, "?", "1", images=(file_picture(file),)) for file in files]


OWN = f"{__name__}:OwnTask"
DATA = ["--task", "data", "--task.image_column", "image", "--task.path"]
WAYS: dict[str, tuple[Callable[[Path], Path], Callable[[str], list[str]]]] = {
    "train, files": (write_files, lambda where: ["train", *DATA, where, "--train_split=all", *TRAIN]),
    "train, ViRL39K": (write_virl39k, lambda where: ["train", "--task=virl39k", "--task.path", where, *TRAIN]),
    "train, own": (write_files, lambda _: ["train", f"--task={OWN}", *TRAIN]),
    "eval, files": (write_files, lambda where: ["eval", "MODEL", *DATA, where, "--split", "all", *EVAL]),
    "eval, benchmark": (write_mmstar, lambda where: ["eval", "MODEL", "--task", "mmstar", "--task.path", where, *EVAL]),
    "eval, own": (write_files, lambda _: ["eval", "MODEL", "--task", OWN, *EVAL]),
    "spectrum, file": (write_files, lambda where: ["spectrum", "MODEL", "--images", where, *SPECTRUM]),
    "spectrum, benchmark": (
        write_mmstar,
        lambda where: ["spectrum", "MODEL", "--images", "mmstar", "--task.path", where, *SPECTRUM],
    ),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_command_goes_on_without_unusable_images(
    way: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.chdir(tmp_path)
    write_where, words_for = WAYS[way]
    words = words_for(str(write_where(Path("own"))))
    words = [llava_folder() if word == "MODEL" else word for word in words]
    if words[0] == "train":
        words.insert(1, f"--model={llava_folder()}")
    with caplog.at_level(logging.WARNING):
        assert main(words) == 0
    printed = capsys.readouterr()
    told = caplog.text + printed.out + printed.err
    assert "8 problems are left out, whose image cannot be used: " in told
    for name, (_, reason) in HOSTILE.items():
        assert name in told
        assert reason in told
    assert used(words[0]) == NUM_SOUND


def used(command: str) -> int:
    """How many problems the command read."""
    found: Any
    if command == "train":
        (metrics,) = [json.loads(line) for line in Path("run/metrics.jsonl").read_text().splitlines()]
        assert metrics["grad_norm"] >= 0
        return len({name for row in RunDirectory.open("run").read_completions(1) for name in row["images"]})
    if command == "eval":
        found = json.loads(next(Path("evaluated").rglob("result.json")).read_text())
        return found["num_problems"]
    found = json.loads(Path("s/images.json").read_text())
    return found["conditions"][0]["num_problems"]
