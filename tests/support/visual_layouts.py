"""Small folders in the published layouts of the visual benchmarks; every row and every image is written here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from support.hostile_images import SOUND, encoded

__all__ = ["WRITERS", "mathvista_rows", "write"]

_IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def shown(kind: str = "palette") -> dict[str, Any]:
    return {"bytes": SOUND[kind](), "path": None}


def colored(color: str) -> dict[str, Any]:
    return {"bytes": encoded(Image.new("RGB", (8, 8), color)), "path": None}


BROKEN: dict[str, Any] = {"bytes": b"not an image", "path": None}


def write(path: Path, rows: list[dict[str, Any]], images: tuple[str, ...] = ("decoded_image",)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = {
        name: pa.array([row.get(name) for row in rows], _IMAGE if name in images else None)
        for name in dict.fromkeys(name for row in rows for name in row)
    }
    pq.write_table(pa.table(columns), path)


def mathvista_rows() -> list[dict[str, Any]]:
    def row(pid: int, kind: str, answer: str, choices: list[str] | None = None, **more: Any) -> dict[str, Any]:
        about = {"task": "figure question answering", "skills": ["arithmetic reasoning"], "language": "english"}
        return {
            "pid": str(pid),
            "question": f"Question {pid}?",
            "image": f"images/{pid}.jpg",
            "decoded_image": shown(),
            "choices": choices,
            "unit": None,
            "precision": None,
            "answer": answer,
            "question_type": "multi_choice" if choices else "free_form",
            "answer_type": kind,
            "metadata": about,
            **more,
        }

    return [
        row(1, "text", "8/11", ["3/11", "8/11", "6/11", "3/5"]),
        row(2, "integer", "14", unit="years", decoded_image=shown("cmyk")),
        row(3, "float", "13.8", precision=1.0, decoded_image=shown("turned")),
        row(4, "list", "[2014, 2016]", decoded_image=shown("narrow")),
        row(5, "text", "No", ["Yes", "No"], decoded_image=shown("alpha")),
        row(6, "text", "5", ["5", "5", "66"]),
        row(7, "text", "A", ["B", "A", "C"]),
        row(8, "integer", "3", question="图中有几个点?"),
        row(9, "integer", "9", decoded_image=BROKEN),
    ]


def _mathvista(folder: Path) -> None:
    write(folder / "data" / "testmini-00000-of-00001.parquet", mathvista_rows())


def _mathverse(folder: Path) -> None:
    rows: list[dict[str, Any]] = []
    versions = ("Text Dominant", "Text Lite", "Vision Intensive", "Vision Dominant", "Vision Only")
    seeds = [("multi-choice", "B"), ("multi-choice", "A\nC"), ("free-form", "Circumference $=50.27 \\mathrm{~cm}$")]
    for index, (kind, answer) in enumerate(seeds, 1):
        for place, version in enumerate(versions):
            words = f"Find the angle.\nChoices:\nA:40°\nB:50°\nC:60°\nD:{index}°"
            rows.append(
                {
                    "sample_index": str(5 * (index - 1) + place + 1),
                    "problem_index": str(index),
                    "problem_version": version,
                    "question": "" if version == "Vision Only" else words,
                    "question_for_eval": words,
                    "image": shown(),
                    "answer": answer,
                    "question_type": kind,
                    "metadata": {"subject": "Plane Geometry", "subfield": "Angle", "source": "GeoQA"},
                }
            )
    write(folder / "testmini.parquet", rows, ("image",))
    # The sixth version is a file of its own, and its rows show nothing.
    text = [
        {name: value for name, value in row.items() if name != "image"}
        | {"problem_version": "Text Only", "question": f"In a triangle of 130° and 0°. {row['question_for_eval']}"}
        for row in rows[::5]
    ]
    write(folder / "testmini_text_only.parquet", text, ())


def _mathvision(folder: Path) -> None:
    def row(number: int, question: str, answer: str, options: list[str]) -> dict[str, Any]:
        return {
            "id": str(number),
            "question": question,
            "options": options,
            "image": f"images/{number}.jpg",
            "decoded_image": shown(),
            "answer": answer,
            "level": 2,
            "subject": "solid geometry",
        }

    rows = [
        row(1, "Which of <image1> is it?", "B", list("ABCDE")),
        row(2, "How long? <image1>", "B", ["12", "13", "14", "15", "16"]),
        row(3, "What is x? <image1>", "\x0crac{36}{13}", []),
        row(4, "In degrees? <image1>", "69", []),
    ]
    write(folder / "data" / "test-00000-of-00001.parquet", rows)


def _dynamath(folder: Path) -> None:
    for variant in range(1, 11):
        rows = [
            {
                "id": identity,
                "question": f"Question {identity} in variant {variant}?",
                "image": f"images/{identity}_{variant}.png",
                "decoded_image": shown(),
                "ground_truth": gold,
                "answer_type": kind,
                "subject": "plane  geometry",
                "knowledge_level": "high school",
            }
            for identity, gold, kind in (("1", "2.0944", "float"), ("2", "B", "multiple choice"))
        ]
        write(folder / "data" / f"sample_variant{variant}-00000-of-00001.parquet", rows)


def _mmmu(folder: Path) -> None:
    images = tuple(f"image_{number}" for number in range(1, 8))

    def row(subject: str, question: str, options: str, answer: str, **shows: Any) -> dict[str, Any]:
        blank: dict[str, Any] = dict.fromkeys(images)
        kind = "multiple-choice" if options != "[]" else "open"
        about = {"question": question, "options": options, "answer": answer, "question_type": kind, "subfield": "x"}
        return {"id": f"validation_{subject}_1", **about, **blank, **shows}

    accounting = row(
        *("Accounting", "Compare <image 2> with <image 1>.", "['It\\'s <image 3>', \"a, b\", 'None']", "B"),
        image_1=colored("red"),
        image_2=colored("lime"),
        image_3=colored("blue"),
    )
    art = row("Art_Theory", "Where? <image 1>", "[]", "['Tampa', 'Florida']", image_1=shown())
    write(folder / "Accounting" / "validation-00000-of-00001.parquet", [accounting], images)
    write(folder / "Accounting" / "dev-00000-of-00001.parquet", [accounting], images)
    write(folder / "Art_Theory" / "validation-00000-of-00001.parquet", [art], images)


def _mmstar(folder: Path) -> None:
    question = "What is it?\nOptions: A: a cat, B: a dog, C: 3, 4 or 5, D: none"
    row = {
        "index": 7,
        "question": question,
        "image": shown(),
        "answer": "C",
        "category": "math",
        "l2_category": "geometry",
    }
    write(folder / "val.parquet", [row], ("image",))


def _emma(folder: Path) -> None:
    """The columns and oddities of EMMA-Bench/EMMA: README.md, data_utils.py and the rows in its results."""
    images = tuple(f"image_{number}" for number in range(1, 6))

    def row(pid: str, question: str, options: list[str] | None, answer: str, **more: Any) -> dict[str, Any]:
        blank: dict[str, Any] = dict.fromkeys(images)
        about = {"context": "", "question": question, "options": options, "answer": answer}
        kinds = {"subject": "Math", "task": "", "category": "Path Tracing", "source": "new_annotated", "solution": ""}
        kinds["type"] = "Multiple Choice" if options else "Open-ended"
        return {"pid": pid, **about, **kinds, **blank, "image_1": colored("red"), **more}

    pictures = {
        name: colored(color) for name, color in zip(images[1:], ("lime", "blue", "black", "white"), strict=True)
    }
    marks = [f"<image_{number}>" for number in range(2, 6)]
    subjects = {
        "Math": [
            row("Math_1", "<image_1>", ["A", "B", "C", "D", "E"], "E"),
            # One picture holds what the words call two.
            row("Math_2", "<image_1>How far is it to <image2>?", None, "3.5", source="MathVision"),
            # The letter D, and the text of the option before it.
            row("Math_3", "Which? <image_1>", ["A", "B", "C", "E", "No"], "D"),
        ],
        "Physics": [
            row("phy_1", "What force? <image_1>", ["1 N", "2 N", "1 N"], "a", subject="Physics", context="g <img_4>"),
        ],
        "Chemistry": [
            row("chem_1", "", ["A", "B", "C", "D"], "A", subject="Chemistry", type="Multiple choice"),
            row("chem_2", "Name it. <image_1>", [], "['$MgS$', 'MgS']", subject="Chemistry"),
        ],
        "Coding": [
            row("coding_1", "Which chart is it? <image_1>", marks, "C", subject="Coding", task="Code Choose Vis",
                category="Legend;Gridline", **pictures),
        ],
    }  # fmt: skip
    for subject, rows in subjects.items():
        write(folder / subject / "test-00000-of-00001.parquet", rows, images)


def _virl39k(folder: Path) -> None:
    (folder / "images").mkdir(parents=True)
    for name in ("a", "b"):
        (folder / "images" / f"{name}.png").write_bytes(encoded(Image.new("RGB", (8, 8), "red")))
    rows = [
        {"question": "<image>Which? A. 1 B. 2", "answer": "\\boxed{B}", "image": ["images/a.png"]},
        {"question": "<image><image>How many?", "answer": "\\boxed{12}", "image": ["images/a.png", "images/b.png"]},
        {"question": "What is 2 + 2?", "answer": "\\boxed{4}", "image": []},
        {"question": "<image>Lost?", "answer": "\\boxed{1}", "image": ["images/gone.png"]},
    ]
    about = {"PassRate_32BTrained": -1.0, "PassRate_7BBase": 0.5, "category": "STEM", "source": "GeoQA"}
    rows = [row | about | {"qid": f"q{number}"} for number, row in enumerate(rows)]
    write(folder / "39Krelease.parquet", rows, ())


WRITERS = {
    "mathvista": _mathvista,
    "mathverse": _mathverse,
    "mathvision": _mathvision,
    "dynamath": _dynamath,
    "mmmu": _mmmu,
    "mmstar": _mmstar,
    "emma": _emma,
    "emma_mini": _emma,
    "virl39k": _virl39k,
}
