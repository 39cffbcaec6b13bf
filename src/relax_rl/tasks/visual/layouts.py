"""From a row of each published data set to the pieces of a problem."""

from __future__ import annotations

import json
import re
from ast import literal_eval
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from relax_rl.errors import DataError
from relax_rl.rewards.visual.gold import TypedGold
from relax_rl.tasks.rows import LETTERS, Row

__all__ = ["READERS", "Item"]

_MATHVERSE_OPTIONS = re.compile(r"(?:^|\n)\s*([A-H])\s*[:.]\s*(.*?)(?=\n\s*[A-H]\s*[:.]|\Z)", re.DOTALL)
_MMSTAR_OPTIONS = re.compile(r"(?:^|[\n,]\s*)([A-D]):\s*(.*?)(?=,?\s*\n?\s*[B-D]:\s|\Z)", re.DOTALL)
_BOXED = re.compile(r"\\boxed\{(.*)\}", re.DOTALL)
_LETTER = re.compile(r"\(?([A-J])\)?")
_IN_THE_IMAGE = "The question is in the image."


@dataclass(frozen=True)
class Item:
    """A row of a benchmark.

    Attributes:
        id: unique in its split.
        question: with the marks of its images, as published.
        gold: with its type.
        published: the gold answer as published, for the official rule.
        images: cells of the row that hold images.
        options: options of a choice; shown below the question unless it shows them.
        group: group of variants of one question; "" for none.
        facets: see `Problem.facets`.
        columns: further columns that the official rule reads.
    """

    id: str
    question: str
    gold: TypedGold
    published: str
    images: tuple[Any, ...] = ()
    options: tuple[str, ...] = ()
    shows_options: bool = False
    group: str = ""
    facets: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    columns: Mapping[str, Any] = field(default_factory=dict[str, Any])


def _mathvista(row: Row) -> Item:
    choices, kind = _texts(row.columns.get("choices")), str(row.cell("answer_type"))
    answer, precision = row.text("answer"), row.columns.get("precision")
    unit = row.columns.get("unit")
    if choices:
        if answer not in choices:
            raise DataError(f"The answer {answer!r:.60} in {row.where} is none of the choices.")
        gold = TypedGold("choice", LETTERS[choices.index(answer)])
    elif kind == "float":
        gold = TypedGold("float", answer, str(int(float(precision or 0))))
    else:
        gold = TypedGold({"integer": "integer", "list": "list"}.get(kind, "text"), answer)
    about: dict[str, Any] = dict(row.columns.get("metadata") or {})
    facets = {name: _names(about.get(name)) for name in ("task", "category", "grade", "source", "skills", "language")}
    return Item(
        id=row.text("pid"),
        question=row.text("question") + (f" (Unit: {unit})" if unit else ""),
        gold=gold,
        published=answer,
        images=_first_cell(row, "decoded_image", "image"),
        options=choices,
        facets={**facets, "answer_type": (kind,), "question_type": _names(row.columns.get("question_type"))},
        columns={"answer_type": kind, "precision": float(precision or 0)},
    )


def _mathverse(row: Row) -> Item:
    question, answer = str(row.columns.get("question") or ""), row.text("answer")
    whole = str(row.columns.get("question_for_eval") or question)
    options = tuple(text.strip() for _, text in _MATHVERSE_OPTIONS.findall(whole.rpartition("Choices:")[2]))
    letters = [found[1] for part in re.split(r"[\s,]+", answer) if (found := _LETTER.fullmatch(part)) is not None]
    if row.cell("question_type") != "multi-choice":
        gold = TypedGold("math", answer)
    elif len(letters) == len(answer.split()):
        gold = TypedGold("choice", letters[0]) if len(letters) == 1 else TypedGold("set", ", ".join(letters))
    else:
        gold = TypedGold("text", answer)
    about: dict[str, Any] = dict(row.columns.get("metadata") or {})
    version = str(row.cell("problem_version"))
    facets = {name: _names(about.get(name)) for name in ("subject", "subfield", "source")}
    return Item(
        id=row.text("sample_index"),
        # In the version Vision Only, the question stands in the picture.
        question=question or _IN_THE_IMAGE,
        gold=gold,
        published=answer,
        images=_first_cell(row, "image"),
        options=options if gold.kind == "choice" and len(options) > 1 else (),
        shows_options=True,
        group=row.text("problem_index"),
        facets={"version": (version,), **facets},
    )


def _mathvision(row: Row) -> Item:
    # Not stripped: a form feed stands for the start of `\\frac` in one gold answer.
    options, answer = _texts(row.columns.get("options")), str(row.cell("answer"))
    gold = TypedGold("choice", answer.strip()) if options else TypedGold("math", answer.replace("\x0c", "\\f").strip())
    return Item(
        id=row.text("id"),
        question=row.text("question"),
        gold=gold,
        published=answer,
        images=_first_cell(row, "decoded_image", "image"),
        options=options,
        facets={"subject": _names(row.columns.get("subject")), "level": _names(row.columns.get("level"))},
    )


def _dynamath(row: Row) -> Item:
    kind, answer = str(row.cell("answer_type")).strip(), row.text("ground_truth")
    kinds = {
        "float": TypedGold("within", answer, "0.001"),
        "int": TypedGold("within", answer, "0.001"),
        "multiple choice": TypedGold("choice", answer.strip().upper()),
    }
    subject = " ".join(str(row.columns.get("subject") or "").split())
    return Item(
        id=row.text("id"),
        question=row.text("question"),
        gold=kinds.get(kind, TypedGold("text", answer)),
        published=answer,
        images=_first_cell(row, "decoded_image", "image"),
        shows_options=True,
        group=row.text("id"),
        facets={"subject": _names(subject), "level": _names(row.columns.get("knowledge_level"))},
        columns={"answer_type": kind},
    )


