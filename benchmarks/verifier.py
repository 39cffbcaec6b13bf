"""The mathematical verifier beside plain math-verify: how fast, and how often wrong.

python benchmarks/suite.py --only verifier      speed: ordinary answers, answers that take algebra, workers
python benchmarks/verifier.py                   error rates over the table of cases
python benchmarks/verifier.py --data FOLDER     also over a sample of the gold answers in the folder's files

Plain math-verify is ``verify(parse(gold), parse(completion))`` with its default settings, in a loop. Its gold answer is
given as it is in the file ("bare"), and between dollar signs ("in $"), which its documentation asks for. All graders
get the same rows. Speeds are processor time where one process does the work, and time of the clock where workers do;
error rates have 95 % Wilson intervals.
"""

from __future__ import annotations

import argparse
import itertools
import json
import logging
import math
import random
import tomllib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from math_verify import parse, verify

from frame.rows import Effort, Row, row_of_times
from frame.timing import in_turn
from perturbations import other_spellings, wrong_answers
from relax_rl.rewards import MathVerifier

TABLE = Path(__file__).resolve().parents[1] / "tests" / "rewards" / "cases.toml"
FILES = ("math500", "math_train", "minerva_math", "olympiadbench", "aime24", "amc23", "gsm8k_test")
PROSE = "We add what the first and the second day gave, and take away what was used in between. " * 4
ALGEBRA = (
    ("3\\sqrt{13}", "\\sqrt{117}"), ("x^2+2x+1", "(x+1)^2"), ("\\frac{\\sqrt{3}}{3}", "\\frac{1}{\\sqrt{3}}"),
    ("4\\pi - 2\\sqrt{3}", "2(2\\pi-\\sqrt{3})"), ("6+9i", "9i+6"), ("y = 2x + 3", "y=3+2x"),
    ("\\frac{11+9a}{20}", "\\frac{9a+11}{20}"), ("2^{k-1}", "\\frac{2^k}{2}"),
)  # fmt: skip


@dataclass(frozen=True)
class Case:
    """A gold answer, a completion, and what the verdict has to be."""

    gold: str
    completion: str
    is_right: bool


Grader = Callable[[Sequence[Case]], list[bool | None]]


def plain(opening: str, closing: str) -> Grader:
    """math-verify with its defaults, the gold answer between two signs unless it has them already."""

    def grade(rows: Sequence[Case]) -> list[bool | None]:
        golds = [row.gold if row.gold.startswith(opening) else opening + row.gold + closing for row in rows]
        return [verify(parse(gold), parse(row.completion)) for gold, row in zip(golds, rows, strict=True)]

    return grade


def ours(verifier: MathVerifier) -> Grader:
    def grade(rows: Sequence[Case]) -> list[bool | None]:
        scores = verifier.score([row.completion for row in rows], [row.gold for row in rows])
        return [None if score is None else score == 1.0 for score in scores]

    return grade


def boxed(text: str) -> str:
    return f"{PROSE}So the answer is $\\boxed{{{text.strip('$')}}}$."


def ordinary_rows(count: int) -> list[Case]:
    """Integers, decimals and fractions, half of them right, at the end of some 350 characters of prose."""
    rng, rows = random.Random(0), []
    for _ in range(count):
        gold = rng.choice(
            (f"{rng.randint(1, 9999)}", f"{rng.randint(1, 999)}.5", f"\\frac{{{rng.randint(1, 9)}}}{{7}}")
        )
        is_right = rng.random() < 0.5
        rows.append(Case(gold, boxed(gold if is_right else f"{rng.randint(10000, 99999)}"), is_right))
    return rows


def algebra_rows(count: int) -> list[Case]:
    """Answers that only algebra can tell, no two of them the same, so that little is remembered between rows."""
    rows = []
    for index in range(count):
        gold, answer = ALGEBRA[index % len(ALGEBRA)]
        rows.append(Case(f"{gold}+{index + 2}" if "=" not in gold else gold, boxed(f"{answer}+{index + 2}"), True))
    return [Case(row.gold, row.completion, "=" not in row.gold) for row in rows]


