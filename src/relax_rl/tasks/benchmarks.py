"""The sets of mathematical problems that papers train and evaluate on: where each is on the Hub, and in a local folder.

A local folder (``data_dir``) holds JSON Lines files with the columns ``problem`` and ``answer``, and ``solution`` and
``level`` where there are such. Its files are named in the table below.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from relax_rl.errors import ConfigError
from relax_rl.tasks.math import PLAIN_PROMPT, SYSTEM_PROMPT, MathTask

__all__ = ["BENCHMARKS", "EVALUATION_SETS", "Benchmark", "benchmark", "parse_levels"]


@dataclass(frozen=True)
class Benchmark:
    """A named set of problems.

    Attributes:
        about: description in one line.
        sizes: problems by split, in the version that the tests know.
        files: file in a local folder by split.
        hub: arguments of :class:`.math.MathTask` that find the set on the Hub and name its columns.
    """

    about: str
    sizes: Mapping[str, int]
    files: Mapping[str, str]
    hub: Mapping[str, Any] = field(default_factory=dict)


def _evaluation_set(about: str, size: int, file: str, hub: str, hub_split: str = "test", **columns: Any) -> Benchmark:
    options = {"hub": hub, "hub_splits": {"test": hub_split}, **columns}
    return Benchmark(about, {"test": size}, {"test": file}, options)


_AMC = {"hub": "AI-MO/aimo-validation-amc", "hub_split": "train"}

BENCHMARKS: dict[str, Benchmark] = {
    "gsm8k": Benchmark(
        "grade-school word problems (Cobbe et al. 2021, arXiv:2110.14168)",
        {"train": 7473, "test": 1319},
        {"train": "gsm8k_train.jsonl", "test": "gsm8k_test.jsonl"},
        {
            "hub": "openai/gsm8k",
            "hub_config": "main",
            "hub_splits": {"train": "train", "test": "test"},
            "answer_after": "####",
        },
    ),
    "math": Benchmark(
        "MATH by level, 1 to 5 (Hendrycks et al. 2021, arXiv:2103.03874); its test split is math500",
        {"train": 12000, "test": 500},
        {"train": "math_train.jsonl", "test": "math500.jsonl"},
        {"hub": "nlile/hendrycks-MATH-benchmark", "hub_splits": {"train": "train", "test": "test"}},
    ),
    "math500": _evaluation_set(
        "500 problems of MATH (Lightman et al. 2023, arXiv:2305.20050)", 500, "math500.jsonl", "HuggingFaceH4/MATH-500"
    ),
    "minerva": _evaluation_set(
        "undergraduate science (Lewkowycz et al. 2022, arXiv:2206.14858)",
        272,
        "minerva_math.jsonl",
        "math-ai/minervamath",
    ),
    "amc22": _evaluation_set("AMC 12 of 2022", 43, "amc22.jsonl", **_AMC, only=("url", "2022")),
    "amc23": _evaluation_set("AMC 12 of 2023", 40, "amc23.jsonl", **_AMC, only=("url", "2023")),
    "aime24": _evaluation_set("AIME I and II of 2024", 30, "aime24.jsonl", "HuggingFaceH4/aime_2024", "train"),
    "aime25": _evaluation_set("AIME I and II of 2025", 30, "aime25.jsonl", "math-ai/aime25"),
    "olympiadbench": _evaluation_set(
        "olympiads, English, text only (He et al. 2024, arXiv:2402.14008)",
        675,
        "olympiadbench.jsonl",
        "math-ai/olympiadbench",
        answer_column="final_answer",
    ),
    "dapo_math_17k": Benchmark(
        "competition problems with whole-number answers (Yu et al. 2025, arXiv:2503.14476)",
        {"train": 17917},
        {"train": "dapo_math_17k.jsonl"},
        {
            "hub": "open-r1/DAPO-Math-17k-Processed",
            "hub_config": "all",
            "hub_splits": {"train": "train"},
            "problem_column": "prompt",
            "answer_column": "solution",
            "solution_column": "",
        },
    ),
}

EVALUATION_SETS = ("math500", "minerva", "amc22", "amc23", "aime24", "aime25", "olympiadbench")
"""Benchmarks of the paper, and AIME 2025."""


def benchmark(
    name: str,
    data_dir: str | Path | None = None,
    levels: tuple[int, ...] | None = None,
    system: str | None = SYSTEM_PROMPT,
    prompt: str = PLAIN_PROMPT,
) -> MathTask:
    """The rows of a set as they are, from a local folder or, without one, from the Hub."""
    known = BENCHMARKS[name]
    source: dict[str, Any] = dict(known.hub)
    if data_dir is not None:
        source = {"path": {split: Path(data_dir) / file for split, file in known.files.items()}}
    return MathTask(**source, levels=levels, system=system, prompt=prompt, name=name)


def parse_levels(levels: int | str | Sequence[int] | None) -> tuple[int, ...] | None:
    """``3``, ``"3-5"`` or ``[3, 4, 5]`` as levels of MATH.

    Raises:
        ConfigError: anything else, or a level that is not 1 to 5.
    """
    if levels is None:
        return None
    if isinstance(levels, str):
        first, dash, last = levels.partition("-")
        found = range(int(first), int(last) + 1) if dash and first.isdigit() and last.isdigit() else ()
    else:
        found = (levels,) if isinstance(levels, int) else levels
    chosen = tuple(found)
    if not chosen or not all(isinstance(level, int) and 1 <= level <= 5 for level in chosen):
        raise ConfigError(f"The levels of MATH are 1 to 5, not {levels!r}; give one (3), a range (3-5) or a list.")
    return chosen
