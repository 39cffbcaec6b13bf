"""The questions of study I and their answers, by the criterion of docs/research/evidence/plan.md.

A method counts as better only above the frontier that GRPO with a plain KL traces. With fewer seeds than
`LEAST_SEEDS` there is a distance and no verdict. So many seeds that 2 / 2^n times the number of methods is below 0.05
are needed before any of them can pass.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from evidence.exploration.design import FRONTIER
from evidence.tables.tables import Rows, methods_of
from relax_rl.statistics.frontier import LEAST_SEEDS, frontier_distances, frontier_tests
from relax_rl.statistics.seeded_means import holm
from relax_rl.statistics.sign_flip import SignFlipTest, sign_flip_test

__all__ = ["CONTROLS", "QUESTIONS", "Question", "against_controls", "discoveries", "says_yes", "verdicts"]

CONTROLS = ("shuffled", "mean state", "tokens")
"""How the labels of I2's controls end."""
UNDECIDED = "no verdict yet"


@dataclass(frozen=True)
class Question:
    """Whether methods lie above the frontier of a start.

    Attributes:
        study: whose methods they are.
        start: whose runs.
        breadth: metric beside mean@1.
        margin: distance that does not count.
    """

    study: str
    start: str
    breadth: str
    margin: float


QUESTIONS = (
    Question("i1", "sums", "modes@16", 0.05),
    Question("i1", "countdown", "modes@16", 0.05),
    Question("i1", "maze", "modes@64", 0.02),
    Question("i2", "sums", "modes@16", 0.05),
    Question("i4", "countdown", "pass@64", 0.01),
    Question("i4", "sums", "modes@16", 0.05),
    Question("i4b", "sums", "modes@16", 0.05),
    Question("i4b control", "sums", "modes@16", 0.05),
    Question("i5", "sums", "modes@16", 0.05),
)


def verdicts(rows: Rows) -> Rows:
    """One row for each question and method: mean distance from the frontier of its own seed, and what that says.

    The p-values are corrected over the methods of a question.
    """
    return [row for question in QUESTIONS for row in _answered(rows, question)]


def says_yes(rows: Rows, study: str) -> bool:
    """Whether a method of the study lies above the frontier on the start that decides it, its first."""
    decides = next(question for question in QUESTIONS if question.study == study)
    return any(row["verdict"] == "above" for row in _answered(rows, decides))


def against_controls(rows: Rows) -> Rows:
    """I2: how much farther above the frontier each method lies than each of its controls, paired by seed."""
    question = next(question for question in QUESTIONS if question.study == "i2")
    distances = _distances(rows, question)
    pairs = [
        (method, control)
        for method in distances
        for control in distances
        if _control_of(control) == method and set(distances[method]) & set(distances[control])
    ]
    found: Rows = []
    for method, control in pairs:
        seeds = sorted(set(distances[method]) & set(distances[control]))
        test = sign_flip_test([distances[method][seed] - distances[control][seed] for seed in seeds])
        found.append({"method": method, "control": control, **_tested(test)})
    return _corrected(found)


def discoveries(rows: Rows) -> Rows:
    """I3: updates to the first reward (of a muted task, on problems that need the sign), minus those of GRPO."""
    found: Rows = []
    own = [row for row in rows if row["study"] == "i3"]
    for start in dict.fromkeys(row["start"] for row in own):
        here = [row for row in own if row["start"] == start]
        first = {method: _by_seed(here, method, "first_reward") for method in methods_of(here)}
        tests: Rows = []
        for method, updates in first.items():
            seeds = sorted(set(updates) & set(first.get("grpo", {})))
            line = {
                "start": start,
                "method": method,
                "first_reward": float(np.mean(list(updates.values()))),
                "discovered": float(np.mean(list(_by_seed(here, method, "discovered").values()))),
                "mean@1": float(np.mean(list(_by_seed(here, method, "mean@1").values()))),
            }
            test = sign_flip_test([updates[seed] - first["grpo"][seed] for seed in seeds]) if method != "grpo" else None
            tests.append({**line, **_tested(test), "seeds": len(updates)})
        found += _corrected(tests)
    return found


