"""Images by reference: hostile files lose one problem each, files are not held open, words and images in order."""

import json
import logging
import resource
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from relax_rl.errors import DataError
from relax_rl.tasks import DataTask, Problem, build_task
from relax_rl.tasks.base import as_task, image_digest
from relax_rl.tasks.images.picture import Picture, as_picture, file_picture
from support.hostile_images import HOSTILE, SOUND, encoded


def pixel(color: str = "red", side: int = 8) -> Image.Image:
    return Image.new("RGB", (side, side), color)


def folder_of(path: Path, images: dict[str, bytes], **further: Any) -> Path:
    (path / "images").mkdir()
    rows = []
    for number, (name, data) in enumerate(images.items()):
        (path / "images" / f"{name}.png").write_bytes(data)
        rows.append({"id": name, "prompt": f"<image>What is {number}?", "answer": "1", "image": f"images/{name}.png"})
    (path / "data.jsonl").write_text("\n".join(json.dumps(row | further) for row in rows))
    return path / "data.jsonl"


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_refused_in_a_sentence_that_names_it(name: str, tmp_path: Path) -> None:
    make, words = HOSTILE[name]
    (tmp_path / f"{name}.png").write_bytes(make())
    with pytest.raises(DataError, match=words) as refused:
        file_picture(tmp_path / f"{name}.png").open()
    assert f"{name}.png" in str(refused.value)


@pytest.mark.parametrize("name", SOUND)
def test_unusual_files_are_shown_in_rgb(name: str) -> None:
    assert as_picture(SOUND[name]()).open().mode == "RGB"


def test_transparent_parts_are_white_and_exif_turns() -> None:
    assert as_picture(SOUND["alpha"]()).open().getpixel((0, 0)) == (255, 255, 255)
    assert as_picture(SOUND["turned"]()).open().size == (4, 8)


def test_a_folder_loses_its_hostile_images_and_says_which(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    images = {name: make() for name, (make, _) in HOSTILE.items()} | {name: make() for name, make in SOUND.items()}
    task = build_task("data", path=str(folder_of(tmp_path, images)), image_column="image")
    with caplog.at_level(logging.WARNING):
        kept = task.problems("all")
    assert [problem.id for problem in kept] == list(SOUND)
    assert "8 problems are left out, whose image cannot be used: corrupt (" in caplog.text
    # The next sound ones take the places of those that are left out.
    assert [problem.id for problem in task.problems("all", 2)] == list(SOUND)[:2]
    with pytest.raises(DataError, match="9 were asked for"):
        task.problems("all", 9)


def test_a_missing_file_is_a_fault_of_its_problem(tmp_path: Path) -> None:
    data = folder_of(tmp_path, {"there": encoded(pixel()), "gone": b""})
    (tmp_path / "images" / "gone.png").unlink()
    assert [problem.id for problem in DataTask(path=data, image_column="image").problems("all")] == ["there"]


def test_a_task_of_ones_own_loses_what_cannot_be_shown(caplog: pytest.LogCaptureFixture) -> None:
    class Own:
        name, verifier = "own", build_task("countdown").verifier

        def problems(self, split: str, count: int | None = None, seed: int = 0) -> list[Problem]:
            shown: list[Any] = [pixel(), Image.new("RGB", (600, 1)), "no/such.png", 5]
            return [Problem(f"p{place}", "?", "1", images=(image,)) for place, image in enumerate(shown)]

    with caplog.at_level(logging.WARNING):
        assert [problem.id for problem in as_task(Own()).problems("test")] == ["p0"]
    assert "3 problems are left out" in caplog.text
    assert "p1 (" in caplog.text
    assert "p2 (" in caplog.text


def test_files_are_not_held_open(tmp_path: Path) -> None:
    (tmp_path / "one.png").write_bytes(encoded(pixel()))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    count = len(list(Path("/proc/self/fd").iterdir()))
    resource.setrlimit(resource.RLIMIT_NOFILE, (count + 20, hard))
    try:
        images = [file_picture(tmp_path / "one.png").open() for _ in range(100)]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert {image.getpixel((0, 0)) for image in images} == {(255, 0, 0)}


def test_words_and_images_come_in_their_order() -> None:
    images = (pixel("red"), pixel("lime"), pixel("blue"))
    problem = Problem(
        "a", "x", "1", instruction="See <image 2>: (A) <image 1> or <image 2>?", images=images, interleaved=True
    )

    def shown(of: Problem) -> list[Any]:
        return [part if isinstance(part, str) else part.open().getpixel((0, 0)) for part in of.parts]

    # The third has no mark and comes first; the second mark of one image stays as words; the fourth does not exist.
    red, lime, blue = (255, 0, 0), (0, 255, 0), (0, 0, 255)
    assert shown(problem) == [blue, "See ", lime, ": (A) ", red, " or <image 2>?"]
    assert shown(Problem("a", "<image 1>?", "1", images=images)) == [red, lime, blue, "<image 1>?"]


def test_ids_and_digests_do_not_depend_on_a_decoder(tmp_path: Path) -> None:
    data = encoded(pixel())
    (tmp_path / "one.png").write_bytes(data)
    assert image_digest([tmp_path / "one.png"]) == image_digest([data]) != image_digest([encoded(pixel("blue"))])
    assert image_digest([data]) != image_digest([pixel()])


def parquet(path: Path, embedded: list[bytes | None]) -> Path:
    images = [None if data is None else {"bytes": data, "path": None} for data in embedded]
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    columns = {
        "id": pa.array([str(place) for place in range(len(images))]),
        "prompt": pa.array([f"q{place}" for place in range(len(images))]),
        "answer": pa.array(["1"] * len(images)),
        "image": pa.array(images, kind),
        "decoded": pa.array(images, kind),
    }
    pq.write_table(pa.table(columns), path, row_group_size=2)
    return path


def test_bytes_in_parquet_stay_in_the_file(tmp_path: Path) -> None:
    colors = ["red", "lime", "blue"]
    path = parquet(tmp_path / "t.parquet", [*(encoded(pixel(color)) for color in colors), b"broken", None])
    problems = DataTask(path=path, image_column="image").problems("all")
    assert [problem.id for problem in problems] == ["0", "1", "2", "4"]
    assert [len(problem.images) for problem in problems] == [1, 1, 1, 0]
    picture = problems[2].pictures[0]
    assert (picture.open().getpixel((0, 0)), picture.name) == ((0, 0, 255), f"{path} row 2 image")
    assert all(problem.columns.get("decoded") is None for problem in problems)


def test_the_hub_gives_bytes_and_no_decoded_image(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = {"prompt": ["a", "b"], "answer": ["1", "2"], "image": [pixel("red"), None], "many": [[pixel("blue")], []]}
    features = datasets.Features(
        prompt=datasets.Value("string"),
        answer=datasets.Value("string"),
        image=datasets.Image(),
        many=datasets.List(datasets.Image()),
    )
    table = datasets.Dataset.from_dict(rows, features=features)
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: table)
    one, other = DataTask(hub="someone/pictures", image_column="image").problems("train")
    assert (one.image_names, other.images) == (("someone/pictures row 0 image",), ())
    assert one.pictures[0].open().getpixel((0, 0)) == (255, 0, 0)
    first, _ = DataTask(hub="someone/pictures", image_column="many").problems("train")
    assert [picture.open().getpixel((0, 0)) for picture in first.pictures] == [(0, 0, 255)]


def test_what_is_no_image_at_all_is_refused() -> None:
    with pytest.raises(DataError, match="give a PIL image, a path or encoded bytes"):
        as_picture(3)
    assert isinstance(as_picture(pixel()), Picture)
