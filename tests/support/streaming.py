"""Folders of many problems with images in published layouts, and what a process takes to train on one.

python -m support.streaming FOLDER TASK        prints JSON: problems, decoded images, MB before and at the peak
"""

from __future__ import annotations

import functools
import json
import os
import resource
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from support.hostile_images import encoded

__all__ = ["BYTES", "FILES", "PIXELS", "write_mathvista", "write_virl39k"]

SIDE = 96
PIXELS = 3 * SIDE * SIDE
"""Bytes of an image that is decoded."""
BYTES = 75_000
"""Bytes of an image that is not: ViRL39K has 38,870 problems in 2.9 GB."""
FILES = 128
"""Files that the measured process may hold open; it has some 20 of its own."""


@functools.cache
def _jpeg() -> bytes:
    return encoded(Image.new("RGB", (SIDE, SIDE), "red"), "JPEG")


def _image(number: int) -> bytes:
    """The bytes of an image that no other equals: a decoder stops before the number."""
    return _jpeg() + str(number).encode()


def write_virl39k(folder: Path, count: int) -> None:
    """ViRL39K: a parquet file whose rows name their images, and the images in files of which most is a hole."""
    (folder / "images").mkdir(parents=True)
    for number in range(count):
        path = folder / "images" / f"{number}.jpg"
        path.write_bytes(_image(number))
        os.truncate(path, BYTES)
    rows = {
        "question": [f"<image>Question {number}: {'how far is it? ' * 12}" for number in range(count)],
        "answer": [f"\\boxed{{{number}}}" for number in range(count)],
        "PassRate_32BTrained": [-1.0] * count,
        "PassRate_7BBase": [0.5] * count,
        "category": ["(GradeSchool) Geometric"] * count,
        "source": ["Processed"] * count,
        "qid": [f"Processed-{number}" for number in range(count)],
        "image": [[f"images/{number}.jpg"] for number in range(count)],
    }
    pq.write_table(pa.table(rows), folder / "39Krelease.parquet")


def write_mathvista(folder: Path, count: int) -> None:
    """MathVista: images inside a parquet file, 100 to a row group as the Hub writes them."""
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    words = [(name, pa.string()) for name in ("pid", "question", "answer", "answer_type", "question_type")]
    schema = pa.schema([*words, ("decoded_image", kind)])
    path = folder / "data/testmini-00000-of-00001.parquet"
    path.parent.mkdir(parents=True)
    with pq.ParquetWriter(path, schema) as writer:
        for start in range(0, count, 100):
            rows = [
                {
                    "pid": str(number),
                    "question": f"Question {number}?",
                    "answer": str(number),
                    "answer_type": "integer",
                    "question_type": "free_form",
                    "decoded_image": {"bytes": _image(number).ljust(BYTES, b"\0"), "path": None},
                }
                for number in range(start, min(start + 100, count))
            ]
            writer.write_table(pa.Table.from_pylist(rows, schema))


def _peak() -> int:
    """MB at most since the process began; a child's `ru_maxrss` would begin with its parent's."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) // 1024 for line in lines if line.startswith("VmHWM"))


def _measure(folder: str, name: str) -> dict[str, Any]:
    """Every problem as TRL gets it: loaded, checked, put into a table, and its images decoded in order."""
    from relax_rl.tasks import build_task
    from relax_rl.training.trl.dataset import dataset_digest, prompt_dataset
    from support.images import image_text_model

    _, processor = image_text_model()
    resource.setrlimit(resource.RLIMIT_NOFILE, (FILES, FILES))
    before = _peak()
    problems = build_task(name, path=folder).problems("train" if name == "virl39k" else "test")
    rows: Any = prompt_dataset(problems, processor)
    dataset_digest(rows)
    decoded = sum(image.size == (SIDE, SIDE) for row in rows for image in row["images"])
    return {"problems": len(rows), "decoded": decoded, "before": before, "peak": _peak()}


if __name__ == "__main__":
    print(json.dumps(_measure(*sys.argv[1:])))