def rows(effort: Effort, workers: int = 2) -> Iterator[Row]:
    """Ordinary answers, and answers that take algebra, with one worker and with several."""
    logging.getLogger("math_verify").setLevel(logging.ERROR)
    ordinary, hard = ordinary_rows(300), algebra_rows(64)
    one, several = ours(MathVerifier(num_workers=1)), ours(MathVerifier(num_workers=workers))
    loop = plain("$", "$")
    several(hard[: 4 * workers])  # starts the processes
    times = in_turn({"loop": lambda: loop(ordinary), "ours": lambda: one(ordinary)}, effort.rounds)
    against = "math-verify in a loop"
    yield row_of_times("300 ordinary answers", times["ours"], times["loop"], against, target=0.1)
    counter = itertools.count()

    def fresh(grade: Grader) -> Callable[[], object]:
        # Other prose every time, so that no verdict is remembered from the round before.
        return lambda: grade([Case(row.gold, f"{row.completion} {next(counter)}", row.is_right) for row in hard])

    times = in_turn({"loop": fresh(loop), "1": fresh(one), str(workers): fresh(several)}, effort.rounds)
    for count in ("1", str(workers)):
        title = f"{len(hard)} answers that take algebra, workers: {count}"
        yield row_of_times(title, times[count], times["loop"], against, clock="wall")


def wilson(count: int, total: int) -> str:
    """A share with its 95 % interval (Wilson, 1927)."""
    if total == 0:
        return "-"
    z, share = 1.959964, count / total
    centre = (share + z * z / (2 * total)) / (1 + z * z / total)
    half = z * math.sqrt(share * (1 - share) / total + z * z / (4 * total * total)) / (1 + z * z / total)
    return f"{count}/{total} = {100 * share:.1f} % [{100 * max(0.0, centre - half):.1f}, {100 * (centre + half):.1f}]"


def table_rows() -> list[Case]:
    table = tomllib.loads(TABLE.read_text(encoding="utf-8"))
    return [Case(gold, text, score == 1) for rows in table.values() for gold, text, score in rows if score != "none"]


def data_rows(folder: Path, count: int) -> Iterator[tuple[str, list[Case]]]:
    """For each file: gold answers as they are, in other spellings, and with a mistake."""
    for name in FILES:
        if not (folder / f"{name}.jsonl").is_file():
            continue
        golds = [json.loads(line)["answer"] for line in (folder / f"{name}.jsonl").open(encoding="utf-8")]
        golds = random.Random(0).sample(golds, min(count, len(golds)))
        right = [(gold, text) for gold in golds for text in (gold, *other_spellings(gold).values())]
        wrong = [(gold, text) for gold in golds for text in wrong_answers(gold).values()]
        yield (
            name,
            [Case(gold, boxed(text), True) for gold, text in right]
            + [Case(gold, boxed(text), False) for gold, text in wrong],
        )


def errors(folder: Path | None, count: int) -> None:
    verifier = MathVerifier()
    graders = {"math-verify, bare": plain("", ""), "math-verify, in $": plain("$", "$"), "MathVerifier": ours(verifier)}
    sets = [("cases", table_rows())]
    sets += list(data_rows(folder, count)) if folder is not None else []
    for title, rows in sets:
        num_right = sum(row.is_right for row in rows)
        for name, grade in graders.items():
            verdicts = grade(rows)
            refused = sum(row.is_right and verdict is False for row, verdict in zip(rows, verdicts, strict=True))
            accepted = sum(not row.is_right and verdict is True for row, verdict in zip(rows, verdicts, strict=True))
            print(
                f"{title:14} {name:18} right refused {wilson(refused, num_right):32} "
                f"wrong accepted {wilson(accepted, len(rows) - num_right):32} no verdict {verdicts.count(None)}",
                flush=True,
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder with JSONL files that have a column 'answer'")
    parser.add_argument("--rows", type=int, default=250, help="gold answers of each file (default 250)")
    arguments = parser.parse_args()
    logging.getLogger("math_verify").setLevel(logging.ERROR)
    errors(arguments.data, arguments.rows)


if __name__ == "__main__":
    main()