_DOMAINS = {
    "Art & Design": ("Art", "Art_Theory", "Design", "Music"),
    "Business": ("Accounting", "Economics", "Finance", "Manage", "Marketing"),
    "Science": ("Biology", "Chemistry", "Geography", "Math", "Physics"),
    "Health & Medicine": (
        *("Basic_Medical_Science", "Clinical_Medicine", "Diagnostics_and_Laboratory_Medicine"),
        *("Pharmacy", "Public_Health"),
    ),
    "Humanities & Social Science": ("History", "Literature", "Psychology", "Sociology"),
    "Tech & Engineering": (
        *("Agriculture", "Architecture_and_Engineering", "Computer_Science", "Electronics"),
        *("Energy_and_Power", "Materials", "Mechanical_Engineering"),
    ),
}


def _mmmu(row: Row) -> Item:
    identity, answer = row.text("id"), row.text("answer")
    subject = "_".join(identity.split("_")[1:-1])
    options = _listed(row.columns.get("options"))
    if options:
        gold = TypedGold("choice", answer)
    else:
        several = _listed(answer) if answer.startswith("[") else ()
        gold = TypedGold("any", json.dumps(several)) if several else TypedGold("math", answer)
    domain = next((name for name, subjects in _DOMAINS.items() if subject in subjects), "")
    return Item(
        id=identity,
        question=row.text("question"),
        gold=gold,
        published=answer,
        images=_numbered(row, 7),
        options=options,
        facets={"domain": _names(domain), "subject": _names(subject)},
    )


def _mmstar(row: Row) -> Item:
    question, answer = row.text("question"), row.text("answer")
    options = tuple(
        text.strip().rstrip(",") for _, text in _MMSTAR_OPTIONS.findall(question.rpartition("Options:")[2].strip())
    )
    return Item(
        id=str(row.cell("index")),
        question=question,
        gold=TypedGold("choice", answer),
        published=answer,
        images=_first_cell(row, "image"),
        # What cannot be taken apart with certainty is graded by its letter alone.
        options=options if len(options) == 4 else (),
        shows_options=True,
        facets={name: _names(row.columns.get(name)) for name in ("category", "l2_category")},
    )


def _emma(row: Row) -> Item:
    options, answer = _texts(row.columns.get("options")), row.text("answer")
    words = (str(row.columns.get(name) or "").strip() for name in ("context", "question"))
    several = _listed(answer) if answer.startswith("[") else ()
    if options:
        # A letter in either case: the source compares without it.
        answer = answer.upper()
        gold = TypedGold("choice", answer)
    else:
        gold = TypedGold("any", json.dumps(several)) if several else TypedGold("math", answer)
    subject = row.text("subject")
    categories = [one.strip() for one in str(row.columns.get("category") or "").split(";") if one.strip()]
    return Item(
        id=row.text("pid"),
        # Of one problem the question stands in the picture.
        question="\n".join(part for part in words if part) or _IN_THE_IMAGE,
        gold=gold,
        published=answer,
        images=_numbered(row, 5),
        options=options,
        facets={
            "subject": (subject,),
            "type": _names(str(row.columns.get("type") or "").lower()),
            "task": _names(row.columns.get("task")),
            # Subjects share names of categories, and the source counts them apart.
            "category": tuple(f"{subject}: {one}" for one in categories),
        },
    )


def _virl39k(row: Row) -> Item:
    answer = row.text("answer")
    boxed = _BOXED.fullmatch(answer)
    value = boxed[1].strip() if boxed else answer
    return Item(
        id=row.text("qid"),
        question=row.text("question"),
        gold=TypedGold("choice", value) if re.fullmatch("[A-K]", value) else TypedGold("math", value or answer),
        published=answer,
        images=_first_cell(row, "image"),
        shows_options=True,
        facets={"category": _names(row.columns.get("category")), "source": _names(row.columns.get("source"))},
    )


READERS: Mapping[str, Callable[[Row], Item]] = {
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
"""By the name of the task."""


def _texts(value: Any) -> tuple[str, ...]:
    return tuple(str(one).strip() for one in value) if value else ()


def _names(value: Any) -> tuple[str, ...]:
    if isinstance(value, (list, tuple)):
        return _texts(value)
    return (str(value),) if value not in (None, "") else ()


def _listed(value: Any) -> tuple[str, ...]:
    """A list that a cell of text holds as Python wrote it. It is read as data and never evaluated."""
    if not isinstance(value, str):
        return _texts(value)
    try:
        found: Any = literal_eval(value) if value.strip() else ()
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return ()
    return _texts(found) if isinstance(found, (list, tuple)) else ()


def _first_cell(row: Row, *names: str) -> tuple[Any, ...]:
    """The cells of the first of some columns that holds anything."""
    for name in names:
        value = row.columns.get(name)
        if value:
            return tuple(value) if isinstance(value, Sequence) and not isinstance(value, (str, bytes)) else (value,)
    return ()


def _numbered(row: Row, most: int) -> tuple[Any, ...]:
    """``image_1`` to ``image_N``; None keeps the place of an image that is not there."""
    cells = [row.columns.get(f"image_{number}") for number in range(1, most + 1)]
    while cells and not cells[-1]:
        cells.pop()
    return tuple(cells)