def _answered(rows: Rows, question: Question) -> Rows:
    distances = {method: values for method, values in _distances(rows, question).items() if _control_of(method) is None}
    points = _points(rows, question)
    enough = {method: seeds for method, seeds in distances.items() if len(seeds) >= LEAST_SEEDS}
    complete = sorted(set.intersection(*map(set, enough.values()))) if enough else []
    tests = (
        frontier_tests(
            {method: np.array([points[method][seed] for seed in complete]) for method in enough},
            np.array([_frontier(rows, question)[seed] for seed in complete]),
            margin=question.margin,
        )
        if len(complete) >= LEAST_SEEDS
        else {}
    )
    found: Rows = []
    for method, values in distances.items():
        line = {
            "study": question.study,
            "start": question.start,
            "breadth": question.breadth,
            "method": method,
            "seeds": len(values),
            "mean@1": float(np.mean([points[method][seed][0] for seed in values])),
            "value": float(np.mean([points[method][seed][1] for seed in values])),
            "distance": float(np.mean(list(values.values()))),
            "margin": question.margin,
        }
        if method in tests:
            test = tests[method]
            own = {"low": test.distance.low, "high": test.distance.high, "p": test.distance.p_value}
            line |= {**own, "corrected_p": test.p_value, "verdict": "above" if test.is_above else "not above"}
        else:
            line |= {"verdict": UNDECIDED}
        found.append(line)
    return found


def _distances(rows: Rows, question: Question) -> dict[str, dict[int, float]]:
    """By method and seed; of the seeds that have the whole frontier."""
    frontier, points = _frontier(rows, question), _points(rows, question)
    found: dict[str, dict[int, float]] = {}
    for method, by_seed in points.items():
        seeds = sorted(set(by_seed) & set(frontier))
        if seeds:
            own = np.array([by_seed[seed] for seed in seeds])
            distances = frontier_distances(own, np.array([frontier[seed] for seed in seeds]))
            found[method] = dict(zip(seeds, distances.tolist(), strict=True))
    return found


def _points(rows: Rows, question: Question) -> dict[str, dict[int, tuple[float, float]]]:
    """(mean@1, breadth) by method and seed."""
    own = [row for row in rows if (row["study"], row["start"]) == (question.study, question.start)]
    return {method: _pairs(own, method, question.breadth) for method in methods_of(own)}


def _frontier(rows: Rows, question: Question) -> dict[int, list[tuple[float, float]]]:
    """(mean@1, breadth) of each strength, by seed; seeds that lack a strength are left out."""
    own = [row for row in rows if (row["study"], row["start"]) == (FRONTIER, question.start)]
    strengths = {method: _pairs(own, method, question.breadth) for method in methods_of(own)}
    if not strengths:
        return {}
    seeds = set.intersection(*(set(pairs) for pairs in strengths.values()))
    return {seed: [pairs[seed] for pairs in strengths.values()] for seed in sorted(seeds)}


def _pairs(rows: Rows, method: str, breadth: str) -> dict[int, tuple[float, float]]:
    own = [row for row in rows if row["method"] == method]
    return {int(row["seed"]): (float(row["mean@1"]), float(row[breadth])) for row in own}


def _by_seed(rows: Rows, method: str, column: str) -> dict[int, float]:
    return {int(row["seed"]): float(row[column]) for row in rows if row["method"] == method}


def _control_of(method: str) -> str | None:
    """The method that a control belongs to; None for what is no control."""
    kind = next((control for control in CONTROLS if method.endswith(f", {control}")), None)
    return None if kind is None else method.removesuffix(f", {kind}")


def _tested(test: SignFlipTest | None) -> dict[str, Any]:
    if test is None:
        return {}
    is_enough = test.num_pairs >= LEAST_SEEDS
    tested = {"low": test.low, "high": test.high, "p": test.p_value} if is_enough else {}
    return {"seeds": test.num_pairs, "difference": test.value, **tested}


def _corrected(rows: Rows) -> Rows:
    tested = [row for row in rows if "p" in row]
    for row, adjusted in zip(tested, holm([row["p"] for row in tested]), strict=True):
        row["corrected_p"] = adjusted
    return rows
